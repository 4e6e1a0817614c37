//! Values from blocks.

use super::{BATCH, Blocks, TWO, VALUES, Values, floats_size, load, vectors};
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
    let mut infinite = false;
    for i in 0..BATCH {
        let block = &blocks[i];
        halves[0][i] = u16::from_le_bytes([block[0], block[1]]);
        if MIN {
            halves[1][i] = u16::from_le_bytes([block[2], block[3]]);
        }
    }
    for i in 0..BATCH {
        infinite |= halves[0][i] & 0x7c00 == 0x7c00;
        infinite |= halves[1][i] & 0x7c00 == 0x7c00;
    }
    let mut floats = [[0.0; BATCH]; 2];
    for half in 0..1 + usize::from(MIN) {
        let halves = vectors::<I::U16, _>(&mut halves[half]);
        let floats = vectors::<I::F32, _>(&mut floats[half]);
        for i in 0..BATCH / I::LANES {
            floats[i] = isa.widen_f16(halves[i]);
        }
    }
    match infinite {
        true => None,
        false => Some(floats),
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
    let zero = isa.splat_i32(match (BITS, MIN) {
        (4, false) => 8,
        (5, false) => 16,
        _ => 0,
    });
    let per_two = TWO * VALUES / I::LANES;
    for two in 0..BATCH / TWO {
        let mut codes = [[0_u8; VALUES]; TWO];
        for k in 0..TWO {
            codes[k] = load::<BITS>(&blocks[TWO * two + k][floats_size(MIN)..]);
        }
        let groups: &[I::I8] = bytemuck::cast_slice(codes.as_flattened());
        for g in 0..TWO * VALUES / (4 * I::LANES) {
            let steps = match BITS {
                8 => isa.widen_codes::<true>(&groups[g]),
                _ => isa.widen_codes::<false>(&groups[g]),
            };
            for v in 0..4 {
                let vector = 4 * g + v;
                let block = TWO * two + vector * I::LANES / VALUES;
                let steps = match (BITS, MIN) {
                    (4 | 5, false) => isa.sub_i32(steps[v], zero),
                    _ => steps[v],
                };
                let mut value = isa.mul(isa.splat(scales[block]), isa.to_f32(steps));
                if MIN {
                    value = isa.add(value, isa.splat(minima[block]));
                }
                let (place, value) = (&mut values[two * per_two + vector], F::narrow(isa, value));
                match STREAM {
                    true => isa.stream(place, value),
                    false => *place = value,
                }
            }
        }
    }
    true
}
