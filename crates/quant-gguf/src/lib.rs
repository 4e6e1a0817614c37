//! GGUF files: one file with metadata and tensors, most of them in blocks of ggml's types.
//!
//! Most users want the crate quant-models, which brings all formats together.
#![forbid(unsafe_code)]
// A new type, mode or dialect must be thought of wherever there is a choice.
#![deny(
    clippy::wildcard_enum_match_arm,
    clippy::match_wildcard_for_single_variants
)]

mod architecture;
mod convert;
mod cursor;
mod dequantize;
mod file;
mod floats;
mod imatrix;
mod metadata;
mod opened;
mod taken;
mod types;
mod write;

pub use imatrix::imatrix;
pub use opened::Gguf;
