//! Core ML packages: ML programs and their weight files.
//!
//! A package is read by spans of its own bytes and written by splicing: only what changes is
//! encoded anew, so that everything that is not understood survives as it is.
//!
//! Most users want the crate quant-models, which brings all formats together.
#![forbid(unsafe_code)]

mod activations;
mod blob;
mod constexpr;
mod dequantize;
mod emit;
mod folder;
mod graph;
mod inspect;
mod manifest;
mod mil;
mod opened;
mod output;
mod package;
mod parts;
pub mod program;
mod quantize;
mod replaceable;
mod select;
mod size;
mod structure;
mod weight_layout;
mod weights;

pub use opened::CoreMl;
