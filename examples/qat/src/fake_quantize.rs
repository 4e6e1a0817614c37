//! Fake quantization on slices: forward and backward.

use quant_core::{Params, Scheme};
use quant_simd::Backend;

/// What `values` become by quantization and back: `dequantized`.
///
/// # Panics
/// If the lengths differ.
pub fn forward(values: &[f32], scheme: Scheme, params: Params, dequantized: &mut [f32]) {
    Backend::detect().fake_quantize(values, scheme, params, dequantized);
}

/// The straight-through estimate of the gradient: rounding counts as the identity, so a value has
/// the gradient of its dequantized value; the clip is flat, so a value beyond the codes has none, nor has
/// NaN. A scale of 0 clips nothing. In place.
///
/// Bengio, Leonard and Courville, *Estimating or Propagating Gradients Through Stochastic Neurons*
/// (2013); torch's `fake_quantize_per_tensor_affine` does the same.
///
/// # Panics
/// If the lengths differ.
pub fn backward(values: &[f32], scheme: Scheme, params: Params, gradient: &mut [f32]) {
    assert_eq!(values.len(), gradient.len(), "a gradient for each value");
    if params.scale() == 0.0 {
        return;
    }
    let codes = scheme.qmin() as f32..=scheme.qmax() as f32;
    for (value, gradient) in values.iter().zip(gradient) {
        let steps = (value / params.scale()).round_ties_even();
        if !codes.contains(&(steps + params.zero_point() as f32)) {
            *gradient = 0.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use quant_core::{FloatType, IntType, Mode, reference};

    use super::*;

    /// Halves of steps, from beyond one end of the codes to beyond the other; and what hurts.
    fn values(params: Params) -> Vec<f32> {
        let steps = (-700..=700).map(|i| i as f32 * 0.5 * params.scale());
        let mut values: Vec<f32> = steps
            .flat_map(|value| [value.next_down(), value, value.next_up()])
            .collect();
        values.extend([0.0, -0.0, 1e-40, f32::MAX, f32::INFINITY, f32::NEG_INFINITY]);
        values
    }

    fn every_scheme(check: impl Fn(Scheme, Params)) {
        for dtype in IntType::ALL {
            for mode in [Mode::Symmetric, Mode::Affine] {
                let scheme = Scheme::new(dtype, mode);
                let zero_points = match mode {
                    Mode::Symmetric => vec![scheme.symmetric_zero_point()],
                    Mode::Affine => vec![scheme.qmin(), scheme.qmin() + 3, scheme.qmax()],
                };
                for zero_point in zero_points {
                    for scale in [1.0, 0.07, 3e-4, 0.0] {
                        check(
                            scheme,
                            Params::new(scheme, scale, zero_point, FloatType::F32).unwrap(),
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn forward_is_the_reference() {
        every_scheme(|scheme, params| {
            let values = values(params);
            let (mut codes, mut want) = (vec![0; values.len()], vec![0.0; values.len()]);
            reference::quantize(&values, scheme, params, &mut codes);
            reference::dequantize(&codes, scheme, params, &mut want);
            let mut dequantized = vec![f32::NAN; values.len()];
            forward(&values, scheme, params, &mut dequantized);
            assert_eq!(dequantized, want, "{scheme:?} {params:?}");
        });
    }

    #[test]
    fn only_what_the_reference_clips_has_no_gradient() {
        every_scheme(|scheme, params| {
            for value in values(params) {
                let mut gradient = [0.5];
                backward(&[value], scheme, params, &mut gradient);
                let clipped = reference::saturated(&[value], scheme, params) == 1;
                assert_eq!(
                    gradient,
                    [if clipped { 0.0 } else { 0.5 }],
                    "{value} {params:?}"
                );
            }
        });
    }

    #[test]
    fn nan_has_no_gradient() {
        let scheme = Scheme::new(IntType::Int8, Mode::Symmetric);
        let params = Params::new(scheme, 0.01, 0, FloatType::F32).unwrap();
        let mut gradient = [0.5];
        backward(&[f32::NAN], scheme, params, &mut gradient);
        assert_eq!(gradient, [0.0]);
    }

    /// Over many steps, what a value becomes grows as fast as the value, within the codes.
    #[test]
    fn the_gradient_is_the_mean_slope() {
        let scheme = Scheme::new(IntType::Int8, Mode::Symmetric);
        let params = Params::new(scheme, 0.01, 0, FloatType::F32).unwrap();
        for (low, high, slope) in [(-1.0, 1.0, 1.0), (1.3, 9.0, 0.0), (-9.0, -1.3, 0.0)] {
            let mut dequantized = [0.0; 2];
            forward(&[low, high], scheme, params, &mut dequantized);
            let found = (dequantized[1] - dequantized[0]) / (high - low);
            assert!((found - slope).abs() < 0.01, "{found}");
            let mut gradient = [1.0; 2];
            backward(&[low, high], scheme, params, &mut gradient);
            assert_eq!(gradient, [slope; 2]);
        }
    }
}
