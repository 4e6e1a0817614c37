//! What can go wrong, in words that name the file, the tensor and the way out.

use std::path::{Path, PathBuf};

use crate::text::{self, Name, Problem};
pub(crate) use crate::text::{one_line, shortened_name as shortened};

/// Why a command on a model file ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("{}: cannot {doing}: {}", text::File(file), Problem(&source.to_string()))]
    Io {
        /// The file or folder.
        file: PathBuf,
        /// A verb and its object.
        doing: &'static str,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file is not what it should be, or cannot be done what was asked.
    #[error("{}: {}", text::File(file), Problem(problem))]
    File {
        /// The file.
        file: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A tensor cannot be done what was asked.
    #[error(
        "{}: tensor `{}`: {}",
        text::File(file),
        Name(tensor),
        Problem(problem)
    )]
    Tensor {
        /// The file that holds it.
        file: PathBuf,
        /// Its name.
        tensor: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// An option makes no sense.
    #[error("{}", Problem(.0))]
    Option(String),
    /// It would take too much memory.
    #[error("{}", Problem(.0))]
    Memory(String),
    /// Something fell short although nothing may: a selected tensor cannot be quantized, a name or
    /// pattern matches nothing, or nothing is quantized at all.
    #[error("{}; nothing was written (--strict)", Problem(problem))]
    Strict {
        /// What fell short.
        problem: String,
    },
    /// The caller asked to stop.
    #[error("interrupted; nothing was written")]
    Interrupted,
    /// The caller asked a calibration to stop.
    #[error(
        "interrupted; {} keeps what was found, --resume goes on with it",
        text::File(checkpoint)
    )]
    Paused {
        /// The checkpoint.
        checkpoint: PathBuf,
    },
}

impl Error {
    /// Of the operating system, at `file`; `doing` is a verb and its object.
    pub fn io(file: &Path, doing: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        let file = file.to_owned();
        move |source| Self::Io {
            file,
            doing,
            source: without_path(source),
        }
    }

    pub(crate) fn file(file: &Path, problem: impl Into<String>) -> Self {
        Self::File {
            file: file.to_owned(),
            problem: problem.into(),
        }
    }

    pub(crate) fn strict(problem: impl Into<String>) -> Self {
        Self::Strict {
            problem: one_line(problem.into()),
        }
    }

    /// The same of a file that goes by another name.
    pub(crate) fn at(mut self, path: &Path) -> Self {
        if let Self::Io { file, .. } | Self::File { file, .. } | Self::Tensor { file, .. } =
            &mut self
        {
            path.clone_into(file);
        }
        self
    }

    pub(crate) fn tensor(file: &Path, tensor: &str, problem: impl Into<String>) -> Self {
        Self::Tensor {
            file: file.to_owned(),
            tensor: tensor.into(),
            problem: problem.into(),
        }
    }
}

/// What went wrong, without the temporary name that tempfile adds.
fn without_path(error: std::io::Error) -> std::io::Error {
    match error.get_ref() {
        Some(_) => error.kind().into(),
        None => error,
    }
}
