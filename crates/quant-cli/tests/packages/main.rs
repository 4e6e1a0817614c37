//! The command on Core ML packages and with configuration files.

mod activations;
mod folder;
mod unmatched;
mod weights;
