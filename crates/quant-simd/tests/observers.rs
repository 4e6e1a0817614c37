//! Observers of long slices and of channels, by every backend, against the reference.

use half::{bf16, f16};
use quant_core::observer::{ChannelMinMax, Histogram, MinMax, Observer, ObserverConfig};
use quant_core::{IntType, Mode};
use quant_simd::{Backend, Element};
use quant_testkit::hurtful::{Bits, Random};

/// Ordinary values that grow.
fn growing<F: Element>(count: usize) -> Vec<F> {
    let mut random = Random(count as u64);
    let mut value = |i: usize| random.unit() * (1 + i / 20_000) as f32;
    (0..count).map(|i| F::from_f32(value(i))).collect()
}

/// Several chunks; without anything hurtful, with some of it, with much of it.
fn slices<F: Element + Bits>() -> Vec<Vec<F>> {
    let mut some = growing::<F>(140_001);
    let mut much = some.clone();
    let mut random = Random(9);
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
        let place = random.below(some.len());
        some[place] = F::from_f32(value);
    }
    for value in much.iter_mut().step_by(7) {
        *value = F::from_bits(random.bits() as u32);
    }
    let infinite = vec![F::from_f32(f32::NEG_INFINITY); 5000];
    let last = [growing(200_000), vec![F::from_f32(f32::INFINITY)]].concat();
    vec![growing(140_001), some, much, infinite, last]
}

fn long_slices<F: Element + Bits>() {
    for values in slices::<F>() {
        let want = MinMax::from_values(&values);
        let mut histogram = Histogram::new(2048).unwrap();
        histogram.observe(&values);
        for &backend in Backend::available() {
            assert_eq!(backend.min_max(&values), want, "{backend:?}");
            let mut got = Histogram::new(2048).unwrap();
            backend.observe_histogram(&values, &mut got);
            assert!(got == histogram, "{backend:?}");
        }
        for config in ObserverConfig::ALL {
            let mut want = Observer::new(config).unwrap();
            for part in values.chunks(77_777) {
                want.observe_part(part);
            }
            want.end_sample();
            want.observe(&values[values.len() / 2..]);
            for &backend in Backend::available() {
                let mut got = Observer::new(config).unwrap();
                backend.observe(&values, &mut got);
                backend.observe(&values[values.len() / 2..], &mut got);
                assert!(got == want, "{backend:?} {config:?}");
            }
            assert_eq!(want.samples(), 2);
        }
    }
}

fn channels<F: Element + Bits>() {
    let mut random = Random(4);
    for shape in [
        vec![5, 7, 3],
        vec![4, 70],
        vec![1, 66, 1],
        vec![3, 1],
        vec![0, 3],
        vec![6],
    ] {
        let count = shape.iter().product();
        for hurtful in [0, 40, 3] {
            let mut values = growing::<F>(count);
            if hurtful > 0 {
                for value in values.iter_mut().step_by(hurtful) {
                    *value = F::from_bits(random.bits() as u32);
                }
            }
            for axis in 0..shape.len() {
                let mut want = ChannelMinMax::new(shape[axis]);
                want.observe(&values, &shape, axis as isize).unwrap();
                want.observe(&values, &shape, axis as isize).unwrap();
                for &backend in Backend::available() {
                    let mut got = ChannelMinMax::new(shape[axis]);
                    let from_end = axis as isize - shape.len() as isize;
                    for axis in [axis as isize, from_end] {
                        let done = backend.observe_channels(&values, &shape, axis, &mut got);
                        assert_eq!(done, Ok(()));
                    }
                    assert_eq!(got, want, "{backend:?} {shape:?} {axis}");
                }
            }
        }
    }
    let mut observer = ChannelMinMax::new(3);
    let refused = Backend::detect().observe_channels(&[F::default(); 6], &[3, 2], 1, &mut observer);
    assert!(refused.is_err() && observer == ChannelMinMax::new(3));
}

#[test]
fn of_f32() {
    long_slices::<f32>();
    channels::<f32>();
}

#[test]
fn of_f16() {
    long_slices::<f16>();
    channels::<f16>();
}

#[test]
fn of_bf16() {
    long_slices::<bf16>();
    channels::<bf16>();
}

/// So that the tests above compare something.
#[test]
fn histograms_differ() {
    let mut observer = Observer::new(ObserverConfig::from_name("mse").unwrap()).unwrap();
    Backend::detect().observe(&growing::<f32>(140_001), &mut observer);
    let histogram = observer.histogram().unwrap();
    assert!(
        histogram
            .counts()
            .iter()
            .filter(|&&count| count > 0)
            .count()
            > 1000
    );
    let range = observer.range(IntType::Int8, Mode::Symmetric).unwrap();
    assert!(range.max > 5.0);
}
