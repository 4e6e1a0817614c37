//! How to restore a model, and what was done with it, or in converting it.

use std::path::Path;

use quant_simd::{ProcessError, Sink, TensorQuantizer};

use crate::io::Data;
use crate::{Error, Note};

/// What a restoring has done.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Restored {
    /// Bytes of the output.
    pub bytes: u64,
    /// What the user should know, a line each.
    pub warnings: Vec<Note>,
    /// The small files beside the weights that were copied.
    pub copied: Vec<String>,
}

impl Restored {
    /// Without files that were copied.
    #[doc(hidden)]
    pub fn new(bytes: u64, warnings: impl IntoIterator<Item: Into<Note>>) -> Self {
        Self {
            bytes,
            warnings: warnings.into_iter().map(Into::into).collect(),
            copied: Vec::new(),
        }
    }
}

/// What a conversion has done.
#[derive(Clone, Debug)]
#[non_exhaustive]
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

impl Converted {
    /// Without files that were copied.
    #[doc(hidden)]
    pub const fn new(bytes: u64, tensors: usize, warnings: Vec<String>) -> Self {
        Self {
            bytes,
            tensors,
            warnings,
            copied: Vec::new(),
        }
    }
}

/// How to restore a model.
///
/// ```
/// let options = quant_model::DequantizeOptions::default().with_weights_only(true);
/// assert!(options.weights_only);
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct DequantizeOptions {
    /// A sharded model: do not copy the small files beside the weights that a loader needs, such as
    /// `config.json` and the tokenizer.
    pub weights_only: bool,
}

impl DequantizeOptions {
    quant_core::setters! {
        with_weights_only weights_only: bool,
    }
}

/// A quantized tensor that is to be restored, and its name for messages.
pub struct Restoring<'a> {
    /// The file that holds it.
    pub file: &'a Path,
    /// Its name there.
    pub name: &'a str,
    /// How it was quantized.
    pub quantizer: &'a TensorQuantizer,
    /// Its codes.
    pub codes: &'a Data<'a>,
    /// Its scales.
    pub scales: &'a Data<'a>,
    /// Its zero points or biases.
    pub zero_points: &'a Data<'a>,
}

/// Restores the values of a tensor, in the type that they had; whatever fails is told here.
///
/// # Errors
/// Parts that cannot be read, or do not make values; what the sink says.
pub fn restore_tensor<S: Sink<Error = Error>>(
    tensor: &Restoring<'_>,
    sink: &S,
) -> Result<(), Error> {
    let (scales, zero_points) = (tensor.scales.whole()?, tensor.zero_points.whole()?);
    let quantizer = tensor.quantizer;
    let done =
        quantizer.dequantize_source(tensor.codes, &scales, &zero_points, quantizer.source, sink);
    done.map_err(|failure| match failure {
        ProcessError::Sink(error) => error,
        ProcessError::NoMemory => Error::no_memory(tensor.file),
        damaged @ (ProcessError::Params { .. }
        | ProcessError::NonFinite { .. }
        | ProcessError::Argument(_)) => {
            let problem = format!("{damaged}; the file is damaged");
            Error::tensor(tensor.file, tensor.name, problem)
        }
    })
}

/// That a quantized tensor stays as it is: `what` is how it was quantized.
pub fn left_alone(name: &str, what: &str) -> String {
    format!("`{name}` is left alone: quant does not undo {what}")
}

/// That a model holds nothing to be restored; `left` is of what it holds instead, such as what is
/// [left alone](left_alone).
pub fn nothing_to_restore(model: &Path, left: Option<&str>) -> Error {
    let problem = match left {
        Some(left) => format!("{left}; there is nothing to do"),
        None => "holds no tensor that quant quantized; there is nothing to do".into(),
    };
    Error::file(model, problem)
}
