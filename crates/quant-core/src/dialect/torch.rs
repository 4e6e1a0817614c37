//! torch's `UniformQuantizationObserverBase`.

use super::Arithmetic;
use crate::dtype::{FloatType, IntType};
use crate::mode::Mode;
use crate::params::{Params, ParamsError, ValueRange};

pub(super) struct Torch;

/// torch's `eps`: the f32 after 1, less 1.
const EPS: f32 = f32::EPSILON;

impl Arithmetic for Torch {
    /// Its integer types are whole in both modes.
    #[inline]
    fn code_range(dtype: IntType, _: Mode) -> (i32, i32) {
        (dtype.min_value(), dtype.max_value())
    }

    #[inline]
    fn rounding(_: FloatType) -> FloatType {
        FloatType::F32
    }

    #[inline]
    fn scale_type(_: FloatType) -> FloatType {
        FloatType::F32
    }

    fn params(
        range: &ValueRange,
        dtype: IntType,
        mode: Mode,
        _: FloatType,
    ) -> Result<Params, ParamsError> {
        if range.is_empty() {
            return Ok(Params::found(1.0, 0, FloatType::F32));
        }
        let (qmin, qmax) = (dtype.min_value() as f32, dtype.max_value() as f32);
        let (min, max) = (range.min.min(0.0), range.max.max(0.0));
        let (scale, zero_point) = match mode {
            Mode::Symmetric => {
                let scale = (-min).max(max) / ((qmax - qmin) / 2.0);
                (scale.max(EPS), symmetric_zero_point(dtype))
            }
            Mode::Affine => {
                let scale = ((max - min) / (qmax - qmin)).max(EPS);
                let zero_point = (qmin - libm::rintf(min / scale)).clamp(qmin, qmax);
                (scale, zero_point as i32)
            }
        };
        if !scale.is_finite() {
            return Err(ParamsError::ScaleOverflow);
        }
        Ok(Params::found(scale, zero_point, FloatType::F32))
    }
}

/// torch has 128 for `quint8`, and the middle rounded down for codes of fewer bits.
fn symmetric_zero_point(dtype: IntType) -> i32 {
    match (dtype.is_signed(), dtype.bits()) {
        (true, _) => 0,
        (false, 8) => 128,
        (false, _) => dtype.max_value() / 2,
    }
}
