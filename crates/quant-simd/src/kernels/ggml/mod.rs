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
/// Blocks of which one register holds the halves, or the bounds of lanes.
const FOUR: usize = 4;
/// Values of a block.
const VALUES: usize = GgmlType::VALUES;

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
