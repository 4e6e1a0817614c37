//! Values as recordings hold them.

use half::{bf16, f16};
use quant_core::observer::{MinMax, Observer};
use quant_simd::Backend;

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

    /// Makes whole values those of this machine.
    pub fn to_native(self, bytes: &mut [u8]) {
        if self.big_endian != cfg!(target_endian = "big") {
            for value in bytes.chunks_exact_mut(self.size()) {
                value.reverse();
            }
        }
    }

    /// Whole values of this machine, aligned to their size. `rounded` is room for those of an f64.
    ///
    /// # Panics
    /// If the bytes are not aligned.
    pub fn values<'a>(self, bytes: &'a [u8], rounded: &'a mut Vec<f32>) -> Values<'a> {
        match self.float {
            Float::F16 => Values::F16(bytemuck::cast_slice(bytes)),
            Float::Bf16 => Values::Bf16(bytemuck::cast_slice(bytes)),
            Float::F32 => Values::F32(bytemuck::cast_slice(bytes)),
            Float::F64 => {
                rounded.clear();
                let values: &[f64] = bytemuck::cast_slice(bytes);
                rounded.extend(values.iter().map(|&value| value as f32));
                Values::F32(rounded)
            }
        }
    }
}

/// Values of a type that kernels take.
#[derive(Debug)]
pub enum Values<'a> {
    F16(&'a [f16]),
    Bf16(&'a [bf16]),
    F32(&'a [f32]),
}

impl Values<'_> {
    pub fn min_max(&self, backend: Backend) -> MinMax {
        match self {
            Self::F16(values) => backend.min_max(values),
            Self::Bf16(values) => backend.min_max(values),
            Self::F32(values) => backend.min_max(values),
        }
    }

    pub fn observe_part(&self, backend: Backend, observer: &mut Observer) {
        match self {
            Self::F16(values) => backend.observe_part(values, observer),
            Self::Bf16(values) => backend.observe_part(values, observer),
            Self::F32(values) => backend.observe_part(values, observer),
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
                let mut aligned = vec![0_u64; bytes.len().div_ceil(8)];
                let aligned = &mut bytemuck::cast_slice_mut(&mut aligned)[..bytes.len()];
                aligned.copy_from_slice(&bytes);
                encoding.to_native(aligned);
                let mut rounded = Vec::new();
                let found: Vec<u32> = match encoding.values(aligned, &mut rounded) {
                    Values::F16(found) => found.iter().map(|v| v.to_f32().to_bits()).collect(),
                    Values::Bf16(found) => found.iter().map(|v| v.to_f32().to_bits()).collect(),
                    Values::F32(found) => found.iter().map(|v| v.to_bits()).collect(),
                };
                assert_eq!(found, values.map(f32::to_bits), "{encoding:?}");
            }
        }
    }

    #[test]
    fn f64_is_rounded() {
        let tie = 1.0 + f64::from(f32::EPSILON) / 2.0;
        let bits = [tie, 1e39, -1e-50].map(f64::to_bits);
        let mut rounded = Vec::new();
        Encoding::little(Float::F64).values(bytemuck::cast_slice(&bits), &mut rounded);
        assert_eq!(rounded, [1.0, f32::INFINITY, 0.0]);
    }
}
