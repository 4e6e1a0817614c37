//! Bytes of arrays as floats of the type that is named beside them.

use half::{bf16, f16};
use quant_core::FloatType;

use crate::errors::Raised;

/// Values of one of the types.
#[derive(Clone, Copy)]
pub enum Floats<'a> {
    F32(&'a [f32]),
    F16(&'a [f16]),
    Bf16(&'a [bf16]),
}

impl<'a> Floats<'a> {
    pub fn new(bytes: &'a [u8], source: &str) -> Result<Self, Raised> {
        fn cast<T: bytemuck::Pod>(bytes: &[u8]) -> Result<&[T], Raised> {
            if bytes.is_empty() {
                // Of no bytes the address says nothing.
                return Ok(&[]);
            }
            bytemuck::try_cast_slice(bytes).map_err(|_| Raised::internal("an unaligned array"))
        }
        Ok(match source.parse::<FloatType>()? {
            FloatType::F32 => Self::F32(cast(bytes)?),
            FloatType::F16 => Self::F16(cast(bytes)?),
            FloatType::Bf16 => Self::Bf16(cast(bytes)?),
        })
    }
}

/// The same expression for values of each type.
macro_rules! with_floats {
    ($floats:expr, $values:ident => $body:expr) => {
        match $floats {
            $crate::floats::Floats::F32($values) => $body,
            $crate::floats::Floats::F16($values) => $body,
            $crate::floats::Floats::Bf16($values) => $body,
        }
    };
}
pub(crate) use with_floats;
