//! What the benchmarks measure: one list of kernels, and for each the limit of memory traffic, a
//! plain copy, every backend of this machine, and peers (feature `peers`).
//!
//! `cargo bench` measures all of it with criterion, `cargo xtask bench` in a shorter way.

mod buffer;
mod case;
mod kernels;
mod limit;
mod peers;
pub mod timing;
mod values;

pub use case::{Case, Contender};
pub use kernels::{KERNELS, Kernel};
pub use limit::Limit;

/// Elements per call: with f32 on one side they sit in L1, L2, L3 and DRAM of a present-day server
/// core.
pub const SIZES: [usize; 4] = [4 << 10, 16 << 10, 1 << 20, 16 << 20];

/// A size as the tables print it: `4Ki`, `1Mi`.
pub fn size_name(elements: usize) -> String {
    if elements >= 1 << 20 {
        format!("{}Mi", elements >> 20)
    } else {
        format!("{}Ki", elements >> 10)
    }
}
