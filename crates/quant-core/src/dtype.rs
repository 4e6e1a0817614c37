//! Element types: the integers that codes are made of and the floats that they stand for.

use half::{bf16, f16};

/// A quantized integer type. A code is held in one byte, signed types as two's complement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IntType {
    /// Signed, 8 bits.
    Int8,
    /// Unsigned, 8 bits.
    Uint8,
    /// Signed, 4 bits.
    Int4,
    /// Unsigned, 4 bits.
    Uint4,
}

impl IntType {
    /// Every integer type.
    pub const ALL: [Self; 4] = [Self::Int8, Self::Uint8, Self::Int4, Self::Uint4];

    /// Bits per code: 8 or 4.
    pub const fn bits(self) -> u32 {
        match self {
            Self::Int8 | Self::Uint8 => 8,
            Self::Int4 | Self::Uint4 => 4,
        }
    }

    /// Whether codes can be negative.
    pub const fn is_signed(self) -> bool {
        matches!(self, Self::Int8 | Self::Int4)
    }

    /// The lower-case name: `int8`, `uint8`, `int4`, `uint4`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Int8 => "int8",
            Self::Uint8 => "uint8",
            Self::Int4 => "int4",
            Self::Uint4 => "uint4",
        }
    }

    /// Bytes that `count` codes take, packed where the type has 4 bits.
    pub const fn storage_len(self, count: usize) -> usize {
        match self.bits() {
            4 => count.div_ceil(2),
            _ => count,
        }
    }

    /// The value of a code held in one byte.
    pub const fn value(self, code: u8) -> i32 {
        if self.is_signed() {
            code as i8 as i32
        } else {
            code as i32
        }
    }
}

/// A floating-point element type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FloatType {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// bfloat16: the upper half of a binary32.
    Bf16,
}

impl FloatType {
    /// Every float type.
    pub const ALL: [Self; 3] = [Self::F32, Self::F16, Self::Bf16];

    /// Bytes per element.
    pub const fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// The lower-case name: `f32`, `f16`, `bf16`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }

    /// `value` rounded to this type, ties to even, and widened back.
    pub fn round(self, value: f32) -> f32 {
        match self {
            Self::F32 => value,
            Self::F16 => f16::from_f32(value).to_f32(),
            Self::Bf16 => bf16::from_f32(value).to_f32(),
        }
    }
}

/// A float that can be quantized: `f32`, `f16` or `bf16`.
pub trait Float: Copy + Default + Send + Sync + 'static {
    /// The type's name at run time.
    const TYPE: FloatType;
    /// Widens, exactly.
    fn to_f32(self) -> f32;
    /// Rounds to this type, ties to even.
    fn from_f32(value: f32) -> Self;
}

impl Float for f32 {
    const TYPE: FloatType = FloatType::F32;
    fn to_f32(self) -> f32 {
        self
    }
    fn from_f32(value: f32) -> Self {
        value
    }
}

impl Float for f16 {
    const TYPE: FloatType = FloatType::F16;
    fn to_f32(self) -> f32 {
        f16::to_f32(self)
    }
    fn from_f32(value: f32) -> Self {
        f16::from_f32(value)
    }
}

impl Float for bf16 {
    const TYPE: FloatType = FloatType::Bf16;
    fn to_f32(self) -> f32 {
        bf16::to_f32(self)
    }
    fn from_f32(value: f32) -> Self {
        bf16::from_f32(value)
    }
}
