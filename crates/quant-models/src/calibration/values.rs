//! Values as recordings hold them, as f32.

use quant_core::FloatType;

/// The types that recordings hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Float {
    F16,
    Bf16,
    F32,
    /// Rounded to f32, to nearest, ties to even; what is too large becomes infinite.
    F64,
}

/// How values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoding {
    pub float: Float,
    pub big_endian: bool,
}

impl Encoding {
    pub const fn little(float: Float) -> Self {
        Self {
            float,
            big_endian: false,
        }
    }

    /// Bytes per value.
    pub const fn size(self) -> usize {
        match self.float {
            Float::F16 | Float::Bf16 => 2,
            Float::F32 => 4,
            Float::F64 => 8,
        }
    }

    /// Whole values. The bytes may come out reversed.
    pub fn decode(self, bytes: &mut [u8]) -> Vec<f32> {
        if self.big_endian {
            for value in bytes.chunks_exact_mut(self.size()) {
                value.reverse();
            }
        }
        match self.float {
            Float::F16 => quant_simd::widen(bytes, FloatType::F16),
            Float::Bf16 => quant_simd::widen(bytes, FloatType::Bf16),
            Float::F32 => quant_simd::widen(bytes, FloatType::F32),
            Float::F64 => bytes
                .chunks_exact(8)
                .map(|value| f64::from_le_bytes(std::array::from_fn(|i| value[i])) as f32)
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_encoding_gives_the_same_values() {
        let values = [
            0.0_f32,
            -1.5,
            1024.0,
            f32::INFINITY,
            f32::from_bits(0x7fc0_0000),
        ];
        for float in [Float::F16, Float::Bf16, Float::F32, Float::F64] {
            for big_endian in [false, true] {
                let encoding = Encoding { float, big_endian };
                let mut bytes = Vec::new();
                for value in values {
                    let mut one = match float {
                        Float::F16 => half::f16::from_f32(value).to_le_bytes().to_vec(),
                        Float::Bf16 => half::bf16::from_f32(value).to_le_bytes().to_vec(),
                        Float::F32 => value.to_le_bytes().to_vec(),
                        Float::F64 => f64::from(value).to_le_bytes().to_vec(),
                    };
                    if big_endian {
                        one.reverse();
                    }
                    bytes.extend(one);
                }
                let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                assert_eq!(
                    bits(&encoding.decode(&mut bytes)),
                    bits(&values),
                    "{encoding:?}"
                );
            }
        }
    }

    #[test]
    fn f64_is_rounded() {
        let tie = 1.0 + f64::from(f32::EPSILON) / 2.0;
        let mut bytes: Vec<u8> = [tie, 1e39, -1e-50]
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        let values = Encoding::little(Float::F64).decode(&mut bytes);
        assert_eq!(values, [1.0, f32::INFINITY, 0.0]);
    }
}
