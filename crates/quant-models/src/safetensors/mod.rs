//! Safetensors files, and folders of them.

mod companions;
mod dequantize;
pub(crate) mod encodings;
mod experts;
mod foreign;
mod format;
pub(crate) mod index;
mod inspect;
pub(crate) mod model;
mod model_config;
mod opened;
mod output;
mod quantize;
mod replaceable;
mod write_index;

pub use encodings::Preset;
pub use format::{Entry, SafetensorsFile};
pub use model::{Model, Quantized, Tensor};
pub(crate) use opened::Safetensors;
pub use write_index::{WrittenIndex, write_index};
