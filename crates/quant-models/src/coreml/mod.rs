//! Core ML packages: ML programs and their weight files.
//!
//! A package is read by spans of its own bytes and written by splicing: only what changes is
//! encoded anew, so that everything that is not understood survives as it is.

pub(crate) mod activations;
pub(crate) mod blob;
pub(crate) mod dequantize;
pub(crate) mod diff;
mod emit;
mod encode;
mod folder;
mod graph;
pub(crate) mod inspect;
mod manifest;
mod output;
mod package;
mod parts;
pub(crate) mod program;
pub(crate) mod quantize;
pub(crate) mod read;
mod replaceable;
mod rewrite;
pub(crate) mod schema;
mod select;
mod weights;
pub(crate) mod wire;

pub(crate) use folder::{Folder, is_package};
pub(crate) use package::Package;
