//! Core AI models: `.aimodel` folders, whose program and weights are MLIR bytecode.
//!
//! What is not understood stays as it is: a result has the input's tables and operations, and new ones
//! behind them.
//!
//! Most users want the crate quant-models, which brings all formats together.
#![forbid(unsafe_code)]
// A new type, mode or dialect must be thought of wherever there is a choice.
#![deny(
    clippy::wildcard_enum_match_arm,
    clippy::match_wildcard_for_single_variants
)]

mod bytecode;
mod changes;
mod dequantize;
mod folder;
mod graph;
mod hash;
mod model;
mod opened;
mod parts;
mod program;
mod quantize;
mod rewrite;
mod structure;
mod tables;
mod types;
mod wire;

pub use opened::CoreAi;
