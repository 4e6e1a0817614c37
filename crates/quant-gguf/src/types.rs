//! The types of tensors that a file names by numbers.

use quant_core::{FloatType, GgmlType};

/// A type of tensors.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TensorType {
    pub id: u32,
    pub name: &'static str,
    /// Values of a block.
    pub values: usize,
    /// Bytes of a block.
    pub bytes: usize,
}

const fn of(id: u32, name: &'static str, values: usize, bytes: usize) -> TensorType {
    TensorType {
        id,
        name,
        values,
        bytes,
    }
}

/// All that are known; the numbers between them were given up.
const TYPES: &[TensorType] = &[
    of(0, "F32", 1, 4),
    of(1, "F16", 1, 2),
    of(2, "Q4_0", 32, 18),
    of(3, "Q4_1", 32, 20),
    of(6, "Q5_0", 32, 22),
    of(7, "Q5_1", 32, 24),
    of(8, "Q8_0", 32, 34),
    of(9, "Q8_1", 32, 36),
    of(10, "Q2_K", 256, 84),
    of(11, "Q3_K", 256, 110),
    of(12, "Q4_K", 256, 144),
    of(13, "Q5_K", 256, 176),
    of(14, "Q6_K", 256, 210),
    of(15, "Q8_K", 256, 292),
    of(16, "IQ2_XXS", 256, 66),
    of(17, "IQ2_XS", 256, 74),
    of(18, "IQ3_XXS", 256, 98),
    of(19, "IQ1_S", 256, 50),
    of(20, "IQ4_NL", 32, 18),
    of(21, "IQ3_S", 256, 110),
    of(22, "IQ2_S", 256, 82),
    of(23, "IQ4_XS", 256, 136),
    of(24, "I8", 1, 1),
    of(25, "I16", 1, 2),
    of(26, "I32", 1, 4),
    of(27, "I64", 1, 8),
    of(28, "F64", 1, 8),
    of(29, "IQ1_M", 256, 56),
    of(30, "BF16", 1, 2),
    of(34, "TQ1_0", 256, 54),
    of(35, "TQ2_0", 256, 66),
    of(39, "MXFP4", 32, 17),
    of(40, "NVFP4", 64, 36),
    of(41, "Q1_0", 128, 18),
    of(42, "Q2_0", 64, 18),
];

impl TensorType {
    pub fn by_id(id: u32) -> Option<&'static Self> {
        TYPES.iter().find(|one| one.id == id)
    }

    /// By the name that safetensors files also use for floats and integers.
    pub fn by_name(name: &str) -> Option<&'static Self> {
        TYPES.iter().find(|one| one.name == name)
    }

    pub fn of_blocks(block_type: GgmlType) -> &'static Self {
        Self::by_name(&block_type.to_string().to_ascii_uppercase()).expect("a type of the list")
    }

    pub fn of_floats(float: FloatType) -> &'static Self {
        let name = match float {
            FloatType::F32 => "F32",
            FloatType::F16 => "F16",
            FloatType::Bf16 => "BF16",
        };
        Self::by_name(name).expect("a type of the list")
    }

    /// The float type of its values, where these are stored one by one.
    pub fn float(&self) -> Option<FloatType> {
        let all = [FloatType::F32, FloatType::F16, FloatType::Bf16];
        all.into_iter()
            .find(|float| Self::of_floats(*float) == self)
    }

    /// The blocks that quant makes and restores.
    pub fn blocks(&self) -> Option<GgmlType> {
        self.name.to_ascii_lowercase().parse().ok()
    }

    /// Bytes of so many values in rows of `row`.
    pub fn len(&self, values: usize, row: usize) -> Option<usize> {
        match row % self.values {
            0 => (values / self.values).checked_mul(self.bytes),
            _ => None,
        }
    }
}

/// What `general.file_type` says of a file most of whose tensors are of this type.
pub(crate) fn file_type(most: &TensorType) -> u32 {
    match most.name {
        "F32" => 0,
        "F16" => 1,
        "Q4_0" => 2,
        "Q4_1" => 3,
        "Q8_0" => 7,
        "Q5_0" => 8,
        "Q5_1" => 9,
        "BF16" => 32,
        // Guessed from the tensors.
        _ => 1024,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_have_the_sizes_that_the_kernels_write() {
        for block_type in GgmlType::ALL {
            let found = TensorType::of_blocks(block_type);
            assert_eq!(found.blocks(), Some(block_type));
            assert_eq!(found.bytes, block_type.block_size());
            assert_eq!(found.values, GgmlType::VALUES);
        }
        for float in [FloatType::F32, FloatType::F16, FloatType::Bf16] {
            let found = TensorType::of_floats(float);
            assert_eq!((found.float(), found.bytes), (Some(float), float.size()));
        }
        assert_eq!(TensorType::by_id(12).and_then(TensorType::blocks), None);
    }
}
