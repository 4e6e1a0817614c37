//! From what goes wrong in the libraries to the package's exceptions: the only place that knows both.

use std::convert::Infallible;
use std::path::PathBuf;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use quant_core::observer::{ConfigError, MergeError, ObserveError};
use quant_core::{GeometryError, ParamsError, UnknownName};
use quant_models::{Error, ErrorKind, Hint, HintCommand, HintKind};
use quant_simd::ProcessError;

/// An exception of `linquant.errors`.
pub struct Raised {
    class: &'static str,
    message: String,
    hint: Option<String>,
    about: Option<Box<About>>,
}

/// What an exception of a file has besides.
#[derive(Default)]
struct About {
    file: Option<PathBuf>,
    tensor: Option<String>,
    /// A hint that the message has in it.
    keyword: Option<String>,
}

impl Raised {
    pub fn new(class: &'static str, message: impl ToString) -> Self {
        Self {
            class,
            message: message.to_string(),
            hint: None,
            about: None,
        }
    }

    pub fn hint(self, hint: impl Into<String>) -> Self {
        let hint = Some(hint.into());
        Self { hint, ..self }
    }

    /// Something that the Python half checks before it calls.
    pub fn internal(what: &str) -> Self {
        Self::new(
            "Error",
            format!("this should not happen, please report it: {what}"),
        )
    }

    fn exception<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let class = py.import("linquant.errors")?.getattr(self.class)?;
        let named = PyDict::new(py);
        named.set_item("hint", self.hint.as_deref())?;
        let exception = class.call((self.message.as_str(),), Some(&named))?;
        let Some(about) = &self.about else {
            return Ok(exception);
        };
        if let Some(keyword) = &about.keyword {
            exception.setattr("hint", keyword)?;
        }
        if let Some(file) = &about.file {
            exception.setattr("file", file)?;
        }
        if let Some(tensor) = &about.tensor {
            exception.setattr("tensor", tensor)?;
        }
        Ok(exception)
    }
}

impl From<Raised> for PyErr {
    fn from(raised: Raised) -> Self {
        Python::attach(|py| {
            raised
                .exception(py)
                .map_or_else(|error| error, Self::from_value)
        })
    }
}

impl From<UnknownName> for Raised {
    fn from(error: UnknownName) -> Self {
        Self::new("OptionError", error)
    }
}

impl From<GeometryError> for Raised {
    fn from(error: GeometryError) -> Self {
        let raised = Self::new("ShapeError", error);
        match error {
            GeometryError::AxisOutOfRange { .. } => {
                raised.hint("give an axis that the array has; negative axes count from the end")
            }
            GeometryError::SameAxis { .. } => raised.hint("give another block_axis"),
            GeometryError::ZeroBlock | GeometryError::BlockTooLarge { .. } => {
                raised.hint("give a block_size from 1 to the length of the block axis")
            }
            GeometryError::TooManyBlocks { .. } => raised.hint("give one block size for each axis"),
            _ => raised,
        }
    }
}

impl From<ParamsError> for Raised {
    fn from(error: ParamsError) -> Self {
        match error {
            ParamsError::NonFinite => non_finite(error),
            ParamsError::UnsupportedScheme => {
                Self::new("OptionError", error).hint("give another dtype, mode or dialect")
            }
            _ => Self::new("ScaleError", error),
        }
    }
}

fn non_finite(message: impl ToString) -> Raised {
    Raised::new("NonFiniteError", message)
        .hint("replace them first, for instance by numpy.nan_to_num, or leave the tensor in float")
}

impl From<ProcessError<Infallible>> for Raised {
    fn from(failure: ProcessError<Infallible>) -> Self {
        let message = failure.to_string();
        match failure {
            ProcessError::NonFinite { .. } => non_finite(message),
            ProcessError::Params { source, .. } => Self {
                message,
                ..Self::from(source)
            },
            ProcessError::Sink(never) => match never {},
            ProcessError::Argument(error) => Self::internal(&error.to_string()),
            ProcessError::NoMemory => Self::new("Error", message).hint("free some memory first"),
        }
    }
}

impl From<ConfigError> for Raised {
    fn from(error: ConfigError) -> Self {
        Self::new("OptionError", error)
    }
}

impl From<MergeError> for Raised {
    fn from(error: MergeError) -> Self {
        Self::new("MergeError", error)
    }
}

impl From<ObserveError> for Raised {
    fn from(error: ObserveError) -> Self {
        match error {
            ObserveError::Geometry(error) => error.into(),
            _ => Self::new("ShapeError", error),
        }
    }
}

impl From<quant_models::Error> for Raised {
    fn from(error: quant_models::Error) -> Self {
        let class = match error.kind() {
            ErrorKind::Io => "FileAccessError",
            ErrorKind::File => "FileError",
            ErrorKind::Tensor => "TensorError",
            ErrorKind::Option => "OptionError",
            ErrorKind::Memory => "MemoryLimitError",
            ErrorKind::Strict => "StrictError",
            ErrorKind::Interrupted | ErrorKind::Paused => "InterruptedError",
            _ => "Error",
        };
        let (file, tensor) = match &error {
            Error::Io { file, .. } | Error::File { file, .. } => (Some(file.clone()), None),
            Error::Tensor { file, tensor, .. } => (Some(file.clone()), Some(tensor.clone())),
            _ => (None, None),
        };
        let about = About {
            file,
            tensor,
            keyword: error.hint().map(|hint| keyword(&hint)),
        };
        Self {
            about: Some(Box::new(about)),
            ..Self::new(class, error.told(&keyword))
        }
    }
}

/// An option or a function of the libraries, as Python has it.
pub fn keyword(hint: &Hint) -> String {
    let option = &hint.option;
    if let HintKind::Command(command) = hint.kind {
        return format!("`{}`", function(command));
    }
    match hint.value.as_deref() {
        None => option.clone(),
        Some(value) if value.parse::<f64>().is_ok() => format!("{option}={value}"),
        Some(value) => format!("{option}={value:?}"),
    }
}

/// The function of the package that does what a command does.
fn function(command: HintCommand) -> &'static str {
    match command {
        HintCommand::Activations => "quantize_activations_file",
        HintCommand::Calibrate => "calibrate",
        HintCommand::Dequantize => "dequantize_file",
        HintCommand::Inspect => "inspect",
        HintCommand::ListActivations => "wanted_activations",
        HintCommand::Plan => "plan_file",
        HintCommand::Quantize => "quantize_file",
    }
}

/// The functions that messages may name, for a test that they exist.
#[pyfunction]
pub fn functions_of_hints() -> Vec<&'static str> {
    HintCommand::ALL.map(function).to_vec()
}
