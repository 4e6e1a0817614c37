//! Blocks from values.

use super::params::Params;
use super::{BATCH, Blocks, TWO, VALUES, Values, floats_size, store};
use crate::isa::{Isa, Kernel};
use crate::kernels::stream;
use crate::lane::Lane;

/// Bytes from what is read now to what is asked for, where it lies beyond the cache.
const AHEAD: usize = 16 << 10;

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
        let mut done = 0;
        while blocks.len() - done >= BATCH {
            let values = &self.values[done * VALUES..][..BATCH * VALUES];
            let blocks = &mut blocks[done..done + BATCH];
            let vectors = bytemuck::cast_slice(values);
            let all = if self.stream {
                isa.prefetch(values, AHEAD);
                let mut staged = Blocks([[0; SIZE]; BATCH]);
                let all = batch::<I, F, BITS, MIN, SIZE>(isa, vectors, &mut staged.0);
                stream(isa, staged.0.as_flattened(), blocks.as_flattened_mut());
                all
            } else {
                batch::<I, F, BITS, MIN, SIZE>(isa, vectors, blocks)
            };
            if !all {
                break;
            }
            done += BATCH;
        }
        if self.stream {
            isa.fence();
        }
        let (rest, rest_blocks) = (&self.values[done * VALUES..], &mut blocks[done..]);
        if !rest.is_empty() && rest_blocks.len() < BATCH {
            let mut values = Values([F::zeroed(); BATCH * VALUES]);
            values.0[..rest.len()].copy_from_slice(rest);
            let mut padded = Blocks([[0; SIZE]; BATCH]);
            let vectors = bytemuck::cast_slice(&values.0);
            if batch::<I, F, BITS, MIN, SIZE>(isa, vectors, &mut padded.0) {
                rest_blocks.copy_from_slice(&padded.0[..rest_blocks.len()]);
                done += rest_blocks.len();
            }
        }
        done
    }
}

/// Whether all blocks are ordinary; if not, nothing of use was written.
#[inline(always)]
fn batch<I: Isa, F: Lane, const BITS: u32, const MIN: bool, const SIZE: usize>(
    isa: I,
    values: &[F::Vector<I>],
    blocks: &mut [[u8; SIZE]],
) -> bool {
    let (values, blocks) = (&values[..BATCH * VALUES / I::LANES], &mut blocks[..BATCH]);
    let mut params = Params::new();
    match (BITS, MIN) {
        (8, _) => params.of_magnitudes::<I, F>(isa, values),
        (_, false) => params.of_largest::<I, F, BITS>(isa, values),
        (_, true) => params.of_bounds::<I, F, BITS>(isa, values),
    }
    if !params.finish::<I, MIN>(isa) {
        return false;
    }
    let per_two = TWO * VALUES / I::LANES;
    for two in 0..BATCH / TWO {
        let values = &values[two * per_two..][..per_two];
        let codes = codes::<I, F, BITS, MIN>(isa, values, TWO * two, &params);
        for k in 0..TWO {
            let at = TWO * two + k;
            let block = &mut blocks[at];
            block[..2].copy_from_slice(&params.halves[0][at].to_le_bytes());
            if MIN {
                block[2..4].copy_from_slice(&params.halves[1][at].to_le_bytes());
            }
            store::<BITS>(&codes[k], &mut block[floats_size(MIN)..]);
        }
    }
    true
}

/// The codes of two blocks, the first of them number `first` of the batch.
#[inline(always)]
fn codes<I: Isa, F: Lane, const BITS: u32, const MIN: bool>(
    isa: I,
    values: &[F::Vector<I>],
    first: usize,
    params: &Params,
) -> [[u8; VALUES]; TWO] {
    let half = isa.splat(match (BITS, MIN) {
        (_, true) => 0.5,
        (4, false) => 8.5,
        (_, false) => 16.5,
    });
    let mut codes = [[0_u8; VALUES]; TWO];
    let groups: &mut [I::I8] = bytemuck::cast_slice_mut(codes.as_flattened_mut());
    for g in 0..TWO * VALUES / (4 * I::LANES) {
        let mut pairs = [isa.splat_i16(0); 2];
        for p in 0..2 {
            let pair = 2 * g + p;
            let block = first + pair * 2 * I::LANES / VALUES;
            let inverse = isa.splat(params.inverses[block]);
            let minimum = isa.splat(params.minima[block]);
            let mut steps = [isa.splat_i32(0); 2];
            let wide = F::widen_pair(isa, values[2 * pair], values[2 * pair + 1]);
            for v in 0..2 {
                let value = match MIN {
                    true => isa.sub(wide[v], minimum),
                    false => wide[v],
                };
                let quotient = isa.mul(value, inverse);
                steps[v] = match BITS {
                    8 => isa.round_away_i32(quotient),
                    _ => isa.truncate_i32(isa.add(quotient, half)),
                };
            }
            pairs[p] = isa.narrow_i16(steps[0], steps[1]);
        }
        let all = match F::ZIPPED {
            true => isa.narrow_small_i8::<true>(pairs[0], pairs[1]),
            false => isa.narrow_small_i8::<false>(pairs[0], pairs[1]),
        };
        groups[g] = match BITS {
            8 => all,
            // The value opposite to the largest may be a step further.
            _ => isa.clamp_i8(all, isa.splat_i8(0), isa.splat_i8((1 << BITS) - 1)),
        };
    }
    codes
}
