//! Blocks of ggml, many at once.
//!
//! A kernel is told the bits of a code, whether a block has a minimum, and the bytes of a block: all of
//! them constants, so that each type's loops are of known length. Not one of them goes through an
//! adaptor of std, which need not be inlined.

mod dequantize;
mod params;
mod quantize;

pub use dequantize::DequantizeGgml;
pub use quantize::QuantizeGgml;

use quant_core::GgmlType;

/// Blocks that are done together: one division serves as many scales as there are lanes, and the
/// blocks of any type fill whole lines of the cache.
pub const BATCH: usize = 32;
/// Values of a block.
const VALUES: usize = GgmlType::VALUES;
/// Blocks whose codes fill whole registers of every instruction set.
const TWO: usize = 2;

/// The values of a batch.
#[repr(align(64))]
struct Values<F>([F; BATCH * VALUES]);
/// The blocks of a batch.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Blocks<const SIZE: usize>([[u8; SIZE]; BATCH]);

/// A number for each block of a batch, as vectors.
#[inline(always)]
fn vectors<V: bytemuck::Pod, T: bytemuck::Pod>(row: &mut [T; BATCH]) -> &mut [V] {
    &mut bytemuck::cast_slice_mut(row)[..BATCH * size_of::<T>() / size_of::<V>()]
}

/// Bytes of the floats that a block begins with.
#[inline(always)]
const fn floats_size(has_minimum: bool) -> usize {
    if has_minimum { 4 } else { 2 }
}

/// Eight times the same byte.
#[inline(always)]
const fn eight(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// Codes as a block holds them, behind its floats.
#[inline(always)]
fn store<const BITS: u32>(codes: &[u8; VALUES], to: &mut [u8]) {
    if BITS == 8 {
        to[..VALUES].copy_from_slice(codes);
        return;
    }
    let words: [[u8; 8]; 4] = bytemuck::cast(*codes);
    let mut low = [0; 4];
    let mut fifth = [0; 4];
    for i in 0..4 {
        let word = u64::from_le_bytes(words[i]);
        low[i] = word & eight(15);
        // The multiplication gathers the lowest bits of all bytes in the highest byte.
        let bits = (word >> 4 & eight(1)).wrapping_mul(0x0102_0408_1020_4080);
        fifth[i] = (bits >> 56) as u8;
    }
    let nibbles = if BITS == 5 { 4 } else { 0 };
    if BITS == 5 {
        to[..4].copy_from_slice(&fifth);
    }
    let first = (low[0] | low[2] << 4).to_le_bytes();
    let second = (low[1] | low[3] << 4).to_le_bytes();
    to[nibbles..nibbles + 16].copy_from_slice(&bytemuck::cast::<_, [u8; 16]>([first, second]));
}

/// Codes from a block, behind its floats.
#[inline(always)]
fn load<const BITS: u32>(from: &[u8]) -> [u8; VALUES] {
    let mut codes = [0; VALUES];
    if BITS == 8 {
        codes.copy_from_slice(&from[..VALUES]);
        return codes;
    }
    let start = if BITS == 5 { 4 } else { 0 };
    let mut nibbles = [[0; 8]; 2];
    bytemuck::bytes_of_mut(&mut nibbles).copy_from_slice(&from[start..start + 16]);
    let mut words = [[0; 8]; 4];
    for i in 0..4 {
        let mut word = u64::from_le_bytes(nibbles[i % 2]) >> (i / 2 * 4) & eight(15);
        if BITS == 5 {
            // Each byte keeps its own bit; a byte that is not 0 carries into its highest one.
            let own = eight(from[i]) & u64::from_le_bytes([1, 2, 4, 8, 16, 32, 64, 128]);
            word |= ((own + eight(127)) & eight(128)) >> 3;
        }
        words[i] = word.to_le_bytes();
    }
    bytemuck::cast(words)
}
