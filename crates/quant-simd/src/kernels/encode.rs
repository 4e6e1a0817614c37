//! Codes, and what the values became, at once.

use core::marker::PhantomData;

use quant_core::FloatType;

use super::quantize::Clip;
use super::{Group, TILE, groups, groups_mut, lane_sum, padded, unpadded};
use crate::Element;
use crate::isa::{Isa, Kernel};
use crate::terms::{CodeRange, DIVISOR, Quotient, RECIPROCAL, RESIDUAL, SCALE, Source, round};

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
pub struct Encode<'a, F, B, S, Q, const CODES: bool> {
    /// The values.
    pub values: &'a [F],
    /// Room for their codes, if these are wanted.
    pub codes: &'a mut [u8],
    /// Room for what they become.
    pub became: &'a mut [B],
    /// The terms of the values.
    pub source: S,
    /// The codes there are.
    pub range: CodeRange,
    /// The type that quotients are rounded to.
    pub arithmetic: FloatType,
    /// The scale's type.
    pub scale_type: FloatType,
    /// How to divide.
    pub way: PhantomData<Q>,
}

struct Counts<I: Isa> {
    finite: I::I32,
    unclipped: I::I32,
}

impl<F: Element, B: Element, S: Source, Q: Quotient, const CODES: bool>
    Encode<'_, F, B, S, Q, CODES>
{
    /// One tile, by division where `DIVIDE`. Otherwise the result may be void; whether it is.
    #[inline(always)]
    fn tile<I: Isa, const DIVIDE: bool>(
        &self,
        isa: I,
        values: &[Group<F, I>],
        codes: &mut [I::I8],
        became: &mut [Group<B, I>],
        first_pair: usize,
        counts: &mut Counts<I>,
    ) -> bool {
        let loaded = self.source.load(isa);
        let clip = Clip::new(isa, self.range);
        let low = isa.splat_i32(self.range.low.into());
        let high = isa.splat_i32(self.range.high.into());
        let one = isa.splat(1.0);
        let zero = isa.splat(0.0);
        let mut doubt = zero;
        for i in 0..values.len() {
            let mut pairs = [isa.splat_i16(0); 2];
            for p in 0..2 {
                let pair = first_pair + 2 * i + p;
                let (reciprocals, residuals) = match DIVIDE {
                    true => (self.source.floats(isa, &loaded, DIVISOR, pair), [zero; 2]),
                    false => (
                        self.source.floats(isa, &loaded, RECIPROCAL, pair),
                        self.source.floats(isa, &loaded, RESIDUAL, pair),
                    ),
                };
                let scales = self.source.floats(isa, &loaded, SCALE, pair);
                let zero_points = self.source.zero_points(isa, &loaded, pair);
                let mut steps = [isa.splat_i32(0); 2];
                for v in 0..2 {
                    let value = F::widen(isa, values[i][2 * p + v]);
                    let quotient = if DIVIDE {
                        isa.count_finite(value, &mut counts.finite);
                        round(isa, isa.div(value, reciprocals[v]), self.arithmetic)
                    } else {
                        let quotient = Q::quotient(isa, value, reciprocals[v], residuals[v]);
                        doubt = isa.fma(quotient, zero, doubt);
                        quotient
                    };
                    let low = isa.sub_i32(low, zero_points[v]);
                    let high = isa.sub_i32(high, zero_points[v]);
                    // One step beyond the bounds, so that what is clipped can still be told.
                    let below = isa.sub(isa.to_f32(low), one);
                    let above = isa.add(isa.to_f32(high), one);
                    let free = isa.clamp_round(quotient, below, above);
                    steps[v] = isa.min_i32(isa.max_i32(free, low), high);
                    isa.count_equal(free, steps[v], &mut counts.unclipped);
                    let value = isa.mul(scales[v], isa.to_f32(steps[v]));
                    let value = round(isa, value, self.scale_type);
                    became[i][2 * p + v] = B::narrow(isa, value);
                }
                if CODES {
                    let narrow = isa.narrow_i16(steps[0], steps[1]);
                    let zero_points = self.source.narrow_zero_points(isa, &loaded, pair);
                    pairs[p] = isa.add_i16(narrow, zero_points);
                }
            }
            if CODES {
                codes[i] = clip.codes(isa, pairs);
            }
        }
        let mut sure = isa.splat_i32(0);
        isa.count_finite(doubt, &mut sure);
        lane_sum(sure) == I::LANES as u64
    }

    #[inline(always)]
    fn surely<I: Isa>(
        &self,
        isa: I,
        values: &[Group<F, I>],
        codes: &mut [I::I8],
        became: &mut [Group<B, I>],
        first_pair: usize,
    ) -> Encoded {
        let none = isa.splat_i32(0);
        let mut counts = Counts {
            finite: none,
            unclipped: none,
        };
        let lanes = (values.len() * 4 * I::LANES) as u64;
        let fast = I::RECIPROCAL && !Q::DIVIDES;
        if fast && self.tile::<I, false>(isa, values, codes, became, first_pair, &mut counts) {
            return Encoded {
                non_finite: 0,
                clipped: lanes - lane_sum(counts.unclipped),
            };
        }
        counts.unclipped = none;
        self.tile::<I, true>(isa, values, codes, became, first_pair, &mut counts);
        Encoded {
            non_finite: lanes - lane_sum(counts.finite),
            clipped: lanes - lane_sum(counts.unclipped),
        }
    }
}

impl<F: Element, B: Element, S: Source, Q: Quotient, const CODES: bool> Kernel
    for Encode<'_, F, B, S, Q, CODES>
{
    type Output = Encoded;

    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) -> Encoded {
        let (values, rest) = groups::<Group<F, I>, F>(self.values);
        let codes = core::mem::take(&mut self.codes);
        let became = core::mem::take(&mut self.became);
        let (codes, rest_codes) = groups_mut::<I::I8, u8>(codes);
        let (became, rest_became) = groups_mut::<Group<B, I>, B>(became);
        let mut total = Encoded::default();
        for (i, values_of_tile) in values.chunks(TILE).enumerate() {
            let groups = i * TILE..i * TILE + values_of_tile.len();
            let codes: &mut [I::I8] = match CODES {
                true => &mut codes[groups.clone()],
                false => &mut [],
            };
            let became = &mut became[groups];
            let tile = self.surely(isa, values_of_tile, codes, became, 2 * TILE * i);
            total.non_finite += tile.non_finite;
            total.clipped += tile.clipped;
        }
        if !rest.is_empty() {
            // Zeros are padding that is finite and never clipped.
            let group = [padded::<Group<F, I>, F>(rest)];
            let mut codes = [bytemuck::Zeroable::zeroed()];
            let mut became = [bytemuck::Zeroable::zeroed()];
            let pair = 2 * values.len();
            let tile = self.surely(isa, &group, &mut codes, &mut became, pair);
            total.non_finite += tile.non_finite;
            total.clipped += tile.clipped;
            if CODES {
                unpadded(codes[0], rest_codes);
            }
            unpadded(became[0], rest_became);
        }
        total
    }
}
