//! Safetensors files, and folders of them.

mod companions;
pub(crate) mod dequantize;
pub(crate) mod encodings;
mod experts;
mod foreign;
mod format;
pub(crate) mod index;
pub(crate) mod inspect;
pub(crate) mod model;
mod output;
pub(crate) mod quantize;
mod replaceable;

pub use encodings::Encoding;
pub use format::{Entry, SafetensorsFile};
pub use model::{Model, Quantized, Tensor};
