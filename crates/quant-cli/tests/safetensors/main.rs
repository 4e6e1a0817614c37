//! The command on safetensors models.

mod experts;
mod files;
#[path = "../packages/folder.rs"]
#[allow(dead_code)]
mod folder;
mod foreign;
mod model;
mod quantized;
mod unmatched;
