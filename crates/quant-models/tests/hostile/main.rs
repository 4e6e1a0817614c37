//! Damaged packages and models end with one line and no output; what is not understood survives.

mod activations;
mod coreai;
#[allow(dead_code)]
#[path = "../coreml/mod.rs"]
mod coreml;
mod layouts;
mod package;
mod weights;
