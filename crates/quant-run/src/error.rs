//! What can go wrong when a model runs.

/// Why a model cannot run, or why a run ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The package cannot be read.
    #[error(transparent)]
    Model(#[from] quant_models::Error),
    /// The program has operations that are not known here.
    #[error("{}", unsupported(.0))]
    Unsupported(Vec<(String, usize)>),
    /// The program contradicts itself.
    #[error("the program is damaged: {0}")]
    Program(String),
    /// An input is missing, unknown, or of another type or shape.
    #[error("input `{name}`: {problem}")]
    Input {
        /// Its name.
        name: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// An operation cannot be computed.
    #[error("operation `{name}` ({kind}): {problem}")]
    Operation {
        /// Its name.
        name: String,
        /// What it does, such as `conv`.
        kind: String,
        /// What is wrong.
        problem: String,
    },
    /// A file of samples cannot be used.
    #[error("{}: {problem}", file.display())]
    Sample {
        /// The file or folder.
        file: std::path::PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A tensor or an option makes no sense.
    #[error("{0}")]
    Value(String),
    /// The caller asked to stop.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    pub(crate) fn sample(file: &std::path::Path, problem: impl Into<String>) -> Self {
        Self::Sample {
            file: file.to_owned(),
            problem: problem.into(),
        }
    }

    /// An error that a sample has led to; it names the file.
    ///
    /// ```
    /// let error = quant_run::Error::Value("no".into());
    /// let error = quant_run::Error::at_sample("a.npy".as_ref(), error);
    /// assert_eq!(error.to_string(), "a.npy: no");
    /// ```
    pub fn at_sample(file: &std::path::Path, error: Self) -> Self {
        match error {
            Self::Interrupted => Self::Interrupted,
            error => Self::sample(file, error.to_string()),
        }
    }
}

fn unsupported(operations: &[(String, usize)]) -> String {
    let list = operations.iter().map(|(kind, count)| match count {
        1 => format!("`{kind}`"),
        _ => format!("`{kind}` ({count} times)"),
    });
    let list: Vec<String> = list.collect();
    format!(
        "the model has operations that quant cannot run: {}",
        list.join(", ")
    )
}
