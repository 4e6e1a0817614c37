//! What a format says of a model's tensors; [`policy`](crate::policy) decides what happens to each.

use std::path::PathBuf;

use quant_core::FloatType;

use crate::Consumer;
use crate::options::ExpertAxes;

/// A tensor, as its format describes it.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// Its number among the model's tensors.
    pub index: usize,
    pub name: String,
    /// Another name that patterns know it by.
    pub alias: Option<String>,
    /// The file that holds it, for messages.
    pub file: PathBuf,
    /// The type's name in the file.
    pub dtype: String,
    pub shape: Vec<usize>,
    /// Bytes in the file.
    pub bytes: u64,
    pub storage: Storage,
    pub axes: Axes,
    /// What it feeds, in a format that says so.
    pub consumers: Vec<Consumer>,
    /// Why it stays as it is, whatever the options say.
    pub pinned: Option<&'static str>,
}

/// How a tensor is stored.
#[derive(Clone, Debug)]
pub(crate) enum Storage {
    Float(FloatType),
    /// Not as floats that can be quantized: why.
    Other(String),
}

/// Which axes a tensor's output and input channels have.
#[derive(Clone, Debug)]
pub(crate) enum Axes {
    Agreed {
        output: isize,
        input: isize,
    },
    /// Those of a stack of experts behind the experts' own axis.
    Stack(ExpertAxes),
    /// Its consumers want different ones: which.
    Conflicting(String),
}

impl Facts {
    pub fn element_count(&self) -> usize {
        self.shape.iter().product()
    }

    /// All names that patterns know it by.
    pub fn names(&self) -> Vec<&str> {
        let alias = self.alias.as_deref();
        alias.into_iter().chain([self.name.as_str()]).collect()
    }
}
