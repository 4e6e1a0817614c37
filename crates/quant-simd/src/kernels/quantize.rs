//! Codes from values.

use core::marker::PhantomData;

use quant_core::FloatType;

use super::{AHEAD, CodeLayout, Group, Staged, Tiles};
use super::{first_groups_mut, groups, lane_sum, padded, unpadded};
use crate::isa::{Isa, Kernel, LARGEST_BURST, TILE};
use crate::lane::Lane;
use crate::param_source::ParamSource;
use crate::params::{CodeRange, DIVISOR, Divide, Quotient, RECIPROCAL, RESIDUAL, round};

/// `clip(round(value / scale) + zero_point)`; gives the number of values that are NaN or infinite.
///
/// The fast path takes a [`Quotient`] and trusts that it neither overflows nor is NaN, for which
/// [`Isa::round_i16`] is watched. A tile that set its sticky flag is done again, by [`QuantizeSlow`].
pub struct Quantize<'a, F, S, Q, C> {
    /// The values.
    pub values: &'a [F],
    /// Buffer for their codes.
    pub codes: &'a mut [u8],
    /// The parameters of the values.
    pub source: S,
    /// Elements after which the parameters begin again; an even number or all of them.
    pub row: usize,
    /// The codes there are.
    pub range: CodeRange,
    /// The type that quotients are rounded to.
    pub rounding: FloatType,
    /// Whether to store past the cache (non-temporal stores).
    pub stream: bool,
    /// How to divide, and how codes lie in memory.
    pub marker: PhantomData<(Q, C)>,
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

    /// Codes from steps that the zero point is already added to. Without `CLAMP` they are within
    /// their range; without `FLIP` the range is not shifted.
    #[inline(always)]
    pub fn codes<const ZIPPED: bool, const CLAMP: bool, const FLIP: bool>(
        self,
        isa: I,
        pairs: [I::I16; 2],
    ) -> I::I8 {
        let mut codes = if CLAMP {
            let codes = isa.narrow_i8::<ZIPPED>(pairs[0], pairs[1]);
            isa.clamp_i8(codes, self.low, self.high)
        } else {
            isa.narrow_small_i8::<ZIPPED>(pairs[0], pairs[1])
        };
        if FLIP {
            codes = isa.xor_i8(codes, self.flip);
        }
        codes
    }
}

/// A tile that is quantized on the fast path.
pub struct FastTile<'a, F: Lane, S, C: CodeLayout, I: Isa> {
    /// The values.
    pub values: &'a [Group<F, I>],
    /// Buffer for their codes.
    pub codes: &'a mut [C::Memory<I>],
    /// The parameters of the values.
    pub source: S,
    /// The pair that the tile starts with.
    pub first_pair: usize,
    /// The codes there are.
    pub clip: Clip<I>,
}

impl<F: Lane, S: ParamSource, C: CodeLayout, I: Isa> FastTile<'_, F, S, C, I> {
    /// Does it; may set `sticky`. Without `CLAMP`, no quotient may be beyond the codes.
    #[inline(always)]
    pub fn quantize<Q: Quotient, const CLAMP: bool>(self, isa: I, sticky: &mut I::Sticky) {
        let source = self.source;
        let loaded = source.load(isa, self.first_pair);
        let (clip, mut codes) = (self.clip, self.codes);
        let mut done = 0;
        if I::TWO_GROUPS && C::PACKED {
            let (twos, _) = self.values.as_chunks::<2>();
            let (to, rest) = codes.as_chunks_mut::<2>();
            for (group, to) in twos.iter().zip(to) {
                let first =
                    Self::group::<Q, CLAMP>(isa, &group[0], (source, &loaded, done), clip, sticky);
                let second = Self::group::<Q, CLAMP>(
                    isa,
                    &group[1],
                    (source, &loaded, done + 1),
                    clip,
                    sticky,
                );
                *to = C::form_two(isa, [first, second]);
                done += 2;
            }
            codes = rest;
        }
        for (i, (group, codes)) in self.values[done..].iter().zip(codes).enumerate() {
            let params = (source, &loaded, done + i);
            *codes = C::form(
                isa,
                Self::group::<Q, CLAMP>(isa, group, params, clip, sticky),
            );
        }
    }

    /// The codes of a group, in a register.
    #[inline(always)]
    fn group<Q: Quotient, const CLAMP: bool>(
        isa: I,
        group: &Group<F, I>,
        (source, loaded, i): (S, &S::Loaded<I>, usize),
        clip: Clip<I>,
        sticky: &mut I::Sticky,
    ) -> I::I8 {
        let mut pairs = [isa.splat_i16(0); 2];
        for p in 0..2 {
            let pair = 2 * i + p;
            let reciprocals = source.floats(isa, loaded, RECIPROCAL, pair);
            let residuals = source.floats(isa, loaded, RESIDUAL, pair);
            let [a, b] = match S::SHARED {
                true => F::widen_pair(isa, group[2 * p], group[2 * p + 1]),
                false => [F::widen(isa, group[2 * p]), F::widen(isa, group[2 * p + 1])],
            };
            let a = Q::quotient(isa, a, reciprocals[0], residuals[0]);
            let b = Q::quotient(isa, b, reciprocals[1], residuals[1]);
            pairs[p] = match CLAMP {
                true => isa.round_i16(a, b, sticky),
                false => isa.round_small_i16(a, b, sticky),
            };
            if S::ZERO_POINTS {
                let zero_points = source.narrow_zero_points(isa, loaded, pair);
                pairs[p] = isa.add_i16(pairs[p], zero_points);
            }
        }
        match (S::SHARED && F::ZIPPED, S::ZERO_POINTS) {
            (true, true) => clip.codes::<true, CLAMP, true>(isa, pairs),
            (true, false) => clip.codes::<true, CLAMP, false>(isa, pairs),
            (false, true) => clip.codes::<false, CLAMP, true>(isa, pairs),
            (false, false) => clip.codes::<false, CLAMP, false>(isa, pairs),
        }
    }
}

/// Groups of a tile, whose codes are stored past the cache at once if they are to `stream`.
#[inline(always)]
fn groups_per_tile<I: Isa, F: Lane, C: CodeLayout>(stream: bool) -> usize {
    match (stream, I::READ_AHEAD) {
        (true, Some(bytes)) => bytes / size_of::<Group<F, I>>(),
        (true, None) => Ord::min(TILE, LARGEST_BURST / size_of::<C::Memory<I>>()),
        (false, _) => TILE,
    }
}

impl<F: Lane, S: ParamSource, Q: Quotient, C: CodeLayout> Kernel for Quantize<'_, F, S, Q, C> {
    type Output = u64;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> u64 {
        let clip = Clip::new(isa, self.range);
        let rows = self.values.chunks(self.row);
        let per_row = match C::PACKED {
            true => self.row.div_ceil(2),
            false => self.row,
        };
        let mut staged = Staged::new(self.stream);
        let mut non_finite = 0;
        for (values, codes) in rows.zip(self.codes.chunks_mut(per_row)) {
            let (values, rest) = groups::<Group<F, I>, F>(values);
            let (codes, rest_codes) = first_groups_mut::<C::Memory<I>>(codes, values.len());
            let padding = [padded::<Group<F, I>, F>(rest)];
            let mut padding_codes: [C::Memory<I>; 1] = [bytemuck::Zeroable::zeroed()];
            let tile = groups_per_tile::<I, F, C>(self.stream);
            for tile in Tiles::of(tile, values.len(), rest.len()) {
                let (values, codes) = match tile.padded {
                    true => (&padding[..], &mut padding_codes[..]),
                    false => (&values[tile.groups()], &mut codes[tile.groups()]),
                };
                if self.stream && I::READ_AHEAD.is_some() {
                    isa.prefetch(values, AHEAD);
                }
                let made = match &mut staged {
                    Some(staged) => staged.first(codes.len()),
                    None => &mut *codes,
                };
                let fast = FastTile::<F, S, C, I> {
                    values,
                    codes: made,
                    source: self.source,
                    first_pair: 2 * tile.start,
                    clip,
                };
                let mut sticky = isa.sticky_clear();
                fast.quantize::<Q, true>(isa, &mut sticky);
                if let Some(staged) = &staged {
                    staged.stream(isa, codes);
                }
                if isa.needs_fallback(sticky) {
                    non_finite += isa.run(QuantizeSlow::<F, S::Full, Divide, C> {
                        values: bytemuck::cast_slice(values),
                        codes: bytemuck::cast_slice_mut(codes),
                        source: self.source.full(),
                        first_pair: 2 * tile.start,
                        row: values.len() * 4 * I::LANES,
                        range: self.range,
                        rounding: self.rounding,
                        marker: PhantomData,
                    });
                }
            }
            unpadded_codes::<I, C>(padding_codes[0], rest.len(), rest_codes);
        }
        if self.stream {
            isa.fence();
        }
        non_finite
    }
}

/// [`Quantize`] by division, for anything at all; gives the number of values that are NaN or
/// infinite. `Q` divides.
pub struct QuantizeSlow<'a, F, S, Q, C> {
    /// The values.
    pub values: &'a [F],
    /// Buffer for their codes.
    pub codes: &'a mut [u8],
    /// The parameters of the values.
    pub source: S,
    /// The pair that every row starts with.
    pub first_pair: usize,
    /// Elements after which the parameters begin again; an even number or all of them.
    pub row: usize,
    /// The codes there are.
    pub range: CodeRange,
    /// The type that quotients are rounded to.
    pub rounding: FloatType,
    /// Where the zero point is added, and how codes lie in memory.
    pub marker: PhantomData<(Q, C)>,
}

/// The integer nearest to `quotient + zero_point`, in `[low, high]`; the sum is rounded to `rounding`
/// as the quotient is. NaN gives the zero point.
#[inline(always)]
pub fn added_first<I: Isa>(
    isa: I,
    quotient: I::F32,
    zero_point: I::I32,
    rounding: FloatType,
    bounds: [I::F32; 2],
) -> I::I32 {
    let zero_point = isa.to_f32(zero_point);
    let sum = isa.add(round(isa, quotient, rounding), zero_point);
    let sum = round(isa, sum, rounding);
    let sum = isa.if_number(quotient, sum, zero_point);
    isa.clamp_round(sum, bounds[0], bounds[1])
}

/// Steps from the zero point, or from the added shift where zero points are added to quotients.
#[inline(always)]
fn slow_steps<I: Isa, Q: Quotient>(
    isa: I,
    quotient: I::F32,
    (zero_point, shift, rounding): (I::I32, I::I32, FloatType),
    codes: [I::I32; 2],
) -> I::I32 {
    let from = if Q::ADDS_FIRST { shift } else { zero_point };
    let low = isa.to_f32(isa.sub_i32(codes[0], from));
    let high = isa.to_f32(isa.sub_i32(codes[1], from));
    match Q::ADDS_FIRST {
        true => {
            let zero_point = isa.sub_i32(zero_point, shift);
            added_first(isa, quotient, zero_point, rounding, [low, high])
        }
        false => isa.clamp_round(round(isa, quotient, rounding), low, high),
    }
}

impl<F: Lane, S: ParamSource, Q: Quotient, C: CodeLayout> Kernel for QuantizeSlow<'_, F, S, Q, C> {
    type Output = u64;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> u64 {
        let source = self.source;
        let clip = Clip::new(isa, self.range);
        let low = isa.splat_i32(self.range.low.into());
        let high = isa.splat_i32(self.range.high.into());
        let shift = isa.splat_i32(self.range.added_shift);
        let unshift = isa.splat_i16(self.range.added_shift as i16);
        let per_row = match C::PACKED {
            true => self.row.div_ceil(2),
            false => self.row,
        };
        let (mut finite, mut lanes) = (0, 0);
        let rows = self.values.chunks(self.row);
        for (values, codes) in rows.zip(self.codes.chunks_mut(per_row)) {
            let (values, rest) = groups::<Group<F, I>, F>(values);
            let (codes, rest_codes) = first_groups_mut::<C::Memory<I>>(codes, values.len());
            let padding = padded::<Group<F, I>, F>(rest);
            let mut padding_codes: C::Memory<I> = bytemuck::Zeroable::zeroed();
            let count = values.len() + usize::from(!rest.is_empty());
            for i in 0..count {
                let (group, codes) = match i < values.len() {
                    true => (&values[i], &mut codes[i]),
                    false => (&padding, &mut padding_codes),
                };
                let loaded = source.load(isa, self.first_pair + 2 * i);
                let mut pairs = [isa.splat_i16(0); 2];
                let mut finite_lanes = isa.splat_i32(0);
                for pair in 0..2 {
                    let divisors = source.floats(isa, &loaded, DIVISOR, pair);
                    let zero_points = source.zero_points(isa, &loaded, pair);
                    let mut steps = [isa.splat_i32(0); 2];
                    for v in 0..2 {
                        let value = F::widen(isa, group[2 * pair + v]);
                        isa.count_finite(value, &mut finite_lanes);
                        let quotient = isa.div(value, divisors[v]);
                        let params = (zero_points[v], shift, self.rounding);
                        steps[v] = slow_steps::<I, Q>(isa, quotient, params, [low, high]);
                    }
                    let steps = isa.narrow_i16(steps[0], steps[1]);
                    let from = match Q::ADDS_FIRST {
                        true => unshift,
                        false => source.narrow_zero_points(isa, &loaded, pair),
                    };
                    pairs[pair] = isa.add_i16(steps, from);
                }
                *codes = C::form(isa, clip.codes::<false, true, true>(isa, pairs));
                finite += lane_sum(finite_lanes);
            }
            unpadded_codes::<I, C>(padding_codes, rest.len(), rest_codes);
            lanes += (count * 4 * I::LANES) as u64;
        }
        lanes - finite
    }
}

/// The codes of `count` elements that do not fill a group.
#[inline(always)]
fn unpadded_codes<I: Isa, C: CodeLayout>(codes: C::Memory<I>, count: usize, rest: &mut [u8]) {
    unpadded(codes, rest);
    if let (true, 1, Some(last)) = (C::PACKED, count % 2, rest.last_mut()) {
        *last &= 15;
    }
}
