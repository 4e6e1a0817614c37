//! Block types of ggml, as GGUF files hold them.

use crate::named;
use crate::named::stored_by_name;

/// A block type of ggml: 32 consecutive values and what they share, interleaved in memory. Numbers
/// of more than one byte are little-endian.
///
/// ```
/// use quant_core::GgmlType;
/// assert_eq!(GgmlType::Q8_0.block_size(), 34);
/// assert_eq!(GgmlType::Q5_1.len(64), Some(48));
/// assert_eq!(GgmlType::Q5_1.len(33), None);
/// ```
// Exhaustive: kernels must know the blocks of a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(non_camel_case_types)] // The names that ggml gives them.
pub enum GgmlType {
    /// A scale in f16, then 32 signed codes: 34 bytes.
    Q8_0,
    /// A scale in f16, then codes of 4 bits that are 8 larger than the number of steps: 18 bytes.
    /// A byte holds a code of the first half of the block in its low nibble, and the one 16 values
    /// later in its high nibble.
    Q4_0,
    /// Scale and minimum in f16, then codes of 4 bits as in [`Q4_0`](Self::Q4_0): 20 bytes.
    Q4_1,
    /// A scale in f16, the fifth bits of the 32 codes, the first in the lowest bit, then the low
    /// four as in [`Q4_0`](Self::Q4_0): 22 bytes. Codes are 16 larger than the number of steps.
    Q5_0,
    /// Scale and minimum in f16, then codes of 5 bits as in [`Q5_0`](Self::Q5_0): 24 bytes.
    Q5_1,
}

named!(
    GgmlType, "block type":
    Q8_0 "q8_0", Q4_0 "q4_0", Q4_1 "q4_1", Q5_0 "q5_0", Q5_1 "q5_1",
);
stored_by_name!(GgmlType);

impl GgmlType {
    /// Values of a block, of every type.
    pub const VALUES: usize = 32;

    /// Bits of a code.
    pub const fn bits(self) -> u32 {
        match self {
            Self::Q8_0 => 8,
            Self::Q4_0 | Self::Q4_1 => 4,
            Self::Q5_0 | Self::Q5_1 => 5,
        }
    }

    /// Whether a block holds its minimum beside its scale.
    pub const fn has_minimum(self) -> bool {
        match self {
            Self::Q8_0 | Self::Q4_0 | Self::Q5_0 => false,
            Self::Q4_1 | Self::Q5_1 => true,
        }
    }

    /// Bytes of a block.
    pub const fn block_size(self) -> usize {
        let floats = if self.has_minimum() { 4 } else { 2 };
        floats + self.bits() as usize * Self::VALUES / 8
    }

    /// Bytes of the blocks of so many values, if these fill whole blocks, and the number of bytes is
    /// one.
    pub const fn len(self, values: usize) -> Option<usize> {
        match values % Self::VALUES {
            0 => (values / Self::VALUES).checked_mul(self.block_size()),
            _ => None,
        }
    }
}
