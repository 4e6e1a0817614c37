//! compressed-tensors 0.20's integers, which vLLM and transformers read.
//!
//! It computes with signed codes, and packs them less the smallest one. These are the codes of
//! unsigned types here: signed ones less the smallest, and so are their zero points.

use super::Arithmetic;
use crate::dtype::{FloatType, IntType};
use crate::mode::Mode;
use crate::params::{Params, ParamsError, ValueRange};

pub(super) struct CompressedTensors;

/// The scale in place of 0: the number after 1, less 1.
fn epsilon(source: FloatType) -> f32 {
    match source {
        FloatType::F32 => f32::EPSILON,
        FloatType::F16 => 1.0 / 1024.0,
        FloatType::Bf16 => 1.0 / 128.0,
    }
}

impl Arithmetic for CompressedTensors {
    /// Its integer types are whole in both modes.
    #[inline]
    fn code_range(dtype: IntType, _: Mode) -> (i32, i32) {
        (dtype.min_value(), dtype.max_value())
    }

    #[inline]
    fn rounding(source: FloatType) -> FloatType {
        source
    }

    #[inline]
    fn scale_type(source: FloatType) -> FloatType {
        source
    }

    #[inline]
    fn adds_zero_point_first(mode: Mode) -> bool {
        mode == Mode::Affine
    }

    #[inline]
    fn zero_point_shift(dtype: IntType) -> i32 {
        match dtype.is_signed() {
            true => 0,
            false => 1 << (dtype.bits() - 1),
        }
    }

    /// Every step is rounded to the type of the values. The zero point comes from the scale before a
    /// scale of 0 is replaced.
    fn params(
        range: &ValueRange,
        dtype: IntType,
        mode: Mode,
        source: FloatType,
    ) -> Result<Params, ParamsError> {
        let round = |value: f32| source.round(value);
        let shift = Self::zero_point_shift(dtype);
        let (qmin, qmax) = (dtype.min_value() - shift, dtype.max_value() - shift);
        let (qmin, qmax) = (qmin as f32, qmax as f32);
        let (min, max) = (range.min.min(0.0), range.max.max(0.0));
        let (scale, zero_point) = match mode {
            Mode::Symmetric => (round((-min).max(max) / ((qmax - qmin) / 2.0)), 0.0),
            Mode::Affine => {
                let scale = round(round(max - min) / (qmax - qmin));
                let zero_point = round(qmin - round(min / scale));
                (scale, libm::rintf(zero_point.clamp(qmin, qmax)))
            }
        };
        if !scale.is_finite() {
            return Err(ParamsError::ScaleOverflow);
        }
        let scale = if scale == 0.0 { epsilon(source) } else { scale };
        // The cast makes 0 of NaN, which 0 / 0 is.
        Ok(Params::found(scale, zero_point as i32 + shift, source))
    }
}
