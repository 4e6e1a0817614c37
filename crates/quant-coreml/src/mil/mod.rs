//! `model.mlmodel`: protobuf's fields as they lie in the file, and what is understood of them.

pub(crate) mod dtype;
pub(crate) mod encode;
pub(crate) mod program;
pub(crate) mod read;
pub(crate) mod rewrite;
pub(crate) mod schema;
pub(crate) mod wire;
