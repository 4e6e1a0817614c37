//! Scale, zero point and codes of many blocks at once.

use core::marker::PhantomData;

use quant_core::{FloatType, Mode, Scheme};

use super::quantize::{Clip, FastTile};
use super::{CodeLayout, Group, groups, groups_mut, stream};
use crate::isa::{Isa, Kernel};
use crate::lane::Lane;
use crate::param_source::{BlockSize, LARGEST_BLOCK, PerBlock};
use crate::params::{
    BlockParams, CodeRange, DIVISOR, EXACT_SCALES, Quotient, RECIPROCAL, RESIDUAL, SCALE,
    code_shift, round,
};

/// Blocks that are quantized together. Their ranges are reduced as in a transposition, and one
/// division serves as many scales as there are lanes.
pub const BATCH: usize = 32;
/// Bytes from what is read now to what is asked for, where it lies beyond the cache: far enough that
/// it comes in the meantime, and a small part of the second cache. Twice or half of it is as fast.
const AHEAD: usize = 16 << 10;

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

/// Codes of a batch that are stored past the cache once all of them are made.
#[repr(align(64))]
struct StagedCodes([u8; BATCH * LARGEST_BLOCK]);

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
/// counts. Negative values and positive ones if `AFFINE`, else both together, as the latter. No
/// vector lies across cache lines.
#[repr(align(64))]
struct Bounds<I: Isa>([[I::I32; BATCH]; 2]);

impl<I: Isa> Bounds<I> {
    #[inline(always)]
    fn new(isa: I) -> Self {
        Self([[isa.splat_i32(0); BATCH]; 2])
    }

    #[inline(always)]
    fn set<const AFFINE: bool>(&mut self, block: usize, bound: [I::I32; 2]) {
        self.0[1][block % BATCH] = bound[1];
        if AFFINE {
            self.0[0][block % BATCH] = bound[0];
        }
    }
}

/// Those of one block; of 0 too, if `AFFINE`. Infinities count. NaN does not, or as more than
/// that: quantizing will find it.
#[inline(always)]
fn bound<I: Isa, F: Lane, const AFFINE: bool>(isa: I, block: &[F::Vector<I>]) -> [I::I32; 2] {
    let zero = isa.splat(0.0);
    let (mut low, mut high) = (zero, zero);
    let mut bits = isa.splat_i32(0);
    for i in 0..block.len() / 2 {
        let [a, b] = F::widen_pair(isa, block[2 * i], block[2 * i + 1]);
        if AFFINE {
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
    match AFFINE {
        true => [isa.magnitude_bits(low), isa.magnitude_bits(high)],
        false => [bits; 2],
    }
}

/// The ranges of a batch, which hold 0 if `AFFINE` and are symmetric if not.
#[inline(always)]
fn ranges<I: Isa, const AFFINE: bool>(isa: I, bounds: &Bounds<I>, ranges: &mut Ranges) {
    for chunk in 0..BATCH / I::LANES {
        let mut largest = [isa.splat_i32(0); 2];
        for side in 0..2 {
            let mut lanes = [isa.splat_i32(0); 16];
            for lane in 0..I::LANES {
                lanes[lane] = bounds.0[side][chunk * I::LANES + lane];
            }
            largest[side] = match side == 1 || AFFINE {
                true => isa.lane_maxima(&lanes),
                false => largest[side],
            };
        }
        let high: I::F32 = bytemuck::cast(largest[1]);
        let low = match AFFINE {
            true => isa.sub(isa.splat(0.0), bytemuck::cast(largest[0])),
            false => isa.sub(isa.splat(-0.0), high),
        };
        vectors::<I::F32, _, _>(&mut ranges.min)[chunk] = low;
        vectors::<I::F32, _, _>(&mut ranges.max)[chunk] = high;
    }
}

/// What parameters of blocks are made with. It is asked for once: a batch takes some 50 ns, and a
/// scheme's answers are calls, before which every vector in a register must be saved.
#[derive(Clone, Copy)]
struct Rule {
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
    fn new(scheme: Scheme, source: FloatType) -> Self {
        let scale_type = scheme.dialect.scale_type(source);
        Self {
            scale_type,
            qmin: scheme.qmin() as f32,
            qmax: scheme.qmax() as f32,
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
fn params<I: Isa, Q: Quotient, const N: usize>(
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

impl<F: Lane, Q: Quotient, C: CodeLayout, B: BlockSize> QuantizeBlocks<'_, F, Q, C, B> {
    #[inline(always)]
    // Long: the phases of one loop, which overlap in time.
    fn batches<I: Isa, const AFFINE: bool, const ZERO_POINTS: bool>(self, isa: I) -> usize {
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
        let mut bounds = Bounds::<I>::new(isa);
        let mut staged = match self.stream {
            true => Some(StagedCodes([0; BATCH * LARGEST_BLOCK])),
            false => None,
        };
        let mut kernel_params = [BlockParams::default(); 2];
        let mut ordinary = [true; 2];
        let batches = values.len() / per_batch;
        let mut done = 0;
        if batches == 0 {
            return done;
        }
        for ahead in 0..batches + 2 {
            if (1..=batches).contains(&ahead) {
                ranges::<I, AFFINE>(isa, &bounds, &mut found);
                let next = &mut kernel_params[(ahead + 1) % 2];
                ordinary[(ahead + 1) % 2] = params::<I, Q, BATCH>(isa, &rule, &mut found, next);
            }
            let (is_bounding, is_quantizing) = (ahead < batches, ahead >= 2);
            if is_quantizing && !ordinary[ahead % 2] {
                break;
            }
            let kernel_params = &kernel_params[ahead % 2];
            let source = PerBlock::<_, BATCH, ZERO_POINTS> {
                kernel_params: kernel_params.rows(),
                size: self.block_size,
            };
            let mut sticky = isa.sticky_clear();
            let later = &values[Ord::min(ahead, batches - 1) * per_batch..][..per_batch];
            let now = &values[done * per_batch..][..per_batch];
            let codes = &mut codes[done * per_batch..][..per_batch];
            let later = later.chunks_exact(groups_per_unit);
            let now = now.chunks_exact(groups_per_unit);
            let made = match &mut staged {
                Some(staged) => &mut bytemuck::cast_slice_mut(&mut staged.0)[..per_batch],
                None => &mut *codes,
            };
            let made = made.chunks_exact_mut(groups_per_unit);
            for (unit, ((later, now), made)) in later.zip(now).zip(made).enumerate() {
                if is_bounding {
                    if self.stream {
                        isa.prefetch(later, AHEAD);
                    }
                    let later: &[F::Vector<I>] = later.as_flattened();
                    let per_block = later.len() / blocks_per_unit;
                    for b in 0..blocks_per_unit {
                        let block = &later[b * per_block..][..per_block];
                        let bound = bound::<I, F, AFFINE>(isa, block);
                        bounds.set::<AFFINE>(unit * blocks_per_unit + b, bound);
                    }
                }
                if is_quantizing {
                    let fast = FastTile::<F, _, C, I> {
                        values: now,
                        codes: made,
                        source,
                        first_pair: 2 * unit * groups_per_unit,
                        clip,
                    };
                    // Symmetric quotients are never beyond the codes, unless an f16 scale is
                    // subnormal; and the slow path's if NaN.
                    match AFFINE || F::TYPE == FloatType::F16 {
                        true => fast.quantize::<Q, true>(isa, &mut sticky),
                        false => fast.quantize::<Q, false>(isa, &mut sticky),
                    }
                }
            }
            if !is_quantizing {
                continue;
            }
            if isa.needs_fallback(sticky) {
                break;
            }
            if let Some(staged) = &staged {
                let codes = bytemuck::cast_slice_mut(codes);
                stream(isa, &staged.0[..codes.len()], codes);
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
            (Mode::Affine, _) => self.batches::<I, true, true>(isa),
            (Mode::Symmetric, true) => self.batches::<I, false, false>(isa),
            (Mode::Symmetric, false) => self.batches::<I, false, true>(isa),
        }
    }
}

/// The parameters of one batch of blocks, to be encoded later; whether all blocks are ordinary. NaN may
/// go unnoticed.
pub struct FindBlockParams<'a, F, Q, const N: usize> {
    /// The values of [`BATCH`] blocks.
    pub values: &'a [F],
    /// Values per block, a power of two of at least two vectors.
    pub block_size: usize,
    /// Integer type, mode and dialect.
    pub scheme: Scheme,
    /// Buffer for the parameters.
    pub kernel_params: &'a mut BlockParams<N>,
    /// How to divide.
    pub marker: PhantomData<Q>,
}

impl<F: Lane, Q: Quotient, const N: usize> Kernel for FindBlockParams<'_, F, Q, N> {
    type Output = bool;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> bool {
        let (values, _) = groups::<F::Vector<I>, F>(self.values);
        match self.scheme.mode {
            Mode::Affine => self.terms_of::<I, true>(isa, values),
            Mode::Symmetric => self.terms_of::<I, false>(isa, values),
        }
    }
}

impl<F: Lane, Q: Quotient, const N: usize> FindBlockParams<'_, F, Q, N> {
    #[inline(always)]
    fn terms_of<I: Isa, const AFFINE: bool>(self, isa: I, values: &[F::Vector<I>]) -> bool {
        let mut found = Ranges::default();
        ranges_of::<I, F, AFFINE>(isa, values, self.block_size, &mut found);
        let kernel_params = self.kernel_params;
        let rule = Rule::new(self.scheme, F::TYPE);
        if !params::<I, Q, N>(isa, &rule, &mut found, kernel_params) {
            return false;
        }
        for block in 0..BATCH {
            let scale = kernel_params.floats[SCALE][block];
            kernel_params.floats[DIVISOR][block] = if scale == 0.0 { f32::INFINITY } else { scale };
        }
        true
    }
}

/// The ranges of one batch of blocks.
#[inline(always)]
fn ranges_of<I: Isa, F: Lane, const AFFINE: bool>(
    isa: I,
    values: &[F::Vector<I>],
    block_size: usize,
    found: &mut Ranges,
) {
    let mut bounds = Bounds::<I>::new(isa);
    let per_block = block_size / I::LANES;
    for index in 0..values.len() / per_block {
        let block = &values[index * per_block..][..per_block];
        bounds.set::<AFFINE>(index, bound::<I, F, AFFINE>(isa, block));
    }
    ranges::<I, AFFINE>(isa, &bounds, found);
}

/// The ranges of one batch of blocks, which hold 0; symmetric ones in symmetric mode. NaN may go
/// unnoticed.
pub struct FindBlockRanges<'a, F> {
    /// The values of [`BATCH`] blocks.
    pub values: &'a [F],
    /// Values per block, a power of two of at least two vectors.
    pub block_size: usize,
    /// What the ranges are for.
    pub mode: Mode,
    /// Where they go.
    pub found: &'a mut Ranges,
}

impl<F: Lane> Kernel for FindBlockRanges<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (values, _) = groups::<F::Vector<I>, F>(self.values);
        match self.mode {
            Mode::Affine => ranges_of::<I, F, true>(isa, values, self.block_size, self.found),
            Mode::Symmetric => ranges_of::<I, F, false>(isa, values, self.block_size, self.found),
        }
    }
}
