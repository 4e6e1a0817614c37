//! Scale, zero point and codes of many blocks at once.

use core::marker::PhantomData;

use bytemuck::Zeroable;
use quant_core::{FloatType, Mode, Scheme};

use super::quantize::{Clip, FastTile};
use super::{AHEAD, CodeLayout, Group, groups, groups_mut};
use crate::isa::{Isa, Kernel};
use crate::lane::Lane;
use crate::param_source::{BlockSize, LARGEST_BLOCK, ParamSource, PerBlock};
use crate::params::{
    BlockParams, CodeRange, EXACT_SCALES, Quotient, RECIPROCAL, RESIDUAL, SCALE, code_shift, round,
};

/// Blocks that are quantized together. Their ranges are reduced as in a transposition, and one
/// division serves as many scales as there are lanes.
pub const BATCH: usize = 32;

/// Quantizes whole batches of blocks, and stops before the first batch that has
/// a degenerate block; gives the number of batches done.
///
/// Out of the ordinary are values that are not finite and scales beyond [`EXACT_SCALES`] or
/// subnormal.
pub struct QuantizeBlocks<'a, F, Q, C, B> {
    /// The values.
    pub values: &'a [F],
    /// Buffer for their codes.
    pub codes: &'a mut [u8],
    /// Buffer for the scales.
    pub scales: &'a mut [f32],
    /// Buffer for the zero points, where the scheme stores them.
    pub zero_points: &'a mut [u8],
    /// Integer type, mode and dialect.
    pub scheme: Scheme,
    /// Values per block.
    pub block_size: B,
    /// Whether to store codes past the cache (non-temporal stores).
    pub stream: bool,
    /// How to divide, and how codes lie in memory.
    pub marker: PhantomData<(Q, C)>,
}

/// Codes of a group of the smallest vectors.
const SMALLEST_GROUP: usize = 16;

/// The ranges of a batch.
#[repr(align(64))]
pub struct Ranges {
    /// The smallest value of each block, or 0.
    pub min: [f32; BATCH],
    /// The largest value of each block, or 0.
    pub max: [f32; BATCH],
}

impl Default for Ranges {
    #[inline(always)]
    fn default() -> Self {
        Self {
            min: [0.0; BATCH],
            max: [0.0; BATCH],
        }
    }
}

/// The parameters of a batch, as vectors.
#[inline(always)]
fn vectors<V: bytemuck::Pod, T: bytemuck::Pod, const N: usize>(row: &mut [T; N]) -> &mut [V] {
    &mut bytemuck::cast_slice_mut(row)[..BATCH * size_of::<T>() / size_of::<V>()]
}

/// What is known of the ranges of a batch: per block, bits of magnitudes of which the largest one
/// counts. With two sides negative values and positive ones, else both together. No vector lies across
/// cache lines.
#[repr(align(64))]
pub(super) struct Bounds<I: Isa, const SIDES: usize>([[I::I32; BATCH]; SIDES]);

impl<I: Isa, const SIDES: usize> Bounds<I, SIDES> {
    /// Of nothing.
    #[inline(always)]
    pub(super) fn new(isa: I) -> Self {
        Self([[isa.splat_i32(0); BATCH]; SIDES])
    }

    /// Sets one block's.
    #[inline(always)]
    pub(super) fn set(&mut self, block: usize, bound: [I::I32; SIDES]) {
        for side in 0..SIDES {
            self.0[side][block % BATCH] = bound[side];
        }
    }
}

/// Those of one block; of 0 too, if there are two sides. Infinities count. NaN does not, or as more
/// than that: quantizing will find it.
#[inline(always)]
pub(super) fn bound<I: Isa, F: Lane, const SIDES: usize>(
    isa: I,
    block: &[F::Vector<I>],
) -> [I::I32; SIDES] {
    let zero = isa.splat(0.0);
    let (mut low, mut high) = (zero, zero);
    let mut bits = isa.splat_i32(0);
    for i in 0..block.len() / 2 {
        let [a, b] = F::widen_pair(isa, block[2 * i], block[2 * i + 1]);
        if SIDES == 2 {
            low = isa.min(b, isa.min(a, low));
            high = isa.max(b, isa.max(a, high));
        } else {
            let larger = isa.larger_magnitude_bits(a, b);
            bits = match i {
                0 => larger,
                _ => isa.max_i32(bits, larger),
            };
        }
    }
    let mut bound = [bits; SIDES];
    if SIDES == 2 {
        bound[0] = isa.magnitude_bits(low);
        bound[1] = isa.magnitude_bits(high);
    }
    bound
}

/// The ranges of a batch, which hold 0 if there are two sides and are symmetric if not.
#[inline(always)]
pub(super) fn ranges<I: Isa, const SIDES: usize>(
    isa: I,
    bounds: &Bounds<I, SIDES>,
    ranges: &mut Ranges,
) {
    for chunk in 0..BATCH / I::LANES {
        let mut largest = [isa.splat_i32(0); SIDES];
        for side in 0..SIDES {
            let mut lanes = [isa.splat_i32(0); 16];
            for lane in 0..I::LANES {
                lanes[lane] = bounds.0[side][chunk * I::LANES + lane];
            }
            largest[side] = isa.lane_maxima(&lanes);
        }
        let high: I::F32 = bytemuck::cast(largest[SIDES - 1]);
        let low = match SIDES {
            2 => isa.sub(isa.splat(0.0), bytemuck::cast(largest[0])),
            _ => isa.sub(isa.splat(-0.0), high),
        };
        vectors::<I::F32, _, _>(&mut ranges.min)[chunk] = low;
        vectors::<I::F32, _, _>(&mut ranges.max)[chunk] = high;
    }
}

/// What parameters of blocks are made with. It is asked for once: a batch takes some 50 ns, and a
/// scheme's answers are calls, before which every vector in a register must be saved.
#[derive(Clone, Copy)]
pub(super) struct Rule {
    scale_type: FloatType,
    qmin: f32,
    qmax: f32,
    is_symmetric: bool,
    symmetric_zero_point: i32,
    stores_zero_point: bool,
    /// See [`CodeRange::shift`].
    shift: i32,
    /// The least scale: where one is a subnormal number, the quotients of a block are beyond the codes.
    least: f32,
}

impl Rule {
    pub(super) fn new(scheme: Scheme, source: FloatType) -> Self {
        let scale_type = scheme.dialect.scale_type(source);
        let (qmin, qmax) = scheme.dialect.code_range(scheme.dtype, scheme.mode);
        Self {
            scale_type,
            qmin: qmin as f32,
            qmax: qmax as f32,
            is_symmetric: scheme.mode == Mode::Symmetric,
            symmetric_zero_point: scheme.symmetric_zero_point(),
            stores_zero_point: scheme.stores_zero_point(),
            shift: code_shift(scheme.dtype),
            least: match scale_type {
                FloatType::F16 => f32::from_bits((127 - 14) << 23),
                FloatType::F32 | FloatType::Bf16 => EXACT_SCALES.0,
            },
        }
    }
}

/// `Scheme::params`, for all blocks of a batch; whether all of them are ordinary.
#[inline(always)]
// Long: one loop over vectors; what is a function of its own costs registers.
pub(super) fn params<I: Isa, Q: Quotient, const N: usize>(
    isa: I,
    rule: &Rule,
    ranges: &mut Ranges,
    kernel_params: &mut BlockParams<N>,
) -> bool {
    let (low_code, high_code) = (isa.splat(rule.qmin), isa.splat(rule.qmax));
    let levels = isa.splat(rule.qmax - rule.qmin);
    let (one, zero) = (isa.splat(1.0), isa.splat(0.0));
    let mut smallest = isa.splat_i32(i32::MAX);
    let mut largest = isa.splat_i32(0);
    let mut extreme = isa.splat_i32(0);
    for chunk in 0..BATCH / I::LANES {
        let min = vectors::<I::F32, _, _>(&mut ranges.min)[chunk];
        let max = vectors::<I::F32, _, _>(&mut ranges.max)[chunk];
        let width = round(isa, isa.sub(max, min), Q::ROUND);
        let scale = round(isa, isa.div(width, levels), Q::ROUND);
        let scale = round(isa, scale, rule.scale_type);
        let reciprocal = isa.div(one, scale);
        let lack = isa.fma(isa.sub(zero, scale), reciprocal, one);
        vectors(&mut kernel_params.floats[SCALE])[chunk] = scale;
        // `lack / scale` to the last bit, for all significands, without a third division.
        let about = isa.mul(lack, reciprocal);
        let rest = isa.fma(isa.sub(zero, about), scale, lack);
        let residual = isa.fma(rest, reciprocal, about);
        vectors(&mut kernel_params.floats[RECIPROCAL])[chunk] = reciprocal;
        vectors(&mut kernel_params.floats[RESIDUAL])[chunk] = residual;
        if I::TWINS {
            vectors(&mut kernel_params.reciprocal_twins)[chunk] = reciprocal;
            vectors(&mut kernel_params.residual_twins)[chunk] = residual;
        }
        smallest = isa.min_i32(smallest, isa.magnitude_bits(scale));
        largest = isa.max_i32(largest, isa.magnitude_bits(scale));
        let zero_points = if rule.is_symmetric {
            isa.splat_i32(rule.symmetric_zero_point)
        } else {
            let low = round(isa, isa.mul(low_code, max), Q::ROUND);
            let high = round(isa, isa.mul(high_code, min), Q::ROUND);
            let numerator = round(isa, isa.sub(low, high), Q::ROUND);
            let quotient = round(isa, isa.div(numerator, width), Q::ROUND);
            extreme = isa.max_i32(extreme, isa.magnitude_bits(numerator));
            extreme = isa.max_i32(extreme, isa.magnitude_bits(quotient));
            isa.clamp_round(quotient, low_code, high_code)
        };
        let zero_points = isa.sub_i32(zero_points, isa.splat_i32(rule.shift));
        vectors(&mut kernel_params.zero_points)[chunk] = zero_points;
    }
    let high = EXACT_SCALES.1.to_bits() as i32;
    if !isa.all_in_i32(largest, 0, high) || !isa.all_in_i32(extreme, 0, 0x7f7f_ffff) {
        return false;
    }
    if isa.all_in_i32(smallest, rule.least.to_bits() as i32, high) {
        return true;
    }
    // Blocks of zeros are ordinary where their codes are: 0, and the zero point is 0.
    let mut ordinary = rule.is_symmetric && rule.symmetric_zero_point == 0;
    for block in 0..BATCH {
        if kernel_params.floats[SCALE][block] < rule.least {
            ordinary &= ranges.max[block] == 0.0;
            kernel_params.floats[RECIPROCAL][block] = 0.0;
            kernel_params.floats[RESIDUAL][block] = 0.0;
            kernel_params.reciprocal_twins[block] = 0.0;
            kernel_params.residual_twins[block] = 0.0;
        }
    }
    ordinary
}

/// A batch that is quantized while the bounds of a later one are found.
struct Overlap<'a, F: Lane, I: Isa, S, C: CodeLayout, const SIDES: usize> {
    later: &'a [Group<F, I>],
    bounds: &'a mut Bounds<I, SIDES>,
    /// Whether values lie beyond the cache, and codes are stored past it.
    stream: bool,
    now: &'a [Group<F, I>],
    codes: &'a mut [C::Memory<I>],
    source: S,
    clip: Clip<I>,
    groups_per_unit: usize,
    blocks_per_unit: usize,
}

impl<F: Lane, I: Isa, S: ParamSource, C: CodeLayout, const SIDES: usize>
    Overlap<'_, F, I, S, C, SIDES>
{
    /// Does the one, the other, or both, for which there is a loop each.
    #[inline(always)]
    fn either<Q: Quotient>(
        self,
        isa: I,
        is_bounding: bool,
        is_quantizing: bool,
        sticky: &mut I::Sticky,
    ) {
        // The last batches are not stored past the cache.
        let streams = I::STREAMS && !C::PACKED && self.stream;
        match (is_bounding, is_quantizing) {
            (true, true) if streams => self.run::<Q, true, true, true>(isa, sticky),
            (true, true) => self.run::<Q, true, true, false>(isa, sticky),
            (true, false) => self.run::<Q, true, false, false>(isa, sticky),
            (false, true) => self.run::<Q, false, true, false>(isa, sticky),
            (false, false) => {}
        }
    }

    #[inline(always)]
    fn run<Q: Quotient, const BOUNDS: bool, const CODES: bool, const STREAM: bool>(
        self,
        isa: I,
        sticky: &mut I::Sticky,
    ) {
        let later = self.later.chunks_exact(self.groups_per_unit);
        let now = self.now.chunks_exact(self.groups_per_unit);
        let codes = self.codes.chunks_exact_mut(self.groups_per_unit);
        for (unit, ((later, now), codes)) in later.zip(now).zip(codes).enumerate() {
            if BOUNDS {
                if self.stream {
                    isa.prefetch(later, AHEAD);
                }
                let later: &[F::Vector<I>] = later.as_flattened();
                let per_block = later.len() / self.blocks_per_unit;
                for b in 0..self.blocks_per_unit {
                    let block = &later[b * per_block..][..per_block];
                    let bound = bound::<I, F, SIDES>(isa, block);
                    self.bounds.set(unit * self.blocks_per_unit + b, bound);
                }
            }
            if CODES {
                let mut made = [C::Memory::<I>::zeroed(); LARGEST_BLOCK / SMALLEST_GROUP];
                let made = &mut made[..codes.len()];
                let fast = FastTile::<F, _, C, I> {
                    values: now,
                    codes: match STREAM {
                        true => &mut *made,
                        false => &mut *codes,
                    },
                    source: self.source,
                    first_pair: 2 * unit * self.groups_per_unit,
                    clip: self.clip,
                };
                // Symmetric quotients are never beyond the codes, unless an f16 scale is
                // subnormal; and the slow path's if NaN.
                match SIDES == 2 || F::TYPE == FloatType::F16 {
                    true => fast.quantize::<Q, true>(isa, sticky),
                    false => fast.quantize::<Q, false>(isa, sticky),
                }
                if STREAM {
                    for (to, from) in codes.iter_mut().zip(made) {
                        isa.stream(to, *from);
                    }
                }
            }
        }
    }
}

impl<F: Lane, Q: Quotient, C: CodeLayout, B: BlockSize> QuantizeBlocks<'_, F, Q, C, B> {
    #[inline(always)]
    // Long: the phases of one loop, which overlap in time.
    fn batches<I: Isa, const SIDES: usize, const ZERO_POINTS: bool>(self, isa: I) -> usize {
        let (values, _) = groups::<Group<F, I>, F>(self.values);
        let (codes, _) = groups_mut::<C::Memory<I>, u8>(self.codes);
        let clip = Clip::new(isa, CodeRange::new(self.scheme));
        let block_size = 1 << self.block_size.log2();
        // The smallest number of groups that is also a number of blocks.
        let group = 4 * I::LANES;
        let (groups_per_unit, blocks_per_unit) = match block_size < group {
            true => (1, group / block_size),
            false => (block_size / group, 1),
        };
        let units = BATCH / blocks_per_unit;
        let per_batch = units * groups_per_unit;
        let rule = Rule::new(self.scheme, F::TYPE);
        let mut found = Ranges::default();
        // While a batch is quantized, parameters of the next one are found, whose divisions take their
        // time, and bounds of the one after that, which wait for memory.
        let mut bounds = Bounds::<I, SIDES>::new(isa);
        let mut kernel_params = [BlockParams::default(); 2];
        let mut ordinary = [true; 2];
        let batches = values.len() / per_batch;
        let mut done = 0;
        if batches == 0 {
            return done;
        }
        for ahead in 0..batches + 2 {
            if (1..=batches).contains(&ahead) {
                ranges::<I, SIDES>(isa, &bounds, &mut found);
                let next = &mut kernel_params[(ahead + 1) % 2];
                ordinary[(ahead + 1) % 2] = params::<I, Q, BATCH>(isa, &rule, &mut found, next);
            }
            let (is_bounding, is_quantizing) = (ahead < batches, ahead >= 2);
            if is_quantizing && !ordinary[ahead % 2] {
                break;
            }
            let kernel_params = &kernel_params[ahead % 2];
            let mut sticky = isa.sticky_clear();
            let codes = &mut codes[done * per_batch..][..per_batch];
            let later = &values[Ord::min(ahead, batches - 1) * per_batch..][..per_batch];
            let now = &values[done * per_batch..][..per_batch];
            let source = PerBlock::<_, BATCH, ZERO_POINTS> {
                kernel_params: kernel_params.rows(),
                size: self.block_size,
            };
            let overlap = Overlap::<F, I, _, C, SIDES> {
                later,
                bounds: &mut bounds,
                stream: self.stream,
                now,
                codes,
                source,
                clip,
                groups_per_unit,
                blocks_per_unit,
            };
            overlap.either::<Q>(isa, is_bounding, is_quantizing, &mut sticky);
            if !is_quantizing {
                continue;
            }
            if isa.needs_fallback(sticky) {
                break;
            }
            self.scales[done * BATCH..][..BATCH]
                .copy_from_slice(&kernel_params.floats[SCALE][..BATCH]);
            if ZERO_POINTS && rule.stores_zero_point {
                let zero_points = &mut self.zero_points[done * BATCH..][..BATCH];
                for (to, from) in zero_points.iter_mut().zip(&kernel_params.zero_points) {
                    *to = (from + rule.shift) as u8;
                }
            }
            done += 1;
        }
        if self.stream {
            isa.fence();
        }
        done
    }
}

impl<F: Lane, Q: Quotient, C: CodeLayout, B: BlockSize> Kernel for QuantizeBlocks<'_, F, Q, C, B> {
    type Output = usize;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> usize {
        match (self.scheme.mode, self.scheme.dtype.is_signed()) {
            (Mode::Affine, _) => self.batches::<I, 2, true>(isa),
            (Mode::Symmetric, true) => self.batches::<I, 1, false>(isa),
            (Mode::Symmetric, false) => self.batches::<I, 1, true>(isa),
        }
    }
}
