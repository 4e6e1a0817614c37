//! Scale, zero point and codes of many blocks at once.

use core::marker::PhantomData;

use bytemuck::Zeroable;
use quant_core::{FloatType, Mode, Scheme};

use super::quantize::{Clip, quantize_groups};
use super::{Form, Group, groups, groups_mut};
use crate::Element;
use crate::isa::{Isa, Kernel};
use crate::terms::{
    BlockSize, CodeRange, EXACT_SCALES, PerBlock, Quotient, RECIPROCAL, RESIDUAL, TermRows, round,
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

/// What the kernel knows of the blocks of a batch.
struct Batch {
    min: [f32; BATCH],
    max: [f32; BATCH],
    scales: [f32; BATCH],
    reciprocals: [f32; BATCH],
    residuals: [f32; BATCH],
    zero_points: [i32; BATCH],
}

#[inline(always)]
fn vectors<V: bytemuck::Pod, T: bytemuck::Pod>(row: &mut [T; BATCH]) -> &mut [V] {
    bytemuck::cast_slice_mut(row)
}

/// The largest magnitude of each block, as `max`, and its negative. Not finite where a value of
/// the block is not.
#[inline(always)]
fn magnitudes<I: Isa, F: Element>(
    isa: I,
    block_size: usize,
    values: &[F::Vector<I>],
    batch: &mut Batch,
) {
    let per_block = block_size / I::LANES;
    let negate = isa.splat(-0.0);
    for chunk in 0..BATCH / I::LANES {
        let mut largest = [isa.splat_i32(0); 16];
        for lane in 0..I::LANES {
            let block = &values[(chunk * I::LANES + lane) * per_block..][..per_block];
            let mut bits = isa.magnitude_bits(F::widen(isa, block[0]));
            for i in 1..per_block {
                bits = isa.max_i32(bits, isa.magnitude_bits(F::widen(isa, block[i])));
            }
            largest[lane] = bits;
        }
        let bits: I::F32 = bytemuck::cast(isa.lane_maxima(&largest));
        vectors::<I::F32, _>(&mut batch.max)[chunk] = bits;
        vectors::<I::F32, _>(&mut batch.min)[chunk] = isa.sub(negate, bits);
    }
}

/// The smallest and largest value of each block, widened to hold 0; whether all are finite.
#[inline(always)]
fn bounds<I: Isa, F: Element>(
    isa: I,
    block_size: usize,
    values: &[F::Vector<I>],
    batch: &mut Batch,
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
        vectors::<I::F32, _>(&mut batch.min)[chunk] = isa.sub(zero, low);
        vectors::<I::F32, _>(&mut batch.max)[chunk] = high;
    }
    let mut finite = isa.splat_i32(0);
    isa.count_finite(sum, &mut finite);
    super::lane_sum(finite) == I::LANES as u64
}

/// `Scheme::params`, for all blocks of a batch; whether all of them are ordinary.
#[inline(always)]
fn params<I: Isa, Q: Quotient>(
    isa: I,
    scheme: Scheme,
    source: FloatType,
    batch: &mut Batch,
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
        let min = vectors::<I::F32, _>(&mut batch.min)[chunk];
        let max = vectors::<I::F32, _>(&mut batch.max)[chunk];
        let width = round(isa, isa.sub(max, min), Q::ROUND);
        let scale = round(isa, isa.div(width, levels), Q::ROUND);
        let scale = round(isa, scale, scale_type);
        let reciprocal = isa.div(one, scale);
        let lack = isa.fma(isa.sub(zero, scale), reciprocal, one);
        vectors(&mut batch.scales)[chunk] = scale;
        vectors(&mut batch.reciprocals)[chunk] = reciprocal;
        vectors(&mut batch.residuals)[chunk] = isa.div(lack, scale);
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
        vectors(&mut batch.zero_points)[chunk] = zero_points;
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
        if batch.scales[block] < EXACT_SCALES.0 {
            ordinary &= batch.max[block] == 0.0;
            batch.reciprocals[block] = 0.0;
            batch.residuals[block] = 0.0;
        }
    }
    ordinary
}

impl<F: Element, Q: Quotient, C: Form, B: BlockSize> Kernel for QuantizeBlocks<'_, F, Q, C, B> {
    type Output = usize;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> usize {
        let (values, _) = groups::<Group<F, I>, F>(self.values);
        let (codes, _) = groups_mut::<C::Memory<I>, u8>(self.codes);
        let clip = Clip::new(isa, CodeRange::of(self.scheme));
        let block_size = self.block_size.elements();
        let per_batch = BATCH * block_size / (4 * I::LANES);
        let shift = CodeRange::of(self.scheme).shift;
        let mut batch = Batch {
            min: Zeroable::zeroed(),
            max: Zeroable::zeroed(),
            scales: Zeroable::zeroed(),
            reciprocals: Zeroable::zeroed(),
            residuals: Zeroable::zeroed(),
            zero_points: Zeroable::zeroed(),
        };
        let mut done = 0;
        let batches = values.chunks_exact(per_batch);
        for (values, codes) in batches.zip(codes.chunks_exact_mut(per_batch)) {
            let flat: &[F::Vector<I>] = values.as_flattened();
            let finite = match self.scheme.mode {
                Mode::Symmetric => {
                    magnitudes::<I, F>(isa, block_size, flat, &mut batch);
                    true
                }
                Mode::Affine => bounds::<I, F>(isa, block_size, flat, &mut batch),
            };
            if !params::<I, Q>(isa, self.scheme, F::TYPE, &mut batch) || !finite {
                break;
            }
            let mut floats: [&[f32]; 4] = [&batch.scales; 4];
            floats[RECIPROCAL] = &batch.reciprocals;
            floats[RESIDUAL] = &batch.residuals;
            let source = PerBlock {
                rows: TermRows {
                    floats,
                    zero_points: &batch.zero_points,
                },
                size: self.block_size,
            };
            // No quotient is beyond the codes, so there can be no doubt.
            quantize_groups::<I, F, _, Q, C>(isa, values, codes, source, 0, clip, self.stream);
            self.scales[done * BATCH..][..BATCH].copy_from_slice(&batch.scales);
            if self.scheme.stores_zero_point() {
                let zero_points = &mut self.zero_points[done * BATCH..][..BATCH];
                for (to, from) in zero_points.iter_mut().zip(&batch.zero_points) {
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
