//! Scales and minima of a batch of blocks.
//!
//! Bounds are found on the bits of floats, which compare like the magnitudes: then NaN is beyond
//! infinity, and no port of a processor that adds floats is needed. Only [`Isa::larger_magnitude_bits`]
//! may leave a NaN out: quantizing will find it.

use super::{BATCH, FOUR, VALUES, vectors};
use crate::isa::{Isa, Kernel, Order, Signed, Unsigned};
use crate::lane::Lane;

/// The sign of a float.
const SIGN: i32 = i32::MIN;
/// The least magnitude that f16 rounds to infinity.
const BEYOND_F16: f32 = 65520.0;

/// What quantizes the blocks of a batch.
#[derive(Clone, Copy)]
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

/// For every [`FOUR`] blocks of a batch two vectors, of which the largest lanes count: of every four
/// lanes each belongs to another block. No vector lies across cache lines.
#[repr(align(64))]
pub struct Bounds<I: Isa>([[I::I32; BATCH / FOUR]; 2]);

/// Pairs of vectors in a block.
#[inline(always)]
const fn pairs<I: Isa>() -> usize {
    VALUES / (2 * I::LANES)
}

impl<I: Isa> Bounds<I> {
    #[inline(always)]
    pub fn new(isa: I) -> Self {
        Self([[isa.splat_i32(0); BATCH / FOUR]; 2])
    }

    /// Looks at [`FOUR`] blocks.
    #[inline(always)]
    pub fn set<F: Lane, const BITS: u32>(&mut self, isa: I, four: usize, values: &[F::Vector<I>]) {
        let mut bounds = [[isa.splat_i32(0); FOUR]; 2];
        for block in 0..FOUR {
            for p in 0..pairs::<I>() {
                let first = 2 * (block * pairs::<I>() + p);
                let [a, b] = F::widen_pair(isa, values[first], values[first + 1]);
                let found = match BITS {
                    8 => [isa.larger_magnitude_bits(a, b); 2],
                    // The largest bits with a sign are those of the largest number, without one those
                    // of the smallest; where there is a number of that sign.
                    _ => {
                        let (a, b) = (bytemuck::cast(a), bytemuck::cast(b));
                        [isa.max_i32(a, b), isa.max_u32(a, b)]
                    }
                };
                bounds[0][block] = match p {
                    0 => found[0],
                    _ => isa.max_i32(bounds[0][block], found[0]),
                };
                bounds[1][block] = match p {
                    0 => found[1],
                    _ => isa.max_u32(bounds[1][block], found[1]),
                };
            }
        }
        self.0[0][four] = isa.four_maxima::<Signed>(bounds[0]);
        if BITS != 8 {
            self.0[1][four] = isa.four_maxima::<Unsigned>(bounds[1]);
        }
    }

    /// The largest lanes of some blocks.
    #[inline(always)]
    fn largest<O: Order>(&self, isa: I, side: usize, chunk: usize) -> I::I32 {
        isa.join_maxima::<O>(self.fours(side, chunk))
    }

    #[inline(always)]
    fn fours(&self, side: usize, chunk: usize) -> [I::I32; 4] {
        let mut fours = [self.0[side][0]; 4];
        for i in 0..I::LANES / FOUR {
            fours[i] = self.0[side][chunk * I::LANES / FOUR + i];
        }
        fours
    }
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

    /// Finds them; whether all of them are ordinary.
    #[inline(always)]
    pub fn find<I: Isa, F: Lane, const BITS: u32, const MIN: bool>(
        &mut self,
        isa: I,
        bounds: &Bounds<I>,
        values: &[F; BATCH * VALUES],
    ) -> bool {
        match (BITS, MIN) {
            (8, _) => self.of_magnitudes(isa, bounds),
            (_, false) => self.of_largest::<I, F, BITS>(isa, bounds, values),
            (_, true) => self.of_bounds::<I, F, BITS>(isa, bounds, values),
        }
        let factor = if BITS == 8 { I::AWAY } else { 1.0 };
        self.finish::<I, MIN>(isa, factor)
    }

    /// Scales of the largest magnitude.
    #[inline(always)]
    fn of_magnitudes<I: Isa>(&mut self, isa: I, bounds: &Bounds<I>) {
        let scales = vectors::<I::F32, _>(&mut self.scales);
        for chunk in 0..BATCH / I::LANES {
            let largest = bytemuck::cast(bounds.largest::<Signed>(isa, 0, chunk));
            scales[chunk] = isa.div(largest, isa.splat(127.0));
        }
    }

    /// Scales of the value of the largest magnitude, the first of them.
    #[inline(always)]
    fn of_largest<I: Isa, F: Lane, const BITS: u32>(
        &mut self,
        isa: I,
        bounds: &Bounds<I>,
        values: &[F; BATCH * VALUES],
    ) {
        let factor = -1.0 / (1 << (BITS - 1)) as f32;
        let zero = isa.splat_i32(0);
        let (mut magnitudes, mut excess) = ([0.0; BATCH], [0; BATCH]);
        let mut ties = zero;
        for chunk in 0..BATCH / I::LANES {
            // Magnitudes of the largest number and the smallest one; 0 where there is no such sign.
            let high = isa.max_i32(bounds.largest::<Signed>(isa, 0, chunk), zero);
            let low = bounds.largest::<Unsigned>(isa, 1, chunk);
            let low = isa.max_i32(isa.sub_i32(low, isa.splat_i32(SIGN)), zero);
            let larger = isa.max_i32(high, low);
            let difference = isa.sub_i32(high, low);
            isa.count_equal(difference, zero, &mut ties);
            let magnitude = isa.magnitude_bits(bytemuck::cast(difference));
            let sign = isa.xor_i8(bytemuck::cast(difference), bytemuck::cast(magnitude));
            let value = bytemuck::cast(isa.xor_i8(bytemuck::cast(larger), sign));
            // Zeros of either sign have a scale of -0.
            vectors::<I::F32, _>(&mut self.scales)[chunk] = isa.mul(value, isa.splat(factor));
            vectors::<I::I32, f32>(&mut magnitudes)[chunk] = larger;
            vectors::<I::I32, i32>(&mut excess)[chunk] = difference;
        }
        if !isa.all_in_i32(ties, 0, 0) {
            settle_ties(values, &magnitudes, &excess, factor, &mut self.scales);
        }
    }

    /// Scales of the distance between the bounds, and minima.
    #[inline(always)]
    fn of_bounds<I: Isa, F: Lane, const BITS: u32>(
        &mut self,
        isa: I,
        bounds: &Bounds<I>,
        values: &[F; BATCH * VALUES],
    ) {
        let mut maxima = [0; BATCH];
        let (mut least_high, mut most_low) = (isa.splat_i32(0), isa.splat_i32(SIGN));
        let mut zeros = isa.splat_i32(0);
        for chunk in 0..BATCH / I::LANES {
            let high = bounds.largest::<Signed>(isa, 0, chunk);
            let low = bounds.largest::<Unsigned>(isa, 1, chunk);
            vectors::<I::I32, _>(&mut maxima)[chunk] = high;
            vectors::<I::I32, _>(&mut self.minima)[chunk] = low;
            least_high = isa.min_i32(least_high, high);
            most_low = isa.max_i32(most_low, low);
            isa.count_equal(low, isa.splat_i32(SIGN), &mut zeros);
        }
        if !isa.all_in_i32(least_high, 0, 0) || !isa.all_in_i32(most_low, SIGN, -1) {
            let mut innermost = [0; BATCH];
            isa.run(FindInnermost {
                values,
                innermost: &mut innermost,
            });
            settle_signs(&innermost, &mut maxima, &mut self.minima);
        }
        if !isa.all_in_i32(zeros, 0, 0) {
            settle_zeros(values, &mut self.minima);
        }
        let steps = isa.splat(((1 << BITS) - 1) as f32);
        for chunk in 0..BATCH / I::LANES {
            let max = bytemuck::cast(vectors::<I::I32, _>(&mut maxima)[chunk]);
            let min = vectors::<I::F32, _>(&mut self.minima)[chunk];
            // The largest may be another zero than the smallest: their distance is never -0.
            let distance = isa.abs(isa.sub(max, min));
            vectors::<I::F32, _>(&mut self.scales)[chunk] = isa.div(distance, steps);
        }
    }

    /// Reciprocals, times a factor, and floats as they are stored; whether all of them are finite.
    #[inline(always)]
    fn finish<I: Isa, const MIN: bool>(&mut self, isa: I, factor: f32) -> bool {
        let mut largest = isa.splat_i32(0);
        let mut smallest = isa.splat_i32(i32::MAX);
        for chunk in 0..BATCH / I::LANES {
            let scales = vectors::<I::F32, _>(&mut self.scales)[chunk];
            let inverses = isa.div(isa.splat(factor), scales);
            vectors::<I::F32, _>(&mut self.inverses)[chunk] = inverses;
            vectors::<I::U16, _>(&mut self.halves[0])[chunk] = isa.narrow_f16(scales);
            let magnitudes = isa.magnitude_bits(scales);
            smallest = isa.min_i32(smallest, magnitudes);
            largest = isa.max_i32(largest, magnitudes);
            if MIN {
                let minima = vectors::<I::F32, _>(&mut self.minima)[chunk];
                vectors::<I::U16, _>(&mut self.halves[1])[chunk] = isa.narrow_f16(minima);
                largest = isa.max_i32(largest, isa.magnitude_bits(minima));
            }
        }
        let normal = f32::MIN_POSITIVE.to_bits() as i32;
        if !isa.all_in_i32(smallest, normal, i32::MAX) && !self.settle_inverses() {
            return false;
        }
        isa.all_in_i32(largest, 0, BEYOND_F16.to_bits() as i32 - 1)
    }

    /// Whether only those of 0 are not finite, which are 0 then.
    #[cold]
    #[inline(never)]
    fn settle_inverses(&mut self) -> bool {
        let mut finite = true;
        for (scale, inverse) in self.scales.iter().zip(&mut self.inverses) {
            if *scale == 0.0 {
                *inverse = 0.0;
            }
            finite &= inverse.is_finite();
        }
        finite
    }
}

/// Finds which value is the first of those that have a block's largest magnitude, if it is tied.
#[cold]
#[inline(never)]
fn settle_ties<F: Lane>(
    values: &[F; BATCH * VALUES],
    magnitudes: &[f32; BATCH],
    excess: &[i32; BATCH],
    factor: f32,
    scales: &mut [f32; BATCH],
) {
    for (i, values) in values.as_chunks::<VALUES>().0.iter().enumerate() {
        if excess[i] == 0 && magnitudes[i] > 0.0 {
            scales[i] = first(values, magnitudes[i]) * factor;
        }
    }
}

/// Finds which zero of the smallest values is the first, where one is negative.
#[cold]
#[inline(never)]
fn settle_zeros<F: Lane>(values: &[F; BATCH * VALUES], minima: &mut [f32; BATCH]) {
    for (values, min) in values.as_chunks::<VALUES>().0.iter().zip(minima) {
        if min.to_bits() == SIGN as u32 {
            *min = first(values, 0.0);
        }
    }
}

/// Replaces what is not a bound, since all values of the block have the other sign.
#[cold]
#[inline(never)]
fn settle_signs(innermost: &[i32; BATCH], maxima: &mut [i32; BATCH], minima: &mut [f32; BATCH]) {
    for i in 0..BATCH {
        if maxima[i] < 0 {
            maxima[i] = innermost[i];
        }
        if minima[i].is_sign_positive() {
            minima[i] = f32::from_bits(innermost[i] as u32);
        }
    }
}

/// The bits of the smallest magnitude of each block; of any sign where there are both.
struct FindInnermost<'a, F> {
    values: &'a [F; BATCH * VALUES],
    innermost: &'a mut [i32; BATCH],
}

impl<F: Lane> Kernel for FindInnermost<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let values: &[F::Vector<I>] = bytemuck::cast_slice(self.values);
        let mut fours = [isa.splat_i32(0); BATCH / FOUR];
        for four in 0..BATCH / FOUR {
            let mut turned = [isa.splat_i32(0); FOUR];
            for block in 0..FOUR {
                for p in 0..pairs::<I>() {
                    let first = 2 * ((four * FOUR + block) * pairs::<I>() + p);
                    let [a, b] = F::widen_pair(isa, values[first], values[first + 1]);
                    let least = isa.min_u32(bytemuck::cast(a), bytemuck::cast(b));
                    // So that the largest counts.
                    let least = isa.sub_i32(isa.splat_i32(-1), least);
                    turned[block] = isa.max_u32(turned[block], least);
                }
            }
            fours[four] = isa.four_maxima::<Unsigned>(turned);
        }
        for chunk in 0..BATCH / I::LANES {
            let mut some = [fours[0]; 4];
            for i in 0..I::LANES / FOUR {
                some[i] = fours[chunk * I::LANES / FOUR + i];
            }
            let turned = isa.join_maxima::<Unsigned>(some);
            let innermost = isa.sub_i32(isa.splat_i32(-1), turned);
            vectors::<I::I32, _>(self.innermost)[chunk] = innermost;
        }
    }
}

/// The first value with this magnitude.
fn first<F: Lane>(values: &[F; VALUES], magnitude: f32) -> f32 {
    for &value in values {
        if value.to_f32().abs() == magnitude {
            return value.to_f32();
        }
    }
    magnitude
}
