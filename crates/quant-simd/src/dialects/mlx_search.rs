//! Scales and biases of least squared error for MLX's blocks, a batch at a time: what
//! [`quant_core::reference::search`] finds, step by step.

use quant_core::{
    FloatType, SEARCH_CANDIDATES, SEARCH_FACTORS, SEARCH_FITS, SEARCH_LEAST_SPREAD, SEARCH_SCALES,
};

use super::mlx::{BATCH, Found, Row};
use crate::isa::{Isa, Kernel};
use crate::kernels::fit::{Fit, FourLanes, Sums};
use crate::kernels::search::{ROUND, Scores, add_noise, add_up, four_lanes, sum_of_four};
use crate::params::{Exact, Quotient, round};

/// Finds them for one batch. `None` if its plain scales are not ordinary, else which blocks were searched:
/// the others have candidates that are none, or values that cannot be restored.
pub struct SearchMlx<'a> {
    /// The values, in blocks of a multiple of 32 and at most 256.
    pub values: &'a [f32],
    /// As many weights of squared errors, if there are any.
    pub importance: Option<&'a [f32]>,
    /// The largest code.
    pub steps: f32,
    /// The type of the values, in which scales and biases are stored.
    pub float: FloatType,
    /// Room for as many restored values.
    pub restored: &'a mut [f32],
    /// Where the scales go that values are divided by.
    pub scales: &'a mut [f32],
    /// Where the biases go.
    pub biases: &'a mut [f32],
}

impl Kernel for SearchMlx<'_> {
    type Output = Option<[bool; BATCH]>;

    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) -> Self::Output {
        let mut plain = Found::new();
        plain.bounds::<I, f32>(isa, bytemuck::cast_slice(self.values));
        if !plain.params(isa, self.steps, self.float) {
            return None;
        }
        let mut is_searched = self.have_candidates(&plain);
        let mut found = plain.clone();
        self.find_best(isa, &plain, &is_searched, &mut found);
        for _ in 0..SEARCH_FITS {
            let sums = self.fit_sums(isa, &found);
            fit(isa, &sums, self.float, &mut found);
        }
        found.divisors(isa);
        let of_plain = self.noise(isa, &plain);
        let of_found = self.noise(isa, &found);
        for block in 0..BATCH {
            is_searched[block] &= of_plain[block].is_finite() && of_found[block].is_finite();
            let better = match of_found[block] < of_plain[block] {
                true => &found,
                false => &plain,
            };
            self.scales[block] = better.scale.0[block];
            self.biases[block] = better.bias.0[block];
        }
        Some(is_searched)
    }
}

impl SearchMlx<'_> {
    /// In which blocks all candidates are some.
    #[inline(always)]
    fn have_candidates(&self, plain: &Found) -> [bool; BATCH] {
        let last = SEARCH_FACTORS[SEARCH_CANDIDATES - 1];
        // What rounding takes away is less than half; or, of a subnormal number, all of it.
        let (least, most) = match self.float {
            FloatType::F16 => (f32::from_bits((127 - 24) << 23), 32_768.0),
            FloatType::F32 | FloatType::Bf16 => (SEARCH_SCALES.0 * 2.0, SEARCH_SCALES.1),
        };
        let mut have = [false; BATCH];
        for (block, have) in have.iter_mut().enumerate() {
            let (min, max) = (plain.min.0[block], plain.max.0[block]);
            let scale = plain.scale.0[block].abs();
            *have = (max - min) * last / self.steps >= least
                && min.abs() <= most
                && max.abs() <= most
                && scale >= SEARCH_SCALES.0
                && scale <= SEARCH_SCALES.1;
        }
        have
    }

    /// The candidates of least squared error.
    #[inline(always)]
    fn find_best<I: Isa>(
        &self,
        isa: I,
        plain: &Found,
        is_searched: &[bool; BATCH],
        found: &mut Found,
    ) {
        let size = self.values.len() / BATCH;
        let mut scores = Scores::default();
        for block in 0..BATCH {
            if !is_searched[block] {
                continue;
            }
            let (min, max) = (plain.min.0[block], plain.max.0[block]);
            let (width, middle) = (isa.splat(max - min), isa.splat(min / 2.0 + max / 2.0));
            let (steps, half) = (isa.splat(self.steps), isa.splat(self.steps / 2.0));
            let factors: &[I::F32] = bytemuck::cast_slice(&SEARCH_FACTORS);
            for v in 0..SEARCH_CANDIDATES / I::LANES {
                let scale = isa.div(isa.mul(width, factors[v]), steps);
                let scale = round(isa, scale, self.float);
                let bias = isa.sub(middle, isa.mul(scale, half));
                let scales: &mut [I::F32] = bytemuck::cast_slice_mut(&mut scores.scales);
                scales[v] = scale;
                let biases: &mut [I::F32] = bytemuck::cast_slice_mut(&mut scores.biases);
                biases[v] = round(isa, bias, self.float);
            }
            scores.scales[0] = plain.scale.0[block];
            scores.biases[0] = plain.bias.0[block];
            let values = &self.values[block * size..][..size];
            let codes = (0.0, self.steps);
            match self.importance {
                None => add_up::<I, false, true>(isa, values, values, codes, &mut scores),
                Some(all) => {
                    let all = &all[block * size..][..size];
                    add_up::<I, true, true>(isa, values, all, codes, &mut scores);
                }
            }
            let best = scores.best();
            found.scale.0[block] = scores.scales[best];
            found.bias.0[block] = scores.biases[best];
        }
    }

    /// What the codes of each block come to.
    #[inline(always)]
    fn fit_sums<I: Isa>(&self, isa: I, found: &Found) -> [Row; 5] {
        let size = self.values.len() / BATCH;
        let mut all = [FourLanes::ZERO; 5];
        for block in 0..BATCH {
            let fit = Fit {
                scale: found.scale.0[block],
                bias: found.bias.0[block],
                steps: (0.0, self.steps),
                sums: [0.0; 5],
            };
            let mut lanes = Sums::<I, 5>::new(isa, &fit);
            let here = block * size..(block + 1) * size;
            let weights = self.importance.map(|all| &all[here.clone()]);
            lanes.add_all(isa, &self.values[here.clone()], weights);
            for (all, four) in all.iter_mut().zip(lanes.four()) {
                all.0[block] = four;
            }
        }
        let mut sums = [Row([0.0; BATCH]); 5];
        for (to, all) in sums.iter_mut().zip(&all) {
            *to = Row(all.sums().0);
        }
        sums
    }

    /// What each block loses by these parameters.
    #[inline(always)]
    fn noise<I: Isa>(&mut self, isa: I, params: &Found) -> [f64; BATCH] {
        match self.float {
            FloatType::F32 => self.restore(isa, params, FloatType::F32),
            FloatType::F16 => self.restore(isa, params, FloatType::F16),
            FloatType::Bf16 => self.restore(isa, params, FloatType::Bf16),
        }
        let size = self.values.len() / BATCH;
        let mut four = [[0.0; 4]; BATCH];
        for (block, four) in four.iter_mut().enumerate() {
            let here = block * size..(block + 1) * size;
            let (values, restored) = (&self.values[here.clone()], &self.restored[here.clone()]);
            let mut lanes = [0.0; 16];
            match self.importance {
                None => add_noise::<false>(values, restored, values, &mut lanes),
                Some(all) => add_noise::<true>(values, restored, &all[here], &mut lanes),
            }
            *four = four_lanes(&lanes);
        }
        four.map(sum_of_four)
    }

    /// The values of the codes.
    #[inline(always)]
    fn restore<I: Isa>(&mut self, isa: I, params: &Found, float: FloatType) {
        let values: &[I::F32] = bytemuck::cast_slice(self.values);
        let restored: &mut [I::F32] = bytemuck::cast_slice_mut(self.restored);
        let per_block = values.len() / BATCH;
        let (low, high, to_integer) = (isa.splat(0.0), isa.splat(self.steps), isa.splat(ROUND));
        for block in 0..BATCH {
            let (scale, bias) = (params.scale.0[block], params.bias.0[block]);
            let exact = isa.splat(bias);
            let reciprocal = isa.splat(params.reciprocal.0[block]);
            let residual = isa.splat(params.residual.0[block]);
            // As they are stored.
            let scale = round(isa, isa.splat(scale), float);
            let bias = round(isa, exact, float);
            for v in block * per_block..(block + 1) * per_block {
                let value = isa.sub(values[v], exact);
                let quotient = Exact::quotient(isa, value, reciprocal, residual);
                let code = isa.min(isa.max(quotient, low), high);
                let code = isa.sub(isa.add(code, to_integer), to_integer);
                let product = round(isa, isa.mul(code, scale), float);
                restored[v] = round(isa, isa.add(product, bias), float);
            }
        }
    }
}

/// [`FitSums::fit`](quant_core::FitSums::fit) of all blocks. Plain loops, of which the compiler makes
/// vectors.
#[inline(always)]
fn fit<I: Isa>(isa: I, sums: &[Row; 5], float: FloatType, found: &mut Found) {
    let [squares, products, weights, steps, values] = sums;
    let mut best = [0.0; BATCH];
    let mut spread = [0.0; BATCH];
    let [mut scale, mut bias] = [Row([0.0; BATCH]); 2];
    for i in 0..BATCH {
        let [squares, products, weights, steps, values] =
            [squares, products, weights, steps, values].map(|row| f64::from(row.0[i]));
        spread[i] = weights * squares - steps * steps;
        best[i] = (weights * products - steps * values) / spread[i];
        scale.0[i] = best[i] as f32;
    }
    round_all(isa, &mut scale, float);
    // What is added to the bias.
    let more = |i: usize, scale: f64| {
        (f64::from(values.0[i]) - scale * f64::from(steps.0[i])) / f64::from(weights.0[i])
    };
    for i in 0..BATCH {
        bias.0[i] = (f64::from(found.bias.0[i]) + more(i, f64::from(scale.0[i]))) as f32;
    }
    round_all(isa, &mut bias, float);
    for i in 0..BATCH {
        let [squares, weights, steps] = [squares, weights, steps].map(|row| f64::from(row.0[i]));
        let more_at_best = more(i, best[i]);
        // What squared errors are more than at the best.
        let loss = |scale: f32, shift: f64| {
            let (scale, shift) = (f64::from(scale) - best[i], shift - more_at_best);
            scale * scale * squares + 2.0 * scale * shift * steps + shift * shift * weights
        };
        let (from, to) = (found.scale.0[i], scale.0[i]);
        let shift = f64::from(bias.0[i]) - f64::from(found.bias.0[i]);
        let is_better = spread[i] > weights * squares * SEARCH_LEAST_SPREAD
            && bias.0[i].is_finite()
            && to.abs() >= SEARCH_SCALES.0
            && to.abs() <= SEARCH_SCALES.1
            && (to > 0.0) == (from > 0.0)
            && loss(to, shift) < loss(from, 0.0);
        if is_better {
            found.scale.0[i] = to;
            found.bias.0[i] = bias.0[i];
        }
    }
}

#[inline(always)]
fn round_all<I: Isa>(isa: I, row: &mut Row, float: FloatType) {
    for vector in row.vectors::<I::F32>() {
        *vector = round(isa, *vector, float);
    }
}
