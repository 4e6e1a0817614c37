//! How to restore a model, and what was done with it, or in converting it.

use crate::Note;

/// What a restoring has done.
#[derive(Clone, Debug)]
pub struct Restored {
    /// Bytes of the output.
    pub bytes: u64,
    /// What the user should know, a line each.
    pub warnings: Vec<Note>,
    /// The small files beside the weights that were copied.
    pub copied: Vec<String>,
}

/// What a conversion has done.
#[derive(Clone, Debug)]
pub struct Converted {
    /// Bytes of the output.
    pub bytes: u64,
    /// How many tensors are said in other words; the rest stays as it is.
    pub tensors: usize,
    /// What the user should know, a line each.
    pub warnings: Vec<String>,
    /// The small files beside the weights that were copied.
    pub copied: Vec<String>,
}

/// How to restore a model.
#[derive(Clone, Debug, Default)]
pub struct DequantizeOptions {
    /// A sharded model: do not copy the small files beside the weights that a loader needs, such as
    /// `config.json` and the tokenizer.
    pub weights_only: bool,
}
