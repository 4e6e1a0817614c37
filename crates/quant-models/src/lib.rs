//! Model files: safetensors in, quantized safetensors out, in bounded memory.
//!
//! Inputs are memory-mapped. Outputs are written under a temporary name in the target folder,
//! synced and renamed: they appear whole or not at all.
#![deny(unsafe_code)]

mod dequantize;
mod diff;
mod error;
mod format;
mod model;
mod output;
mod quantize;
mod scheme_record;
mod sized_file;

pub use dequantize::dequantize;
pub use diff::{Difference, TensorDifference, diff};
pub use error::Error;
pub use format::{Entry, SafetensorsFile};
pub use model::{Model, Quantized, Tensor};
pub use output::Job;
pub use quantize::{NonFinite, QuantizeOptions, Report, TensorReport, quantize};
pub use scheme_record::SchemeRecord;
