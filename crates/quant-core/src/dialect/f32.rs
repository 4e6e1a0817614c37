//! The steps of coremltools in f32, for values that overflow their own type.

use super::{Arithmetic, coremltools, symmetric_codes};
use crate::dtype::{FloatType, IntType};
use crate::mode::Mode;
use crate::params::{Params, ParamsError, ValueRange};

pub(super) struct F32;

impl Arithmetic for F32 {
    #[inline]
    fn code_range(dtype: IntType, mode: Mode) -> (i32, i32) {
        symmetric_codes(dtype, mode)
    }

    #[inline]
    fn rounding(_: FloatType) -> FloatType {
        FloatType::F32
    }

    #[inline]
    fn scale_type(_: FloatType) -> FloatType {
        FloatType::F32
    }

    #[inline]
    fn has_signed_scales() -> bool {
        true
    }

    fn params(
        range: &ValueRange,
        dtype: IntType,
        mode: Mode,
        _: FloatType,
    ) -> Result<Params, ParamsError> {
        let codes = Self::code_range(dtype, mode);
        coremltools::linear(range, codes, mode, FloatType::F32, FloatType::F32)
    }
}
