//! Values from codes.

use core::marker::PhantomData;

use super::{Form, Group, groups, groups_mut, padded, unpadded};
use crate::Element;
use crate::isa::{Isa, Kernel};
use crate::terms::{SCALE, Source};

/// `scale * (code - zero_point)`, rounded to `F`.
pub struct Dequantize<'a, F, S, C> {
    /// The codes.
    pub codes: &'a [u8],
    /// Room for their values.
    pub values: &'a mut [F],
    /// The terms of the codes; zero points as they are stored.
    pub source: S,
    /// Whether codes have a sign.
    pub signed: bool,
    /// Whether to store around the cache.
    pub stream: bool,
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

impl<F: Element, S: Source, C: Form> Dequantize<'_, F, S, C> {
    #[inline(always)]
    fn run_signed<I: Isa, const SIGNED: bool>(self, isa: I) {
        let (source, stream) = (self.source, self.stream);
        let loaded = source.load(isa);
        let (out, rest) = groups_mut::<Group<F, I>, F>(self.values);
        let (codes, rest_codes) = groups::<C::Memory<I>, u8>(self.codes);
        // A group of nibbles may be whole where that of the values lacks the last one.
        let last = match codes.len() > out.len() {
            true => codes[out.len()],
            false => padded::<C::Memory<I>, u8>(rest_codes),
        };
        let mut padding: Group<F, I> = bytemuck::Zeroable::zeroed();
        let whole = out.len();
        for i in 0..whole + usize::from(!rest.is_empty()) {
            let (codes, out, stream) = match i < whole {
                true => (&codes[i], &mut out[i], stream),
                false => (&last, &mut padding, false),
            };
            let values = values::<I, S, C, SIGNED>(isa, codes, source, &loaded, i);
            for v in 0..4 {
                let value = F::narrow(isa, values[v]);
                if stream {
                    isa.stream(&mut out[v], value);
                } else {
                    out[v] = value;
                }
            }
        }
        if stream {
            isa.fence();
        }
        unpadded(padding, rest);
    }
}

impl<F: Element, S: Source, C: Form> Kernel for Dequantize<'_, F, S, C> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        match self.signed {
            true => self.run_signed::<I, true>(isa),
            false => self.run_signed::<I, false>(isa),
        }
    }
}
