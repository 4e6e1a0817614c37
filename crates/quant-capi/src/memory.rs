//! Whether there is memory for a call, before it begins.
//!
//! With one thread every allocation may fail; what starts threads and hands them work ends the process
//! where one of its own fails. So the functions that allocate first ask for as much as they will take,
//! give it back, and begin only if it was there.

use quant_core::{Arrangement, Params, ValueRange};
use quant_simd::TensorQuantizer;

use crate::QuantStatus;

/// The lists of a tensor's axes.
pub(crate) const GEOMETRY: usize = 64 << 10;

/// What a thread takes: its codes, what they stand for, the parameters of rows, and its own stack's
/// bookkeeping.
pub(crate) const PER_THREAD: usize = 8 << 20;

/// Whether so many bytes can be had.
pub fn expect(bytes: usize) -> Result<(), QuantStatus> {
    let mut room = Vec::<u8>::new();
    let had = room.try_reserve_exact(bytes);
    // An allocation that nobody looks at is left out.
    std::hint::black_box(room.as_ptr());
    had.map_err(|_| QuantStatus::NoMemory)
}

/// What it takes to quantize a tensor: where blocks lie apart, all their ranges for each thread, and
/// all their parameters; else those of the blocks at hand.
pub fn to_quantize(quantizer: &TensorQuantizer, threads: usize) -> usize {
    let per_thread = threads.saturating_mul(PER_THREAD);
    let scales = match quantizer.blocks.arrangement() {
        Arrangement::Scattered => quantizer.blocks.scale_count(),
        Arrangement::Runs | Arrangement::Rows { .. } => 0,
    };
    let ranges = size_of::<ValueRange>().saturating_mul(threads.saturating_add(1));
    // A vector that grows is twice as large for a while.
    let per_scale = ranges.saturating_add(3 * (size_of::<Params>() + 8));
    per_thread.saturating_add(scales.saturating_mul(per_scale))
}
