//! How many different values there are, and how many of them are zero.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use quant_core::FloatType;

/// Smaller magnitudes count as zero, as in coremltools.
pub const NEARLY_ZERO: f32 = 1e-12;

const SIGN: u16 = 0x8000;

/// Which of the 65,536 values of a 16-bit float type have been seen: a byte each, since a byte is
/// stored without being read.
pub struct Seen16(Box<[u8; 1 << 16]>);

impl Default for Seen16 {
    fn default() -> Self {
        Self(Box::new([0; 1 << 16]))
    }
}

impl Seen16 {
    /// Little-endian values.
    pub fn insert(&mut self, bytes: &[u8]) {
        for pair in bytes.as_chunks().0 {
            self.0[usize::from(u16::from_le_bytes(*pair))] = 1;
        }
    }

    /// What both have seen.
    pub fn join(mut self, other: &Self) -> Self {
        for (seen, other) in self.0.iter_mut().zip(other.0.iter()) {
            *seen |= other;
        }
        self
    }

    /// One NaN, one zero.
    pub fn count(&self, float: FloatType) -> usize {
        let infinity = infinity(float);
        let seen = |bits: u16| self.0[usize::from(bits)] != 0;
        let numbers =
            (1..=infinity).map(|bits| usize::from(seen(bits)) + usize::from(seen(SIGN | bits)));
        let nan = (infinity + 1..SIGN).any(|bits| seen(bits) || seen(SIGN | bits));
        let zero = seen(0) || seen(SIGN);
        numbers.sum::<usize>() + usize::from(nan) + usize::from(zero)
    }
}

fn infinity(float: FloatType) -> u16 {
    match float {
        FloatType::Bf16 => 0x7f80,
        FloatType::F16 => 0x7c00,
        FloatType::F32 => unreachable!("only types of 16 bits are counted so"),
    }
}

/// How many of the values are nearly zero.
pub fn zeros_16(bytes: &[u8], float: FloatType) -> usize {
    // Magnitudes are in the order of their bits; of f16, all but zero are larger.
    let most = match float {
        FloatType::Bf16 => (NEARLY_ZERO.to_bits() >> 16) as u16,
        FloatType::F16 => 0,
        FloatType::F32 => unreachable!("only types of 16 bits are counted so"),
    };
    let pairs = bytes.as_chunks().0.iter();
    pairs
        .filter(|pair| u16::from_le_bytes(**pair) & !SIGN <= most)
        .count()
}

/// Which f32 have been seen: a bit each, in pages that exist where one of their values does. All of
/// them take 512 MiB; weights, whose exponents are few, a tenth of that.
pub struct Seen32(Box<[OnceLock<Page>]>);

type Page = Box<[AtomicU64; 1024]>;

impl Default for Seen32 {
    fn default() -> Self {
        Self((0..1 << 16).map(|_| OnceLock::new()).collect())
    }
}

impl Seen32 {
    /// One NaN, one zero.
    pub fn insert(&self, value: f32) {
        let bits = match value.is_nan() {
            true => f32::NAN.to_bits(),
            false => (value + 0.0).to_bits(),
        };
        let page = self.0[(bits >> 16) as usize]
            .get_or_init(|| Box::new([const { AtomicU64::new(0) }; 1024]));
        let (word, bit) = (&page[(bits as u16 >> 6) as usize], 1 << (bits & 63));
        // Most values have been seen already; then nothing has to be written.
        if word.load(Ordering::Relaxed) & bit == 0 {
            word.fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// How many different values: one NaN, one zero.
    pub fn count(&self) -> usize {
        let words = self
            .0
            .iter()
            .filter_map(OnceLock::get)
            .flat_map(|page| page.iter());
        words
            .map(|word| word.load(Ordering::Relaxed).count_ones() as usize)
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// All values of both types, beside a set of what they are as f32.
    #[test]
    fn every_16_bit_value_counts_as_its_f32() {
        for float in [FloatType::F16, FloatType::Bf16] {
            let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
            let values = quant_simd::widen(&bytes, float);
            let zeros = values
                .iter()
                .filter(|value| value.abs() <= NEARLY_ZERO)
                .count();
            assert_eq!(zeros_16(&bytes, float), zeros, "{float:?}");
            for range in [
                0..65_536,
                0..1,
                0x7000..0x9000,
                0x7bff..0x7c01,
                0x7f80..0x7f83,
                0x8000..0x8001,
            ] {
                let (mut half, whole) = (Seen16::default(), Seen32::default());
                half.insert(&bytes[2 * range.start..2 * range.end]);
                let mut set = HashSet::new();
                for &value in &values[range.clone()] {
                    whole.insert(value);
                    set.insert(if value.is_nan() {
                        u32::MAX
                    } else {
                        (value + 0.0).to_bits()
                    });
                }
                assert_eq!(half.count(float), set.len(), "{float:?} {range:x?}");
                assert_eq!(whole.count(), set.len(), "{float:?} {range:x?}");
                assert_eq!(Seen16::default().join(&half).count(float), set.len());
            }
        }
    }
}
