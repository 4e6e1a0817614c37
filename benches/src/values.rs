//! What kernels are measured with.

use quant_core::Float;

use crate::buffer::Buffer;

/// Finite values spread over [-1, 1), the same in every run.
pub fn values<F: Float>(n: usize) -> Buffer<F> {
    Buffer::new(n, |i| F::from_f32(spread(i) as i32 as f32 / 2_f32.powi(31)))
}

/// Of a logistic distribution: a bell with somewhat heavier tails than the normal one's, as weights of
/// trained layers are. Within a block no value follows from another.
pub fn weights<F: Float>(n: usize) -> Buffer<F> {
    Buffer::new(n, |i| {
        let uniform = (f64::from(scattered(i as u32)) + 0.5) / 2_f64.powi(32);
        F::from_f32((0.02 * (uniform / (1.0 - uniform)).ln()) as f32)
    })
}

/// [`values`] with zeros for negative values: half of them have the same bin.
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

/// A permutation of 32 bits that looks random: the finalizer of MurmurHash3 (Austin Appleby, 2011).
fn scattered(i: u32) -> u32 {
    let i = (i ^ i >> 16).wrapping_mul(0x85eb_ca6b);
    let i = (i ^ i >> 13).wrapping_mul(0xc2b2_ae35);
    i ^ i >> 16
}
