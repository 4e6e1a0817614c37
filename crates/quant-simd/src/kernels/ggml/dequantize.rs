//! Values from blocks.

use super::{BATCH, Blocks, VALUES, Values, floats_size, vectors};
use crate::isa::{Isa, Kernel};
use crate::lane::Lane;

/// The values of blocks of ggml. Stops before the first batch with a block whose scale or minimum is
/// not finite; gives the number of blocks done.
pub struct DequantizeGgml<'a, F, const BITS: u32, const MIN: bool, const SIZE: usize> {
    /// The blocks.
    pub blocks: &'a [u8],
    /// Buffer for their values.
    pub values: &'a mut [F],
    /// Whether to store past the cache (non-temporal stores).
    pub stream: bool,
}

impl<F: Lane, const BITS: u32, const MIN: bool, const SIZE: usize> Kernel
    for DequantizeGgml<'_, F, BITS, MIN, SIZE>
{
    type Output = usize;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> usize {
        let (blocks, _) = self.blocks.as_chunks::<SIZE>();
        let mut done = 0;
        while blocks.len() - done >= BATCH {
            let values = &mut self.values[done * VALUES..][..BATCH * VALUES];
            let (blocks, values) = (&blocks[done..], bytemuck::cast_slice_mut(values));
            let all = match I::STREAMS && self.stream {
                true => batch::<I, F, BITS, MIN, SIZE, true>(isa, blocks, values),
                false => batch::<I, F, BITS, MIN, SIZE, false>(isa, blocks, values),
            };
            if !all {
                break;
            }
            done += BATCH;
        }
        if self.stream {
            isa.fence();
        }
        let (rest, rest_values) = (&blocks[done..], &mut self.values[done * VALUES..]);
        if !rest.is_empty() && rest.len() < BATCH {
            let mut padded = Blocks([[0; SIZE]; BATCH]);
            padded.0[..rest.len()].copy_from_slice(rest);
            let mut values = Values([F::zeroed(); BATCH * VALUES]);
            let room = bytemuck::cast_slice_mut(&mut values.0);
            if batch::<I, F, BITS, MIN, SIZE, false>(isa, &padded.0, room) {
                rest_values.copy_from_slice(&values.0[..rest_values.len()]);
                done += rest.len();
            }
        }
        done
    }
}

/// Scales and minima, if all of them are finite.
#[inline(always)]
fn floats<I: Isa, const MIN: bool, const SIZE: usize>(
    isa: I,
    blocks: &[[u8; SIZE]],
) -> Option<[[f32; BATCH]; 2]> {
    let mut halves = [[0_u16; BATCH]; 2];
    for i in 0..BATCH {
        let block = &blocks[i];
        halves[0][i] = u16::from_le_bytes([block[0], block[1]]);
        if MIN {
            halves[1][i] = u16::from_le_bytes([block[2], block[3]]);
        }
    }
    let mut floats = [[0.0; BATCH]; 2];
    let mut largest = isa.splat_i32(0);
    for half in 0..1 + usize::from(MIN) {
        let halves = vectors::<I::U16, _>(&mut halves[half]);
        let floats = vectors::<I::F32, _>(&mut floats[half]);
        for i in 0..BATCH / I::LANES {
            floats[i] = isa.widen_f16(halves[i]);
            largest = isa.max_i32(largest, isa.magnitude_bits(floats[i]));
        }
    }
    match isa.all_in_i32(largest, 0, f32::MAX.to_bits() as i32) {
        true => Some(floats),
        false => None,
    }
}

/// Whether all blocks are ordinary; if not, nothing was written.
#[inline(always)]
fn batch<
    I: Isa,
    F: Lane,
    const BITS: u32,
    const MIN: bool,
    const SIZE: usize,
    const STREAM: bool,
>(
    isa: I,
    blocks: &[[u8; SIZE]],
    values: &mut [F::Vector<I>],
) -> bool {
    let (blocks, values) = (&blocks[..BATCH], &mut values[..BATCH * VALUES / I::LANES]);
    let Some([scales, minima]) = floats::<I, MIN, SIZE>(isa, blocks) else {
        return false;
    };
    let per_block = VALUES / I::LANES;
    for i in 0..BATCH {
        let block = &blocks[i];
        let steps = steps::<I, BITS, MIN>(isa, &block[floats_size(MIN)..]);
        for v in 0..per_block {
            let mut value = isa.mul(isa.splat(scales[i]), isa.to_f32(steps[v]));
            if MIN {
                value = isa.add(value, isa.splat(minima[i]));
            }
            let (place, value) = (&mut values[i * per_block + v], F::narrow(isa, value));
            match STREAM {
                true => isa.stream(place, value),
                false => *place = value,
            }
        }
    }
    true
}

/// What the scale of a block is multiplied by: its codes, less their zero point if there is no minimum.
#[inline(always)]
fn steps<I: Isa, const BITS: u32, const MIN: bool>(isa: I, from: &[u8]) -> [I::I32; 8] {
    let zero = match (BITS, MIN) {
        (4, false) => 8,
        (5, false) => 16,
        _ => 0,
    };
    let mut steps = [isa.splat_i32(0); 8];
    if BITS == 4 || BITS == 5 && I::HAS_MASKS {
        let start = if BITS == 5 { 4 } else { 0 };
        let mut nibbles = [0; VALUES / 2];
        nibbles.copy_from_slice(&from[start..start + VALUES / 2]);
        let fifth = u32::from_le_bytes([from[0], from[1], from[2], from[3]]);
        let per_half = VALUES / 2 / I::LANES;
        for part in 0..per_half {
            let codes = isa.widen_nibbles(&nibbles, part);
            for half in 0..2 {
                let at = half * per_half + part;
                steps[at] = match BITS {
                    4 => codes[half],
                    _ => isa.sub_i32(codes[half], isa.where_set(fifth, at * I::LANES, -16)),
                };
            }
        }
    } else {
        let mut codes = [0; VALUES];
        match BITS {
            8 => codes.copy_from_slice(&from[..VALUES]),
            _ => codes = five_bits(from),
        }
        for part in 0..VALUES / I::LANES {
            steps[part] = isa.widen_bytes(&codes, part);
        }
    }
    if zero != 0 {
        for part in 0..VALUES / I::LANES {
            steps[part] = isa.sub_i32(steps[part], isa.splat_i32(zero));
        }
    }
    steps
}

/// Eight times the same byte.
#[inline(always)]
const fn eight(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// Codes of five bits, eight at a time, for want of masks.
#[inline(always)]
fn five_bits(from: &[u8]) -> [u8; VALUES] {
    let mut nibbles = [[0; 8]; 2];
    bytemuck::bytes_of_mut(&mut nibbles).copy_from_slice(&from[4..4 + VALUES / 2]);
    let mut words = [[0; 8]; 4];
    for i in 0..4 {
        let word = u64::from_le_bytes(nibbles[i % 2]) >> (i / 2 * 4) & eight(15);
        // Each byte keeps its own bit; a byte that is not 0 carries into its highest one.
        let own = eight(from[i]) & u64::from_le_bytes([1, 2, 4, 8, 16, 32, 64, 128]);
        let fifth = ((own + eight(127)) & eight(128)) >> 3;
        words[i] = (word | fifth).to_le_bytes();
    }
    bytemuck::cast(words)
}
