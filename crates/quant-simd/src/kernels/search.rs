//! The squared errors of many scales at once.

use quant_core::{FloatType, SEARCH_CANDIDATES, SEARCH_FACTORS, SEARCH_PIECE};

use super::widen::Widen;
use crate::isa::{Isa, Kernel};
use crate::lane::Lane;
use crate::params::round;

/// 1.5 * 2^23, see [`quant_core::reference::search`].
const ROUND: f32 = 12_582_912.0;

/// The candidates of [`quant_core::reference::search`], and the sum of squared errors of each.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scores {
    /// The scales.
    pub scales: [f32; SEARCH_CANDIDATES],
    /// The sums.
    pub sums: [f64; SEARCH_CANDIDATES],
}

/// Finds [`Scores`]: a lane is a candidate, and meets the values one after the other. So sums are
/// those of the reference for any number of lanes, and blocks of any size need no padding.
pub struct ScoreScales<'a, F> {
    /// A block.
    pub values: &'a [F],
    /// As many weights of squared errors, if there are any.
    pub importance: Option<&'a [f32]>,
    /// The plain scale.
    pub scale: f32,
    /// The type that scales are stored in.
    pub scale_type: FloatType,
    /// The smallest and the largest code, less the zero point.
    pub steps: (f32, f32),
    /// Room for [`SEARCH_PIECE`] values.
    pub wide: &'a mut [f32],
}

impl<F: Lane> Kernel for ScoreScales<'_, F> {
    type Output = Scores;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Scores {
        let mut scores = Scores::default();
        let factors: &[I::F32] = bytemuck::cast_slice(&SEARCH_FACTORS);
        let scales: &mut [I::F32] = bytemuck::cast_slice_mut(&mut scores.scales);
        for v in 0..scales.len() {
            let scale = isa.mul(isa.splat(self.scale), factors[v]);
            scales[v] = round(isa, scale, self.scale_type);
        }
        let mut start = 0;
        while start < self.values.len() {
            let end = Ord::min(start + SEARCH_PIECE, self.values.len());
            let wide = &mut self.wide[..end - start];
            let widen = Widen {
                from: &self.values[start..end],
                to: &mut *wide,
            };
            widen.run(isa);
            let sums = match self.importance {
                None => piece::<I, false>(isa, wide, wide, &scores.scales, self.steps),
                Some(all) => {
                    piece::<I, true>(isa, wide, &all[start..end], &scores.scales, self.steps)
                }
            };
            for k in 0..SEARCH_CANDIDATES {
                scores.sums[k] += f64::from(sums[k]);
            }
            start = end;
        }
        scores
    }
}

/// What is known of a vector of candidates.
#[derive(Clone, Copy)]
struct Candidates<I: Isa> {
    reciprocal: I::F32,
    negative: I::F32,
    low: I::F32,
    high: I::F32,
    round: I::F32,
}

/// The sums of a piece. `importance` is as long as the values, and not looked at unless `WEIGHTED`.
#[inline(always)]
fn piece<I: Isa, const WEIGHTED: bool>(
    isa: I,
    values: &[f32],
    importance: &[f32],
    scales: &[f32; SEARCH_CANDIDATES],
    (low, high): (f32, f32),
) -> [f32; SEARCH_CANDIDATES] {
    let mut out = [0.0; SEARCH_CANDIDATES];
    let to: &mut [I::F32] = bytemuck::cast_slice_mut(&mut out);
    let scales: &[I::F32] = bytemuck::cast_slice(scales);
    let importance = &importance[..values.len()];
    for v in 0..to.len() {
        let candidates = Candidates::<I> {
            reciprocal: isa.div(isa.splat(1.0), scales[v]),
            negative: isa.sub(isa.splat(0.0), scales[v]),
            low: isa.splat(low),
            high: isa.splat(high),
            round: isa.splat(ROUND),
        };
        let (mut even, mut odd) = (isa.splat(0.0), isa.splat(0.0));
        let pairs = values.len() / 2;
        for i in 0..pairs {
            let [a, b] = [2 * i, 2 * i + 1];
            even = add::<I, WEIGHTED>(isa, candidates, values[a], importance[a], even);
            odd = add::<I, WEIGHTED>(isa, candidates, values[b], importance[b], odd);
        }
        if values.len() % 2 == 1 {
            let last = values.len() - 1;
            even = add::<I, WEIGHTED>(isa, candidates, values[last], importance[last], even);
        }
        to[v] = isa.add(even, odd);
    }
    out
}

/// Adds the squared error of a value to each candidate's sum.
#[inline(always)]
fn add<I: Isa, const WEIGHTED: bool>(
    isa: I,
    candidates: Candidates<I>,
    value: f32,
    importance: f32,
    sum: I::F32,
) -> I::F32 {
    let value = isa.splat(value);
    let steps = isa.fma(value, candidates.reciprocal, candidates.round);
    let steps = isa.sub(steps, candidates.round);
    let steps = isa.min(isa.max(steps, candidates.low), candidates.high);
    let error = isa.fma(candidates.negative, steps, value);
    match WEIGHTED {
        true => isa.fma(isa.mul(error, isa.splat(importance)), error, sum),
        false => isa.fma(error, error, sum),
    }
}
