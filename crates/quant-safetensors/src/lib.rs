//! Safetensors files, and folders of them: what they hold, and quantized ones.
//!
//! Most users want the crate quant-models, which brings all formats together.
#![forbid(unsafe_code)]

mod activations;
mod companions;
mod convert;
mod dequantize;
mod encodings;
mod experts;
mod foreign;
mod format;
mod index;
mod inspect;
mod model;
mod model_config;
mod model_files;
mod opened;
mod output;
mod part;
mod quantize;
mod replaceable;
mod restorable;
mod write_index;

pub use format::{Entry, SafetensorsFile};
pub use model::{Model, Quantized, Tensor};
pub use opened::Safetensors;
pub use write_index::{WrittenIndex, write_index};
