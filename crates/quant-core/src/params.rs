//! Ranges of values; scales and zero points.

use crate::dtype::FloatType;

/// The range of some values. NaN takes no part in it; infinities do. A bound that is zero is `+0.0`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ValueRange {
    /// The smallest value; `+inf` where there was none.
    pub min: f32,
    /// The largest value; `-inf` where there was none.
    pub max: f32,
    /// How many values were NaN or infinite.
    pub non_finite: u64,
}

impl ValueRange {
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

/// What is stored beside a scale.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Offset {
    /// The code that stands for 0; 0 where none is stored.
    ZeroPoint(i32),
    /// The value that code 0 stands for.
    Bias(f32),
}

/// Scale and offset of one block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Params {
    scale: f32,
    offset: Offset,
    /// Scale and bias that values are quantized with: some dialects round them only to store them.
    exact: (f32, f32),
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
    /// A given scale is NaN, infinite, or negative where none is.
    #[error("the scale is not a finite number, or below 0 where none may be")]
    InvalidScale,
    /// A given zero point is outside the integer type.
    #[error("the zero point is outside the integer type")]
    InvalidZeroPoint,
    /// A given bias is NaN or infinite.
    #[error("the bias is not a finite number of its type")]
    InvalidBias,
    /// The dialect has no such codes.
    #[error("the dialect has no codes of this type and mode")]
    UnsupportedScheme,
}

impl Params {
    /// As a dialect computes them.
    pub(crate) const fn found(scale: f32, zero_point: i32, scale_type: FloatType) -> Self {
        Self {
            scale,
            offset: Offset::ZeroPoint(zero_point),
            exact: (scale, 0.0),
            scale_type,
        }
    }

    /// The same zero point with another scale of the same type, which a search has found: it may be below
    /// zero.
    ///
    /// # Panics
    /// If there is a bias, or the scale is not finite.
    #[must_use]
    pub fn with_scale(self, scale: f32) -> Self {
        assert!(scale.is_finite() && self.bias().is_none(), "a scale alone");
        Self::found(
            self.scale_type.round(scale),
            self.zero_point(),
            self.scale_type,
        )
    }

    /// Scale and bias as a dialect computes them, before they are rounded to be stored.
    pub(crate) fn found_with_bias(scale: f32, bias: f32, scale_type: FloatType) -> Self {
        Self {
            scale: scale_type.round(scale),
            offset: Offset::Bias(scale_type.round(bias)),
            exact: (scale, bias),
            scale_type,
        }
    }

    /// Given scale and bias, for instance read from a file, of a dialect that stores biases.
    /// `scale_type` is the type that both are stored in. The scale may be negative.
    ///
    /// # Errors
    /// A scale or bias that is not finite, or that `scale_type` cannot hold.
    ///
    /// ```
    /// use quant_core::{FloatType, Params};
    /// let params = Params::with_bias(-0.5, 3.0, FloatType::F16)?;
    /// assert_eq!((params.scale(), params.bias()), (-0.5, Some(3.0)));
    /// # Ok::<(), quant_core::ParamsError>(())
    /// ```
    pub fn with_bias(scale: f32, bias: f32, scale_type: FloatType) -> Result<Self, ParamsError> {
        let is_held = |value: f32| value.is_finite() && scale_type.round(value) == value;
        if !is_held(scale) {
            return Err(ParamsError::InvalidScale);
        }
        if !is_held(bias) {
            return Err(ParamsError::InvalidBias);
        }
        Ok(Self::found_with_bias(scale, bias, scale_type))
    }

    /// What values are divided by, and what is subtracted from them before: what is stored, but where a
    /// dialect rounds scale and bias only then.
    pub const fn exact(&self) -> (f32, f32) {
        self.exact
    }

    /// What one step of the code is worth; 0 for a block of zeros.
    pub const fn scale(&self) -> f32 {
        self.scale
    }

    /// What is stored beside the scale.
    pub const fn offset(&self) -> Offset {
        self.offset
    }

    /// The code that stands for 0; 0 where there is a bias.
    pub const fn zero_point(&self) -> i32 {
        match self.offset {
            Offset::ZeroPoint(zero_point) => zero_point,
            Offset::Bias(_) => 0,
        }
    }

    /// The value that code 0 stands for, where it is stored.
    pub const fn bias(&self) -> Option<f32> {
        match self.offset {
            Offset::ZeroPoint(_) => None,
            Offset::Bias(bias) => Some(bias),
        }
    }

    /// The type that the scale is stored in.
    pub const fn scale_type(&self) -> FloatType {
        self.scale_type
    }
}
