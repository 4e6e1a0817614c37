//! Values from codes.

use core::marker::PhantomData;

use quant_core::FloatType;

use super::{Form, Group, groups, groups_mut, padded, unpadded};
use crate::Element;
use crate::isa::{Isa, Kernel};
use crate::terms::{SCALE, Source, round};

/// `scale * (code - zero_point)`, rounded to the scale's type where it `ROUNDS`, and then to `F`.
pub struct Dequantize<'a, F, S, C, const SIGNED: bool, const ROUNDS: bool> {
    /// The codes.
    pub codes: &'a [u8],
    /// Room for their values.
    pub values: &'a mut [F],
    /// The terms of the codes; zero points as they are stored.
    pub source: S,
    /// Whether to store around the cache.
    pub stream: bool,
    /// The scale's type.
    pub scale_type: FloatType,
    /// How codes lie in memory.
    pub form: PhantomData<C>,
}

#[inline(always)]
fn values<I: Isa, S: Source, C: Form, const SIGNED: bool>(
    isa: I,
    memory: &C::Memory<I>,
    source: S,
    loaded: &S::Loaded<I>,
    group: usize,
) -> [I::F32; 4] {
    let pair = 2 * group;
    if C::PACKED
        && let (Some((scale_a, zero_a)), Some((scale_b, zero_b))) = (
            source.shared(I::LANES, pair),
            source.shared(I::LANES, pair + 1),
        )
    {
        let terms = [
            isa.nibble_terms(SIGNED, scale_a, zero_a),
            isa.nibble_terms(SIGNED, scale_b, zero_b),
        ];
        let nibbles: &I::Nibbles = bytemuck::cast_ref(memory);
        return isa.dequantize_nibbles::<SIGNED>(nibbles, terms);
    }
    let mut codes = C::codes(isa, *memory);
    if C::PACKED && SIGNED {
        codes = isa.extend_nibble(codes);
    }
    let wide = isa.widen_codes::<SIGNED>(&codes);
    let mut values = [isa.splat(0.0); 4];
    for p in 0..2 {
        let scales = source.floats(isa, loaded, SCALE, pair + p);
        let zero_points = source.zero_points(isa, loaded, pair + p);
        for v in 0..2 {
            let steps = isa.sub_i32(wide[2 * p + v], zero_points[v]);
            values[2 * p + v] = isa.mul(scales[v], isa.to_f32(steps));
        }
    }
    values
}

impl<F: Element, S: Source, C: Form, const SIGNED: bool, const ROUNDS: bool>
    Dequantize<'_, F, S, C, SIGNED, ROUNDS>
{
    #[inline(always)]
    fn group<I: Isa>(
        &self,
        isa: I,
        codes: &C::Memory<I>,
        loaded: &S::Loaded<I>,
        group: usize,
    ) -> Group<F, I> {
        let values = values::<I, S, C, SIGNED>(isa, codes, self.source, loaded, group);
        let mut group: Group<F, I> = bytemuck::Zeroable::zeroed();
        for v in 0..4 {
            let value = match ROUNDS {
                true => round(isa, values[v], self.scale_type),
                false => values[v],
            };
            group[v] = F::narrow(isa, value);
        }
        group
    }
}

impl<F: Element, S: Source, C: Form, const SIGNED: bool, const ROUNDS: bool> Kernel
    for Dequantize<'_, F, S, C, SIGNED, ROUNDS>
{
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) {
        let stream = self.stream;
        let loaded = self.source.load(isa);
        let out = core::mem::take(&mut self.values);
        let (out, rest) = groups_mut::<Group<F, I>, F>(out);
        let (codes, rest_codes) = groups::<C::Memory<I>, u8>(self.codes);
        for (i, (codes, out)) in codes.iter().zip(&mut *out).enumerate() {
            let group = self.group(isa, codes, &loaded, i);
            if stream {
                for v in 0..4 {
                    isa.stream(&mut out[v], group[v]);
                }
            } else {
                *out = group;
            }
        }
        if stream {
            isa.fence();
        }
        if !rest.is_empty() {
            // A group of nibbles may be whole where that of the values lacks the last one.
            let last = match codes.len() > out.len() {
                true => codes[out.len()],
                false => padded::<C::Memory<I>, u8>(rest_codes),
            };
            unpadded(self.group(isa, &last, &loaded, out.len()), rest);
        }
    }
}
