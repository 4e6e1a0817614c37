//! A tensor of a file that is to be written.

/// A tensor to be written.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub name: String,
    pub dtype: String,
    pub shape: Vec<usize>,
    pub len: usize,
}
