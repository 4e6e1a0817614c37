//! The command on Core ML packages and with configuration files.

mod activations;
mod fixtures;
#[path = "../folder/mod.rs"]
mod folder;
mod unmatched;
mod weights;
