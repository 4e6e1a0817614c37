//! Values from codes.

use core::marker::PhantomData;

use super::{CodeLayout, Group, Tiles, groups, groups_mut, padded, unpadded};
use crate::isa::{Isa, Kernel};
use crate::lane::Lane;
use crate::param_source::ParamSource;
use crate::params::SCALE;

/// `scale * (code - zero_point)`, rounded to `F`.
pub struct Dequantize<'a, F, S, C> {
    /// The codes.
    pub codes: &'a [u8],
    /// Buffer for their values.
    pub values: &'a mut [F],
    /// The parameters of the codes; zero points as they are stored.
    pub source: S,
    /// Whether codes have a sign.
    pub signed: bool,
    /// Whether to store past the cache (non-temporal stores).
    pub stream: bool,
    /// How codes lie in memory.
    pub form: PhantomData<C>,
}

impl<F: Lane, S: ParamSource, C: CodeLayout> Kernel for Dequantize<'_, F, S, C> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (source, signed) = (self.source, self.signed);
        let (values, rest) = groups_mut::<Group<F, I>, F>(self.values);
        let (codes, rest_codes) = groups::<C::Memory<I>, u8>(self.codes);
        // A group of nibbles may be whole where that of the values lacks the last one.
        let last = [match codes.len() > values.len() {
            true => codes[values.len()],
            false => padded::<C::Memory<I>, u8>(rest_codes),
        }];
        let mut padding: [Group<F, I>; 1] = [bytemuck::Zeroable::zeroed()];
        // Shared parameters are at hand for any number of groups.
        let tiles = match S::SHARED {
            true => Tiles::one(values.len(), rest.len()),
            false => Tiles::new(values.len(), rest.len()),
        };
        for tile in tiles {
            let (codes, values) = match tile.padded {
                true => (&last[..], &mut padding[..]),
                false => (&codes[tile.groups()], &mut values[tile.groups()]),
            };
            let loaded = source.load(isa, 2 * tile.start);
            if I::STREAMS && self.stream && !tile.padded {
                match signed {
                    true => {
                        dequantize::<I, F, S, C, true, true>(isa, codes, values, source, &loaded)
                    }
                    false => {
                        dequantize::<I, F, S, C, false, true>(isa, codes, values, source, &loaded);
                    }
                }
                continue;
            }
            match signed {
                true => dequantize::<I, F, S, C, true, false>(isa, codes, values, source, &loaded),
                false => {
                    dequantize::<I, F, S, C, false, false>(isa, codes, values, source, &loaded)
                }
            }
        }
        if self.stream {
            isa.fence();
        }
        unpadded(padding[0], rest);
    }
}

#[inline(always)]
fn dequantize<
    I: Isa,
    F: Lane,
    S: ParamSource,
    C: CodeLayout,
    const SIGNED: bool,
    const STREAM: bool,
>(
    isa: I,
    codes: &[C::Memory<I>],
    values: &mut [Group<F, I>],
    source: S,
    loaded: &S::Loaded<I>,
) {
    let (mut codes, mut values, mut done) = (codes, values, 0);
    // Two such groups are a pair of the largest instruction set: no block ends between them.
    if I::TWO_GROUPS && C::PACKED && S::SHARED {
        let (twos, rest) = codes.as_chunks::<2>();
        let (to, rest_values) = values.as_chunks_mut::<2>();
        for (codes, values) in twos.iter().zip(to) {
            let params = source.nibble_params(isa, loaded, SIGNED, 2 * done);
            let wide = isa.dequantize_two_nibbles::<SIGNED>(bytemuck::cast_ref(codes), params);
            for (wide, values) in wide.into_iter().zip(values) {
                store::<I, F, STREAM>(isa, wide, values);
            }
            done += 2;
        }
        (codes, values) = (rest, rest_values);
    }
    // The loop of AVX2 is so short that how it lies in memory counts: two groups at a time.
    let unrolled = if C::PACKED || STREAM || I::LANES != 8 {
        1
    } else {
        2
    };
    let whole = codes.len() - codes.len() % unrolled;
    let (codes, last_codes) = codes.split_at(whole);
    let (values, last_values) = values.split_at_mut(whole);
    let pairs = codes.chunks_exact(unrolled);
    for (i, (codes, values)) in pairs.zip(values.chunks_exact_mut(unrolled)).enumerate() {
        for g in 0..unrolled {
            let (codes, group) = (&codes[g], done + unrolled * i + g);
            let wide = widened::<I, F, S, C, SIGNED>(isa, codes, group, source, loaded);
            store::<I, F, STREAM>(isa, wide, &mut values[g]);
        }
    }
    for (g, (codes, values)) in last_codes.iter().zip(last_values).enumerate() {
        let wide = widened::<I, F, S, C, SIGNED>(isa, codes, done + whole + g, source, loaded);
        store::<I, F, STREAM>(isa, wide, values);
    }
}

/// The values of the codes of a group.
#[inline(always)]
fn widened<I: Isa, F: Lane, S: ParamSource, C: CodeLayout, const SIGNED: bool>(
    isa: I,
    codes: &C::Memory<I>,
    group: usize,
    source: S,
    loaded: &S::Loaded<I>,
) -> [I::F32; 4] {
    let mut wide = [isa.splat(0.0); 4];
    if C::PACKED && S::SHARED {
        let kernel_params = [
            source.nibble_params(isa, loaded, SIGNED, 2 * group),
            source.nibble_params(isa, loaded, SIGNED, 2 * group + 1),
        ];
        return isa.dequantize_nibbles::<SIGNED>(bytemuck::cast_ref(codes), kernel_params);
    }
    let mut codes = C::codes(isa, *codes);
    if C::PACKED && SIGNED {
        codes = isa.extend_nibble(codes);
    }
    let steps = isa.widen_codes::<SIGNED>(&codes);
    for p in 0..2 {
        let scales = source.floats(isa, loaded, SCALE, 2 * group + p);
        let zero_points = source.zero_points(isa, loaded, 2 * group + p);
        for v in 0..2 {
            let mut steps = steps[2 * p + v];
            if S::ZERO_POINTS {
                steps = isa.sub_i32(steps, zero_points[v]);
            }
            wide[2 * p + v] = isa.mul(scales[v], isa.to_f32(steps));
        }
    }
    wide
}

#[inline(always)]
fn store<I: Isa, F: Lane, const STREAM: bool>(isa: I, wide: [I::F32; 4], values: &mut Group<F, I>) {
    for v in 0..4 {
        let value = F::narrow(isa, wide[v]);
        match STREAM {
            true => isa.stream(&mut values[v], value),
            false => values[v] = value,
        }
    }
}
