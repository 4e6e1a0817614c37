//! Safetensors files, and folders of them.

pub(crate) mod dequantize;
mod experts;
mod foreign;
mod format;
pub(crate) mod index;
pub(crate) mod inspect;
pub(crate) mod model;
pub(crate) mod quantize;

pub use format::{Entry, SafetensorsFile};
pub use model::{Model, Quantized, Tensor};
