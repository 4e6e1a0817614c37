//! Blocks from values.

use super::params::{Bounds, Params};
use super::{BATCH, Blocks, FOUR, VALUES, Values, floats_size};
use crate::isa::{Isa, Kernel};
use crate::kernels::{AHEAD, stream};
use crate::lane::Lane;

/// The bytes of ggml's reference quantizer. Works batch by batch, and stops before the first one with
/// a block that has no usable scale or minimum, or whose scale has an infinite reciprocal; gives the
/// number of blocks done.
pub struct QuantizeGgml<'a, F, const BITS: u32, const MIN: bool, const SIZE: usize> {
    /// The values, whole blocks of them.
    pub values: &'a [F],
    /// Buffer for the blocks.
    pub blocks: &'a mut [u8],
    /// Whether to store past the cache (non-temporal stores).
    pub stream: bool,
}

impl<F: Lane, const BITS: u32, const MIN: bool, const SIZE: usize> Kernel
    for QuantizeGgml<'_, F, BITS, MIN, SIZE>
{
    type Output = usize;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> usize {
        let (blocks, _) = self.blocks.as_chunks_mut::<SIZE>();
        let mut last = None;
        let batches = Batches::new(self.values, &mut last);
        // While a batch is quantized, parameters of the next one are found, whose divisions take their
        // time, and bounds of the one after that, which wait for memory.
        let mut bounds = Bounds::new(isa);
        let mut params = [Params::new(); 2];
        let mut ordinary = [true; 2];
        let mut staged = Blocks([[0; SIZE]; BATCH]);
        let mut done = 0;
        for ahead in 0..batches.len() + 2 {
            if (1..=batches.len()).contains(&ahead) {
                let next = &mut params[(ahead + 1) % 2];
                let values = batches.get(ahead - 1);
                ordinary[(ahead + 1) % 2] = next.find::<I, F, BITS, MIN>(isa, &bounds, values);
            }
            if ahead >= 2 && !ordinary[ahead % 2] {
                break;
            }
            let to = &mut blocks[done..];
            let is_direct = !self.stream && to.len() >= BATCH;
            let step = Step::<I, F> {
                later: match ahead < batches.len() {
                    true => Some(bytemuck::cast_slice(batches.get(ahead))),
                    false => None,
                },
                now: match ahead >= 2 {
                    true => Some(bytemuck::cast_slice(batches.get(ahead - 2))),
                    false => None,
                },
                params: &params[ahead % 2],
                stream: self.stream,
            };
            let made = match to.first_chunk_mut::<BATCH>() {
                Some(to) if is_direct => to,
                _ => &mut staged.0,
            };
            let finite = step.run::<BITS, MIN, SIZE>(isa, &mut bounds, made);
            if ahead < 2 {
                continue;
            }
            if !finite {
                break;
            }
            let count = Ord::min(to.len(), BATCH);
            if !is_direct {
                let made = staged.0[..count].as_flattened();
                stream(isa, made, to[..count].as_flattened_mut());
            }
            done += count;
        }
        if self.stream {
            isa.fence();
        }
        done
    }
}

/// Values by the batch.
struct Batches<'a, F> {
    whole: &'a [[F; BATCH * VALUES]],
    /// What is left over, and zeros.
    last: Option<&'a Values<F>>,
}

impl<'a, F: Lane> Batches<'a, F> {
    /// With room for the last batch: a page that only some calls need.
    #[inline(always)]
    fn new(values: &'a [F], room: &'a mut Option<Values<F>>) -> Self {
        let (whole, rest) = values.as_chunks();
        let mut last = None;
        if !rest.is_empty() {
            let room = room.insert(Values([F::zeroed(); BATCH * VALUES]));
            room.0[..rest.len()].copy_from_slice(rest);
            last = Some(&*room);
        }
        Self { whole, last }
    }

    #[inline(always)]
    fn len(&self) -> usize {
        self.whole.len() + usize::from(self.last.is_some())
    }

    #[inline(always)]
    fn get(&self, number: usize) -> &[F; BATCH * VALUES] {
        match self.last {
            Some(last) if number == self.whole.len() => &last.0,
            _ => &self.whole[number],
        }
    }
}

/// What happens in one go to two batches, four blocks of each by turns.
struct Step<'a, I: Isa, F: Lane> {
    /// Is looked at.
    later: Option<&'a [F::Vector<I>]>,
    /// Is quantized.
    now: Option<&'a [F::Vector<I>]>,
    params: &'a Params,
    stream: bool,
}

impl<I: Isa, F: Lane> Step<'_, I, F> {
    /// Whether all values that were quantized are finite, as far as their bounds did not tell.
    #[inline(always)]
    fn run<const BITS: u32, const MIN: bool, const SIZE: usize>(
        self,
        isa: I,
        bounds: &mut Bounds<I>,
        made: &mut [[u8; SIZE]; BATCH],
    ) -> bool {
        let vectors = FOUR * VALUES / I::LANES;
        let mut least = isa.splat_i8(0);
        for four in 0..BATCH / FOUR {
            if let Some(later) = self.later {
                let later = &later[four * vectors..][..vectors];
                if self.stream {
                    isa.prefetch(later, AHEAD);
                }
                bounds.set::<F, BITS>(isa, four, later);
            }
            if let Some(now) = self.now {
                let now = &now[four * vectors..][..vectors];
                for unit in 0..FOUR / per_unit::<I>() {
                    let now = &now[unit * UNIT..][..UNIT];
                    let first = FOUR * four + unit * per_unit::<I>();
                    let codes = codes::<I, F, BITS, MIN>(isa, now, first, self.params);
                    if watches_nan::<I>(BITS) {
                        least = isa.min_i8(least, isa.min_i8(codes[0], codes[1]));
                    }
                    store::<I, F, BITS, MIN, SIZE>(isa, codes, first, self.params, made);
                }
            }
        }
        !watches_nan::<I>(BITS) || !isa.is_any_below(least, -127)
    }
}

/// Vectors of a unit: as few blocks as fill two registers with their codes.
const UNIT: usize = 8;

/// Blocks of a unit.
#[inline(always)]
const fn per_unit<I: Isa>() -> usize {
    UNIT * I::LANES / VALUES
}

/// Whether only codes tell that a value is NaN.
#[inline(always)]
const fn watches_nan<I: Isa>(bits: u32) -> bool {
    bits == 8 && I::MAGNITUDE_SKIPS_NAN
}

/// Whether pairs of vectors are widened out of order.
#[inline(always)]
const fn is_zipped<I: Isa, F: Lane>(bits: u32) -> bool {
    F::ZIPPED && (bits == 8 || VALUES / 2 / I::LANES > 1)
}

/// Whether codes are put in order once two of them share a byte: half as many permutations.
#[inline(always)]
const fn is_shuffled<I: Isa>(bits: u32) -> bool {
    bits == 4 && I::SHUFFLES
}

/// The codes of a unit, whose blocks begin at number `first` of the batch: in order if they are bytes,
/// else the first halves of all blocks, then the second ones; but see [`is_shuffled`].
#[inline(always)]
fn codes<I: Isa, F: Lane, const BITS: u32, const MIN: bool>(
    isa: I,
    values: &[F::Vector<I>],
    first: usize,
    params: &Params,
) -> [I::I8; 2] {
    let half = isa.splat(match (BITS, MIN) {
        (_, true) => 0.5,
        (4, false) => 8.5,
        (_, false) => 16.5,
    });
    let per_half = VALUES / 2 / I::LANES;
    let is_zipped = is_zipped::<I, F>(BITS);
    let mut codes = [isa.splat_i8(0); 2];
    for k in 0..2 {
        let mut pairs = [isa.splat_i16(0); 2];
        for p in 0..2 {
            let mut at = [4 * k + 2 * p, 4 * k + 2 * p + 1];
            if BITS != 8 {
                for v in 0..2 {
                    let (block, place) = ((2 * p + v) / per_half, (2 * p + v) % per_half);
                    at[v] = (2 * block + k) * per_half + place;
                }
            }
            let [a, b] = [values[at[0]], values[at[1]]];
            let wide = match is_zipped {
                true => F::widen_pair(isa, a, b),
                false => [F::widen(isa, a), F::widen(isa, b)],
            };
            let mut scaled = [half; 2];
            for v in 0..2 {
                let block = first + at[v] * I::LANES / VALUES;
                let value = match MIN {
                    true => isa.sub(wide[v], isa.splat(params.minima[block])),
                    false => wide[v],
                };
                scaled[v] = isa.mul(value, isa.splat(params.inverses[block]));
            }
            pairs[p] = match BITS {
                8 => isa.round_away_i16(scaled[0], scaled[1]),
                _ => {
                    let a = isa.truncate_i32(isa.add(scaled[0], half));
                    let b = isa.truncate_i32(isa.add(scaled[1], half));
                    isa.narrow_i16(a, b)
                }
            };
        }
        codes[k] = narrow::<I, F, BITS>(isa, pairs);
        if !MIN && BITS != 8 {
            // The value opposite to the largest may be a step further.
            codes[k] = isa.min_i8(codes[k], isa.splat_i8((1 << BITS) - 1));
        }
    }
    codes
}

/// Codes of 8 bits, in the order that [`codes`] tells.
#[inline(always)]
fn narrow<I: Isa, F: Lane, const BITS: u32>(isa: I, [a, b]: [I::I16; 2]) -> I::I8 {
    match (watches_nan::<I>(BITS), is_zipped::<I, F>(BITS)) {
        _ if is_shuffled::<I>(BITS) => isa.narrow_shuffled_i8(a, b),
        (true, true) => isa.narrow_i8::<true>(a, b),
        (true, false) => isa.narrow_i8::<false>(a, b),
        (false, true) => isa.narrow_small_i8::<true>(a, b),
        (false, false) => isa.narrow_small_i8::<false>(a, b),
    }
}

/// A unit's blocks.
#[inline(always)]
fn store<I: Isa, F: Lane, const BITS: u32, const MIN: bool, const SIZE: usize>(
    isa: I,
    codes: [I::I8; 2],
    first: usize,
    params: &Params,
    blocks: &mut [[u8; SIZE]; BATCH],
) {
    let mut joined = [match BITS {
        8 => codes[0],
        4 => isa.join_nibbles::<true>(codes[0], codes[1]),
        _ => isa.join_nibbles::<false>(codes[0], codes[1]),
    }];
    if is_shuffled::<I>(BITS) {
        joined[0] = match is_zipped::<I, F>(BITS) {
            true => isa.unshuffle_i8::<true>(joined[0]),
            false => isa.unshuffle_i8::<false>(joined[0]),
        };
    }
    let [first_bits, second_bits] = match BITS {
        5 => [isa.fifth_bits(codes[0]), isa.fifth_bits(codes[1])],
        _ => [0; 2],
    };
    let bytes = bytemuck::cast_slice::<_, [u8; VALUES]>(&codes);
    let nibbles = bytemuck::cast_slice::<_, [u8; VALUES / 2]>(&joined);
    for b in 0..per_unit::<I>() {
        let block = &mut blocks[first + b];
        block[..2].copy_from_slice(&params.halves[0][first + b].to_le_bytes());
        if MIN {
            block[2..4].copy_from_slice(&params.halves[1][first + b].to_le_bytes());
        }
        let rest = &mut block[floats_size(MIN)..];
        match BITS {
            8 => rest[..VALUES].copy_from_slice(&bytes[b]),
            4 => rest[..VALUES / 2].copy_from_slice(&nibbles[b]),
            _ => {
                // One number: two would be joined by vectors, through memory.
                let fifth = second_bits >> (16 * b) << 16 | first_bits >> (16 * b) & 0xffff;
                rest[..4].copy_from_slice(&(fifth as u32).to_le_bytes());
                rest[4..4 + VALUES / 2].copy_from_slice(&nibbles[b]);
            }
        }
    }
}
