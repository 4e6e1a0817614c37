//! Other libraries' kernels for the same work, on one thread. Without the feature there are none.

use crate::case::Peer;

pub fn quantize_u8(_: usize) -> Vec<Peer<f32>> {
    vec![]
}
pub fn quantize_q8_0(_: usize) -> Vec<Peer<f32>> {
    vec![]
}
pub fn quantize_q4_0(_: usize) -> Vec<Peer<f32>> {
    vec![]
}
pub fn dequantize_q8_0(_: usize) -> Vec<Peer<u8>> {
    vec![]
}
pub fn dequantize_q4_0(_: usize) -> Vec<Peer<u8>> {
    vec![]
}
pub fn min_max() -> Vec<Peer<f32>> {
    vec![]
}
