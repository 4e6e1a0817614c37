//! quant-core's functions for whole tensors, on all cores, with the reference's bytes.
//!
//! Work runs on the current rayon pool. The result does not depend on the number of threads.

mod arch;
mod backend;
mod columns;
mod dispatch;
mod element;
mod isa;
mod kernels;
mod slice;
mod stream;
mod tensor;
mod terms;

pub use backend::Backend;
pub use columns::Columns;
pub use element::Element;
pub use tensor::{Failure, Sink, TensorQuantizer};

/// Widens little-endian elements to f32, exactly.
///
/// # Panics
/// If `bytes` is not a whole number of elements.
pub fn widen(bytes: &[u8], source: quant_core::FloatType) -> Vec<f32> {
    tensor::widen(bytes, source)
}
