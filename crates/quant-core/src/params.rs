//! From a range of values to scale and zero point.

use crate::{FloatType, Mode, Scheme};

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
        Ok(Self {
            scale: scale + 0.0,
            zero_point,
            scale_type,
        })
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
        let arithmetic = self.dialect.arithmetic(source);
        let scale_type = self.dialect.scale_type(source);
        let round = |value: f32| arithmetic.round(value);
        let (qmin, qmax) = (self.qmin() as f32, self.qmax() as f32);

        let (min, max) = match self.mode {
            Mode::Symmetric => (-range.abs_max(), range.abs_max()),
            Mode::Affine => (range.min.min(0.0), range.max.max(0.0)),
        };
        let width = round(max - min);
        let scale = scale_type.round(round(width / (qmax - qmin)));
        if !scale.is_finite() {
            return Err(ParamsError::ScaleOverflow);
        }
        if scale == 0.0 && max > min {
            return Err(ParamsError::ScaleUnderflow);
        }

        let zero_point = match self.mode {
            Mode::Symmetric => self.symmetric_zero_point(),
            Mode::Affine if scale == 0.0 => 0,
            Mode::Affine => {
                let numerator = round(round(qmin * max) - round(qmax * min));
                let quotient = round(numerator / width);
                if !quotient.is_finite() || !numerator.is_finite() {
                    return Err(ParamsError::ZeroPointOverflow);
                }
                libm::rintf(quotient).clamp(qmin, qmax) as i32
            }
        };
        Ok(Params {
            scale,
            zero_point,
            scale_type,
        })
    }
}
