//! How to quantize a model's activations, and what was done.

use std::path::{Path, PathBuf};

use quant_core::{IntType, Mode, Scheme};
use regex::Regex;
use serde::Serialize;

use crate::{Config, Error, Ranges};

/// How to quantize a model's activations.
#[derive(Clone, Debug)]
pub struct ActivationOptions {
    /// The ranges, by the names of variables in the model.
    pub ranges: Ranges,
    /// The file that they come from, for messages.
    pub path: PathBuf,
    /// int8 or uint8, and the mode; the dialect has no meaning here.
    pub scheme: Scheme,
    /// Takes the place of the scheme, operation by operation.
    pub config: Option<Config>,
    /// Where not empty: only operations whose name one of these matches.
    pub include: Vec<Regex>,
    /// No operation whose name one of these matches.
    pub exclude: Vec<Regex>,
    /// End with an error where an activation has no range.
    pub strict: bool,
    /// Plan only, and write nothing.
    pub dry_run: bool,
}

impl ActivationOptions {
    /// Options with the ranges of a file: int8, symmetric, as coremltools does it.
    ///
    /// # Errors
    /// See [`Ranges::open`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        Ok(Self {
            ranges: Ranges::open(path)?,
            path: path.to_owned(),
            scheme: Scheme::new(IntType::Int8, Mode::Symmetric),
            config: None,
            include: Vec::new(),
            exclude: Vec::new(),
            strict: false,
            dry_run: false,
        })
    }

    /// Types that Core ML's `quantize` does not give.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let configured = self.config.iter().flat_map(Config::schemes);
        match configured
            .chain([self.scheme])
            .find(|scheme| scheme.dtype.bits() != 8)
        {
            None => Ok(()),
            Some(scheme) => Err(Error::Option(format!(
                "activations of type {}: Core ML knows int8 and uint8",
                scheme.dtype.name()
            ))),
        }
    }
}

/// What was done with the activations of one operation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OperationReport {
    /// Its name; with its function, where there are several.
    pub name: String,
    /// Its type, such as `conv`.
    pub operation: String,
    /// What was quantized: its inputs; and the output of its pattern, unless the next operation
    /// quantizes that as its own input.
    pub quantized: Vec<QuantizedActivation>,
    /// Why its inputs, or the output of its pattern, were left in float.
    pub reason: Option<String>,
    /// Whether that is for want of a range.
    pub skipped: bool,
}

/// An activation that was quantized.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct QuantizedActivation {
    /// Its name.
    pub activation: String,
    /// Which input of the operation; `None` for the output of its pattern.
    pub input: Option<String>,
    /// The smallest value of its range, united with those of a `concat`.
    pub min: f32,
    /// The largest value.
    pub max: f32,
    /// Type of the codes.
    pub dtype: &'static str,
    /// What one step of the code is worth.
    pub scale: f32,
    /// The code that stands for 0.
    pub zero_point: i32,
}
