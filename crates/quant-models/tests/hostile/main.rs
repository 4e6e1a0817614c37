//! Damaged packages end with one line and no output; what is not understood survives.

mod activations;
#[allow(dead_code)]
#[path = "../coreml/mod.rs"]
mod coreml;
mod layouts;
mod package;
mod weights;
