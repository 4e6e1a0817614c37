//! What can go wrong, in words that name the file, the tensor and the way out.

use std::path::{Path, PathBuf};

/// Why a command on a model file ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("{}: cannot {doing}: {source}", file.display())]
    Io {
        /// The file or folder.
        file: PathBuf,
        /// A verb and its object.
        doing: &'static str,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file is not what it should be, or cannot be done what was asked.
    #[error("{}: {problem}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A tensor cannot be done what was asked.
    #[error("{}: tensor `{tensor}`: {problem}", file.display())]
    Tensor {
        /// The file that holds it.
        file: PathBuf,
        /// Its name.
        tensor: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// An option makes no sense.
    #[error("{0}")]
    Option(String),
    /// Something fell short although nothing may: a selected tensor cannot be quantized, a name or
    /// pattern matches nothing, or nothing is quantized at all.
    #[error("{problem}; nothing was written (--strict)")]
    Strict {
        /// What fell short.
        problem: String,
    },
    /// The caller asked to stop.
    #[error("interrupted; nothing was written")]
    Interrupted,
    /// The caller asked a calibration to stop.
    #[error("interrupted; {} keeps what was found, --resume goes on with it", checkpoint.display())]
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
            problem: one_line(problem.into()),
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
            tensor: one_line(tensor.into()),
            problem: one_line(problem.into()),
        }
    }
}

/// Names from a file may hold anything, also ends of lines.
pub(crate) fn one_line(text: String) -> String {
    if !text.contains(char::is_control) {
        return text;
    }
    let escaped = text.chars().map(|char| match char.is_control() {
        true => char.escape_default().to_string(),
        false => char.to_string(),
    });
    escaped.collect()
}

/// A long name, without its middle.
pub(crate) fn shortened(name: &str) -> String {
    const LONGEST: usize = 100;
    let count = name.chars().count();
    if count <= LONGEST {
        return name.to_owned();
    }
    let start = name.chars().take(LONGEST / 2 - 1);
    let end = name.chars().skip(count - LONGEST / 2);
    start.chain(['…']).chain(end).collect()
}

/// What went wrong, without the temporary name that tempfile adds.
fn without_path(error: std::io::Error) -> std::io::Error {
    match error.get_ref() {
        Some(_) => error.kind().into(),
        None => error,
    }
}
