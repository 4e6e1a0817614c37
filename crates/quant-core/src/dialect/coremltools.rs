//! coremltools 9.0: weights, and activations.

use super::{Arithmetic, symmetric_codes};
use crate::dtype::{FloatType, IntType};
use crate::mode::Mode;
use crate::params::{Params, ParamsError, ValueRange};

/// Weights: every step in their own type.
pub(super) struct Weights;

impl Arithmetic for Weights {
    #[inline]
    fn code_range(dtype: IntType, mode: Mode) -> (i32, i32) {
        symmetric_codes(dtype, mode)
    }

    #[inline]
    fn rounding(source: FloatType) -> FloatType {
        match source {
            FloatType::F16 => FloatType::F16,
            // numpy has no bf16.
            FloatType::F32 | FloatType::Bf16 => FloatType::F32,
        }
    }

    #[inline]
    fn scale_type(source: FloatType) -> FloatType {
        source
    }

    #[inline]
    fn has_signed_scales() -> bool {
        true
    }

    fn params(
        range: &ValueRange,
        dtype: IntType,
        mode: Mode,
        source: FloatType,
    ) -> Result<Params, ParamsError> {
        let codes = Self::code_range(dtype, mode);
        linear(range, codes, mode, Self::rounding(source), source)
    }
}

/// The steps of coremltools' weights, each rounded to `rounding`.
pub(super) fn linear(
    range: &ValueRange,
    codes: (i32, i32),
    mode: Mode,
    rounding: FloatType,
    scale_type: FloatType,
) -> Result<Params, ParamsError> {
    let round = |value: f32| rounding.round(value);
    let (qmin, qmax) = (codes.0 as f32, codes.1 as f32);

    let (min, max) = match mode {
        Mode::Symmetric => (-range.abs_max(), range.abs_max()),
        Mode::Affine => (range.min.min(0.0), range.max.max(0.0)),
    };
    let width = round(max - min);
    let scale = scale_type.round(round(width / (qmax - qmin)));
    if !scale.is_finite() {
        return Err(ParamsError::ScaleOverflow);
    }
    if scale == 0.0 && max > min {
        return Err(ParamsError::ScaleUnderflow);
    }

    let zero_point = match mode {
        Mode::Symmetric => (codes.0 + codes.1) / 2,
        Mode::Affine if scale == 0.0 => 0,
        Mode::Affine => {
            let numerator = round(round(qmin * max) - round(qmax * min));
            let quotient = round(numerator / width);
            if !quotient.is_finite() || !numerator.is_finite() {
                return Err(ParamsError::ZeroPointOverflow);
            }
            libm::rintf(quotient).clamp(qmin, qmax) as i32
        }
    };
    Ok(Params::found(scale, zero_point, scale_type))
}

/// Activations: the bounds rounded to f16, then the arithmetic of f16 weights, whatever their type.
pub(super) struct Activations;

impl Arithmetic for Activations {
    /// They are quantized where the model runs, and to the whole integer type there.
    #[inline]
    fn code_range(dtype: IntType, _: Mode) -> (i32, i32) {
        (dtype.min_value(), dtype.max_value())
    }

    #[inline]
    fn rounding(source: FloatType) -> FloatType {
        Weights::rounding(source)
    }

    #[inline]
    fn scale_type(source: FloatType) -> FloatType {
        match source {
            FloatType::F16 => FloatType::F16,
            FloatType::F32 | FloatType::Bf16 => FloatType::F32,
        }
    }

    fn params(
        range: &ValueRange,
        dtype: IntType,
        mode: Mode,
        source: FloatType,
    ) -> Result<Params, ParamsError> {
        let round = |value: f32| FloatType::F16.round(value);
        let (low, high) = symmetric_codes(dtype, mode);
        let (qmin, qmax) = (low as f32, high as f32);
        let (min, max) = range.bounds();
        let (min, max) = (round(min), round(max));
        let (min, max) = match mode {
            Mode::Symmetric => (-min.abs().max(max.abs()), min.abs().max(max.abs())),
            Mode::Affine => (min.min(0.0), max.max(0.0)),
        };
        let width = round(max - min);
        let scale = round(width / (qmax - qmin));
        if !scale.is_finite() {
            return Err(ParamsError::ScaleOverflow);
        }
        let zero_point = match mode {
            Mode::Symmetric => ((low + high) / 2) as f32,
            Mode::Affine if width == 0.0 => 0.0,
            Mode::Affine => {
                let numerator = round(round(qmin * max) - round(qmax * min));
                // With zero at an end of the range, a quotient that overflows still clips to it.
                if !numerator.is_finite() && min < 0.0 && max > 0.0 {
                    return Err(ParamsError::ZeroPointOverflow);
                }
                libm::rintf(round(numerator / width)).clamp(qmin, qmax)
            }
        };
        // coremltools itself does so for signed symmetric codes, and fails for the others.
        let scale = if scale == 0.0 { 1.0 } else { scale };
        Ok(Params::found(
            scale,
            zero_point as i32,
            Self::scale_type(source),
        ))
    }
}
