//! What torch, coremltools and onnxruntime make of activations.

use quant_core::observer::{Averaging, Histogram, MinMax, MovingAverage};
use quant_core::{ActivationRule, FloatType, IntType, Mode, ParamsError, ValueRange};
use quant_testkit::observers::{Observed, Parameters, golden};

fn scheme_of(params: &Parameters) -> (IntType, Mode) {
    let dtype = IntType::ALL
        .into_iter()
        .find(|it| it.name() == params.dtype);
    let modes = [Mode::Symmetric, Mode::Affine];
    let mode = modes.into_iter().find(|it| it.name() == params.mode);
    (dtype.unwrap(), mode.unwrap())
}

fn check_torch(range: Option<ValueRange>, expected: &Observed) {
    let range = range.unwrap();
    assert_eq!((range.min, range.max), (expected.min, expected.max));
    for golden in &expected.params {
        let (dtype, mode) = scheme_of(golden);
        let params = ActivationRule::Torch.params(&range, dtype, mode, FloatType::F32);
        let params = params.map(|params| (params.scale(), params.zero_point()));
        match golden.scale {
            Some(scale) => assert_eq!(
                params,
                Ok((scale, golden.zero_point)),
                "{golden:?} {range:?}"
            ),
            None => assert_eq!(params, Err(ParamsError::ScaleOverflow), "{golden:?}"),
        }
    }
}

#[test]
fn ranges_and_parameters_equal_torch() {
    let cases = golden().torch;
    assert!(cases.len() >= 40, "{}", cases.len());
    for case in &cases {
        let mut min_max = MinMax::EMPTY;
        let mut constant = MovingAverage::new(Averaging::TORCH).unwrap();
        let mut ratio = MovingAverage::new(Averaging::COREMLTOOLS).unwrap();
        for batch in &case.batches {
            min_max.observe(batch);
            for average in [&mut constant, &mut ratio] {
                average.observe(batch);
                average.end_sample();
            }
        }
        assert_eq!(case.min_max.params.len(), 8);
        check_torch(min_max.range(), &case.min_max);
        check_torch(constant.range(), &case.moving_average);
        check_torch(ratio.range(), &case.ratio);
    }
}

#[test]
fn parameters_equal_coremltools() {
    let cases = golden().coremltools;
    assert!(cases.len() >= 200, "{}", cases.len());
    let (mut equal, mut refused) = (0, 0);
    for case in &cases {
        let (dtype, mode) = scheme_of(&case.params);
        let range = ValueRange {
            min: case.min,
            max: case.max,
            non_finite: 0,
        };
        for source in [FloatType::F16, FloatType::F32] {
            let params = ActivationRule::Coremltools.params(&range, dtype, mode, source);
            match params {
                Ok(params) => {
                    let got = (params.scale(), params.zero_point());
                    let expected = (case.params.scale.unwrap(), case.params.zero_point);
                    match expected.0 {
                        // There it fails.
                        0.0 => assert_eq!(got.0, 1.0, "{case:?}"),
                        _ => assert_eq!(got, expected, "{case:?}"),
                    }
                    assert_eq!(params.scale_type(), source);
                    equal += 1;
                }
                Err(ParamsError::ZeroPointOverflow) => {
                    // A product of one of these and a bound is beyond f16, and the other bound counts.
                    let ends = if dtype.is_signed() { 127.0 } else { 255.0 };
                    assert!(case.min < 0.0 && case.max > 0.0, "{case:?}");
                    assert!(ends * (case.max - case.min) > 65504.0, "{case:?}");
                    refused += 1;
                }
                Err(error) => {
                    assert_eq!(error, ParamsError::ScaleOverflow, "{case:?}");
                    assert!(case.params.scale.is_none(), "{case:?}");
                    refused += 1;
                }
            }
        }
    }
    assert!(equal > 400 && refused < 50, "{equal} {refused}");
}

/// The outer edge where onnxruntime takes the inner one: one bin apart, and the 2^-24 by which its
/// bins are narrower.
#[test]
fn thresholds_are_those_of_onnxruntime_within_one_bin() {
    let cases = golden().onnxruntime;
    assert!(cases.len() >= 60, "{}", cases.len());
    for case in &cases {
        let mut histogram = Histogram::new(2048).unwrap();
        histogram.observe(&case.data.values());
        let range = match case.percentile {
            None => histogram.entropy().unwrap(),
            Some(percentile) => {
                let symmetric = case.mode.as_deref() == Some("symmetric");
                let mode = if symmetric {
                    Mode::Symmetric
                } else {
                    Mode::Affine
                };
                histogram.percentile(percentile, mode).unwrap()
            }
        };
        let bin = histogram.bin_width() * (1.0 + 1e-4);
        for (got, expected) in [(range.min, case.low), (range.max, case.high)] {
            let apart = f64::from(got) - f64::from(expected);
            assert!(apart.abs() <= bin, "{apart} of {bin}: {range:?} {case:?}");
        }
    }
}
