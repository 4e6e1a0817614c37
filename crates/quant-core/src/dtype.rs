//! Element types: the integers that codes are made of and the floats that they stand for.

use half::{bf16, f16};

use crate::named;
use crate::named::stored_by_name;
use crate::packing::Packing;

/// A quantized integer type. A code is held in one byte, signed types as two's complement.
///
/// Everything but the name follows from bits and sign.
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
    /// Signed, 2 bits.
    Int2,
    /// Unsigned, 2 bits.
    Uint2,
    /// Signed, 3 bits.
    Int3,
    /// Unsigned, 3 bits.
    Uint3,
    /// Signed, 5 bits.
    Int5,
    /// Unsigned, 5 bits.
    Uint5,
    /// Signed, 6 bits.
    Int6,
    /// Unsigned, 6 bits.
    Uint6,
}

named!(
    IntType, "integer type":
    Int8 "int8", Uint8 "uint8", Int4 "int4", Uint4 "uint4",
    Int2 "int2", Uint2 "uint2", Int3 "int3", Uint3 "uint3",
    Int5 "int5", Uint5 "uint5", Int6 "int6", Uint6 "uint6",
);

impl IntType {
    /// Of all types, in their order. Bits are asked for several times in a call, which may be for a few
    /// values: a `match` becomes a jump wherever that is, a table a load.
    const BITS_AND_SIGN: [(u32, bool); Self::ALL.len()] = {
        let mut table = [(0, false); Self::ALL.len()];
        let mut i = 0;
        while i < table.len() {
            table[Self::ALL[i] as usize] = Self::ALL[i].listed_bits_and_sign();
            i += 1;
        }
        table
    };

    #[inline]
    const fn bits_and_sign(self) -> (u32, bool) {
        Self::BITS_AND_SIGN[self as usize]
    }

    const fn listed_bits_and_sign(self) -> (u32, bool) {
        match self {
            Self::Int8 => (8, true),
            Self::Uint8 => (8, false),
            Self::Int4 => (4, true),
            Self::Uint4 => (4, false),
            Self::Int2 => (2, true),
            Self::Uint2 => (2, false),
            Self::Int3 => (3, true),
            Self::Uint3 => (3, false),
            Self::Int5 => (5, true),
            Self::Uint5 => (5, false),
            Self::Int6 => (6, true),
            Self::Uint6 => (6, false),
        }
    }

    /// The type of so many bits, with or without a sign.
    ///
    /// ```
    /// use quant_core::IntType;
    /// assert_eq!(IntType::new(4, true), Some(IntType::Int4));
    /// assert_eq!(IntType::new(7, true), None);
    /// ```
    pub fn new(bits: u32, is_signed: bool) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|it| it.bits_and_sign() == (bits, is_signed))
    }

    /// Bits per code, at most 8.
    #[inline]
    pub const fn bits(self) -> u32 {
        self.bits_and_sign().0
    }

    /// Whether codes can be negative.
    #[inline]
    pub const fn is_signed(self) -> bool {
        self.bits_and_sign().1
    }

    /// The smallest number that the type holds.
    #[inline]
    pub const fn min_value(self) -> i32 {
        match self.is_signed() {
            true => -(1 << (self.bits() - 1)),
            false => 0,
        }
    }

    /// The largest number that the type holds.
    #[inline]
    pub const fn max_value(self) -> i32 {
        self.min_value() + (1 << self.bits()) - 1
    }

    /// How stored codes lie in memory.
    #[inline]
    pub const fn packing(self) -> Packing {
        Packing::of_bits(self.bits())
    }

    /// Bytes that `count` codes take as they are stored.
    #[inline]
    pub const fn storage_len(self, count: usize) -> usize {
        self.packing().storage_len(count)
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

named!(FloatType, "float type": F32 "f32", F16 "f16", Bf16 "bf16");
stored_by_name!(IntType FloatType);

impl FloatType {
    /// Bytes per element.
    pub const fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
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
