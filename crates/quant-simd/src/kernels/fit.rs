//! Scales, and scales with biases, fitted to the codes that they give: see
//! [`FitSums`](quant_core::FitSums).

use quant_core::{FloatType, SEARCH_FITS, SEARCH_SCALES};

use super::blocks::BATCH;
use super::search::{ROUND, Scores, four_lanes, sum_of_four};
use crate::isa::{Isa, Kernel};
use crate::param_source::BLOCKS;
use crate::params::{BlockParams, DIVISOR, RECIPROCAL, RESIDUAL, SCALE, round};

/// Lanes in which a sum is added up, whatever the instruction set.
pub const LANES: usize = 16;

/// Parameters, and what the codes of a block that has them come to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fit {
    /// What values are divided by.
    pub scale: f32,
    /// What is subtracted from them before.
    pub bias: f32,
    /// The smallest and the largest code, less the zero point.
    pub steps: (f32, f32),
    /// The sums of a piece.
    pub sums: [f32; 5],
}

/// Finds the first `N` of [`Fit::sums`] of a block, or a piece of one: see [`Sums`].
pub struct FitBlock<'a, const N: usize> {
    /// At most [`SEARCH_PIECE`](quant_core::SEARCH_PIECE) values.
    pub values: &'a [f32],
    /// As many weights of squared errors, if there are any.
    pub importance: Option<&'a [f32]>,
    /// Its parameters, and what is found.
    pub fit: &'a mut Fit,
}

impl<const N: usize> Kernel for FitBlock<'_, N> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (values, fit) = (self.values, self.fit);
        let mut lanes = Sums::<I, N>::new(isa, fit);
        let whole = values.len() - values.len() % LANES;
        let weights = self.importance.map(|all| &all[..whole]);
        lanes.add_all(isa, &values[..whole], weights);
        if whole < values.len() {
            // A value that is the bias has no steps.
            let (mut last, mut weights) = ([fit.bias; LANES], [0.0; LANES]);
            for i in whole..values.len() {
                last[i - whole] = values[i];
                weights[i - whole] = match self.importance {
                    None => 1.0,
                    Some(all) => all[i],
                };
            }
            lanes.add::<true>(isa, &last, &weights);
        }
        fit.sums[..N].copy_from_slice(&lanes.four().map(sum_of_four));
    }
}

/// The first `N` sums, in as many vectors as sixteen lanes take: two, where there is no bias, or five.
pub struct Sums<I: Isa, const N: usize> {
    reciprocal: I::F32,
    bias: I::F32,
    low: I::F32,
    high: I::F32,
    round: I::F32,
    sums: [[I::F32; 4]; N],
}

impl<I: Isa, const N: usize> Sums<I, N> {
    /// Of no values.
    #[inline(always)]
    pub fn new(isa: I, fit: &Fit) -> Self {
        Self {
            reciprocal: isa.splat(1.0 / fit.scale),
            bias: isa.splat(fit.bias),
            low: isa.splat(fit.steps.0),
            high: isa.splat(fit.steps.1),
            round: isa.splat(ROUND),
            sums: [[isa.splat(0.0); 4]; N],
        }
    }

    /// Adds values, whole sixteens of them.
    #[inline(always)]
    pub fn add_all(&mut self, isa: I, values: &[f32], importance: Option<&[f32]>) {
        let mut start = 0;
        match importance {
            None => {
                while start < values.len() {
                    let values = &values[start..start + LANES];
                    self.add::<false>(isa, values, values);
                    start += LANES;
                }
            }
            Some(weights) => {
                while start < values.len() {
                    let here = start..start + LANES;
                    self.add::<true>(isa, &values[here.clone()], &weights[here]);
                    start += LANES;
                }
            }
        }
    }

    /// Adds sixteen values. Their weights are not looked at unless `WEIGHTED`: then each is 1.
    #[inline(always)]
    fn add<const WEIGHTED: bool>(&mut self, isa: I, values: &[f32], weights: &[f32]) {
        let sums = &mut self.sums;
        let values: &[I::F32] = bytemuck::cast_slice(values);
        let weights: &[I::F32] = bytemuck::cast_slice(weights);
        let mut v = 0;
        while v < LANES / I::LANES {
            let value = match N > 2 {
                true => isa.sub(values[v], self.bias),
                false => values[v],
            };
            let steps = isa.sub(isa.fma(value, self.reciprocal, self.round), self.round);
            let steps = isa.min(isa.max(steps, self.low), self.high);
            let weighted = match WEIGHTED {
                true => isa.mul(weights[v], steps),
                false => steps,
            };
            sums[0][v] = isa.fma(weighted, steps, sums[0][v]);
            sums[1][v] = isa.fma(weighted, value, sums[1][v]);
            if N > 2 {
                sums[3][v] = isa.add(sums[3][v], weighted);
                (sums[2][v], sums[4][v]) = match WEIGHTED {
                    true => (
                        isa.add(sums[2][v], weights[v]),
                        isa.fma(weights[v], value, sums[4][v]),
                    ),
                    false => (
                        isa.add(sums[2][v], isa.splat(1.0)),
                        isa.add(sums[4][v], value),
                    ),
                };
            }
            v += 1;
        }
    }

    /// Four lanes of each sum, see [`four_lanes`].
    #[inline(always)]
    pub fn four(&self) -> [[f32; 4]; N] {
        let mut four = [[0.0; 4]; N];
        for k in 0..N {
            let mut lanes = Lanes([0.0; LANES]);
            let vectors: &mut [I::F32] = bytemuck::cast_slice_mut(&mut lanes.0);
            vectors.copy_from_slice(&self.sums[k][..vectors.len()]);
            four[k] = four_lanes(&lanes.0);
        }
        four
    }
}

#[repr(align(64))]
struct Lanes([f32; LANES]);

/// Four lanes of a sum for each block of a batch.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub struct FourLanes(pub [[f32; 4]; BATCH]);

impl FourLanes {
    /// Of no values.
    pub const ZERO: Self = Self([[0.0; 4]; BATCH]);

    /// The sum of each block.
    #[inline(always)]
    pub fn sums(&self) -> Row {
        Row(self.0.map(sum_of_four))
    }
}

/// A number for each block of a batch.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub struct Row(pub [f32; BATCH]);

impl Row {
    #[inline(always)]
    fn vectors<V: bytemuck::Pod>(&mut self) -> &mut [V] {
        bytemuck::cast_slice_mut(&mut self.0)
    }
}

/// Fits the best candidate of each block of a batch.
pub struct FitBatch<'a> {
    /// The blocks, all of the same size, a multiple of 16.
    pub values: &'a [f32],
    /// As many weights of squared errors, if there are any.
    pub importance: Option<&'a [f32]>,
    /// Their candidates.
    pub scores: &'a [Scores],
    /// Their zero points.
    pub zero_points: &'a [i32],
    /// The smallest and the largest code, shifted as zero points are.
    pub codes: (i32, i32),
    /// The type that scales are stored in.
    pub scale_type: FloatType,
    /// Where parameters go, which divide exactly; zero points as they are.
    pub found: &'a mut BlockParams<BLOCKS>,
    /// Where the sums of squared errors of the candidates go that were the best, and of the plain scales.
    pub sums: &'a mut [Row; 2],
}

impl Kernel for FitBatch<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let size = self.values.len() / BATCH;
        let mut scales = Row([0.0; BATCH]);
        for (block, scores) in self.scores.iter().enumerate() {
            let best = scores.best();
            scales.0[block] = scores.scales[best];
            self.sums[0].0[block] = scores.sums[best];
            self.sums[1].0[block] = scores.sums[0];
        }
        let mut round_of_fits = 0;
        while round_of_fits < SEARCH_FITS {
            let [mut squares, mut products] = [FourLanes::ZERO; 2];
            for block in 0..BATCH {
                let zero_point = self.zero_points[block];
                let fit = Fit {
                    scale: scales.0[block],
                    bias: 0.0,
                    steps: (
                        (self.codes.0 - zero_point) as f32,
                        (self.codes.1 - zero_point) as f32,
                    ),
                    sums: [0.0; 5],
                };
                let mut lanes = Sums::<I, 2>::new(isa, &fit);
                let here = block * size..(block + 1) * size;
                let weights = self.importance.map(|all| &all[here.clone()]);
                lanes.add_all(isa, &self.values[here.clone()], weights);
                [squares.0[block], products.0[block]] = lanes.four();
            }
            fit(
                isa,
                &squares.sums(),
                &products.sums(),
                self.scale_type,
                &mut scales,
            );
            round_of_fits += 1;
        }
        let found = self.found;
        for v in 0..BATCH / I::LANES {
            let scale = scales.vectors::<I::F32>()[v];
            let one = isa.splat(1.0);
            let reciprocal = isa.div(one, scale);
            let lack = isa.fma(isa.sub(isa.splat(0.0), scale), reciprocal, one);
            let residual = isa.div(lack, scale);
            for (kind, vector) in [
                (SCALE, scale),
                (DIVISOR, scale),
                (RECIPROCAL, reciprocal),
                (RESIDUAL, residual),
            ] {
                bytemuck::cast_slice_mut(&mut found.floats[kind])[v] = vector;
            }
            bytemuck::cast_slice_mut(&mut found.reciprocal_twins)[v] = reciprocal;
            bytemuck::cast_slice_mut(&mut found.residual_twins)[v] = residual;
        }
        found.zero_points[..BATCH].copy_from_slice(&self.zero_points[..BATCH]);
    }
}

/// [`FitSums::fit`](quant_core::FitSums::fit) of all blocks.
#[inline(always)]
fn fit<I: Isa>(isa: I, squares: &Row, products: &Row, scale_type: FloatType, scales: &mut Row) {
    let mut best = [0.0; BATCH];
    let mut fitted = Row([0.0; BATCH]);
    for block in 0..BATCH {
        best[block] = f64::from(products.0[block]) / f64::from(squares.0[block]);
        fitted.0[block] = best[block] as f32;
    }
    let vectors = fitted.vectors::<I::F32>();
    for v in 0..vectors.len() {
        vectors[v] = round(isa, vectors[v], scale_type);
    }
    for block in 0..BATCH {
        let (from, to, best) = (scales.0[block], fitted.0[block], best[block]);
        let away = [from, to].map(|scale| (f64::from(scale) - best).abs());
        let is_candidate = to.abs() >= SEARCH_SCALES.0 && to.abs() <= SEARCH_SCALES.1;
        let is_better = away[1] < away[0] && is_candidate && (to > 0.0) == (from > 0.0);
        scales.0[block] = match is_better {
            true => to,
            false => from,
        };
    }
}
