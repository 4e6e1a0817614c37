//! What a format says of a model's tensors; the policy decides what happens to each.

use std::path::PathBuf;

use quant_core::{FloatType, GgmlType};

use crate::Consumer;
use crate::options::ExpertAxes;

/// A tensor, as its format describes it.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Its number among the model's tensors.
    pub index: usize,
    /// Its name in the model.
    pub name: String,
    /// Another name that patterns know it by.
    pub alias: Option<String>,
    /// The file that holds it, for messages.
    pub file: PathBuf,
    /// The type's name in the file.
    pub dtype: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Bytes in the file.
    pub bytes: u64,
    /// How it is stored.
    pub storage: Storage,
    /// Which of its axes are channels.
    pub axes: Axes,
    /// What it feeds, in a format that says so.
    pub consumers: Vec<Consumer>,
    /// Why it stays as it is, whatever the options say.
    pub pinned: Option<&'static str>,
}

/// How a tensor is stored.
#[derive(Clone, Debug)]
pub enum Storage {
    /// As floats of this type.
    Float(FloatType),
    /// In blocks, from which floats can be restored.
    Blocks(GgmlType),
    /// Not as floats that can be quantized: why.
    Other(String),
}

/// Which axes a tensor's output and input channels have.
#[derive(Clone, Debug)]
pub enum Axes {
    /// All that it feeds agrees on them.
    Agreed {
        /// The axis of the output channels.
        output: isize,
        /// The axis of the input channels.
        input: isize,
    },
    /// Those of a stack of experts behind the experts' own axis.
    Stack(ExpertAxes),
    /// Its consumers want different ones: which.
    Conflicting(String),
}

impl Facts {
    /// Number of its values.
    pub fn element_count(&self) -> usize {
        self.shape.iter().product()
    }

    /// All names that patterns know it by.
    pub fn names(&self) -> Vec<&str> {
        let alias = self.alias.as_deref();
        alias.into_iter().chain([self.name.as_str()]).collect()
    }
}
