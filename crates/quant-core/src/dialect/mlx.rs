//! MLX 0.32's affine quantization, as its CPU computes it.

use super::{Arithmetic, OffsetKind};
use crate::dtype::{FloatType, IntType};
use crate::mode::Mode;
use crate::params::{Params, ParamsError, ValueRange};

pub(super) struct Mlx;

/// The least magnitude of a scale, before it is fitted to the edge.
const EPS: f32 = 1e-7;

impl Arithmetic for Mlx {
    #[inline]
    fn code_range(dtype: IntType, _: Mode) -> (i32, i32) {
        (dtype.min_value(), dtype.max_value())
    }

    #[inline]
    fn rounding(_: FloatType) -> FloatType {
        FloatType::F32
    }

    #[inline]
    fn scale_type(source: FloatType) -> FloatType {
        source
    }

    #[inline]
    fn offset(_: IntType, _: Mode) -> OffsetKind {
        OffsetKind::Bias
    }

    /// MLX multiplies and adds in the type of the scales.
    fn value(steps: f32, params: &Params) -> f32 {
        let round = |value: f32| params.scale_type().round(value);
        round(round(params.scale() * steps) + params.bias().unwrap_or(0.0))
    }

    /// The scale is fitted so that the edge of larger magnitude is a whole number of steps from 0,
    /// and thus has a code of its own; as has 0.
    fn params(
        range: &ValueRange,
        dtype: IntType,
        mode: Mode,
        source: FloatType,
    ) -> Result<Params, ParamsError> {
        if dtype.is_signed() || mode == Mode::Symmetric {
            return Err(ParamsError::UnsupportedScheme);
        }
        let (min, max) = range.bounds();
        let steps = dtype.max_value() as f32;
        let is_low = min.abs() > max.abs();
        let scale = ((max - min) / steps).max(EPS);
        let scale = if is_low { scale } else { -scale };
        let edge = if is_low { min } else { max };
        let edge_step = libm::rintf(edge / scale);
        let (scale, bias) = match edge_step == 0.0 {
            true => (scale, 0.0),
            false => (edge / edge_step, edge),
        };
        if !source.round(scale).is_finite() {
            return Err(ParamsError::ScaleOverflow);
        }
        Ok(Params::found_with_bias(scale, bias, source))
    }
}
