//! The choice of integer type, mode and dialect, and what follows from it.

use crate::dialect::{Dialect, OffsetKind};
use crate::dtype::{FloatType, IntType};
use crate::mode::Mode;
use crate::params::{Params, ParamsError, Range};

/// Integer type, mode and dialect of a quantization.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Scheme {
    /// Type of the codes.
    pub dtype: IntType,
    /// Symmetric or affine.
    pub mode: Mode,
    /// Whose arithmetic: types of intermediate results and of the scale, range of the codes.
    pub dialect: Dialect,
}

impl Scheme {
    /// A scheme in the `coremltools` dialect.
    pub const fn new(dtype: IntType, mode: Mode) -> Self {
        Self {
            dtype,
            mode,
            dialect: Dialect::Coremltools,
        }
    }

    /// The same in another dialect.
    ///
    /// ```
    /// use quant_core::{Dialect, IntType, Mode, Scheme};
    /// let scheme = Scheme::new(IntType::Int8, Mode::Symmetric).with_dialect(Dialect::F32);
    /// assert_eq!(scheme.dialect, Dialect::F32);
    /// ```
    pub const fn with_dialect(self, dialect: Dialect) -> Self {
        Self { dialect, ..self }
    }

    /// The smallest code.
    pub fn qmin(self) -> i32 {
        self.dialect.code_range(self.dtype, self.mode).0
    }

    /// The largest code.
    pub fn qmax(self) -> i32 {
        self.dialect.code_range(self.dtype, self.mode).1
    }

    /// The middle of the codes: 0, or half of an unsigned type. It is the zero point of symmetric
    /// schemes in the dialects `coremltools` and `f32`.
    pub fn symmetric_zero_point(self) -> i32 {
        (self.qmin() + self.qmax()) / 2
    }

    /// What is stored beside the scale.
    pub fn offset(self) -> OffsetKind {
        self.dialect.offset(self.dtype, self.mode)
    }

    /// Whether a zero point is stored beside the scale.
    pub fn stores_zero_point(self) -> bool {
        self.offset() == OffsetKind::ZeroPoint
    }
}

impl Scheme {
    /// Scale and zero point for values of type `source` with this range, each step rounded as the
    /// dialect says. An empty range is that of zeros.
    ///
    /// # Errors
    /// Non-finite values; a scale that overflows, or underflows to 0 for values that are not all
    /// zero; an overflow on the way to the zero point.
    pub fn params(self, range: &Range, source: FloatType) -> Result<Params, ParamsError> {
        if range.non_finite > 0 {
            return Err(ParamsError::NonFinite);
        }
        self.dialect.params(range, self.dtype, self.mode, source)
    }
}

impl Params {
    /// Given parameters, for instance read from a file. `scale_type` is the type that the scale
    /// is stored in: dequantized values are rounded to it.
    ///
    /// # Errors
    /// A negative or non-finite scale; a scale that `scale_type` cannot hold; a zero point outside
    /// `scheme`'s range of codes (0 is always accepted: blocks of zeros have it).
    pub fn new(
        scheme: Scheme,
        scale: f32,
        zero_point: i32,
        scale_type: FloatType,
    ) -> Result<Self, ParamsError> {
        let held = scale_type.round(scale) == scale;
        if !(scale.is_finite() && scale >= 0.0 && held) {
            return Err(ParamsError::InvalidScale);
        }
        if zero_point != 0 && !(scheme.qmin()..=scheme.qmax()).contains(&zero_point) {
            return Err(ParamsError::InvalidZeroPoint);
        }
        Ok(Self::found(scale + 0.0, zero_point, scale_type))
    }
}
