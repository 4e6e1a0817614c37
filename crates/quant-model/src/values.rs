//! What is said of values that cannot be quantized.

use std::path::Path;

use quant_core::{Dialect, FloatType, Scheme};
use quant_simd::{ProcessError, TensorQuantizer};

use crate::Error;
use crate::error::option;

/// Where a tensor is, for messages.
pub struct Tensor<'a> {
    /// The file that holds it.
    pub file: &'a Path,
    /// Its name there.
    pub name: &'a str,
    /// Its type there.
    pub dtype: &'a str,
    /// Its shape.
    pub shape: &'a [usize],
}

impl Tensor<'_> {
    /// Why its quantization failed, and what to do. `own_name` is what patterns know it by; `wide`
    /// says whether the format can hold what the dialect f32 makes.
    pub fn failed(
        &self,
        failure: ProcessError<Error>,
        quantizer: &TensorQuantizer,
        own_name: &str,
        wide: bool,
    ) -> Error {
        let problem = match failure {
            ProcessError::Sink(error) => return error,
            ProcessError::NoMemory => return Error::no_memory(self.file),
            ProcessError::Argument(error) => error.to_string(),
            ProcessError::NonFinite { first, count } => format!(
                "{count} of {} values are NaN or Inf, the first at {:?}; mend the model, or leave such tensors in float with {}",
                quantizer.blocks.element_count(),
                position(first, self.shape),
                option("non_finite skip")
            ),
            ProcessError::Params { block, source } => {
                let at = position(block, &quantizer.blocks.scale_shape());
                let advice = advice(quantizer, own_name, wide);
                format!("block {at:?}: {source} ({}); {advice}", self.dtype)
            }
        };
        Error::tensor(self.file, self.name, problem)
    }
}

/// What to do about values too large or small. `wide` says whether the format can hold what the
/// dialect f32 makes.
fn advice(quantizer: &TensorQuantizer, name: &str, wide: bool) -> String {
    let other = Scheme {
        dialect: Dialect::F32,
        ..quantizer.scheme
    };
    let exclude = format!(
        "leave the tensor in float with {}",
        option(&format!("exclude '^{}$'", regex::escape(name)))
    );
    match quantizer.source != FloatType::F32 && other != quantizer.scheme {
        true if wide => format!("use {}", option("dialect f32")),
        true => exclude,
        false => format!("{} does not help here, {exclude}", option("dialect f32")),
    }
}

/// The index per axis of a row-major position.
pub fn position(mut flat: usize, shape: &[usize]) -> Vec<usize> {
    let mut position: Vec<usize> = shape
        .iter()
        .rev()
        .map(|&dim| {
            let index = flat % dim.max(1);
            flat /= dim.max(1);
            index
        })
        .collect();
    position.reverse();
    position
}
