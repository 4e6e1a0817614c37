//! Observers that were stored come back as they were, or not at all.

use proptest::prelude::*;
use quant_core::observer::{Averaging, ChannelMinMax, Observer, ObserverConfig};
use serde_json::{Value, json};

fn configs() -> impl Iterator<Item = ObserverConfig> {
    let averaging = Averaging::COREMLTOOLS;
    ObserverConfig::ALL
        .into_iter()
        .chain([ObserverConfig::MovingAverage { averaging }])
}

proptest! {
    #[test]
    fn bit_for_bit(
        bits in prop::collection::vec(any::<u32>(), 0..40),
        constant in 1e-6..1.0,
        percentile in 1.0..100.0,
    ) {
        let values: Vec<f32> = bits.into_iter().map(f32::from_bits).collect();
        let odd = [
            ObserverConfig::MovingAverage { averaging: Averaging::Constant(constant) },
            ObserverConfig::Percentile { bins: 128, percentile },
        ];
        for config in configs().chain(odd) {
            let mut observer = Observer::new(config).unwrap();
            for sample in values.chunks(7) {
                observer.observe(sample);
            }
            observer.observe_part(&[0.1_f32]);
            let stored = serde_json::to_string(&observer).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Observer>(&stored).unwrap(), &observer);
            // Whoever reads it as a tree first loses nothing either.
            let tree: Value = serde_json::from_str(&stored).unwrap();
            prop_assert_eq!(serde_json::from_value::<Observer>(tree).unwrap(), observer);
        }
        let mut channels = ChannelMinMax::new(1);
        channels.observe(&values, &[1, values.len()], 0).unwrap();
        let stored = serde_json::to_string(&channels).unwrap();
        prop_assert_eq!(serde_json::from_str::<ChannelMinMax>(&stored).unwrap(), channels);
    }
}

#[test]
fn what_no_observer_can_be_is_refused() {
    let stored = |config: ObserverConfig| {
        let mut observer = Observer::new(config).unwrap();
        observer.observe(&[1.0_f32, -2.0, f32::NAN]);
        serde_json::to_value(&observer).unwrap()
    };
    let refuse = |original: &Value, path: &str, value: Value| {
        let mut changed = original.clone();
        *changed.pointer_mut(path).expect(path) = value;
        let read = serde_json::from_value::<Observer>(changed);
        assert!(read.is_err(), "{path}: {read:?}");
    };
    let [min_max, moving, percentile, ..] = ObserverConfig::ALL.map(stored);

    for (name, value) in [
        ("min", json!(null)),
        ("min", json!(1.5)),
        ("max", json!(1e39)),
        ("count", json!(1)),
        ("count", json!(0)),
        ("non_finite", json!(3)),
    ] {
        refuse(&min_max, &format!("/statistics/min-max/{name}"), value);
    }
    refuse(&min_max, "/statistics", moving["statistics"].clone());
    refuse(
        &moving,
        "/statistics/moving-average/averaging/constant",
        json!(0.02),
    );
    refuse(&moving, "/config/averaging/constant", json!(2));
    refuse(&moving, "/statistics/moving-average/min", json!(null));

    let histogram = "/statistics/histogram";
    for (name, value) in [
        ("bins", json!(1024)),
        ("bins", json!(1000)),
        ("exponent", json!(-7)),
        ("exponent", json!(i32::MAX)),
        ("first", json!(2048)),
        ("first", json!(usize::MAX)),
        ("counts", json!([1])),
        ("counts", json!([u64::MAX, 3])),
        ("values/count", json!(4)),
        ("values/max", json!(100.0)),
    ] {
        refuse(&percentile, &format!("{histogram}/{name}"), value);
    }
    refuse(&percentile, "/config/percentile", json!(0));
    refuse(&percentile, "/config/bins", json!(4096));
}
