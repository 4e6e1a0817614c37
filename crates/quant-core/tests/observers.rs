//! Observers: what they find, and that only a moving average cares for order.

use half::f16;
use proptest::prelude::*;
use quant_core::observer::{
    Averaging, ChannelMinMax, ConfigError, Histogram, MergeError, MinMax, MovingAverage,
    ObserveError, Observer, ObserverConfig,
};
use quant_core::{FloatType, GeometryError, IntType, Mode, Scheme, ValueRange, reference};
use quant_testkit::hurtful;

const NAN: f32 = f32::NAN;
const INF: f32 = f32::INFINITY;

fn any_f32() -> impl Strategy<Value = f32> {
    prop_oneof![
        any::<u32>().prop_map(f32::from_bits),
        -4.0_f32..4.0,
        Just(-0.0),
        Just(NAN),
        Just(-INF),
    ]
}

/// Numbers that look random.
fn noise(count: usize) -> Vec<f32> {
    let mut state = 1_u64;
    let mut next = || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    // The sum of uniform ones is about normal.
    (0..count).map(|_| (0..12).map(|_| next()).sum()).collect()
}

fn observed(config: ObserverConfig, values: &[f32]) -> Observer {
    let mut observer = Observer::new(config).unwrap();
    observer.observe(values);
    observer
}

#[test]
fn non_finite_values_are_counted_and_change_nothing_else() {
    let values = [NAN, 1.5, INF, -0.25, -INF];
    for config in ObserverConfig::ALL {
        let observer = observed(config, &values);
        let seen = observer.values();
        assert_eq!((seen.count(), seen.non_finite()), (5, 3), "{config:?}");
        let exact = seen.range().unwrap();
        assert_eq!((exact.min, exact.max), (-0.25, 1.5), "{config:?}");
        let range = observer.range(IntType::Int8, Mode::Symmetric).unwrap();
        assert_eq!(range.non_finite, 3);
        assert!(-0.25 <= range.min && range.max <= 1.5, "{config:?}");
        if config.name() != "entropy" {
            assert!(range.max > 1.4, "{config:?} {range:?}");
        }

        let mut none = observed(config, &[NAN, INF]);
        assert_eq!(none.range(IntType::Int8, Mode::Affine), None, "{config:?}");
        assert_eq!(none.values().range(), None);
        none.observe(&[2.0_f32]);
        let range = none.range(IntType::Int8, Mode::Affine).unwrap();
        assert_eq!((range.min, range.max), (2.0, 2.0), "{config:?}");
    }
}

#[test]
fn channels_along_any_axis() {
    let shape = [3, 4, 2];
    let values: Vec<f32> = noise(24);
    for (axis, from_end) in [(0, -3), (1, -2), (2, -1)] {
        let mut observer = ChannelMinMax::new(shape[axis]);
        observer.observe(&values, &shape, axis as isize).unwrap();
        let stride: usize = shape[axis + 1..].iter().product();
        for (channel, found) in observer.channels().iter().enumerate() {
            let of_channel: Vec<f32> = (0..24)
                .filter(|i| i / stride % shape[axis] == channel)
                .map(|i| values[i])
                .collect();
            assert_eq!(*found, MinMax::from_values(&of_channel), "axis {axis}");
        }
        assert_eq!(observer.whole(), MinMax::from_values(&values));
        let mut twice = observer.clone();
        twice.observe(&values, &shape, from_end).unwrap();
        observer.merge(&observer.clone()).unwrap();
        assert_eq!(observer, twice);
    }
    let mut observer = ChannelMinMax::new(4);
    let mut error = |count, axis| {
        observer
            .observe(&values[..count], &shape, axis)
            .unwrap_err()
    };
    assert_eq!(
        error(24, 0),
        ObserveError::Channels {
            got: 3,
            expected: 4
        }
    );
    assert_eq!(
        error(23, 1),
        ObserveError::Elements {
            got: 23,
            expected: 24
        }
    );
    for axis in [3, -4, isize::MIN] {
        let rank = 3;
        let missing = GeometryError::AxisOutOfRange { axis, rank };
        assert_eq!(error(24, axis), ObserveError::Geometry(missing));
    }
    assert_eq!(observer, ChannelMinMax::new(4));
    assert_eq!(
        observer.merge(&ChannelMinMax::new(3)),
        Err(MergeError::Configuration)
    );
}

#[test]
fn averages_move_by_sample() {
    let bounds = |averaging, samples: &[&[f32]]| {
        let mut observer = MovingAverage::new(averaging).unwrap();
        for sample in samples {
            for part in sample.chunks(2) {
                observer.observe(part);
            }
            observer.end_sample();
        }
        observer.range().map(|range| (range.min, range.max))
    };
    let samples: [&[f32]; 4] = [&[-1.0, 0.5, 3.0], &[NAN], &[], &[-2.5, 0.0, 1.0, 0.0, -2.0]];
    let constant = 0.01_f32;
    assert_eq!(
        bounds(Averaging::TORCH, &samples),
        Some((-1.0 + constant * -1.5, 3.0 + constant * -2.0))
    );
    let (ratio, rest) = (0.9_f32, 0.1_f32);
    assert_eq!(
        bounds(Averaging::COREMLTOOLS, &samples),
        Some((-ratio + -2.5 * rest, 3.0 * ratio + rest))
    );
    assert_eq!(bounds(Averaging::TORCH, &samples[1..3]), None);
    let far: [&[f32]; 3] = [&[f32::MAX], &[f32::MIN], &[0.0]];
    let (min, max) = bounds(Averaging::TORCH, &far).unwrap();
    assert!(min.is_finite() && max.is_finite());
    // The difference overflows, the average does not.
    let apart: [&[f32]; 2] = [&[-2e38, 0.0], &[2e38]];
    let (min, max) = bounds(Averaging::TORCH, &apart).unwrap();
    assert_eq!(
        (min, max),
        ((-2e38 + 0.01 * 4e38_f64) as f32, 2e38 * constant)
    );
    // Rounding would leave the first of these above the second.
    let swapped: [&[f32]; 2] = [&[8.09375, 8.093751], &[707963.94]];
    let (min, max) = bounds(Averaging::TORCH, &swapped).unwrap();
    assert_eq!((min, max), (7087.652, 7087.6523));
}

#[test]
fn what_is_out_of_range_is_refused() {
    for bins in [0, 64, 129, 2000, 16384, usize::MAX] {
        assert_eq!(
            Histogram::new(bins).unwrap_err(),
            ConfigError::Bins,
            "{bins}"
        );
    }
    for percentile in [0.0, -1.0, 100.1, f64::NAN] {
        let config = ObserverConfig::Percentile {
            bins: 2048,
            percentile,
        };
        assert_eq!(Observer::new(config).unwrap_err(), ConfigError::Percentile);
    }
    let refused = [
        Averaging::Constant(0.0),
        Averaging::Constant(1.1),
        Averaging::Constant(f64::NAN),
        Averaging::Ratio(1.0),
        Averaging::Ratio(-0.1),
    ];
    for averaging in refused {
        let config = ObserverConfig::MovingAverage { averaging };
        assert_eq!(Observer::new(config).unwrap_err(), ConfigError::Averaging);
    }
    let config = ObserverConfig::from_name("mse").unwrap().with_bins(100);
    assert_eq!(config.bins(), Some(100));
    assert_eq!(Observer::new(config).unwrap_err(), ConfigError::Bins);
    assert_eq!(ObserverConfig::from_name("median"), None);
}

#[test]
fn other_configurations_and_averages_do_not_merge() {
    for (i, a) in ObserverConfig::ALL.into_iter().enumerate() {
        for (j, b) in ObserverConfig::ALL.into_iter().enumerate() {
            let mut observer = observed(a, &[1.0]);
            let merged = observer.merge(&observed(b, &[2.0]));
            let expected = match i == j {
                false => Err(MergeError::Configuration),
                true if a.name() == "moving-average" => Err(MergeError::Ordered),
                true => Ok(()),
            };
            assert_eq!(merged, expected, "{a:?} {b:?}");
            let samples = if expected.is_ok() { 2 } else { 1 };
            assert_eq!(observer.samples(), samples);
        }
    }
    let mut small = observed(ObserverConfig::Entropy { bins: 128 }, &[1.0]);
    let large = observed(ObserverConfig::Entropy { bins: 256 }, &[1.0]);
    assert_eq!(small.merge(&large), Err(MergeError::Configuration));
}

/// `bins` bins, each value where its edges say.
fn check_histogram(values: &[f32], bins: usize) {
    let mut histogram = Histogram::new(bins).unwrap();
    histogram.observe(values);
    let finite = || values.iter().copied().filter(|value| value.is_finite());
    let abs_max = finite().fold(0.0, |max: f32, value| max.max(value.abs()));
    let end = histogram.edge(bins);
    assert!(f64::from(abs_max) < end);
    assert!(f64::from(abs_max) >= end / 2.0 || histogram.exponent() == -126);
    let mut expected = vec![0; bins];
    for value in finite() {
        let value = f64::from(value);
        let holds = |&bin: &usize| {
            let (low, high) = (histogram.edge(bin), histogram.edge(bin + 1));
            match value < 0.0 {
                true => low < value && value <= high,
                false => low <= value && value < high,
            }
        };
        expected[(0..bins).find(holds).unwrap()] += 1;
    }
    assert_eq!(histogram.counts(), expected);
    assert_eq!(*histogram.values(), MinMax::from_values(values));
}

#[test]
fn values_at_edges_have_the_bin_away_from_zero() {
    check_histogram(&[0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 64.0, -64.0], 128);
    check_histogram(&[f32::MAX, f32::MIN, f32::MIN_POSITIVE, -1.0], 128);
    check_histogram(&[f32::from_bits(1), -f32::from_bits(1), 0.0], 8192);
    check_histogram(&[127.0, 128.0_f32.next_down(), 1e-30], 256);
}

/// Splits `items`, gives each part to an observer, and merges these, all as `choices` say.
fn in_parts<T: Clone>(
    values: &[f32],
    choices: &[usize],
    new: impl Fn() -> T,
    observe: impl Fn(&mut T, &[f32]),
    merge: impl Fn(&mut T, &T),
) -> T {
    let mut choices = choices.iter().cycle();
    let mut choose = |count: usize| choices.next().unwrap() % count;
    let mut values = values.to_vec();
    for i in 0..values.len() {
        let other = choose(values.len());
        values.swap(i, other);
    }
    let mut observers = vec![new()];
    while !values.is_empty() {
        let rest = values.split_off(choose(values.len()) + 1);
        let observer = match choose(2) {
            0 => observers.last_mut().unwrap(),
            _ => {
                observers.push(new());
                observers.last_mut().unwrap()
            }
        };
        observe(observer, &values);
        values = rest;
    }
    while observers.len() > 1 {
        let other = observers.swap_remove(choose(observers.len()));
        let into = choose(observers.len());
        merge(&mut observers[into], &other);
    }
    observers.remove(0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(quant_testkit::cases(512)))]

    /// Any partition, any order, any tree of merges.
    #[test]
    fn state_depends_on_the_values_only(
        values in prop::collection::vec(any_f32(), 0..60),
        choices in prop::collection::vec(any::<usize>(), 1..90),
        bins in prop::sample::select(vec![128, 512, 2048]),
    ) {
        let min_max = in_parts(
            &values,
            &choices,
            MinMax::default,
            MinMax::observe::<f32>,
            MinMax::merge,
        );
        prop_assert_eq!(min_max, MinMax::from_values(&values));
        if let Some(range) = min_max.range() {
            prop_assert!(range.min.to_bits() != (-0.0_f32).to_bits());
            prop_assert!(range.max.to_bits() != (-0.0_f32).to_bits());
        }

        let mut whole = Histogram::new(bins).unwrap();
        whole.observe(&values);
        let parts = in_parts(
            &values,
            &choices,
            || Histogram::new(bins).unwrap(),
            Histogram::observe::<f32>,
            |histogram, other| histogram.merge(other).unwrap(),
        );
        prop_assert_eq!(&parts, &whole);
        check_histogram(&values, bins);
    }

    #[test]
    fn percentile_holds_what_it_says_and_no_bin_more(
        values in prop::collection::vec(-100.0_f32..3.0, 1..200),
        percentile in 1.0..=100.0,
    ) {
        let mut histogram = Histogram::new(256).unwrap();
        histogram.observe(&values);
        let width = histogram.bin_width();
        let share = |low: f64, high: f64| {
            let inside = values.iter().map(|&value| f64::from(value));
            let inside = inside.filter(|&value| low <= value && value <= high);
            100.0 * inside.count() as f64 / values.len() as f64
        };
        let close = 1e-9;
        for mode in [Mode::Symmetric, Mode::Affine] {
            let range = histogram.percentile(percentile, mode).unwrap();
            let (min, max) = (f64::from(range.min), f64::from(range.max));
            prop_assert!(share(min, max) >= percentile - close);
            let exact = histogram.range().unwrap();
            if mode == Mode::Symmetric && range != exact {
                let inner = f64::from(range.abs_max()) - width;
                // A value that is the inner edge itself has the bin beyond it.
                prop_assert!(share(-inner * (1.0 - close), inner * (1.0 - close)) < percentile);
            }
        }
        prop_assert_eq!(histogram.percentile(100.0, Mode::Affine), histogram.range());
        prop_assert_eq!(histogram.percentile(100.0, Mode::Symmetric), histogram.range());
    }
}

/// Normal values with one far away.
fn with_outlier() -> Vec<f32> {
    let mut values = noise(20_000);
    values.push(12.0);
    values
}

#[test]
fn entropy_leaves_outliers_out() {
    let observer = observed(
        ObserverConfig::from_name("entropy").unwrap(),
        &with_outlier(),
    );
    let range = observer.range(IntType::Int8, Mode::Symmetric).unwrap();
    assert!((2.0..6.0).contains(&range.max), "{range:?}");
    assert!(range.min < -2.0);

    // Nothing is gained by clipping where 128 bins hold everything.
    let observer = observed(ObserverConfig::Entropy { bins: 128 }, &with_outlier());
    let range = observer.range(IntType::Int8, Mode::Symmetric).unwrap();
    assert_eq!(range, observer.values().range().unwrap());
}

/// The mean squared error of the values themselves, by the reference.
fn squared_error(values: &[f32], scheme: Scheme, range: &ValueRange) -> f64 {
    let params = scheme.params(range, FloatType::F32).unwrap();
    let mut codes = vec![0; values.len()];
    reference::quantize(values, scheme, params, &mut codes);
    let mut back = vec![0.0; values.len()];
    reference::dequantize(&codes, scheme, params, &mut back);
    let errors = values.iter().zip(&back);
    errors
        .map(|(value, back)| f64::from(value - back).powi(2))
        .sum()
}

#[test]
fn mse_is_near_the_best_of_all_ranges() {
    let relu: Vec<f32> = with_outlier().iter().map(|value| value.max(0.0)).collect();
    for values in [with_outlier(), relu] {
        let observer = observed(ObserverConfig::from_name("mse").unwrap(), &values);
        let exact = observer.values().range().unwrap();
        for dtype in hurtful::COREMLTOOLS_TYPES {
            for mode in Mode::ALL {
                let scheme = Scheme::new(dtype, mode);
                let error = |range: &ValueRange| squared_error(&values, scheme, range);
                let chosen = observer.range(dtype, mode).unwrap();
                let scaled = (1..=100).map(|part| ValueRange {
                    min: exact.min * part as f32 / 100.0,
                    max: exact.max * part as f32 / 100.0,
                    non_finite: 0,
                });
                let best = scaled
                    .map(|range| error(&range))
                    .fold(f64::INFINITY, f64::min);
                assert!(error(&chosen) <= 1.02 * best, "{scheme:?} {chosen:?}");
                if dtype.bits() == 4 {
                    assert!(chosen.max < 6.0, "{chosen:?}");
                }
            }
        }
    }
    let even: Vec<f32> = (-1000..=1000).map(|i| i as f32 / 1000.0).collect();
    let observer = observed(ObserverConfig::from_name("mse").unwrap(), &even);
    let range = observer.range(IntType::Int8, Mode::Symmetric).unwrap();
    assert!(range.max > 0.99, "{range:?}");
}

#[test]
fn f16_is_observed_as_the_f32_it_is() {
    let values: Vec<f32> = noise(1000)
        .iter()
        .map(|&value| f16::from_f32(value).to_f32())
        .collect();
    let halves: Vec<f16> = values.iter().map(|&value| f16::from_f32(value)).collect();
    for config in ObserverConfig::ALL {
        let mut observer = Observer::new(config).unwrap();
        observer.observe(&halves);
        assert_eq!(observer, observed(config, &values));
    }
}
