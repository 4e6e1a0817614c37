//! How codes lie in memory.

/// How codes lie in memory: a stream of bits, the first code in the lowest bits of the first byte.
/// 8 codes of 3 bits fill 3 bytes, as do 4 codes of 6; 8 codes of 5 bits fill 5. The bits behind the
/// last code are 0.
///
/// Bytes and nibbles have kernels of their own.
// Exhaustive: kernels and formats must not take codes apart in another way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Packing {
    /// One code per byte.
    Bytes,
    /// Two codes per byte, the first in the low nibble.
    Nibbles,
    /// So many bits per code, fewer than 8.
    Bits(u32),
}

impl Packing {
    /// That of codes of so many bits, at most 8.
    #[inline]
    pub const fn of_bits(bits: u32) -> Self {
        match bits {
            8 => Self::Bytes,
            4 => Self::Nibbles,
            bits => Self::Bits(bits),
        }
    }

    /// Bits per code.
    #[inline]
    pub const fn bits(self) -> u32 {
        match self {
            Self::Bytes => 8,
            Self::Nibbles => 4,
            Self::Bits(bits) => bits,
        }
    }

    /// Whether several codes share a byte.
    pub const fn is_packed(self) -> bool {
        !matches!(self, Self::Bytes)
    }

    /// The fewest codes that fill whole bytes: codes that start at a multiple of it start a byte.
    ///
    /// ```
    /// use quant_core::Packing;
    /// assert_eq!([8, 4, 3, 6].map(|bits| Packing::of_bits(bits).unit()), [1, 2, 8, 4]);
    /// ```
    pub const fn unit(self) -> usize {
        8 >> self.bits().trailing_zeros()
    }

    /// Bytes that `count` codes take.
    #[inline]
    pub const fn storage_len(self, count: usize) -> usize {
        // Eight codes fill as many bytes as a code has bits; nothing overflows.
        let bits = self.bits() as usize;
        count / 8 * bits + (count % 8 * bits).div_ceil(8)
    }
}
