//! The choice of integer type, mode and dialect, and what follows from it.

use crate::{FloatType, IntType};

/// How the integer range is laid over the float range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Mode {
    /// The float range is symmetric about zero; coremltools' `linear_symmetric`.
    #[default]
    Symmetric,
    /// The range of the values, widened to hold zero; coremltools' `linear`.
    Affine,
}

impl Mode {
    /// The lower-case name: `symmetric`, `affine`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Symmetric => "symmetric",
            Self::Affine => "affine",
        }
    }
}

/// In which type the arithmetic is done and the scale is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Dialect {
    /// As coremltools 9.0: every step rounded to the weight's own type (bf16, which it does not
    /// have: computed in f32, the scale rounded to bf16).
    #[default]
    Coremltools,
    /// Every step in f32, the scale stored as f32, whatever the weight's type.
    Wide,
}

impl Dialect {
    /// The lower-case name: `coremltools`, `wide`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Coremltools => "coremltools",
            Self::Wide => "wide",
        }
    }

    /// The type that every intermediate result is rounded to.
    pub const fn arithmetic(self, source: FloatType) -> FloatType {
        match (self, source) {
            (Self::Coremltools, FloatType::F16) => FloatType::F16,
            _ => FloatType::F32,
        }
    }

    /// The type that the scale is rounded to and stored in.
    pub const fn scale_type(self, source: FloatType) -> FloatType {
        match self {
            Self::Coremltools => source,
            Self::Wide => FloatType::F32,
        }
    }
}

/// Integer type, mode and dialect of a quantization.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Scheme {
    /// Type of the codes.
    pub dtype: IntType,
    /// Symmetric or affine.
    pub mode: Mode,
    /// Type of the arithmetic and of the scale.
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

    /// The smallest code.
    pub const fn qmin(self) -> i32 {
        match (self.dtype, self.mode) {
            (IntType::Int8, Mode::Symmetric) => -127,
            (IntType::Int8, Mode::Affine) => -128,
            (IntType::Int4, Mode::Symmetric) => -7,
            (IntType::Int4, Mode::Affine) => -8,
            (IntType::Uint8 | IntType::Uint4, _) => 0,
        }
    }

    /// The largest code.
    pub const fn qmax(self) -> i32 {
        match (self.dtype, self.mode) {
            (IntType::Int8, _) => 127,
            (IntType::Int4, _) => 7,
            (IntType::Uint8, Mode::Symmetric) => 254,
            (IntType::Uint8, Mode::Affine) => 255,
            (IntType::Uint4, Mode::Symmetric) => 14,
            (IntType::Uint4, Mode::Affine) => 15,
        }
    }

    /// The zero point of a symmetric scheme: 0, or the middle of an unsigned type.
    pub const fn symmetric_zero_point(self) -> i32 {
        (self.qmin() + self.qmax()) / 2
    }

    /// Whether a zero point is stored beside the scale: affine and unsigned schemes.
    pub const fn stores_zero_point(self) -> bool {
        matches!(self.mode, Mode::Affine) || !self.dtype.is_signed()
    }
}
