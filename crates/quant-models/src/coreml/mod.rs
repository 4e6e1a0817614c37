//! Core ML packages: ML programs and their weight files.
//!
//! A package is read by spans of its own bytes and written by splicing: only what changes is
//! encoded anew, so that everything that is not understood survives as it is.

mod activations;
pub(crate) mod blob;
mod dequantize;
mod emit;
mod encode;
mod folder;
mod graph;
mod inspect;
mod manifest;
mod opened;
mod output;
mod package;
mod parts;
pub(crate) mod program;
mod quantize;
pub(crate) mod read;
mod replaceable;
mod rewrite;
pub(crate) mod schema;
mod select;
mod structure;
mod weights;
pub(crate) mod wire;

pub(crate) use folder::Folder;
pub(crate) use opened::CoreMl;
pub(crate) use package::Package;
