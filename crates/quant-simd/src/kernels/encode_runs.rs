//! Codes, and their errors added up, in one pass.

use core::marker::PhantomData;

use quant_core::{FloatType, STATS_RUN, STATS_STEP};

use super::encode::restored;
use super::error::{ErrorSums, Sums, add, add_error, is_sure};
use super::quantize::Clip;
use super::{Group, groups, groups_mut};
use crate::isa::{Isa, Kernel, TILE};
use crate::lane::Lane;
use crate::param_source::ParamSource;
use crate::params::{CodeRange, Quotient, RECIPROCAL, RESIDUAL, SCALE};

/// What [`Encode`](super::encode::Encode) and [`AddErrors`](super::error::AddErrors) do, for whole runs
/// of [`STATS_RUN`] values. Stops before the first run in which a code is clipped, or whose sums in f32
/// do not tell that it may be added up so; gives the number of runs done. The codes of the run before
/// which it stops are void.
///
/// No dequantized value is stored, and each value is loaded once. Where registers are few and widening
/// costs nothing, two loops are faster: then it does nothing, and gives none.
pub struct EncodeRuns<'a, F, S, Q> {
    /// The values: whole runs.
    pub values: &'a [F],
    /// Buffer for their codes, one per byte.
    pub codes: &'a mut [u8],
    /// The sums so far.
    pub sums: &'a mut ErrorSums,
    /// The parameters of the values.
    pub source: S,
    /// The codes there are.
    pub range: CodeRange,
    /// The scale's type.
    pub scale_type: FloatType,
    /// How to divide.
    pub marker: PhantomData<Q>,
}

/// What is watched of a run.
#[derive(Clone, Copy)]
struct Extremes<I: Isa> {
    /// The largest error, as bits of its magnitude.
    error: [I::I32; 2],
    /// The smallest code.
    least: I::I16,
    /// The largest one.
    most: I::I16,
}

impl<F: Lane, S: ParamSource, Q: Quotient> Kernel for EncodeRuns<'_, F, S, Q> {
    type Output = Option<usize>;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Option<usize> {
        if !I::HAS_MANY_REGISTERS && F::TYPE == FloatType::F32 {
            return None;
        }
        let clip = Clip::new(isa, self.range);
        let (values, _) = groups::<Group<F, I>, F>(self.values);
        let (codes, _) = groups_mut::<I::I8, u8>(self.codes);
        let per_run = STATS_RUN / (4 * I::LANES);
        let low = isa.splat_i16(self.range.low.into());
        let mut error = [isa.splat_i32(0); 2];
        let mut done = 0;
        while (done + 1) * per_run <= values.len() {
            let run = Run::<F, S, I> {
                values: &values[done * per_run..][..per_run],
                codes: &mut codes[done * per_run..][..per_run],
                first_pair: 2 * done * per_run,
                params: RunParams {
                    source: self.source,
                    scale_type: self.scale_type,
                },
            };
            let mut extremes = Extremes {
                error,
                least: low,
                most: low,
            };
            let sums = run.encode::<Q>(isa, clip, &mut extremes);
            if !is_sure(isa, &sums) || !self.range.holds::<I>(extremes.least, extremes.most) {
                break;
            }
            add(isa, &sums, self.sums);
            error = extremes.error;
            done += 1;
        }
        self.sums.count(done * STATS_RUN);
        self.sums
            .raise::<I>(bytemuck::cast(isa.max_i32(error[0], error[1])));
        Some(done)
    }
}

struct Run<'a, F: Lane, S: ParamSource, I: Isa> {
    values: &'a [Group<F, I>],
    codes: &'a mut [I::I8],
    first_pair: usize,
    params: RunParams<S>,
}

/// What all groups have in common.
#[derive(Clone, Copy)]
struct RunParams<S> {
    source: S,
    scale_type: FloatType,
}

impl<F: Lane, S: ParamSource, I: Isa> Run<'_, F, S, I> {
    #[inline(always)]
    fn encode<Q: Quotient>(self, isa: I, clip: Clip<I>, extremes: &mut Extremes<I>) -> Sums<I> {
        let params = self.params;
        let mut sums = [[isa.splat(0.0); 4]; 3];
        let per_step = STATS_STEP / (4 * I::LANES);
        // Parameters are loaded for a tile at most.
        let per_tile = Ord::min(TILE, self.values.len());
        let tiles = self.values.chunks_exact(per_tile);
        for (t, (values, codes)) in tiles.zip(self.codes.chunks_exact_mut(per_tile)).enumerate() {
            let loaded = params.source.load(isa, self.first_pair + 2 * t * per_tile);
            // While the errors of a group are added up, the steps of the next one are found: either is a
            // chain of operations that wait for each other.
            let mut now = params.rounded::<F, Q, I>(isa, &loaded, &values[0], 0);
            for s in 0..per_tile / per_step {
                let mut of_step = [[isa.splat(0.0); 4]; 3];
                for g in 0..per_step {
                    let group = s * per_step + g;
                    let next = Ord::min(group + 1, per_tile - 1);
                    let later = params.rounded::<F, Q, I>(isa, &loaded, &values[next], 2 * next);
                    let pairs = params.pairs(isa, &loaded, &now, 2 * group, extremes);
                    codes[group] = clip.codes::<false, false, true>(isa, pairs);
                    for v in 0..4 {
                        let scales = params.source.floats(isa, &loaded, SCALE, 2 * group + v / 2);
                        let value = isa.mul(scales[v % 2], isa.to_f32(now.steps[v]));
                        let value = restored::<I, F, Q>(isa, value, params.scale_type);
                        let (of_step, error) = (&mut of_step, &mut extremes.error);
                        add_error(isa, 4 * g + v, now.values[v], value, of_step, error);
                    }
                    now = later;
                }
                for k in 0..3 {
                    for w in 0..16 / I::LANES {
                        sums[k][w] = isa.add(sums[k][w], of_step[k][w]);
                    }
                }
            }
        }
        sums
    }
}

/// A group, and its values by their scale, rounded.
#[derive(Clone, Copy)]
struct Rounded<I: Isa> {
    values: [I::F32; 4],
    steps: [I::I32; 4],
}

impl<S: ParamSource> RunParams<S> {
    /// Of a group that begins with this pair of the tile.
    #[inline(always)]
    fn rounded<F: Lane, Q: Quotient, I: Isa>(
        self,
        isa: I,
        loaded: &S::Loaded<I>,
        group: &Group<F, I>,
        first_pair: usize,
    ) -> Rounded<I> {
        let mut rounded = Rounded {
            values: [isa.splat(0.0); 4],
            steps: [isa.splat_i32(0); 4],
        };
        for v in 0..4 {
            let pair = first_pair + v / 2;
            let reciprocal = self.source.floats(isa, loaded, RECIPROCAL, pair)[v % 2];
            let residual = self.source.floats(isa, loaded, RESIDUAL, pair)[v % 2];
            let value = F::widen(isa, group[v]);
            rounded.values[v] = value;
            rounded.steps[v] = isa.round_i32(Q::quotient(isa, value, reciprocal, residual));
        }
        rounded
    }

    /// Codes in 16 bits.
    #[inline(always)]
    fn pairs<I: Isa>(
        self,
        isa: I,
        loaded: &S::Loaded<I>,
        rounded: &Rounded<I>,
        first_pair: usize,
        extremes: &mut Extremes<I>,
    ) -> [I::I16; 2] {
        let mut pairs = [isa.splat_i16(0); 2];
        for p in 0..2 {
            let zero_points = self.source.narrow_zero_points(isa, loaded, first_pair + p);
            let narrow = isa.narrow_i16(rounded.steps[2 * p], rounded.steps[2 * p + 1]);
            pairs[p] = isa.add_i16(narrow, zero_points);
            extremes.least = isa.min_i16(extremes.least, pairs[p]);
            extremes.most = isa.max_i16(extremes.most, pairs[p]);
        }
        pairs
    }
}
