//! MLX's affine quantization, many blocks at once: a scale, which may be negative, and a bias.
//!
//! ```text
//! scale = max((max - min) / n, 1e-7), negative where |max| is not less than |min|
//! edge  = the bound of larger magnitude; q0 = round(edge / scale)
//! where q0 is not 0: scale = edge / q0, bias = edge; else bias = 0
//! code  = clip(round((value - bias) / scale), 0, n)
//! ```
//!
//! All in f32. [`Exact`] serves for the last quotient: a negative divisor is a positive one and a sign.

use core::marker::PhantomData;

use quant_core::{FloatType, IntType};

use crate::isa::{Isa, Kernel};
use crate::kernels::{AHEAD, CodeLayout, Group, groups, groups_mut, lane_sum};
use crate::lane::Lane;
use crate::params::{EXACT_SCALES, Exact, Quotient, round};

/// Blocks that are quantized together.
pub const BATCH: usize = 32;
/// The largest block.
pub const LARGEST: usize = 256;
/// The least magnitude of a scale, before it is fitted to the edge.
const EPS: f32 = 1e-7;
/// From here on, every f32 is an integer.
const INTEGERS: f32 = (1 << 23) as f32;

/// Blocks to be quantized.
pub struct ToQuantize<'a, F> {
    /// The values.
    pub values: &'a [F],
    /// Buffer for their codes.
    pub codes: &'a mut [u8],
    /// Buffer for the scales, which are not rounded yet.
    pub scales: &'a mut [f32],
    /// Buffer for the biases, which are not rounded yet.
    pub biases: &'a mut [f32],
    /// The type of the codes, which is unsigned.
    pub dtype: IntType,
    /// Values per block: a power of two from 32 to [`LARGEST`].
    pub block_size: usize,
    /// Where to count the values whose code is clipped, if that is wanted.
    pub clipped: Option<&'a mut u64>,
    /// Whether the values lie beyond the cache.
    pub far: bool,
    /// Whether scales and biases are there: they were searched.
    pub given: bool,
}

/// Quantizes whole batches of blocks, and stops before the first batch with a block whose values are
/// not finite, or whose scale is beyond [`EXACT_SCALES`]; gives the number of batches done. `C` is how
/// codes lie in memory.
pub struct QuantizeMlx<'a, F, C>(pub ToQuantize<'a, F>, pub PhantomData<C>);

/// A number for each block.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Row(pub(super) [f32; BATCH]);

impl Row {
    #[inline(always)]
    pub(super) fn vectors<V: bytemuck::Pod>(&mut self) -> &mut [V] {
        &mut bytemuck::cast_slice_mut(&mut self.0)[..4 * BATCH / size_of::<V>()]
    }
}

/// What quantizes the blocks of a batch.
#[derive(Clone)]
pub(super) struct Found {
    pub(super) min: Row,
    pub(super) max: Row,
    pub(super) scale: Row,
    pub(super) bias: Row,
    pub(super) reciprocal: Row,
    pub(super) residual: Row,
}

impl Found {
    #[inline(always)]
    pub(super) fn new() -> Self {
        let row = Row([0.0; BATCH]);
        Self {
            min: row,
            max: row,
            scale: row,
            bias: row,
            reciprocal: row,
            residual: row,
        }
    }

    /// The bounds of each block. NaN may be left out.
    #[inline(always)]
    pub(super) fn bounds<I: Isa, F: Lane>(&mut self, isa: I, values: &[F::Vector<I>]) {
        let per_block = values.len() / BATCH;
        for chunk in 0..BATCH / I::LANES {
            let mut low = [isa.splat_i32(0); 16];
            let mut high = [isa.splat_i32(0); 16];
            for lane in 0..I::LANES {
                let block = &values[(chunk * I::LANES + lane) * per_block..][..per_block];
                let [mut min, mut max] = F::widen_pair(isa, block[0], block[1]);
                (min, max) = (isa.min(max, min), isa.max(max, min));
                for pair in 1..per_block / 2 {
                    let [a, b] = F::widen_pair(isa, block[2 * pair], block[2 * pair + 1]);
                    min = isa.min(b, isa.min(a, min));
                    max = isa.max(b, isa.max(a, max));
                }
                // Turned round, so that the largest counts.
                let ordered = isa.ordered_bits(bytemuck::cast(min));
                low[lane] = isa.sub_i32(isa.splat_i32(-1), ordered);
                high[lane] = isa.ordered_bits(bytemuck::cast(max));
            }
            let low = isa.sub_i32(isa.splat_i32(-1), isa.lane_maxima(&low));
            let high = isa.lane_maxima(&high);
            self.min.vectors::<I::I32>()[chunk] = isa.ordered_bits(low);
            self.max.vectors::<I::I32>()[chunk] = isa.ordered_bits(high);
        }
    }

    /// Scales, biases and what divides by the scales; whether all of them are ordinary.
    #[inline(always)]
    pub(super) fn params<I: Isa>(&mut self, isa: I, steps: f32, float: FloatType) -> bool {
        let largest = largest(float);
        let mut ordinary = true;
        // Plain loops, of which the compiler makes vectors.
        for i in 0..BATCH {
            let (min, max) = (self.min.0[i], self.max.0[i]);
            let width = (max - min) / steps;
            let width = if width > EPS { width } else { EPS };
            let is_low = min.abs() > max.abs();
            let scale = if is_low { width } else { -width };
            let edge = if is_low { min } else { max };
            let quotient = edge / scale;
            let magnitude = quotient.abs();
            let rounded = (magnitude + INTEGERS) - INTEGERS;
            let rounded = if magnitude < INTEGERS {
                rounded
            } else {
                magnitude
            };
            let rounded = rounded.copysign(quotient);
            let fitted = edge / rounded;
            let is_zero = rounded == 0.0;
            let scale = if is_zero { scale } else { fitted };
            self.scale.0[i] = scale;
            self.bias.0[i] = if is_zero { 0.0 } else { edge };
            ordinary &= scale.abs() >= EXACT_SCALES.0;
            ordinary &= scale.abs() <= largest;
            ordinary &= min.abs() <= f32::MAX;
            ordinary &= max.abs() <= f32::MAX;
        }
        self.divisors(isa);
        ordinary
    }

    /// What divides by the scales.
    #[inline(always)]
    pub(super) fn divisors<I: Isa>(&mut self, isa: I) {
        let (one, zero) = (isa.splat(1.0), isa.splat(0.0));
        for chunk in 0..BATCH / I::LANES {
            let scale = self.scale.vectors::<I::F32>()[chunk];
            let reciprocal = isa.div(one, scale);
            let lack = isa.fma(isa.sub(zero, scale), reciprocal, one);
            // `lack / scale` to the last bit, as for other blocks.
            let about = isa.mul(lack, reciprocal);
            let rest = isa.fma(isa.sub(zero, about), scale, lack);
            self.reciprocal.vectors::<I::F32>()[chunk] = reciprocal;
            self.residual.vectors::<I::F32>()[chunk] = isa.fma(rest, reciprocal, about);
        }
    }
}

/// The largest scale that is ordinary where it is stored in this type.
#[inline(always)]
fn largest(float: FloatType) -> f32 {
    match float {
        FloatType::F16 => 65_504.0,
        FloatType::F32 | FloatType::Bf16 => EXACT_SCALES.1,
    }
}

/// What is seen while a batch is quantized.
struct Seen<I: Isa> {
    sticky: I::Sticky,
    /// Values whose code is not clipped, by lanes; where they are counted.
    unclipped: I::I32,
}

impl<I: Isa> Seen<I> {
    #[inline(always)]
    fn new(isa: I) -> Self {
        Self {
            sticky: isa.sticky_clear(),
            unclipped: isa.splat_i32(0),
        }
    }

    /// Counts the values whose code lies within its range.
    #[inline(always)]
    fn count(&mut self, isa: I, quotients: [I::F32; 2], steps: f32) {
        for quotient in quotients {
            let clipped = isa.clamp_round(quotient, isa.splat(0.0), isa.splat(steps));
            isa.count_equal(isa.round_i32(quotient), clipped, &mut self.unclipped);
        }
    }
}

impl<F: Lane, C: CodeLayout> QuantizeMlx<'_, F, C> {
    /// The codes of a batch. With `FLIP`, they are of 8 bits: as signed bytes they are shifted by 128.
    #[inline(always)]
    fn codes<I: Isa, const FLIP: bool, const COUNT: bool>(
        isa: I,
        values: &[Group<F, I>],
        codes: &mut [C::Memory<I>],
        found: &Found,
        steps: f32,
    ) -> Seen<I> {
        let pairs_log2 = (2 * values.len() / BATCH).trailing_zeros();
        let (low, high) = match FLIP {
            true => (i8::MIN, i8::MAX),
            false => (0, steps as i8),
        };
        let (low, high) = (isa.splat_i8(low), isa.splat_i8(high));
        let (shift, flip) = (isa.splat_i16(-128), isa.splat_i8(i8::MIN));
        let mut seen = Seen::new(isa);
        for (i, (group, codes)) in values.iter().zip(codes).enumerate() {
            let mut pairs = [isa.splat_i16(0); 2];
            for p in 0..2 {
                let block = ((2 * i + p) >> pairs_log2) % BATCH;
                let bias = isa.splat(found.bias.0[block]);
                let reciprocal = isa.splat(found.reciprocal.0[block]);
                let residual = isa.splat(found.residual.0[block]);
                let [a, b] = F::widen_pair(isa, group[2 * p], group[2 * p + 1]);
                let a = Exact::quotient(isa, isa.sub(a, bias), reciprocal, residual);
                let b = Exact::quotient(isa, isa.sub(b, bias), reciprocal, residual);
                if COUNT {
                    seen.count(isa, [a, b], steps);
                }
                pairs[p] = isa.round_i16(a, b, &mut seen.sticky);
                if FLIP {
                    pairs[p] = isa.add_i16(pairs[p], shift);
                }
            }
            let narrow = match F::ZIPPED {
                true => isa.narrow_i8::<true>(pairs[0], pairs[1]),
                false => isa.narrow_i8::<false>(pairs[0], pairs[1]),
            };
            let mut clipped = isa.clamp_i8(narrow, low, high);
            if FLIP {
                clipped = isa.xor_i8(clipped, flip);
            }
            *codes = C::form(isa, clipped);
        }
        seen
    }

    #[inline(always)]
    // Long: the phases of one loop.
    fn batches<I: Isa, const FLIP: bool, const COUNT: bool>(self, isa: I) -> usize {
        let blocks = self.0;
        let (values, _) = groups::<Group<F, I>, F>(blocks.values);
        let (codes, _) = groups_mut::<C::Memory<I>, u8>(blocks.codes);
        let per_batch = BATCH * blocks.block_size / (4 * I::LANES);
        let steps = blocks.dtype.max_value() as f32;
        let mut found = Found::new();
        let mut unclipped = 0;
        let batches = values.len() / per_batch;
        let mut done = 0;
        while done < batches {
            let values = &values[done * per_batch..][..per_batch];
            let codes = &mut codes[done * per_batch..][..per_batch];
            if blocks.far {
                isa.prefetch(values, AHEAD);
            }
            let here = done * BATCH..(done + 1) * BATCH;
            if blocks.given {
                found.scale.0.copy_from_slice(&blocks.scales[here.clone()]);
                found.bias.0.copy_from_slice(&blocks.biases[here.clone()]);
                found.divisors(isa);
            } else {
                found.bounds::<I, F>(isa, values.as_flattened());
                if !found.params(isa, steps, F::TYPE) {
                    break;
                }
            }
            let seen = Self::codes::<I, FLIP, COUNT>(isa, values, codes, &found, steps);
            if isa.needs_fallback(seen.sticky) {
                break;
            }
            unclipped += lane_sum(seen.unclipped);
            blocks.scales[here.clone()].copy_from_slice(&found.scale.0);
            blocks.biases[here].copy_from_slice(&found.bias.0);
            done += 1;
        }
        if let (true, Some(clipped)) = (COUNT, blocks.clipped) {
            *clipped += (done * BATCH * blocks.block_size) as u64 - unclipped;
        }
        done
    }
}

impl<F: Lane, C: CodeLayout> Kernel for QuantizeMlx<'_, F, C> {
    type Output = usize;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> usize {
        let counts = self.0.clipped.is_some();
        // Codes of 8 bits never share a byte: there is no code for what is not.
        if C::PACKED {
            return match counts {
                true => self.batches::<I, false, true>(isa),
                false => self.batches::<I, false, false>(isa),
            };
        }
        match (self.0.dtype.bits() == 8, counts) {
            (true, true) => self.batches::<I, true, true>(isa),
            (true, false) => self.batches::<I, true, false>(isa),
            (false, true) => self.batches::<I, false, true>(isa),
            (false, false) => self.batches::<I, false, false>(isa),
        }
    }
}

/// Blocks to be dequantized.
pub struct ToDequantize<'a, F> {
    /// The codes of whole blocks, an even number of them where they have 32 values.
    pub codes: &'a [u8],
    /// Buffer for their values.
    pub values: &'a mut [F],
    /// As they are stored, exact in f32.
    pub scales: &'a [f32],
    /// As they are stored, exact in f32.
    pub biases: &'a [f32],
    /// The type that they are stored in.
    pub through: FloatType,
    /// Values per block: a power of two from 32 to [`LARGEST`].
    pub block_size: usize,
}

/// `scale * code`, and then `+ bias`, each rounded to the type of the scales, and from there to `F`. `C`
/// is how codes lie in memory.
pub struct DequantizeMlx<'a, F, C>(pub ToDequantize<'a, F>, pub PhantomData<C>);

impl<F: Lane, C: CodeLayout> DequantizeMlx<'_, F, C> {
    #[inline(always)]
    fn groups<I: Isa>(self, isa: I, through: FloatType) {
        let blocks = self.0;
        let (codes, _) = groups::<C::Memory<I>, u8>(blocks.codes);
        let (values, _) = groups_mut::<Group<F, I>, F>(blocks.values);
        let pairs_log2 = (blocks.block_size / (2 * I::LANES)).trailing_zeros();
        for i in 0..Ord::min(codes.len(), values.len()) {
            let steps = isa.widen_codes::<false>(&C::codes(isa, codes[i]));
            for p in 0..2 {
                let block = (2 * i + p) >> pairs_log2;
                let scale = isa.splat(blocks.scales[block]);
                let bias = isa.splat(blocks.biases[block]);
                for v in 2 * p..2 * p + 2 {
                    let product = round(isa, isa.mul(isa.to_f32(steps[v]), scale), through);
                    let value = round(isa, isa.add(product, bias), through);
                    values[i][v] = F::narrow(isa, value);
                }
            }
        }
    }
}

impl<F: Lane, C: CodeLayout> Kernel for DequantizeMlx<'_, F, C> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        match self.0.through {
            FloatType::F32 => self.groups(isa, FloatType::F32),
            FloatType::F16 => self.groups(isa, FloatType::F16),
            FloatType::Bf16 => self.groups(isa, FloatType::Bf16),
        }
    }
}
