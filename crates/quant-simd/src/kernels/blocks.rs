//! Scale, zero point and codes of many blocks at once.

use core::marker::PhantomData;

use quant_core::{FloatType, Mode, Scheme};

use super::quantize::{Clip, FastTile};
use super::{Form, Group, groups, groups_mut};
use crate::Element;
use crate::isa::{Isa, Kernel};
use crate::terms::{
    BlockSize, BlockTerms, CodeRange, DIVISOR, EXACT_SCALES, PerBlock, Quotient, RECIPROCAL,
    RESIDUAL, SCALE, round,
};

/// Blocks that are quantized together. Their ranges are reduced as in a transposition, and one
/// division serves as many scales as there are lanes.
pub const BATCH: usize = 32;

/// Quantizes whole batches of blocks, and stops before the first batch that has
/// a block out of the ordinary; gives the number of batches done.
///
/// Out of the ordinary are values that are not finite and scales beyond [`EXACT_SCALES`].
pub struct QuantizeBlocks<'a, F, Q, C, B> {
    /// The values.
    pub values: &'a [F],
    /// Room for their codes.
    pub codes: &'a mut [u8],
    /// Room for the scales.
    pub scales: &'a mut [f32],
    /// Room for the zero points, where the scheme stores them.
    pub zero_points: &'a mut [u8],
    /// Integer type, mode and dialect.
    pub scheme: Scheme,
    /// Values per block.
    pub block_size: B,
    /// Whether to store codes around the cache.
    pub stream: bool,
    /// How to divide, and how codes lie in memory.
    pub way: PhantomData<(Q, C)>,
}

/// The ranges of a batch.
struct Ranges {
    min: [f32; BATCH],
    max: [f32; BATCH],
}

/// The terms of a batch, as vectors.
#[inline(always)]
fn vectors<V: bytemuck::Pod, T: bytemuck::Pod, const N: usize>(row: &mut [T; N]) -> &mut [V] {
    &mut bytemuck::cast_slice_mut(row)[..BATCH * size_of::<T>() / size_of::<V>()]
}

/// The largest magnitude of each block, as `max`, and its negative. Infinities count, NaN may not.
#[inline(always)]
fn magnitudes<I: Isa, F: Element>(
    isa: I,
    block_size: usize,
    values: &[F::Vector<I>],
    ranges: &mut Ranges,
) {
    let per_block = block_size / I::LANES;
    let negate = isa.splat(-0.0);
    for chunk in 0..BATCH / I::LANES {
        let mut largest = [isa.splat_i32(0); 16];
        for lane in 0..I::LANES {
            let block = &values[(chunk * I::LANES + lane) * per_block..][..per_block];
            let mut bits = isa.splat_i32(0);
            for i in 0..per_block / 2 {
                let [a, b] = F::widen_pair(isa, block[2 * i], block[2 * i + 1]);
                let larger = isa.larger_magnitude_bits(a, b);
                bits = match i {
                    0 => larger,
                    _ => isa.max_i32(bits, larger),
                };
            }
            largest[lane] = bits;
        }
        let bits: I::F32 = bytemuck::cast(isa.lane_maxima(&largest));
        vectors::<I::F32, _, _>(&mut ranges.max)[chunk] = bits;
        vectors::<I::F32, _, _>(&mut ranges.min)[chunk] = isa.sub(negate, bits);
    }
}

/// The smallest and largest value of each block, widened to hold 0; whether all are finite.
#[inline(always)]
fn bounds<I: Isa, F: Element>(
    isa: I,
    block_size: usize,
    values: &[F::Vector<I>],
    ranges: &mut Ranges,
) -> bool {
    let per_block = block_size / I::LANES;
    let zero = isa.splat(0.0);
    let mut sum = zero;
    for chunk in 0..BATCH / I::LANES {
        // The smallest value is the negative of the largest negative.
        let (mut largest, mut smallest) = ([isa.splat_i32(0); 16], [isa.splat_i32(0); 16]);
        for lane in 0..I::LANES {
            let block = &values[(chunk * I::LANES + lane) * per_block..][..per_block];
            let (mut low, mut high) = (zero, zero);
            for i in 0..per_block {
                let value = F::widen(isa, block[i]);
                sum = isa.add(sum, value);
                low = isa.min(value, low);
                high = isa.max(value, high);
            }
            smallest[lane] = isa.magnitude_bits(low);
            largest[lane] = isa.magnitude_bits(high);
        }
        let low: I::F32 = bytemuck::cast(isa.lane_maxima(&smallest));
        let high: I::F32 = bytemuck::cast(isa.lane_maxima(&largest));
        vectors::<I::F32, _, _>(&mut ranges.min)[chunk] = isa.sub(zero, low);
        vectors::<I::F32, _, _>(&mut ranges.max)[chunk] = high;
    }
    let mut finite = isa.splat_i32(0);
    isa.count_finite(sum, &mut finite);
    super::lane_sum(finite) == I::LANES as u64
}

/// `Scheme::params`, for all blocks of a batch; whether all of them are ordinary.
#[inline(always)]
fn params<I: Isa, Q: Quotient, const N: usize>(
    isa: I,
    scheme: Scheme,
    source: FloatType,
    ranges: &mut Ranges,
    terms: &mut BlockTerms<N>,
) -> bool {
    let scale_type = scheme.dialect.scale_type(source);
    let (qmin, qmax) = (scheme.qmin() as f32, scheme.qmax() as f32);
    let (low_code, high_code) = (isa.splat(qmin), isa.splat(qmax));
    let levels = isa.splat(qmax - qmin);
    let (one, zero) = (isa.splat(1.0), isa.splat(0.0));
    let symmetric = scheme.mode == Mode::Symmetric;
    let shift = CodeRange::of(scheme).shift;
    let mut smallest = isa.splat_i32(i32::MAX);
    let mut largest = isa.splat_i32(0);
    let mut extreme = isa.splat_i32(0);
    for chunk in 0..BATCH / I::LANES {
        let min = vectors::<I::F32, _, _>(&mut ranges.min)[chunk];
        let max = vectors::<I::F32, _, _>(&mut ranges.max)[chunk];
        let width = round(isa, isa.sub(max, min), Q::ROUND);
        let scale = round(isa, isa.div(width, levels), Q::ROUND);
        let scale = round(isa, scale, scale_type);
        let reciprocal = isa.div(one, scale);
        let lack = isa.fma(isa.sub(zero, scale), reciprocal, one);
        vectors(&mut terms.floats[SCALE])[chunk] = scale;
        vectors(&mut terms.floats[RECIPROCAL])[chunk] = reciprocal;
        vectors(&mut terms.floats[RESIDUAL])[chunk] = isa.div(lack, scale);
        smallest = isa.min_i32(smallest, isa.magnitude_bits(scale));
        largest = isa.max_i32(largest, isa.magnitude_bits(scale));
        let zero_points = if symmetric {
            isa.splat_i32(scheme.symmetric_zero_point())
        } else {
            let low = round(isa, isa.mul(low_code, max), Q::ROUND);
            let high = round(isa, isa.mul(high_code, min), Q::ROUND);
            let numerator = round(isa, isa.sub(low, high), Q::ROUND);
            let quotient = round(isa, isa.div(numerator, width), Q::ROUND);
            extreme = isa.max_i32(extreme, isa.magnitude_bits(numerator));
            extreme = isa.max_i32(extreme, isa.magnitude_bits(quotient));
            isa.clamp_round(quotient, low_code, high_code)
        };
        let zero_points = isa.sub_i32(zero_points, isa.splat_i32(shift));
        vectors(&mut terms.zero_points)[chunk] = zero_points;
    }
    let (mut low, mut high) = (i32::MAX, 0);
    for lane in 0..I::LANES {
        low = Ord::min(low, bytemuck::cast_slice(core::slice::from_ref(&smallest))[lane]);
        high = Ord::max(high, bytemuck::cast_slice(core::slice::from_ref(&largest))[lane]);
        let extreme: &[i32] = bytemuck::cast_slice(core::slice::from_ref(&extreme));
        high = match extreme[lane] < 0x7f80_0000 {
            true => high,
            false => i32::MAX,
        };
    }
    if high > EXACT_SCALES.1.to_bits() as i32 {
        return false;
    }
    if low >= EXACT_SCALES.0.to_bits() as i32 {
        return true;
    }
    // Blocks of zeros are ordinary where their codes are: 0, and the zero point is 0.
    let mut ordinary = symmetric && scheme.symmetric_zero_point() == 0;
    for block in 0..BATCH {
        if terms.floats[SCALE][block] < EXACT_SCALES.0 {
            ordinary &= ranges.max[block] == 0.0;
            terms.floats[RECIPROCAL][block] = 0.0;
            terms.floats[RESIDUAL][block] = 0.0;
        }
    }
    ordinary
}

impl<F: Element, Q: Quotient, C: Form, B: BlockSize> QuantizeBlocks<'_, F, Q, C, B> {
    #[inline(always)]
    fn batches<I: Isa, const AFFINE: bool, const ZERO_POINTS: bool>(self, isa: I) -> usize {
        let (values, _) = groups::<Group<F, I>, F>(self.values);
        let (codes, _) = groups_mut::<C::Memory<I>, u8>(self.codes);
        let clip = Clip::new(isa, CodeRange::of(self.scheme));
        let block_size = 1 << self.block_size.log2();
        let per_batch = BATCH * block_size / (4 * I::LANES);
        let shift = CodeRange::of(self.scheme).shift;
        let mut ranges = Ranges {
            min: [0.0; BATCH],
            max: [0.0; BATCH],
        };
        // The terms are found one batch ahead: the divisions overlap with the batch before.
        let mut terms = [BlockTerms::default(), BlockTerms::default()];
        let batches = values.len() / per_batch;
        let mut ordinary = true;
        let mut done = 0;
        for ahead in 0..batches + 1 {
            let was_ordinary = ordinary;
            if ahead < batches {
                let flat: &[F::Vector<I>] = values[ahead * per_batch..][..per_batch].as_flattened();
                let finite = match AFFINE {
                    true => bounds::<I, F>(isa, block_size, flat, &mut ranges),
                    false => {
                        magnitudes::<I, F>(isa, block_size, flat, &mut ranges);
                        true
                    }
                };
                let terms = &mut terms[ahead % 2];
                ordinary = params::<I, Q, BATCH>(isa, self.scheme, F::TYPE, &mut ranges, terms) && finite;
            }
            if ahead == 0 {
                continue;
            }
            if !was_ordinary {
                break;
            }
            let terms = &terms[done % 2];
            let fast = FastTile::<F, _, C, I> {
                values: &values[done * per_batch..][..per_batch],
                codes: &mut codes[done * per_batch..][..per_batch],
                source: PerBlock::<_, BATCH, ZERO_POINTS> {
                    terms,
                    size: self.block_size,
                },
                first_pair: 0,
                clip,
            };
            // Symmetric quotients are never beyond the codes, and doubtful if they are NaN.
            let doubt = match AFFINE {
                true => fast.quantize::<Q, true>(isa, self.stream),
                false => fast.quantize::<Q, false>(isa, self.stream),
            };
            if doubt {
                break;
            }
            self.scales[done * BATCH..][..BATCH].copy_from_slice(&terms.floats[SCALE][..BATCH]);
            if ZERO_POINTS && self.scheme.stores_zero_point() {
                let zero_points = &mut self.zero_points[done * BATCH..][..BATCH];
                for (to, from) in zero_points.iter_mut().zip(&terms.zero_points) {
                    *to = (from + shift) as u8;
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

impl<F: Element, Q: Quotient, C: Form, B: BlockSize> Kernel for QuantizeBlocks<'_, F, Q, C, B> {
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

/// The terms of one batch of blocks, to be encoded later; whether all blocks are ordinary. NaN may
/// go unnoticed.
pub struct FindBlockTerms<'a, F, Q, const N: usize> {
    /// The values of [`BATCH`] blocks.
    pub values: &'a [F],
    /// Values per block, a power of two of at least two vectors.
    pub block_size: usize,
    /// Integer type, mode and dialect.
    pub scheme: Scheme,
    /// Room for the terms.
    pub terms: &'a mut BlockTerms<N>,
    /// How to divide.
    pub way: PhantomData<Q>,
}

impl<F: Element, Q: Quotient, const N: usize> Kernel for FindBlockTerms<'_, F, Q, N> {
    type Output = bool;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> bool {
        let (values, _) = groups::<F::Vector<I>, F>(self.values);
        let mut ranges = Ranges {
            min: [0.0; BATCH],
            max: [0.0; BATCH],
        };
        let finite = match self.scheme.mode {
            Mode::Affine => bounds::<I, F>(isa, self.block_size, values, &mut ranges),
            Mode::Symmetric => {
                magnitudes::<I, F>(isa, self.block_size, values, &mut ranges);
                true
            }
        };
        let terms = self.terms;
        if !params::<I, Q, N>(isa, self.scheme, F::TYPE, &mut ranges, terms) || !finite {
            return false;
        }
        for block in 0..BATCH {
            let scale = terms.floats[SCALE][block];
            terms.floats[DIVISOR][block] = if scale == 0.0 { f32::INFINITY } else { scale };
        }
        true
    }
}
