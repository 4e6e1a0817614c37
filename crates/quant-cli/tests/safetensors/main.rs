//! The command on safetensors models.

#[path = "../packages/folder.rs"]
#[allow(dead_code)]
mod folder;
mod model;
mod unmatched;
