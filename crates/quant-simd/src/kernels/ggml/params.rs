//! Scales and minima of a batch of blocks.
//!
//! Bounds are found on the bits of floats, which compare like the magnitudes: then NaN is beyond
//! infinity, and no operation depends on the instruction set.

use super::{BATCH, VALUES, vectors};
use crate::isa::Isa;
use crate::lane::Lane;

/// The sign of a float.
const SIGN: i32 = i32::MIN;

/// What quantizes the blocks of a batch.
#[repr(align(64))]
pub struct Params {
    scales: [f32; BATCH],
    /// Reciprocals of the scales; 0 for a scale of 0.
    pub inverses: [f32; BATCH],
    /// What is subtracted from values; 0 where blocks have no minimum.
    pub minima: [f32; BATCH],
    /// Scales and minima in f16.
    pub halves: [[u16; BATCH]; 2],
}

/// A vector for each block, of whose lanes the largest one counts.
type Found<I> = [<I as Isa>::I32; BATCH];

/// Pairs of vectors in a block.
#[inline(always)]
const fn pairs<I: Isa>() -> usize {
    VALUES / (2 * I::LANES)
}

/// A pair of a block, widened.
#[inline(always)]
fn pair<I: Isa, F: Lane>(
    isa: I,
    values: &[F::Vector<I>],
    block: usize,
    pair: usize,
) -> [I::F32; 2] {
    let first = 2 * (block * pairs::<I>() + pair);
    F::widen_pair(isa, values[first], values[first + 1])
}

/// The values of a block.
#[inline(always)]
fn block<I: Isa, F: Lane>(values: &[F::Vector<I>], block: usize) -> &[F] {
    let values: &[F] = bytemuck::cast_slice(values);
    &values[block * VALUES..][..VALUES]
}

/// The largest lane for each block.
#[inline(always)]
fn lane_maxima<I: Isa>(isa: I, found: &Found<I>) -> [i32; BATCH] {
    let mut maxima = [0; BATCH];
    let all = vectors::<I::I32, _>(&mut maxima);
    for i in 0..BATCH / I::LANES {
        let mut lanes = [isa.splat_i32(0); 16];
        for lane in 0..I::LANES {
            lanes[lane] = found[i * I::LANES + lane];
        }
        all[i] = isa.lane_maxima(&lanes);
    }
    maxima
}

impl Params {
    #[inline(always)]
    pub fn new() -> Self {
        Self {
            scales: [0.0; BATCH],
            inverses: [0.0; BATCH],
            minima: [0.0; BATCH],
            halves: [[0; BATCH]; 2],
        }
    }

    /// Scales of the largest magnitude.
    #[inline(always)]
    pub fn of_magnitudes<I: Isa, F: Lane>(&mut self, isa: I, values: &[F::Vector<I>]) {
        let mut found = [isa.splat_i32(0); BATCH];
        for (i, found) in found.iter_mut().enumerate() {
            for p in 0..pairs::<I>() {
                let [a, b] = pair::<I, F>(isa, values, i, p);
                let larger = isa.max_i32(isa.magnitude_bits(a), isa.magnitude_bits(b));
                *found = isa.max_i32(*found, larger);
            }
        }
        let mut maxima = lane_maxima(isa, &found);
        let maxima = vectors::<I::F32, _>(&mut maxima);
        for (scales, &maxima) in vectors::<I::F32, _>(&mut self.scales)
            .iter_mut()
            .zip(&*maxima)
        {
            *scales = isa.div(maxima, isa.splat(127.0));
        }
    }

    /// Scales of the value of the largest magnitude, the first of them.
    #[inline(always)]
    pub fn of_largest<I: Isa, F: Lane, const BITS: u32>(
        &mut self,
        isa: I,
        values: &[F::Vector<I>],
    ) {
        let sign = isa.splat_i32(SIGN);
        let mut found = [[isa.splat_i32(0); BATCH]; 2];
        for i in 0..BATCH {
            // As integers with a sign the largest bits are those of the largest number, as integers
            // without one those of the smallest; where there is a number of that sign.
            let (mut high, mut low) = (sign, isa.splat_i32(0));
            for p in 0..pairs::<I>() {
                let [a, b] = pair::<I, F>(isa, values, i, p);
                let (a, b) = (bytemuck::cast(a), bytemuck::cast(b));
                high = isa.max_i32(high, isa.max_i32(a, b));
                low = isa.max_u32(low, isa.max_u32(a, b));
            }
            (found[0][i], found[1][i]) = (high, isa.sub_i32(low, sign));
        }
        let (high, low) = (lane_maxima(isa, &found[0]), lane_maxima(isa, &found[1]));
        let factor = -1.0 / (1 << (BITS - 1)) as f32;
        let mut tie = false;
        for i in 0..BATCH {
            let bits = match high[i] > low[i] {
                true => high[i],
                false => low[i] ^ SIGN,
            };
            // Zeros of either sign have a scale of -0.
            let bits = if bits & !SIGN == 0 { 0 } else { bits };
            self.scales[i] = f32::from_bits(bits as u32) * factor;
            tie |= high[i] == low[i];
        }
        if tie {
            for i in 0..BATCH {
                if high[i] == low[i] && high[i] > 0 {
                    let bound = f32::from_bits(high[i] as u32);
                    let values = block::<I, F>(values, i);
                    self.scales[i] = first(values, bound) * factor;
                }
            }
        }
    }

    /// Scales of the distance between the bounds, and minima.
    #[inline(always)]
    pub fn of_bounds<I: Isa, F: Lane, const BITS: u32>(&mut self, isa: I, values: &[F::Vector<I>]) {
        let mut found = [[isa.splat_i32(0); BATCH]; 3];
        for i in 0..BATCH {
            let (mut high, mut low) = (isa.splat_i32(SIGN), isa.splat_i32(0));
            let mut inner = isa.splat_i32(-1);
            for p in 0..pairs::<I>() {
                let [a, b] = pair::<I, F>(isa, values, i, p);
                let (a, b) = (bytemuck::cast(a), bytemuck::cast(b));
                high = isa.max_i32(high, isa.max_i32(a, b));
                low = isa.max_u32(low, isa.max_u32(a, b));
                inner = isa.min_u32(inner, isa.min_u32(a, b));
            }
            found[0][i] = high;
            found[1][i] = isa.sub_i32(low, isa.splat_i32(SIGN));
            // Turned round, so that the largest counts.
            found[2][i] = isa.sub_i32(isa.splat_i32(!SIGN), inner);
        }
        let (high, low) = (lane_maxima(isa, &found[0]), lane_maxima(isa, &found[1]));
        let inner = lane_maxima(isa, &found[2]);
        let mut maxima = [0.0; BATCH];
        let mut zeros = false;
        for i in 0..BATCH {
            // Where no value is negative the innermost is the smallest, where none is positive the
            // largest.
            let (low, inner) = (low[i] ^ SIGN, inner[i] ^ !SIGN);
            let max = if high[i] < 0 { inner } else { high[i] };
            let min = if low < 0 { low } else { inner };
            maxima[i] = f32::from_bits(max as u32);
            self.minima[i] = f32::from_bits(min as u32);
            zeros |= low == SIGN;
        }
        if zeros {
            // The smallest may be zeros of both signs: the first of them counts.
            for i in 0..BATCH {
                if self.minima[i] == 0.0 {
                    let values = block::<I, F>(values, i);
                    self.minima[i] = first(values, 0.0);
                }
            }
        }
        let steps = ((1 << BITS) - 1) as f32;
        for i in 0..BATCH {
            // The largest may be another zero than the smallest: their distance is never -0.
            self.scales[i] = (maxima[i] - self.minima[i]).abs() / steps;
        }
    }

    /// Reciprocals, and floats as they are stored; whether all of them are finite.
    #[inline(always)]
    pub fn finish<I: Isa, const MIN: bool>(&mut self, isa: I) -> bool {
        for i in 0..BATCH / I::LANES {
            let scales = vectors::<I::F32, _>(&mut self.scales)[i];
            vectors::<I::F32, _>(&mut self.inverses)[i] = isa.div(isa.splat(1.0), scales);
            vectors::<I::U16, _>(&mut self.halves[0])[i] = isa.narrow_f16(scales);
            if MIN {
                let minima = vectors::<I::F32, _>(&mut self.minima)[i];
                vectors::<I::U16, _>(&mut self.halves[1])[i] = isa.narrow_f16(minima);
            }
        }
        let mut infinite = false;
        for i in 0..BATCH {
            if self.scales[i] == 0.0 {
                self.inverses[i] = 0.0;
            }
            infinite |= !self.inverses[i].is_finite();
            infinite |= self.halves[0][i] & 0x7c00 == 0x7c00;
            infinite |= self.halves[1][i] & 0x7c00 == 0x7c00;
        }
        !infinite
    }
}

/// The first value with this magnitude.
#[inline(always)]
fn first<F: Lane>(values: &[F], magnitude: f32) -> f32 {
    for &value in values {
        if value.to_f32().abs() == magnitude {
            return value.to_f32();
        }
    }
    magnitude
}
