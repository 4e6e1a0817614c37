//! Ranges of activations, and their parameters.

use quant_core::observer::{Averaging, ChannelMinMax, Histogram, MinMax, Observer, ObserverConfig};
use quant_core::{ActivationRule, FloatType, Params, ValueRange};

use crate::buffer::Buffer;
use crate::case::{Case, by_float};
use crate::values::{Value, Values};

/// Values of all kinds, or ordinary ones of about one magnitude.
fn values<F: Value>(case: &mut Case<'_>, params: Params, count: usize) -> Buffer {
    let values: Vec<F> = match case.random.below(3) {
        0 => {
            Values::<F>::new(case.scheme, params)
                .draw(&mut case.random, count)
                .1
        }
        _ => {
            let shift = case.random.below(12);
            let mut draw = || {
                let few = case.random.below(1 << 20) as i32 - (1 << 19);
                F::from_f32((few >> case.random.below(10)) as f32 / (1 << shift) as f32)
            };
            (0..count).map(|_| draw()).collect()
        }
    };
    case.input("values", &values)
}

fn record_min_max(case: &mut Case<'_>, found: &MinMax) {
    case.record.count("count", found.count());
    case.record.count("non-finite", found.non_finite());
    case.record
        .range(&found.range().unwrap_or(ValueRange::EMPTY));
}

fn any_params(case: &mut Case<'_>) -> Params {
    let scale_type = case.scale_type();
    case.params(scale_type)
}

pub fn min_max(case: &mut Case<'_>) {
    fn of<F: Value>(case: &mut Case<'_>) {
        let params = any_params(case);
        let count = case.len();
        let values = values::<F>(case, params, count);
        let found = case.backend.min_max::<F>(values.get());
        record_min_max(case, &found);
    }
    by_float!(of(case));
}

pub fn observe_histogram(case: &mut Case<'_>) {
    fn of<F: Value>(case: &mut Case<'_>) {
        let params = any_params(case);
        let bins = 128 << case.random.below(7);
        case.record.parameter("bins", bins);
        let mut histogram = Histogram::new(bins).expect("a power of two");
        for _ in 0..2 {
            let count = case.len();
            let values = values::<F>(case, params, count);
            case.backend
                .observe_histogram::<F>(values.get(), &mut histogram);
        }
        let counts: Vec<u8> = histogram
            .counts()
            .iter()
            .flat_map(|count| count.to_le_bytes())
            .collect();
        case.record.bytes("counts", &counts);
        case.record
            .bytes("exponent", &histogram.exponent().to_le_bytes());
        record_min_max(case, histogram.values());
    }
    by_float!(of(case));
}

pub fn observe_channels(case: &mut Case<'_>) {
    fn of<F: Value>(case: &mut Case<'_>) {
        let params = any_params(case);
        let shape = [(); 3].map(|()| 1 + case.random.below(9));
        let axis = case.random.below(6) as isize - 3;
        case.record
            .parameter("shape", format_args!("{shape:?}, axis {axis}"));
        let count = shape.iter().product();
        let values = values::<F>(case, params, count);
        let mut observer = ChannelMinMax::new(shape[axis.rem_euclid(3) as usize]);
        let observed =
            case.backend
                .observe_channels::<F>(values.get(), &shape, axis, &mut observer);
        observed.expect("the channels of the shape");
        for channel in observer.channels() {
            record_min_max(case, channel);
        }
    }
    by_float!(of(case));
}

/// Any observer, and the range that it gives for the scheme.
pub fn observe(case: &mut Case<'_>) {
    fn of<F: Value>(case: &mut Case<'_>) {
        let params = any_params(case);
        let mut config =
            ObserverConfig::ALL[case.random.below(5)].with_bins(128 << case.random.below(3));
        if case.random.below(2) == 1
            && let ObserverConfig::MovingAverage { averaging } = &mut config
        {
            *averaging = Averaging::COREMLTOOLS;
        }
        case.record
            .parameter("observer", format_args!("{config:?}"));
        let mut observer = Observer::new(config).expect("usual settings");
        for _ in 0..3 {
            let count = case.len();
            let values = values::<F>(case, params, count);
            case.backend.observe::<F>(values.get(), &mut observer);
        }
        let range = observer.range(case.scheme.dtype, case.scheme.mode);
        case.record.range(&range.unwrap_or(ValueRange::EMPTY));
        record_min_max(case, &observer.values());
    }
    by_float!(of(case));
}

pub fn activation_params(case: &mut Case<'_>) {
    let any = |case: &mut Case<'_>| match case.random.below(3) {
        0 => f32::from_bits(case.random.bits() as u32),
        _ => (case.random.below(1 << 20) as f32 - (1 << 19) as f32) / 4096.0,
    };
    let (a, b) = (any(case), any(case));
    let range = ValueRange {
        min: if a < b { a } else { b },
        max: if a < b { b } else { a },
        non_finite: 0,
    };
    case.record.bytes(
        "bounds",
        &[a.to_bits().to_le_bytes(), b.to_bits().to_le_bytes()].concat(),
    );
    for rule in [ActivationRule::Coremltools, ActivationRule::Torch] {
        let source = FloatType::ALL[case.random.below(3)];
        match rule.params(&range, case.scheme.dtype, case.scheme.mode, source) {
            Ok(params) => {
                case.record
                    .bytes("scale", &params.scale().to_bits().to_le_bytes());
                case.record
                    .bytes("zero point", &params.zero_point().to_le_bytes());
            }
            Err(error) => case.record.failure(0, error),
        }
    }
}
