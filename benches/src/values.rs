//! What kernels are measured with.

use quant_core::Float;

use crate::buffer::Buffer;

/// Finite values spread over [-1, 1), the same in every run.
pub fn values<F: Float>(n: usize) -> Buffer<F> {
    Buffer::new(n, |i| F::from_f32(spread(i) as i32 as f32 / 2_f32.powi(31)))
}

/// The same with zeros for negative values: half of them have the same bin.
pub fn rectified(n: usize) -> Buffer<f32> {
    let values = values::<f32>(n);
    Buffer::new(n, |i| values[i].max(0.0))
}

/// Bytes of all values: codes of 8 bits, or pairs of 4.
pub fn bytes(n: usize) -> Buffer<u8> {
    Buffer::new(n, |i| (spread(i) >> 24) as u8)
}

/// Multiples of the golden ratio leave no gaps and repeat nothing.
fn spread(i: usize) -> u32 {
    (i as u32).wrapping_mul(0x9e37_79b9)
}
