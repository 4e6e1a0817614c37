//! Codes, and what the values became, at once.

use core::marker::PhantomData;

use quant_core::FloatType;

use super::quantize::{Clip, added_first};
use super::{Group, Tiles, groups, groups_mut, lane_sum, padded, unpadded};
use crate::isa::{Isa, Kernel};
use crate::lane::Lane;
use crate::param_source::ParamSource;
use crate::params::{
    CodeRange, DIVISOR, Divide, Quotient, RECIPROCAL, RESIDUAL, SCALE, round, round_f16,
};

/// What [`Encode`] counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    /// Values that are NaN or infinite.
    pub non_finite: u64,
    /// Values whose code was clipped.
    pub clipped: u64,
}

/// Quantizes and dequantizes: codes, one per byte, where `CODES`; and the values that they stand
/// for, rounded to the scale's type, and from there to `B`.
///
/// The fast paths are for scales of the usual type: f16 where quotients are rounded to f16, else f32,
/// and for values of bf16 also bf16.
///
/// Mostly no code is clipped: what clips is done after a tile in which some were, and for tiles in which
/// it turns out that some are. A tile whose quotients are not all finite and far below 2^31 is done
/// again, by a division. Given [`Divide`] or what also adds, there is nothing to be done again.
pub struct Encode<'a, F, B, S, Q, const CODES: bool> {
    /// The values.
    pub values: &'a [F],
    /// Buffer for their codes, if these are wanted.
    pub codes: &'a mut [u8],
    /// Buffer for their dequantized values.
    pub dequantized: &'a mut [B],
    /// The parameters of the values.
    pub source: S,
    /// The pair that the values start with.
    pub first_pair: usize,
    /// The codes there are.
    pub range: CodeRange,
    /// The type that quotients are rounded to.
    pub rounding: FloatType,
    /// The scale's type.
    pub scale_type: FloatType,
    /// How to divide.
    pub marker: PhantomData<Q>,
}

impl<F: Lane, B: Lane, S: ParamSource, Q: Quotient, const CODES: bool> Kernel
    for Encode<'_, F, B, S, Q, CODES>
{
    type Output = Encoded;

    #[inline(always)]
    // Long: one loop over tiles and its end.
    fn run<I: Isa>(self, isa: I) -> Encoded {
        let (source, scale_type) = (self.source, self.scale_type);
        let clip = Clip::new(isa, self.range);
        let low = isa.splat_i32(self.range.low.into());
        let high = isa.splat_i32(self.range.high.into());
        let shift = isa.splat_i32(self.range.added_shift);
        let unshift = isa.splat_i16(self.range.added_shift as i16);
        let (one, zero) = (isa.splat(1.0), isa.splat(0.0));
        // 2^104: from 2^25 on, which is long before integers end, a quotient makes the sum infinite,
        // whatever finite sum it is added to.
        let too_far = isa.splat(f32::from_bits((127 + 104) << 23));
        let (values, rest) = groups::<Group<F, I>, F>(self.values);
        let (codes, rest_codes) = groups_mut::<I::I8, u8>(self.codes);
        let (dequantized, rest_dequantized) = groups_mut::<Group<B, I>, B>(self.dequantized);
        let padding = [padded::<Group<F, I>, F>(rest)];
        let mut padding_codes: [I::I8; 1] = [bytemuck::Zeroable::zeroed()];
        let mut padding_dequantized: [Group<B, I>; 1] = [bytemuck::Zeroable::zeroed()];
        let mut total = Encoded::default();
        let mut clips = Q::DIVIDES;
        for tile in Tiles::new(values.len(), rest.len()) {
            let (values, dequantized) = match tile.padded {
                true => (&padding[..], &mut padding_dequantized[..]),
                false => (&values[tile.groups()], &mut dequantized[tile.groups()]),
            };
            let codes = match (CODES, tile.padded) {
                (false, _) => &mut [],
                (true, true) => &mut padding_codes[..],
                (true, false) => &mut codes[tile.groups()],
            };
            let first_pair = self.first_pair + 2 * tile.start;
            let loaded = source.load(isa, first_pair);
            if !clips {
                let free = FreeTile::<F, B, S, I, CODES> {
                    values,
                    codes: &mut *codes,
                    dequantized: &mut *dequantized,
                    source,
                    first_pair,
                    range: self.range,
                    scale_type,
                };
                if free.encode::<Q>(isa, clip) {
                    continue;
                }
            }
            let mut unclipped = isa.splat_i32(0);
            let mut sticky = zero;
            for i in 0..values.len() {
                let mut pairs = [isa.splat_i16(0); 2];
                for p in 0..2 {
                    let pair = 2 * i + p;
                    let first = match Q::DIVIDES {
                        true => source.floats(isa, &loaded, DIVISOR, pair),
                        false => source.floats(isa, &loaded, RECIPROCAL, pair),
                    };
                    let second = source.floats(isa, &loaded, RESIDUAL, pair);
                    let scales = source.floats(isa, &loaded, SCALE, pair);
                    let zero_points = source.zero_points(isa, &loaded, pair);
                    let mut steps = [isa.splat_i32(0); 2];
                    for v in 0..2 {
                        let value = F::widen(isa, values[i][2 * p + v]);
                        let quotient = if Q::DIVIDES {
                            sticky = isa.add(sticky, isa.mul(value, zero));
                            let quotient = isa.div(value, first[v]);
                            match Q::ADDS_FIRST {
                                true => quotient,
                                false => round(isa, quotient, self.rounding),
                            }
                        } else {
                            let quotient = Q::quotient(isa, value, first[v], second[v]);
                            sticky = isa.fma(quotient, too_far, sticky);
                            quotient
                        };
                        let from = if Q::ADDS_FIRST { shift } else { zero_points[v] };
                        let low = isa.sub_i32(low, from);
                        let high = isa.sub_i32(high, from);
                        let free = if Q::DIVIDES {
                            // One step beyond the bounds, so that what is clipped can be told.
                            let below = isa.sub(isa.to_f32(low), one);
                            let above = isa.add(isa.to_f32(high), one);
                            if Q::ADDS_FIRST {
                                let zero_point = isa.sub_i32(zero_points[v], shift);
                                let bounds = [below, above];
                                added_first(isa, quotient, zero_point, self.rounding, bounds)
                            } else {
                                isa.clamp_round(quotient, below, above)
                            }
                        } else {
                            isa.round_i32(quotient)
                        };
                        steps[v] = isa.min_i32(isa.max_i32(free, low), high);
                        isa.count_equal(free, steps[v], &mut unclipped);
                        let from_zero = match Q::ADDS_FIRST {
                            true => isa.sub_i32(steps[v], isa.sub_i32(zero_points[v], shift)),
                            false => steps[v],
                        };
                        let value = isa.mul(scales[v], isa.to_f32(from_zero));
                        let rounded = restored::<I, F, Q>(isa, value, scale_type);
                        dequantized[i][2 * p + v] = B::narrow(isa, rounded);
                    }
                    if CODES {
                        let narrow = isa.narrow_i16(steps[0], steps[1]);
                        let from = match Q::ADDS_FIRST {
                            true => unshift,
                            false => source.narrow_zero_points(isa, &loaded, pair),
                        };
                        pairs[p] = isa.add_i16(narrow, from);
                    }
                }
                if CODES {
                    codes[i] = clip.codes::<false, false, true>(isa, pairs);
                }
            }
            let mut sure = isa.splat_i32(0);
            isa.count_finite(sticky, &mut sure);
            let lanes = (values.len() * 4 * I::LANES) as u64;
            let clipped = lanes - lane_sum(unclipped);
            if lane_sum(sure) == I::LANES as u64 {
                total.clipped += clipped;
                clips = Q::DIVIDES || clipped > 0;
            } else if Q::DIVIDES {
                total.clipped += clipped;
                let mut finite = isa.splat_i32(0);
                for group in values {
                    for v in 0..4 {
                        isa.count_finite(F::widen(isa, group[v]), &mut finite);
                    }
                }
                total.non_finite += lanes - lane_sum(finite);
            } else {
                let tile = isa.run(Encode::<F, B, S, Divide, CODES> {
                    values: bytemuck::cast_slice(values),
                    codes: bytemuck::cast_slice_mut(codes),
                    dequantized: bytemuck::cast_slice_mut(dequantized),
                    source,
                    first_pair,
                    range: self.range,
                    rounding: self.rounding,
                    scale_type,
                    marker: PhantomData,
                });
                total.non_finite += tile.non_finite;
                total.clipped += tile.clipped;
            }
        }
        // Padding is zeros, which are finite and never clipped.
        if CODES {
            unpadded(padding_codes[0], rest_codes);
        }
        unpadded(padding_dequantized[0], rest_dequantized);
        total
    }
}

/// What steps times scale becomes: it is rounded to the scale's type, which the fast paths know.
#[inline(always)]
pub(super) fn restored<I: Isa, F: Lane, Q: Quotient>(
    isa: I,
    value: I::F32,
    scale_type: FloatType,
) -> I::F32 {
    match (Q::DIVIDES, Q::ROUND, F::TYPE) {
        (false, FloatType::F16, _) => round_f16(isa, value),
        (false, FloatType::F32 | FloatType::Bf16, FloatType::F32 | FloatType::F16) => value,
        (true, _, _) | (false, FloatType::F32 | FloatType::Bf16, FloatType::Bf16) => {
            round(isa, value, scale_type)
        }
    }
}

/// A tile of which no code need be clipped.
struct FreeTile<'a, F: Lane, B: Lane, S: ParamSource, I: Isa, const CODES: bool> {
    values: &'a [Group<F, I>],
    codes: &'a mut [I::I8],
    dequantized: &'a mut [Group<B, I>],
    source: S,
    first_pair: usize,
    range: CodeRange,
    scale_type: FloatType,
}

impl<F: Lane, B: Lane, S: ParamSource, I: Isa, const CODES: bool> FreeTile<'_, F, B, S, I, CODES> {
    /// Encodes it; whether it was one, and everything finite. Else what was written is void.
    #[inline(always)]
    fn encode<Q: Quotient>(self, isa: I, clip: Clip<I>) -> bool {
        let source = self.source;
        let loaded = source.load(isa, self.first_pair);
        let mut sticky = isa.sticky_clear();
        let mut least = isa.splat_i16(self.range.low.into());
        let mut most = least;
        for i in 0..self.values.len() {
            let mut pairs = [isa.splat_i16(0); 2];
            for p in 0..2 {
                let pair = 2 * i + p;
                let reciprocals = source.floats(isa, &loaded, RECIPROCAL, pair);
                let residuals = source.floats(isa, &loaded, RESIDUAL, pair);
                let scales = source.floats(isa, &loaded, SCALE, pair);
                let mut quotients = [isa.splat(0.0); 2];
                let mut steps = [isa.splat_i32(0); 2];
                for v in 0..2 {
                    let value = F::widen(isa, self.values[i][2 * p + v]);
                    quotients[v] = Q::quotient(isa, value, reciprocals[v], residuals[v]);
                    steps[v] = isa.round_i32(quotients[v]);
                    let value = isa.mul(scales[v], isa.to_f32(steps[v]));
                    let rounded = restored::<I, F, Q>(isa, value, self.scale_type);
                    self.dequantized[i][2 * p + v] = B::narrow(isa, rounded);
                }
                let narrow = match I::ROUND_SHOWS_NAN {
                    true => isa.narrow_i16(steps[0], steps[1]),
                    false => isa.round_i16(quotients[0], quotients[1], &mut sticky),
                };
                let zero_points = source.narrow_zero_points(isa, &loaded, pair);
                pairs[p] = isa.add_i16(narrow, zero_points);
                least = isa.min_i16(least, pairs[p]);
                most = isa.max_i16(most, pairs[p]);
            }
            if CODES {
                self.codes[i] = clip.codes::<false, false, true>(isa, pairs);
            }
        }
        let within = self.range.holds::<I>(least, most);
        within && (I::ROUND_SHOWS_NAN || !isa.needs_fallback(sticky))
    }
}
