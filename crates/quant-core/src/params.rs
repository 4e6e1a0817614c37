//! Ranges of values; scales and zero points.

use crate::dtype::FloatType;

/// The range of some values. NaN takes no part in it; infinities do. A bound that is zero is `+0.0`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// The smallest value; `+inf` where there was none.
    pub min: f32,
    /// The largest value; `-inf` where there was none.
    pub max: f32,
    /// How many values were NaN or infinite.
    pub non_finite: u64,
}

impl Range {
    /// The range of no values.
    pub const EMPTY: Self = Self {
        min: f32::INFINITY,
        max: f32::NEG_INFINITY,
        non_finite: 0,
    };

    /// The range of both.
    pub fn merge(self, other: Self) -> Self {
        Self {
            min: self.min.min(other.min) + 0.0,
            max: self.max.max(other.max) + 0.0,
            non_finite: self.non_finite + other.non_finite,
        }
    }

    /// Whether no value took part.
    pub fn is_empty(&self) -> bool {
        self.min > self.max
    }

    /// The smallest and the largest value; zeros where there was none.
    pub(crate) fn bounds(&self) -> (f32, f32) {
        match self.is_empty() {
            true => (0.0, 0.0),
            false => (self.min, self.max),
        }
    }

    /// The largest magnitude; 0 where there was no value.
    pub fn abs_max(&self) -> f32 {
        if self.is_empty() {
            0.0
        } else {
            self.min.abs().max(self.max.abs())
        }
    }
}

/// Scale and zero point of one block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Params {
    scale: f32,
    zero_point: i32,
    scale_type: FloatType,
}

/// Why a block has no usable scale and zero point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParamsError {
    /// The block holds NaN or an infinity.
    #[error("NaN or Inf among the values")]
    NonFinite,
    /// The scale is too large for its type.
    #[error("the values are so large that the scale overflows")]
    ScaleOverflow,
    /// The scale is zero, although some value is not.
    #[error("the values are so small that the scale underflows to 0")]
    ScaleUnderflow,
    /// A step of the zero point's computation overflows.
    #[error("the values are so large that the zero point overflows")]
    ZeroPointOverflow,
    /// A given scale is negative, NaN or infinite.
    #[error("the scale is not a finite number of at least 0")]
    InvalidScale,
    /// A given zero point is outside the integer type.
    #[error("the zero point is outside the integer type")]
    InvalidZeroPoint,
}

impl Params {
    /// As a dialect computes them.
    pub(crate) const fn found(scale: f32, zero_point: i32, scale_type: FloatType) -> Self {
        Self {
            scale,
            zero_point,
            scale_type,
        }
    }

    /// What one step of the code is worth; 0 for a block of zeros.
    pub const fn scale(&self) -> f32 {
        self.scale
    }

    /// The code that stands for 0.
    pub const fn zero_point(&self) -> i32 {
        self.zero_point
    }

    /// The type that the scale is stored in.
    pub const fn scale_type(&self) -> FloatType {
        self.scale_type
    }
}
