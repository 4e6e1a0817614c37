//! The squared errors of many scales at once. Kernels take f32, so that there is one of each for all
//! types of values.

use std::ops::Add;

use quant_core::{
    FloatType, SEARCH_CANDIDATES, SEARCH_FACTORS, SEARCH_FACTORS_BELOW_ZERO, SEARCH_SCALES,
};

use super::blocks::BATCH;
use crate::isa::{Isa, Kernel};
use crate::params::round;

/// 1.5 * 2^23, see [`quant_core::reference::search`].
pub const ROUND: f32 = 12_582_912.0;

/// The candidates of [`quant_core::reference::search`], and the sum of squared errors of each.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
pub struct Scores {
    /// The scales.
    pub scales: [f32; SEARCH_CANDIDATES],
    /// The biases, of which only [`ScorePairs`] knows.
    pub biases: [f32; SEARCH_CANDIDATES],
    /// The sums.
    pub sums: [f32; SEARCH_CANDIDATES],
}

impl Scores {
    /// The first candidate of the least sum; the plain one where sums are NaN. Without a branch, which
    /// would be mispredicted for most blocks.
    #[inline(always)]
    pub fn best(&self) -> usize {
        let mut least = self.sums;
        let mut half = SEARCH_CANDIDATES / 2;
        while half > 0 {
            for k in 0..half {
                least[k] = match least[k + half] < least[k] {
                    true => least[k + half],
                    false => least[k],
                };
            }
            half /= 2;
        }
        let mut equal = 0;
        for k in 0..SEARCH_CANDIDATES {
            equal |= u32::from(self.sums[k] == least[0]) << k;
        }
        equal.trailing_zeros() as usize % 32
    }
}

/// Finds [`Scores`] for blocks that follow one another: a lane is a candidate, and meets the values
/// one after the other. So sums are those of the reference for any number of lanes, and blocks of any
/// size need no padding.
pub struct ScoreScales<'a> {
    /// The blocks, all of the same size, of at most [`SEARCH_PIECE`](quant_core::SEARCH_PIECE) values.
    pub values: &'a [f32],
    /// As many weights of squared errors, if there are any.
    pub importance: Option<&'a [f32]>,
    /// The plain scale of each block.
    pub plain: &'a [f32],
    /// Whether its other candidates are below zero.
    pub is_below: &'a [bool],
    /// Its zero point.
    pub zero_points: &'a [i32],
    /// The smallest and the largest code, shifted as zero points are.
    pub codes: (i32, i32),
    /// The type that scales are stored in.
    pub scale_type: FloatType,
    /// What is found for each.
    pub scores: &'a mut [Scores],
}

impl Kernel for ScoreScales<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let size = self.values.len() / self.scores.len();
        for (block, to) in self.scores.iter_mut().enumerate() {
            let values = &self.values[block * size..][..size];
            let factors = match self.is_below[block] {
                true => &SEARCH_FACTORS_BELOW_ZERO,
                false => &SEARCH_FACTORS,
            };
            let plain = isa.splat(self.plain[block]);
            let factors: &[I::F32] = bytemuck::cast_slice(factors);
            let scales: &mut [I::F32] = bytemuck::cast_slice_mut(&mut to.scales);
            for v in 0..scales.len() {
                scales[v] = round(isa, isa.mul(plain, factors[v]), self.scale_type);
            }
            let zero_point = self.zero_points[block];
            let steps = (
                (self.codes.0 - zero_point) as f32,
                (self.codes.1 - zero_point) as f32,
            );
            match self.importance {
                None => add_up::<I, false, false>(isa, values, values, steps, to),
                Some(all) => {
                    let all = &all[block * size..][..size];
                    add_up::<I, true, false>(isa, values, all, steps, to);
                }
            }
        }
    }
}

/// The same for a block whose candidates, scales and biases, are known.
pub struct ScorePairs<'a> {
    /// The block.
    pub values: &'a [f32],
    /// As many weights of squared errors.
    pub importance: &'a [f32],
    /// The largest code; the smallest is 0.
    pub most: i32,
    /// The candidates, and what is found for each.
    pub scores: &'a mut Scores,
}

impl Kernel for ScorePairs<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let steps = (0.0, self.most as f32);
        add_up::<I, true, true>(isa, self.values, self.importance, steps, self.scores);
    }
}

/// Vectors of candidates, at most.
const MOST: usize = 4;

/// What is known of all candidates.
struct Candidates<I: Isa> {
    reciprocals: [I::F32; MOST],
    negatives: [I::F32; MOST],
    biases: [I::F32; MOST],
    low: I::F32,
    high: I::F32,
    round: I::F32,
}

/// Finds the sums. `importance` is as long as the values, and not looked at unless `WEIGHTED`.
#[inline(always)]
pub fn add_up<I: Isa, const WEIGHTED: bool, const BIASED: bool>(
    isa: I,
    values: &[f32],
    importance: &[f32],
    (low, high): (f32, f32),
    scores: &mut Scores,
) {
    let zero = isa.splat(0.0);
    let mut candidates = Candidates::<I> {
        reciprocals: [zero; MOST],
        negatives: [zero; MOST],
        biases: [zero; MOST],
        low: isa.splat(low),
        high: isa.splat(high),
        round: isa.splat(ROUND),
    };
    let vectors = SEARCH_CANDIDATES / I::LANES;
    let scales: &[I::F32] = bytemuck::cast_slice(&scores.scales);
    let biases: &[I::F32] = bytemuck::cast_slice(&scores.biases);
    for v in 0..vectors {
        candidates.reciprocals[v] = isa.div(isa.splat(1.0), scales[v]);
        candidates.negatives[v] = isa.sub(zero, scales[v]);
        candidates.biases[v] = biases[v];
    }
    let [mut even, mut odd] = [[zero; MOST]; 2];
    let (pairs, last) = values.as_chunks::<2>();
    let (importance, last_importance) = importance[..values.len()].as_chunks::<2>();
    for i in 0..pairs.len() {
        let [a, b] = pairs[i];
        let [a_matters, b_matters] = importance[i];
        add::<I, WEIGHTED, BIASED>(isa, &candidates, a, a_matters, &mut even);
        add::<I, WEIGHTED, BIASED>(isa, &candidates, b, b_matters, &mut odd);
    }
    if let [last] = last {
        add::<I, WEIGHTED, BIASED>(isa, &candidates, *last, last_importance[0], &mut even);
    }
    let to: &mut [I::F32] = bytemuck::cast_slice_mut(&mut scores.sums);
    for v in 0..vectors {
        to[v] = isa.add(even[v], odd[v]);
    }
}

/// Adds the squared error of a value to each candidate's sum.
#[inline(always)]
fn add<I: Isa, const WEIGHTED: bool, const BIASED: bool>(
    isa: I,
    candidates: &Candidates<I>,
    value: f32,
    importance: f32,
    sums: &mut [I::F32; MOST],
) {
    let value = isa.splat(value);
    for v in 0..SEARCH_CANDIDATES / I::LANES {
        let value = match BIASED {
            true => isa.sub(value, candidates.biases[v]),
            false => value,
        };
        let steps = isa.fma(value, candidates.reciprocals[v], candidates.round);
        let steps = isa.sub(steps, candidates.round);
        let steps = isa.min(isa.max(steps, candidates.low), candidates.high);
        let error = isa.fma(candidates.negatives[v], steps, value);
        sums[v] = match WEIGHTED {
            true => isa.fma(isa.mul(error, isa.splat(importance)), error, sums[v]),
            false => isa.fma(error, error, sums[v]),
        };
    }
}

/// Whether all candidates of a plain scale are between [`SEARCH_SCALES`].
pub fn has_all_candidates(scale: f32) -> bool {
    let last = SEARCH_FACTORS[SEARCH_CANDIDATES - 1];
    // What rounding takes away is less than half.
    scale * last >= SEARCH_SCALES.0 * 2.0 && scale <= SEARCH_SCALES.1 / 2.0
}

/// Adds squared errors of blocks that follow one another in f64, each to its lanes as
/// [`ErrorStats`](quant_core::ErrorStats) does. An error that is not finite leaves a sum that is not.
pub struct AddNoise<'a> {
    /// The blocks, of as many elements each; a multiple of 16, or all one block.
    pub values: &'a [f32],
    /// Their dequantized values.
    pub dequantized: &'a [f32],
    /// As many weights of squared errors, if there are any.
    pub importance: Option<&'a [f32]>,
    /// The lanes of each block.
    pub lanes: &'a mut [[f64; 16]],
}

impl Kernel for AddNoise<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, _: I) {
        let size = self.values.len() / self.lanes.len();
        for (block, lanes) in self.lanes.iter_mut().enumerate() {
            let block = block * size..(block + 1) * size;
            let values = &self.values[block.clone()];
            let dequantized = &self.dequantized[block.clone()];
            match self.importance {
                None => add_noise::<false>(values, dequantized, values, lanes),
                Some(all) => add_noise::<true>(values, dequantized, &all[block], lanes),
            }
        }
    }
}

/// The same for a batch of whole blocks, with the lanes of each added up.
pub struct SumNoise<'a> {
    /// The blocks, of as many elements each, a multiple of 16.
    pub values: &'a [f32],
    /// Their dequantized values.
    pub dequantized: &'a [f32],
    /// As many weights of squared errors, if there are any.
    pub importance: Option<&'a [f32]>,
    /// The sum of each block.
    pub sums: &'a mut [f64; BATCH],
}

impl Kernel for SumNoise<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, _: I) {
        let size = self.values.len() / BATCH;
        let mut four = [[0.0; 4]; BATCH];
        for (block, four) in four.iter_mut().enumerate() {
            let block = block * size..(block + 1) * size;
            let values = &self.values[block.clone()];
            let dequantized = &self.dequantized[block.clone()];
            let mut lanes = [0.0; 16];
            match self.importance {
                None => add_noise::<false>(values, dequantized, values, &mut lanes),
                Some(all) => add_noise::<true>(values, dequantized, &all[block], &mut lanes),
            }
            *four = four_lanes(&lanes);
        }
        *self.sums = four.map(sum_of_four);
    }
}

/// The sum of lanes as [`ErrorStats`](quant_core::ErrorStats) has it: the upper half is added to the
/// lower one, until there is one lane.
#[inline(always)]
pub fn lane_sum<T: Copy + Add<Output = T>>(lanes: &[T; 16]) -> T {
    sum_of_four(four_lanes(lanes))
}

/// The first two halvings. Of a constant length, the compiler makes vectors of them.
#[inline(always)]
pub fn four_lanes<T: Copy + Add<Output = T>>(lanes: &[T; 16]) -> [T; 4] {
    let mut eight = [lanes[0]; 8];
    for lane in 0..8 {
        eight[lane] = lanes[lane] + lanes[lane + 8];
    }
    let mut four = [lanes[0]; 4];
    for lane in 0..4 {
        four[lane] = eight[lane] + eight[lane + 4];
    }
    four
}

/// The other two, which are best done for many blocks at once.
#[inline(always)]
pub fn sum_of_four<T: Copy + Add<Output = T>>([a, b, c, d]: [T; 4]) -> T {
    (a + c) + (b + d)
}

/// `importance` is as long as the values, and not looked at unless `WEIGHTED`. The compiler makes
/// vectors of the lanes.
#[inline(always)]
pub fn add_noise<const WEIGHTED: bool>(
    values: &[f32],
    dequantized: &[f32],
    importance: &[f32],
    lanes: &mut [f64; 16],
) {
    let mut sums = *lanes;
    let whole = values.len() - values.len() % 16;
    let mut start = 0;
    while start < whole {
        let values = &values[start..start + 16];
        let dequantized = &dequantized[start..start + 16];
        let importance = &importance[start..start + 16];
        for lane in 0..16 {
            let error = f64::from(values[lane] - dequantized[lane]);
            let square = error * error;
            sums[lane] += match WEIGHTED {
                true => square * f64::from(importance[lane]),
                false => square,
            };
        }
        start += 16;
    }
    for i in whole..values.len() {
        let error = f64::from(values[i] - dequantized[i]);
        let square = error * error;
        sums[i - whole] += match WEIGHTED {
            true => square * f64::from(importance[i]),
            false => square,
        };
    }
    *lanes = sums;
}
