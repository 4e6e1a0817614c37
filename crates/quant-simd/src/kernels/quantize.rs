//! Codes from values.

use core::marker::PhantomData;

use quant_core::FloatType;

use super::{Form, Group, TILE, groups, groups_mut, lane_sum, padded, unpadded};
use crate::Element;
use crate::isa::{Isa, Kernel};
use crate::terms::{CodeRange, DIVISOR, Quotient, RECIPROCAL, RESIDUAL, Source, round};

/// `clip(round(value / scale) + zero_point)`; gives the number of values that are NaN or infinite.
///
/// The fast way takes a [`Quotient`] and trusts that it neither overflows nor is NaN, for which
/// [`Isa::round_i16`] is watched. A tile that raised doubt is done again, with a division.
pub struct Quantize<'a, F, S, Q, C> {
    /// The values.
    pub values: &'a [F],
    /// Room for their codes.
    pub codes: &'a mut [u8],
    /// The terms of the values.
    pub source: S,
    /// The codes there are.
    pub range: CodeRange,
    /// The type that quotients are rounded to.
    pub arithmetic: FloatType,
    /// Whether to store around the cache.
    pub stream: bool,
    /// How to divide, and how codes lie in memory.
    pub way: PhantomData<(Q, C)>,
}

/// [`CodeRange`] in registers.
#[derive(Clone, Copy)]
pub struct Clip<I: Isa> {
    low: I::I8,
    high: I::I8,
    flip: I::I8,
}

impl<I: Isa> Clip<I> {
    /// Loads `range`.
    #[inline(always)]
    pub fn new(isa: I, range: CodeRange) -> Self {
        Self {
            low: isa.splat_i8(range.low),
            high: isa.splat_i8(range.high),
            flip: isa.splat_i8(range.shift as i8),
        }
    }

    /// Codes from steps that the zero point is already added to.
    #[inline(always)]
    pub fn codes(self, isa: I, pairs: [I::I16; 2]) -> I::I8 {
        let narrow = isa.narrow_i8(pairs[0], pairs[1]);
        isa.xor_i8(isa.clamp_i8(narrow, self.low, self.high), self.flip)
    }
}

/// The fast way, for the pairs from `first_pair`; whether doubt was raised.
#[inline(always)]
pub fn quantize_groups<I: Isa, F: Element, S: Source, Q: Quotient, C: Form>(
    isa: I,
    values: &[Group<F, I>],
    codes: &mut [C::Memory<I>],
    source: S,
    first_pair: usize,
    clip: Clip<I>,
    stream: bool,
) -> bool {
    let loaded = source.load(isa);
    let mut doubt = isa.no_doubt();
    for (i, (group, codes)) in values.iter().zip(codes).enumerate() {
        let mut pairs = [isa.splat_i16(0); 2];
        for p in 0..2 {
            let pair = first_pair + 2 * i + p;
            let reciprocals = source.floats(isa, &loaded, RECIPROCAL, pair);
            let residuals = source.floats(isa, &loaded, RESIDUAL, pair);
            let a = F::widen(isa, group[2 * p]);
            let b = F::widen(isa, group[2 * p + 1]);
            let a = Q::quotient(isa, a, reciprocals[0], residuals[0]);
            let b = Q::quotient(isa, b, reciprocals[1], residuals[1]);
            let steps = isa.round_i16(a, b, &mut doubt);
            pairs[p] = isa.add_i16(steps, source.narrow_zero_points(isa, &loaded, pair));
        }
        let formed = C::form(isa, clip.codes(isa, pairs));
        if stream {
            isa.stream(codes, formed);
        } else {
            *codes = formed;
        }
    }
    isa.is_doubtful(doubt)
}

impl<F: Element, S: Source, Q: Quotient, C: Form> Quantize<'_, F, S, Q, C> {
    /// The sure way; how many lanes were finite.
    #[inline(always)]
    fn divide<I: Isa>(
        &self,
        isa: I,
        values: &[Group<F, I>],
        codes: &mut [C::Memory<I>],
        first_pair: usize,
        clip: Clip<I>,
    ) -> u64 {
        let loaded = self.source.load(isa);
        let low = isa.splat_i32(self.range.low.into());
        let high = isa.splat_i32(self.range.high.into());
        let mut finite = isa.splat_i32(0);
        for (i, (group, codes)) in values.iter().zip(codes).enumerate() {
            let mut pairs = [isa.splat_i16(0); 2];
            for p in 0..2 {
                let pair = first_pair + 2 * i + p;
                let divisors = self.source.floats(isa, &loaded, DIVISOR, pair);
                let zero_points = self.source.zero_points(isa, &loaded, pair);
                let mut steps = [isa.splat_i32(0); 2];
                for v in 0..2 {
                    let value = F::widen(isa, group[2 * p + v]);
                    isa.count_finite(value, &mut finite);
                    let quotient = round(isa, isa.div(value, divisors[v]), self.arithmetic);
                    let low = isa.to_f32(isa.sub_i32(low, zero_points[v]));
                    let high = isa.to_f32(isa.sub_i32(high, zero_points[v]));
                    steps[v] = isa.clamp_round(quotient, low, high);
                }
                let steps = isa.narrow_i16(steps[0], steps[1]);
                let zero_points = self.source.narrow_zero_points(isa, &loaded, pair);
                pairs[p] = isa.add_i16(steps, zero_points);
            }
            *codes = C::form(isa, clip.codes(isa, pairs));
        }
        lane_sum(finite)
    }

    #[inline(always)]
    fn tile<I: Isa>(
        &self,
        isa: I,
        values: &[Group<F, I>],
        codes: &mut [C::Memory<I>],
        first_pair: usize,
        clip: Clip<I>,
    ) -> u64 {
        let (source, stream) = (self.source, self.stream);
        let sure = I::RECIPROCAL
            && !Q::DIVIDES
            && !quantize_groups::<I, F, S, Q, C>(
                isa, values, codes, source, first_pair, clip, stream,
            );
        if sure {
            return 0;
        }
        let lanes = (values.len() * 4 * I::LANES) as u64;
        lanes - self.divide(isa, values, codes, first_pair, clip)
    }
}

impl<F: Element, S: Source, Q: Quotient, C: Form> Kernel for Quantize<'_, F, S, Q, C> {
    type Output = u64;

    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) -> u64 {
        let clip = Clip::new(isa, self.range);
        let (values, rest) = groups::<Group<F, I>, F>(self.values);
        let codes = core::mem::take(&mut self.codes);
        let (codes, rest_codes) = groups_mut::<C::Memory<I>, u8>(codes);
        let mut non_finite = 0;
        let tiles = values.chunks(TILE).zip(codes.chunks_mut(TILE));
        for (i, (values, codes)) in tiles.enumerate() {
            non_finite += self.tile(isa, values, codes, 2 * TILE * i, clip);
        }
        if self.stream {
            isa.fence();
        }
        if !rest.is_empty() {
            self.stream = false;
            let group = [padded::<Group<F, I>, F>(rest)];
            let mut formed = [bytemuck::Zeroable::zeroed()];
            non_finite += self.tile(isa, &group, &mut formed, 2 * values.len(), clip);
            unpadded(formed[0], rest_codes);
            if let (true, 1, Some(last)) = (C::PACKED, rest.len() % 2, rest_codes.last_mut()) {
                *last &= 15;
            }
        }
        non_finite
    }
}
