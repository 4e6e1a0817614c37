//! Core AI's weights: coreai-opt's pass on programs, and its fake quantization in torch.

use super::{Arithmetic, symmetric_codes};
use crate::dtype::{FloatType, IntType};
use crate::mode::Mode;
use crate::params::{Params, ParamsError, ValueRange};

/// `coreai_opt.coreai_utils.quantize_weights`: coreai-opt's pass on a program.
pub(super) struct Program;

/// What it adds to the width of a range.
const EPSILON: f32 = 1e-6;

impl Arithmetic for Program {
    #[inline]
    fn code_range(dtype: IntType, mode: Mode) -> (i32, i32) {
        symmetric_codes(dtype, mode)
    }

    #[inline]
    fn rounding(source: FloatType) -> FloatType {
        source
    }

    #[inline]
    fn scale_type(source: FloatType) -> FloatType {
        source
    }

    /// Every step is rounded to the type of the values, and so is the epsilon.
    fn params(
        range: &ValueRange,
        dtype: IntType,
        mode: Mode,
        source: FloatType,
    ) -> Result<Params, ParamsError> {
        let round = |value: f32| source.round(value);
        let codes = Self::code_range(dtype, mode);
        let (qmin, qmax) = (codes.0 as f32, codes.1 as f32);
        let (min, max) = match mode {
            Mode::Symmetric => (-range.abs_max(), range.abs_max()),
            Mode::Affine => (range.min.min(0.0), range.max.max(0.0)),
        };
        let width = round(round(max - min) + round(EPSILON));
        let scale = round(width / (qmax - qmin));
        if !scale.is_finite() {
            return Err(ParamsError::ScaleOverflow);
        }
        if scale == 0.0 && max > min {
            return Err(ParamsError::ScaleUnderflow);
        }
        let zero_point = match mode {
            Mode::Symmetric => (codes.0 + codes.1) / 2,
            Mode::Affine => {
                let numerator = round(round(qmin * max) - round(qmax * min));
                if !numerator.is_finite() {
                    return Err(ParamsError::ZeroPointOverflow);
                }
                libm::rintf(round(numerator / width)).clamp(qmin, qmax) as i32
            }
        };
        Ok(Params::found(scale, zero_point, source))
    }
}

/// coreai-opt's fake quantization of weights in torch, symmetric with clipping.
pub(super) struct Torch;

/// The smallest scale: the f32 after 1, less 1.
const SMALLEST: f32 = f32::EPSILON;

impl Arithmetic for Torch {
    /// Only signed types are clipped.
    #[inline]
    fn code_range(dtype: IntType, mode: Mode) -> (i32, i32) {
        match (mode, dtype.is_signed()) {
            (Mode::Symmetric, true) => (-dtype.max_value(), dtype.max_value()),
            (Mode::Symmetric, false) | (Mode::Affine, _) => (dtype.min_value(), dtype.max_value()),
        }
    }

    #[inline]
    fn rounding(_: FloatType) -> FloatType {
        FloatType::F32
    }

    #[inline]
    fn scale_type(source: FloatType) -> FloatType {
        source
    }

    /// Every step is rounded to the type of the values; quotients of values are not.
    fn params(
        range: &ValueRange,
        dtype: IntType,
        mode: Mode,
        source: FloatType,
    ) -> Result<Params, ParamsError> {
        let round = |value: f32| source.round(value);
        let codes = Self::code_range(dtype, mode);
        let (qmin, qmax) = (codes.0 as f32, codes.1 as f32);
        let (min, max) = (range.min.min(0.0), range.max.max(0.0));
        let (scale, zero_point) = match mode {
            Mode::Symmetric => {
                let scale = round((-min).max(max) / ((qmax - qmin) / 2.0));
                (scale.max(SMALLEST), (codes.0 + codes.1 + 1) / 2)
            }
            Mode::Affine => {
                let scale = round(round(max - min) / (qmax - qmin)).max(SMALLEST);
                let steps = libm::rintf(round(min / scale));
                (scale, round(qmin - steps).clamp(qmin, qmax) as i32)
            }
        };
        if !scale.is_finite() {
            return Err(ParamsError::ScaleOverflow);
        }
        Ok(Params::found(scale, zero_point, source))
    }
}
