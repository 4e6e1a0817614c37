//! quant-core's functions for whole tensors, on all cores, with the reference's bytes.
//!
//! Work runs on the current rayon pool. The result does not depend on the number of threads.
#![forbid(unsafe_code)]

mod backend;
mod portable;
mod tensor;

pub use backend::Backend;
pub use tensor::{Failure, Sink, TensorQuantizer};
