//! What can go wrong, in words that name the file, the tensor and the way out.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::text::{self, Hint, HintKind, Message, Name};
pub use crate::text::{command, one_line, option, shortened_name as shortened};

/// Why a command on a model file ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    Io {
        /// The file or folder.
        file: PathBuf,
        /// A verb and its object.
        doing: &'static str,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file is not what it should be, or cannot be done what was asked.
    File {
        /// The file.
        file: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A tensor cannot be done what was asked.
    Tensor {
        /// The file that holds it.
        file: PathBuf,
        /// Its name.
        tensor: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// An option makes no sense.
    Option(String),
    /// It would take too much memory.
    Memory(String),
    /// Something fell short although nothing may: a selected tensor cannot be quantized, a name or
    /// pattern matches nothing, or nothing is quantized at all.
    Strict {
        /// What fell short.
        problem: String,
    },
    /// The caller asked to stop.
    Interrupted,
    /// The caller asked a calibration to stop.
    Paused {
        /// The checkpoint.
        checkpoint: PathBuf,
    },
}

/// What kind of thing went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system refused.
    Io,
    /// A file is not what it should be.
    File,
    /// A tensor cannot be done what was asked.
    Tensor,
    /// An option makes no sense.
    Option,
    /// It would take too much memory.
    Memory,
    /// Something fell short although nothing may.
    Strict,
    /// The caller asked to stop.
    Interrupted,
    /// The caller asked a calibration to stop, which can go on.
    Paused,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.told(&text::as_field))
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl Error {
    /// What kind of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { .. } => ErrorKind::Io,
            Self::File { .. } => ErrorKind::File,
            Self::Tensor { .. } => ErrorKind::Tensor,
            Self::Option(_) => ErrorKind::Option,
            Self::Memory(_) => ErrorKind::Memory,
            Self::Strict { .. } => ErrorKind::Strict,
            Self::Interrupted => ErrorKind::Interrupted,
            Self::Paused { .. } => ErrorKind::Paused,
        }
    }

    /// The options that the message speaks of, what to give, or what does not fit; and commands that help.
    pub fn hints(&self) -> Vec<Hint> {
        text::with_options(&self.marked(), &|_| String::new()).1
    }

    /// The first option of them.
    pub fn hint(&self) -> Option<Hint> {
        let mut hints = self.hints().into_iter();
        hints.find(|hint| hint.kind == HintKind::Option)
    }

    /// The message, with its options and commands as `say` has them: as flags, as keywords.
    /// [`Display`](fmt::Display) has them as the names of fields and functions.
    ///
    /// ```
    /// use quant_model::{AtomicFile, Inputs};
    ///
    /// let folder = tempfile::tempdir()?;
    /// let file = folder.path().join("out.safetensors");
    /// std::fs::write(&file, "precious")?;
    /// let error = AtomicFile::create(&file, "output", false, &Inputs::new()).unwrap_err();
    /// assert!(error.told(&|hint| format!("--{}", hint.option)).contains("use --force"));
    /// assert_eq!(error.hint().unwrap().option, "force");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn told(&self, say: &dyn Fn(&Hint) -> String) -> String {
        text::with_options(&self.marked(), say).0
    }

    /// The message with marks around its options.
    fn marked(&self) -> String {
        match self {
            Self::Io {
                file,
                doing,
                source,
            } => {
                let source = source.to_string();
                format!("{}: cannot {doing}: {}", text::File(file), Message(&source))
            }
            Self::File { file, problem } => {
                format!("{}: {}", text::File(file), Message(problem))
            }
            Self::Tensor {
                file,
                tensor,
                problem,
            } => format!(
                "{}: tensor `{}`: {}",
                text::File(file),
                Name(tensor),
                Message(problem)
            ),
            Self::Option(problem) | Self::Memory(problem) => Message(problem).to_string(),
            Self::Strict { problem } => format!(
                "{}; nothing was written ({})",
                Message(problem),
                option("strict")
            ),
            Self::Interrupted => "interrupted; nothing was written".into(),
            Self::Paused { checkpoint } => format!(
                "interrupted; {} keeps what was found, {} goes on with it",
                text::File(checkpoint),
                option("resume")
            ),
        }
    }
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

    /// A file that is not what it should be, or cannot be done what was asked.
    pub fn file(file: &Path, problem: impl Into<String>) -> Self {
        Self::File {
            file: file.to_owned(),
            problem: problem.into(),
        }
    }

    /// Of work on a tensor of the file.
    pub fn no_memory(file: &Path) -> Self {
        let source = std::io::ErrorKind::OutOfMemory.into();
        Self::io(file, "work on its tensors")(source)
    }

    /// Something fell short although nothing may.
    pub fn strict(problem: impl Into<String>) -> Self {
        Self::Strict {
            problem: one_line(problem.into()),
        }
    }

    /// The same of a file that goes by another name.
    pub fn at(mut self, path: &Path) -> Self {
        if let Self::Io { file, .. } | Self::File { file, .. } | Self::Tensor { file, .. } =
            &mut self
        {
            path.clone_into(file);
        }
        self
    }

    /// A tensor that cannot be done what was asked.
    pub fn tensor(file: &Path, tensor: &str, problem: impl Into<String>) -> Self {
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
