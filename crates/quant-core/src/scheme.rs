//! The choice of integer type, mode and dialect, and what follows from it.

use half::{bf16, f16};

use crate::dialect::{Dialect, OffsetKind};
use crate::dtype::{FloatType, IntType};
use crate::mode::Mode;
use crate::params::{Params, ParamsError, ValueRange};

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
    #[inline]
    pub fn qmin(self) -> i32 {
        self.dialect.code_range(self.dtype, self.mode).0
    }

    /// The largest code.
    #[inline]
    pub fn qmax(self) -> i32 {
        self.dialect.code_range(self.dtype, self.mode).1
    }

    /// The middle of the codes: 0, or half of an unsigned type. It is the zero point of symmetric
    /// schemes in the dialects `coremltools` and `f32`.
    #[inline]
    pub fn symmetric_zero_point(self) -> i32 {
        (self.qmin() + self.qmax()) / 2
    }

    /// What is stored beside the scale.
    #[inline]
    pub fn offset(self) -> OffsetKind {
        self.dialect.offset(self.dtype, self.mode)
    }

    /// Whether a zero point is stored beside the scale.
    #[inline]
    pub fn stores_zero_point(self) -> bool {
        self.offset() == OffsetKind::ZeroPoint
    }

    /// The scheme that values are quantized with by the scales of a [search](crate::Search): all codes
    /// of the integer type, also where symmetric ones lack one by range. Of 8 bits one more is worth
    /// nothing, and restored values that are rounded may lose by it.
    ///
    /// ```
    /// use quant_core::{IntType, Mode, Scheme};
    /// let scheme = Scheme::new(IntType::Int4, Mode::Symmetric);
    /// assert_eq!((scheme.qmin(), scheme.searched().qmin()), (-7, -8));
    /// ```
    pub fn searched(self) -> Self {
        let whole = Self {
            mode: Mode::Affine,
            ..self
        };
        let codes = |scheme: Self| (scheme.qmin(), scheme.qmax());
        let is_whole = codes(whole) == (self.dtype.min_value(), self.dtype.max_value());
        let is_narrow = self.dtype.bits() < 8;
        match is_narrow && is_whole && codes(whole) != codes(self) && !whole.adds_zero_point_first()
        {
            true => whole,
            false => self,
        }
    }

    /// Whether a search may find scales below zero: the dialect's files hold such, and no offset that
    /// says which side has a code more; and one more is worth something, as of less than 8 bits.
    pub fn has_signed_scales(self) -> bool {
        let is_narrow = self.dtype.bits() < 8;
        is_narrow && self.offset() == OffsetKind::None && self.dialect.has_signed_scales()
    }

    /// Whether a zero point is added to a quotient before this is rounded to an integer, and their
    /// sum rounded to the type that the quotient was; else it is added to the integer.
    ///
    /// ```
    /// use quant_core::{Dialect, IntType, Mode, Scheme};
    /// let scheme = Scheme::new(IntType::Int4, Mode::Affine);
    /// assert!(!scheme.adds_zero_point_first());
    /// assert!(scheme.with_dialect(Dialect::CompressedTensors).adds_zero_point_first());
    /// ```
    #[inline]
    pub fn adds_zero_point_first(self) -> bool {
        self.dialect.adds_zero_point_first(self.mode)
    }

    /// What codes and zero points are less where [a zero point is added
    /// first](Self::adds_zero_point_first): half of an unsigned type, whose codes are those of signed
    /// integers less the smallest one.
    ///
    /// ```
    /// use quant_core::{Dialect, IntType, Mode, Scheme};
    /// let scheme = Scheme::new(IntType::Uint4, Mode::Affine);
    /// assert_eq!(scheme.zero_point_shift(), 0);
    /// assert_eq!(scheme.with_dialect(Dialect::CompressedTensors).zero_point_shift(), 8);
    /// ```
    #[inline]
    pub fn zero_point_shift(self) -> i32 {
        self.dialect.zero_point_shift(self.dtype)
    }
}

impl Scheme {
    /// Scale and zero point for values of type `source` with this range, each step rounded as the
    /// dialect says. An empty range is that of zeros.
    ///
    /// # Errors
    /// Non-finite values; a scale that overflows, or underflows to 0 for values that are not all
    /// zero; an overflow on the way to the zero point.
    pub fn params(self, range: &ValueRange, source: FloatType) -> Result<Params, ParamsError> {
        if range.non_finite > 0 {
            return Err(ParamsError::NonFinite);
        }
        self.dialect.params(range, self.dtype, self.mode, source)
    }
}

impl OffsetKind {
    /// Bytes that an offset takes beside a scale of this type.
    ///
    /// ```
    /// use quant_core::{FloatType, OffsetKind};
    /// let sizes = [OffsetKind::None, OffsetKind::ZeroPoint, OffsetKind::Bias];
    /// assert_eq!(sizes.map(|kind| kind.size(FloatType::F16)), [0, 1, 2]);
    /// ```
    pub const fn size(self, scale_type: FloatType) -> usize {
        match self {
            Self::None => 0,
            Self::ZeroPoint => 1,
            Self::Bias => scale_type.size(),
        }
    }
}

impl Params {
    /// Writes what is stored beside the scale: nothing, the zero point, or the bias as little-endian
    /// bytes of the scale's type.
    ///
    /// # Panics
    /// If `to` does not have [`OffsetKind::size`] bytes.
    pub fn store_offset(&self, kind: OffsetKind, to: &mut [u8]) {
        let bias = self.bias().unwrap_or(0.0);
        match (kind, self.scale_type()) {
            (OffsetKind::None, _) => assert!(to.is_empty(), "no offset"),
            (OffsetKind::ZeroPoint, _) => to.copy_from_slice(&[self.zero_point() as u8]),
            (OffsetKind::Bias, FloatType::F32) => to.copy_from_slice(&bias.to_le_bytes()),
            (OffsetKind::Bias, FloatType::F16) => {
                to.copy_from_slice(&f16::from_f32(bias).to_le_bytes());
            }
            (OffsetKind::Bias, FloatType::Bf16) => {
                to.copy_from_slice(&bf16::from_f32(bias).to_le_bytes());
            }
        }
    }

    /// A scale, and what [`store_offset`](Self::store_offset) wrote.
    ///
    /// # Errors
    /// As [`Params::new`] and [`Params::with_bias`].
    ///
    /// # Panics
    /// If `offset` does not have [`OffsetKind::size`] bytes.
    pub fn from_stored(
        scheme: Scheme,
        scale: f32,
        offset: &[u8],
        scale_type: FloatType,
    ) -> Result<Self, ParamsError> {
        let len = scheme.offset().size(scale_type);
        assert_eq!(offset.len(), len, "the scheme's offset");
        let bytes = |i: usize| offset.get(i).copied().unwrap_or(0);
        let bias = match (scheme.offset(), scale_type) {
            (OffsetKind::None, _) => return Self::new(scheme, scale, 0, scale_type),
            (OffsetKind::ZeroPoint, _) => {
                return Self::new(scheme, scale, scheme.dtype.value(bytes(0)), scale_type);
            }
            (OffsetKind::Bias, FloatType::F32) => {
                f32::from_le_bytes([bytes(0), bytes(1), bytes(2), bytes(3)])
            }
            (OffsetKind::Bias, FloatType::F16) => f16::from_le_bytes([bytes(0), bytes(1)]).to_f32(),
            (OffsetKind::Bias, FloatType::Bf16) => {
                bf16::from_le_bytes([bytes(0), bytes(1)]).to_f32()
            }
        };
        Self::with_bias(scale, bias, scale_type)
    }

    /// Given parameters, for instance read from a file. `scale_type` is the type that the scale
    /// is stored in: dequantized values are rounded to it.
    ///
    /// # Errors
    /// A non-finite scale, or a negative one where the scheme [has](Scheme::has_signed_scales) none; a
    /// scale that `scale_type` cannot hold; a zero point outside
    /// `scheme`'s range of codes (0 is always accepted: blocks of zeros have it); a scheme that stores
    /// a bias, for which see [`Params::with_bias`].
    pub fn new(
        scheme: Scheme,
        scale: f32,
        zero_point: i32,
        scale_type: FloatType,
    ) -> Result<Self, ParamsError> {
        if scheme.offset() == OffsetKind::Bias {
            return Err(ParamsError::InvalidBias);
        }
        let held = scale_type.round(scale) == scale;
        if !(scale.is_finite() && held && (scale >= 0.0 || scheme.has_signed_scales())) {
            return Err(ParamsError::InvalidScale);
        }
        if zero_point != 0 && !(scheme.qmin()..=scheme.qmax()).contains(&zero_point) {
            return Err(ParamsError::InvalidZeroPoint);
        }
        Ok(Self::found(scale + 0.0, zero_point, scale_type))
    }
}
