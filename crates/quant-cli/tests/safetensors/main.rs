//! The command on safetensors models.

mod experts;
mod files;
#[path = "../folder/mod.rs"]
mod folder;
mod foreign;
mod model;
mod quantized;
mod unmatched;
