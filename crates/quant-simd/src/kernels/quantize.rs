//! Codes from values.

use core::marker::PhantomData;

use quant_core::FloatType;

use super::{Form, Group, Tiles, first_groups_mut, groups, lane_sum, padded, unpadded};
use crate::Element;
use crate::isa::{Isa, Kernel};
use crate::terms::{CodeRange, DIVISOR, Quotient, RECIPROCAL, RESIDUAL, Source, round};

/// `clip(round(value / scale) + zero_point)`; gives the number of values that are NaN or infinite.
///
/// The fast way takes a [`Quotient`] and trusts that it neither overflows nor is NaN, for which
/// [`Isa::round_i16`] is watched. A tile that raised doubt is done again, by [`QuantizeSurely`].
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

impl<F: Element, S: Source, Q: Quotient, C: Form> Kernel for Quantize<'_, F, S, Q, C> {
    type Output = u64;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> u64 {
        let source = self.source;
        let clip = Clip::new(isa, self.range);
        let (values, rest) = groups::<Group<F, I>, F>(self.values);
        let (codes, rest_codes) = first_groups_mut::<C::Memory<I>>(self.codes, values.len());
        let padding = [padded::<Group<F, I>, F>(rest)];
        let mut padding_codes: [C::Memory<I>; 1] = [bytemuck::Zeroable::zeroed()];
        let mut non_finite = 0;
        for tile in Tiles::new(values.len(), rest.len()) {
            let (values, codes) = match tile.padded {
                true => (&padding[..], &mut padding_codes[..]),
                false => (&values[tile.groups()], &mut codes[tile.groups()]),
            };
            let (pair, stream) = (2 * tile.start, self.stream && !tile.padded);
            if quantize_groups::<I, F, S, Q, C>(isa, values, codes, source, pair, clip, stream) {
                non_finite += isa.run(QuantizeSurely::<F, S, C> {
                    values: bytemuck::cast_slice(values),
                    codes: bytemuck::cast_slice_mut(codes),
                    source,
                    first_pair: pair,
                    range: self.range,
                    arithmetic: self.arithmetic,
                    form: PhantomData,
                });
            }
        }
        if self.stream {
            isa.fence();
        }
        unpadded_codes::<I, C>(padding_codes[0], rest.len(), rest_codes);
        non_finite
    }
}

/// [`Quantize`] by division, for anything at all; gives the number of values that are NaN or
/// infinite.
pub struct QuantizeSurely<'a, F, S, C> {
    /// The values.
    pub values: &'a [F],
    /// Room for their codes.
    pub codes: &'a mut [u8],
    /// The terms of the values.
    pub source: S,
    /// The pair that the values start with.
    pub first_pair: usize,
    /// The codes there are.
    pub range: CodeRange,
    /// The type that quotients are rounded to.
    pub arithmetic: FloatType,
    /// How codes lie in memory.
    pub form: PhantomData<C>,
}

impl<F: Element, S: Source, C: Form> Kernel for QuantizeSurely<'_, F, S, C> {
    type Output = u64;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> u64 {
        let source = self.source;
        let clip = Clip::new(isa, self.range);
        let low = isa.splat_i32(self.range.low.into());
        let high = isa.splat_i32(self.range.high.into());
        let loaded = source.load(isa);
        let (values, rest) = groups::<Group<F, I>, F>(self.values);
        let (codes, rest_codes) = first_groups_mut::<C::Memory<I>>(self.codes, values.len());
        let padding = padded::<Group<F, I>, F>(rest);
        let mut padding_codes: C::Memory<I> = bytemuck::Zeroable::zeroed();
        let count = values.len() + usize::from(!rest.is_empty());
        let mut finite = 0;
        for i in 0..count {
            let (group, codes) = match i < values.len() {
                true => (&values[i], &mut codes[i]),
                false => (&padding, &mut padding_codes),
            };
            let mut pairs = [isa.splat_i16(0); 2];
            let mut finite_lanes = isa.splat_i32(0);
            for p in 0..2 {
                let pair = self.first_pair + 2 * i + p;
                let divisors = source.floats(isa, &loaded, DIVISOR, pair);
                let zero_points = source.zero_points(isa, &loaded, pair);
                let mut steps = [isa.splat_i32(0); 2];
                for v in 0..2 {
                    let value = F::widen(isa, group[2 * p + v]);
                    isa.count_finite(value, &mut finite_lanes);
                    let quotient = round(isa, isa.div(value, divisors[v]), self.arithmetic);
                    let low = isa.to_f32(isa.sub_i32(low, zero_points[v]));
                    let high = isa.to_f32(isa.sub_i32(high, zero_points[v]));
                    steps[v] = isa.clamp_round(quotient, low, high);
                }
                let steps = isa.narrow_i16(steps[0], steps[1]);
                let zero_points = source.narrow_zero_points(isa, &loaded, pair);
                pairs[p] = isa.add_i16(steps, zero_points);
            }
            *codes = C::form(isa, clip.codes(isa, pairs));
            finite += lane_sum(finite_lanes);
        }
        unpadded_codes::<I, C>(padding_codes, rest.len(), rest_codes);
        (count * 4 * I::LANES) as u64 - finite
    }
}

/// The codes of `count` elements that do not fill a group.
#[inline(always)]
fn unpadded_codes<I: Isa, C: Form>(codes: C::Memory<I>, count: usize, rest: &mut [u8]) {
    unpadded(codes, rest);
    if let (true, 1, Some(last)) = (C::PACKED, count % 2, rest.last_mut()) {
        *last &= 15;
    }
}
