//! The edges that the golden vectors do not reach: bf16, the wide dialect, NaN, given parameters.

use half::{bf16, f16};
use proptest::prelude::*;
use quant_core::{
    ActivationRule, Blocks, Dialect, ErrorStats, FloatType, Granularity, IntType, Mode, Params,
    ParamsError, STATS_CHUNK, STATS_RUN, STATS_STEP, Scheme, ValueRange, reference,
};
use quant_testkit::hurtful::Random;

const INT8: Scheme = Scheme::new(IntType::Int8, Mode::Symmetric);
const UINT8_AFFINE: Scheme = Scheme::new(IntType::Uint8, Mode::Affine);

fn range(min: f32, max: f32) -> ValueRange {
    ValueRange {
        min,
        max,
        non_finite: 0,
    }
}

#[test]
fn nan_is_counted_and_hides_nothing() {
    let found = reference::range(&[f32::NAN, -2.0, f32::NAN, 3.0]);
    assert_eq!((found.min, found.max, found.non_finite), (-2.0, 3.0, 2));
    let found = reference::range(&[f32::NEG_INFINITY, 1.0]);
    assert_eq!((found.min, found.non_finite), (f32::NEG_INFINITY, 1));
    assert!(reference::range(&[f32::NAN]).is_empty());
}

#[test]
fn zero_bounds_are_positive() {
    let found = reference::range(&[-0.0_f32, 0.0, -0.0]);
    assert_eq!((found.min.to_bits(), found.max.to_bits()), (0, 0));
}

#[test]
fn nan_becomes_zero_point_and_infinities_saturate() {
    let params = Params::new(UINT8_AFFINE, 0.5, 100, FloatType::F32).unwrap();
    let values = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0];
    let mut codes = [9; 5];
    assert_eq!(
        reference::quantize(&values, UINT8_AFFINE, params, &mut codes),
        3
    );
    assert_eq!(codes, [100, 255, 0, 100, 100]);
}

#[test]
fn ties_to_even() {
    let params = Params::new(INT8, 1.0, 0, FloatType::F32).unwrap();
    let values = [0.5_f32, 1.5, 2.5, -0.5, -1.5, 126.5, 127.5, -127.5];
    let mut codes = [0; 8];
    reference::quantize(&values, INT8, params, &mut codes);
    assert_eq!(
        codes.map(|code| code as i8),
        [0, 2, 2, 0, -2, 126, 127, -127]
    );
    assert_eq!(reference::saturated(&values, INT8, params), 2);
}

#[test]
fn bf16_divides_by_the_rounded_scale() {
    let values = [1.0, -0.3, 0.01].map(bf16::from_f32);
    let params = INT8
        .params(&reference::range(&values), FloatType::Bf16)
        .unwrap();
    let rounded = bf16::from_f32(2.0 / 254.0).to_f32();
    assert_eq!(params.scale(), rounded);
    assert_ne!(params.scale(), 2.0 / 254.0);
    let mut codes = [0; 3];
    reference::quantize(&values, INT8, params, &mut codes);
    let expected = values.map(|value| (value.to_f32() / rounded).round_ties_even() as i8 as u8);
    assert_eq!(codes, expected);
}

#[test]
fn wide_takes_what_the_exact_dialect_refuses() {
    let wide = |scheme| Scheme {
        dialect: Dialect::F32,
        ..scheme
    };
    for (scheme, range, error) in [
        (INT8, range(-60000.0, 1.0), ParamsError::ScaleOverflow),
        (INT8, range(-1e-6, 1e-6), ParamsError::ScaleUnderflow),
        (
            UINT8_AFFINE,
            range(-300.0, 300.0),
            ParamsError::ZeroPointOverflow,
        ),
    ] {
        assert_eq!(scheme.params(&range, FloatType::F16), Err(error));
        let params = wide(scheme).params(&range, FloatType::F16).unwrap();
        assert_eq!(params.scale_type(), FloatType::F32);
    }
    let values = [60000.0, -60000.0].map(f16::from_f32);
    let params = wide(INT8)
        .params(&reference::range(&values), FloatType::F16)
        .unwrap();
    let mut codes = [0; 2];
    reference::quantize(&values, wide(INT8), params, &mut codes);
    assert_eq!(codes.map(|code| code as i8), [127, -127]);
}

#[test]
fn given_parameters_are_checked() {
    let new = |scale, zero_point| Params::new(INT8, scale, zero_point, FloatType::F16);
    for scale in [f32::NAN, f32::INFINITY, -1.0, 0.1] {
        assert_eq!(new(scale, 0), Err(ParamsError::InvalidScale), "{scale}");
    }
    for (dtype, dialect, is_valid) in [
        (IntType::Int4, Dialect::Coremltools, true),
        (IntType::Int4, Dialect::F32, true),
        (IntType::Int4, Dialect::Torch, false),
        (IntType::Uint4, Dialect::Coremltools, false),
        (IntType::Int8, Dialect::Coremltools, false),
    ] {
        let scheme = Scheme::new(dtype, Mode::Symmetric).with_dialect(dialect);
        let negative = Params::new(scheme, -1.0, 0, FloatType::F16);
        assert_eq!(negative.is_ok(), is_valid, "{scheme:?}");
    }
    assert_eq!(new(0.5, -128), Err(ParamsError::InvalidZeroPoint));
    assert!(new(0.5, -127).is_ok());
}

#[test]
fn statistics_of_a_tensor() {
    let n = STATS_CHUNK + 5;
    let values: Vec<f32> = (0..n).map(|i| (i % 255) as f32 - 127.25).collect();
    let blocks = Blocks::new(&[n], &Granularity::PerTensor).unwrap();
    let stats = reference::quantize_tensor(&values, INT8, &blocks)
        .unwrap()
        .stats;
    assert_eq!(
        (stats.count, stats.non_finite, stats.saturated),
        (n as u64, 0, 0)
    );
    let naive: f64 = values.iter().map(|&value| f64::from(value).powi(2)).sum();
    assert!((stats.signal - naive).abs() < 1e-6 * naive);
    assert!(stats.max_absolute <= 0.51 && stats.mean_absolute() > 0.1);
    assert!(
        (40.0..60.0).contains(&stats.sqnr_db()),
        "{}",
        stats.sqnr_db()
    );

    let exact = ErrorStats::of_chunk([(1.0, 1.0), (f32::NAN, 0.0)].into_iter());
    assert_eq!(exact.sqnr_db(), f64::INFINITY);
    assert_eq!((exact.count, exact.non_finite), (2, 1));
}

/// Sums are within 1e-6 of the exact ones: where roundings all go one way, where squares overflow and
/// underflow in f32, beside NaN and infinities.
#[test]
fn statistics_are_accurate() {
    let mut random = Random(21);
    let len = 2 * STATS_RUN + 300;
    for factor in [
        1.0_f32, 1e-14, 1e-16, 1e-22, 1e-30, 1e-44, 1e14, 1e16, 1e22, 1e30, 3e38,
    ] {
        let even: Vec<f32> = (0..len).map(|_| factor * random.unit()).collect();
        // Half a unit of the last place of a lane's sum, and a little more, again and again.
        let creeping = |i: usize| if i < 16 { factor } else { factor * 2.441_6e-4 };
        let cases = [
            even.clone(),
            vec![0.1 * factor; len],
            (0..len).map(|i| creeping(i % STATS_STEP)).collect(),
            (0..len)
                .map(|i| if i % 16 == 3 { 0.0 } else { even[i] })
                .collect(),
            (0..len)
                .map(|i| even[i] * [1.0, 1e-20, 1e-30][i / 7 % 3])
                .collect(),
            (0..len)
                .map(|i| if i < 9 { f32::INFINITY } else { even[i] })
                .collect(),
            (0..len)
                .map(|i| if i == 1500 { f32::NAN } else { even[i] })
                .collect(),
        ];
        for (case, values) in cases.iter().enumerate() {
            for restored in [0.0, 0.25, 0.992_187_5, 1.0] {
                let pairs = values.iter().map(|&value| (value, value * restored));
                let stats = ErrorStats::of_chunk(pairs.clone());
                let finite = pairs.filter(|(value, restored)| (value - restored).is_finite());
                let (mut count, mut signal, mut noise, mut absolute) = (0, 0.0, 0.0, 0.0);
                for (value, restored) in finite {
                    let error = f64::from(value - restored);
                    count += 1;
                    signal += f64::from(value).powi(2);
                    noise += error.powi(2);
                    absolute += error.abs();
                }
                assert_eq!(stats.count - stats.non_finite, count, "{factor} {case}");
                for (found, exact) in [
                    (stats.signal, signal),
                    (stats.noise, noise),
                    (stats.absolute, absolute),
                ] {
                    let close = (found - exact).abs() <= 1e-6 * exact;
                    assert!(close, "{factor} {case} {restored}: {found}, not {exact}");
                }
            }
        }
    }
}

#[test]
fn nothing_in_nothing_out() {
    let blocks = Blocks::new(&[3, 0, 2], &Granularity::PerChannel { axis: 0 }).unwrap();
    let quantized = reference::quantize_tensor::<f32>(&[], INT8, &blocks).unwrap();
    assert!(quantized.codes.is_empty() && quantized.params.is_empty());
    assert!(
        INT8.params(&ValueRange::EMPTY, FloatType::F32)
            .unwrap()
            .scale()
            == 0.0
    );
}

/// Squared errors, each as often as its weight says.
fn noise(values: &[f32], weights: &[f32], scheme: Scheme, params: Params) -> f64 {
    let mut codes = vec![0; values.len()];
    reference::quantize(values, scheme, params, &mut codes);
    let mut restored = vec![0.0_f32; values.len()];
    reference::dequantize(&codes, scheme, params, &mut restored);
    let pairs = values.iter().zip(restored).zip(weights);
    let squares = pairs.map(|((value, restored), weight)| {
        f64::from(value - restored).powi(2) * f64::from(*weight)
    });
    squares.sum()
}

proptest! {
    /// A search never finds what is worse than the plain scale, however errors are weighted.
    #[test]
    fn a_found_scale_is_never_worse(
        dtype in prop::sample::select(IntType::ALL.to_vec()),
        affine: bool,
        dialect in prop::sample::select(Dialect::ALL.to_vec()),
        values in prop::collection::vec((-1.0_f32..1.0, 1e-4_f32..1e4), 1..100),
        exponent in 1_i32..6,
        float in prop::sample::select(FloatType::ALL.to_vec()),
    ) {
        let mode = if affine { Mode::Affine } else { Mode::Symmetric };
        let scheme = Scheme::new(dtype, mode).with_dialect(dialect);
        let (values, weights): (Vec<_>, Vec<_>) = values.into_iter().unzip();
        // The higher the power, the fewer values are large.
        let values: Vec<f32> = values.iter().map(|value| value.powi(2 * exponent - 1)).collect();
        let values: Vec<f32> = values.iter().map(|&value| float.round(value)).collect();
        let Ok(plain) = scheme.params(&reference::range(&values), float) else {
            return Ok(());
        };
        for weights in [None, Some(&weights[..])] {
            let found = reference::search(&values, scheme, plain, weights);
            let weights = weights.map_or(vec![1.0; values.len()], <[f32]>::to_vec);
            let by_plain = noise(&values, &weights, scheme, plain);
            let by_found = noise(&values, &weights, scheme.searched(), found);
            prop_assert!(by_found <= by_plain * (1.0 + 1e-12), "{} {}", by_found, by_plain);
        }
    }

    /// What codes stand for has these codes, in every type that holds the scale.
    #[test]
    fn dequantized_codes_quantize_to_themselves(
        dtype in prop::sample::select(IntType::ALL.to_vec()),
        affine: bool,
        scale in 1e-3_f32..100.0,
        zero_point in 0.0..=1.0,
    ) {
        let mode = if affine { Mode::Affine } else { Mode::Symmetric };
        let scheme = Scheme::new(dtype, mode);
        let width = f64::from(scheme.qmax() - scheme.qmin());
        let zero_point = match mode {
            Mode::Affine => scheme.qmin() + (width * zero_point) as i32,
            Mode::Symmetric => scheme.symmetric_zero_point(),
        };
        let codes: Vec<u8> = (scheme.qmin()..=scheme.qmax()).map(|code| code as u8).collect();
        let mut back = vec![0; codes.len()];

        let params = Params::new(scheme, scale, zero_point, FloatType::F32).unwrap();
        let mut values = vec![0.0_f32; codes.len()];
        reference::dequantize(&codes, scheme, params, &mut values);
        reference::quantize(&values, scheme, params, &mut back);
        prop_assert_eq!(&back, &codes);

        let scale = f16::from_f32(scale).to_f32();
        let params = Params::new(scheme, scale, zero_point, FloatType::F16).unwrap();
        let mut values = vec![f16::ZERO; codes.len()];
        reference::dequantize(&codes, scheme, params, &mut values);
        reference::quantize(&values, scheme, params, &mut back);
        prop_assert_eq!(&back, &codes);
    }
}

#[test]
fn activation_parameters_at_the_ends_of_floats() {
    use ActivationRule::{Coremltools, Torch};
    let params = |rule: ActivationRule, dtype, mode, min, max| {
        let range = ValueRange {
            min,
            max,
            non_finite: 7,
        };
        let params = rule.params(&range, dtype, mode, FloatType::F32);
        params.map(|params| (params.scale(), params.zero_point()))
    };
    let (int8, uint8) = (IntType::Int8, IntType::Uint8);
    let (symmetric, affine) = (Mode::Symmetric, Mode::Affine);
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    let none = (inf, -inf);
    for (min, max) in [(0.0, 0.0), none] {
        assert_eq!(params(Coremltools, int8, symmetric, min, max), Ok((1.0, 0)));
        assert_eq!(
            params(Coremltools, uint8, symmetric, min, max),
            Ok((1.0, 127))
        );
        assert_eq!(params(Coremltools, uint8, affine, min, max), Ok((1.0, 0)));
    }
    assert_eq!(
        params(Torch, uint8, symmetric, none.0, none.1),
        Ok((1.0, 0))
    );
    assert_eq!(
        params(Torch, uint8, symmetric, 0.0, 0.0),
        Ok((f32::EPSILON, 128))
    );
    assert_eq!(
        params(Torch, int8, affine, 0.0, 0.0),
        Ok((f32::EPSILON, -128))
    );
    // The scale underflows in f16.
    assert_eq!(
        params(Coremltools, int8, symmetric, -1e-6, 1e-6),
        Ok((1.0, 0))
    );
    // The zero point overflows, but for a range that ends at zero.
    let overflow = Err(ParamsError::ZeroPointOverflow);
    assert_eq!(params(Coremltools, int8, affine, -1.0, 600.0), overflow);
    let scale = f16::from_f32(f16::from_f32(600.0).to_f32() / 255.0).to_f32();
    assert_eq!(
        params(Coremltools, int8, affine, 0.0, 600.0),
        Ok((scale, -128))
    );
    for mode in [symmetric, affine] {
        let overflow = Err(ParamsError::ScaleOverflow);
        assert_eq!(params(Coremltools, int8, mode, -60000.0, 60000.0), overflow);
        assert_eq!(params(Coremltools, int8, mode, 0.0, 1e5), overflow);
        for rule in [Coremltools, Torch] {
            let non_finite = Err(ParamsError::NonFinite);
            assert_eq!(params(rule, int8, mode, -inf, 1.0), non_finite);
            assert_eq!(params(rule, int8, mode, 0.0, nan), non_finite);
        }
    }
    assert_eq!(
        params(Torch, int8, affine, f32::MIN, f32::MAX),
        Err(ParamsError::ScaleOverflow)
    );
    let range = ValueRange {
        min: -1.0,
        max: 2.0,
        non_finite: 0,
    };
    let of_f16 = Coremltools
        .params(&range, int8, symmetric, FloatType::F16)
        .unwrap();
    assert_eq!(of_f16.scale_type(), FloatType::F16);
}
