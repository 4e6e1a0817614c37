//! Range, quantize, dequantize and pack, on slices and on whole tensors: naive, and therefore the
//! oracle for everything faster.

mod ggml;
mod pack;
mod search;
mod slice;
mod tensor;

pub use ggml::{dequantize_ggml, quantize_ggml};
pub use pack::{pack, unpack};
pub use search::{search, search_candidate};
pub use slice::{dequantize, quantize, range, saturated};
pub use tensor::{
    QuantizedTensor, TensorError, dequantize_tensor, quantize_tensor, quantize_tensor_searched,
};
