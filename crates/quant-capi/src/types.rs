//! What crosses the boundary by value.

use quant_core::{Dialect, FloatType, IntType, Mode, Params, ParamsError, Range, Scheme};

/// What became of a call. Outputs are of no use unless it is `Ok`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuantStatus {
    /// Done.
    Ok = 0,
    /// A pointer is null although there is something behind it, or misaligned.
    InvalidPointer = 1,
    /// A buffer does not have the length that the others ask for.
    InvalidLength = 2,
    /// A scheme's field has no meaning, or a block size is 0.
    InvalidScheme = 3,
    /// A scale or zero point cannot be.
    InvalidParams = 4,
    /// NaN or infinities where parameters were to be found.
    NonFinite = 5,
    /// The values are too large or too small for their parameters.
    OutOfRange = 6,
    /// A defect of this library.
    Internal = 7,
}

impl From<ParamsError> for QuantStatus {
    fn from(error: ParamsError) -> Self {
        match error {
            ParamsError::NonFinite => Self::NonFinite,
            ParamsError::ScaleOverflow
            | ParamsError::ScaleUnderflow
            | ParamsError::ZeroPointOverflow => Self::OutOfRange,
            ParamsError::InvalidScale | ParamsError::InvalidZeroPoint => Self::InvalidParams,
            _ => Self::Internal,
        }
    }
}

/// Integer type, mode and dialect. The fields are plain numbers, since C may pass any.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuantScheme {
    /// 0 int8, 1 uint8, 2 int4, 3 uint4.
    pub dtype: u32,
    /// 0 symmetric, 1 affine.
    pub mode: u32,
    /// 0 coremltools, 1 wide.
    pub dialect: u32,
}

impl TryFrom<QuantScheme> for Scheme {
    type Error = QuantStatus;

    fn try_from(scheme: QuantScheme) -> Result<Self, QuantStatus> {
        Ok(Self {
            dtype: match scheme.dtype {
                0 => IntType::Int8,
                1 => IntType::Uint8,
                2 => IntType::Int4,
                3 => IntType::Uint4,
                _ => return Err(QuantStatus::InvalidScheme),
            },
            mode: match scheme.mode {
                0 => Mode::Symmetric,
                1 => Mode::Affine,
                _ => return Err(QuantStatus::InvalidScheme),
            },
            dialect: match scheme.dialect {
                0 => Dialect::Coremltools,
                1 => Dialect::Wide,
                _ => return Err(QuantStatus::InvalidScheme),
            },
        })
    }
}

/// Scale and zero point.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QuantParams {
    /// What one step of the code is worth.
    pub scale: f32,
    /// The code that stands for 0.
    pub zero_point: i32,
}

impl QuantParams {
    pub(crate) fn of(params: Params) -> Self {
        Self {
            scale: params.scale(),
            zero_point: params.zero_point(),
        }
    }

    /// Checked, for values of type `source`.
    pub(crate) fn check(self, scheme: Scheme, source: FloatType) -> Result<Params, QuantStatus> {
        let scale_type = scheme.dialect.scale_type(source);
        Ok(Params::new(
            scheme,
            self.scale,
            self.zero_point,
            scale_type,
        )?)
    }
}

/// The range of some values.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QuantRange {
    /// The smallest value; `+inf` where there was none.
    pub min: f32,
    /// The largest value; `-inf` where there was none.
    pub max: f32,
    /// How many values were NaN or infinite.
    pub non_finite: u64,
}

impl From<Range> for QuantRange {
    fn from(range: Range) -> Self {
        Self {
            min: range.min,
            max: range.max,
            non_finite: range.non_finite,
        }
    }
}
