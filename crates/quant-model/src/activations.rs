//! How to quantize a model's activations, and what was done.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use quant_core::{IntType, Mode, Scheme};
use regex::Regex;
use serde::Serialize;

use crate::ranges::VERSION;
use crate::{Config, Consumer, Error, Inputs, Note, Ranges};

/// How to quantize a model's activations.
///
/// ```
/// use quant_core::{IntType, Mode, Scheme};
/// let affine = Scheme::new(IntType::Uint8, Mode::Affine);
/// let options = quant_model::ActivationOptions::default().with_scheme(affine).with_strict(true);
/// assert!(options.strict && options.ranges.activations.is_empty());
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
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
    /// End with an error where an activation has no range, or a name or pattern matches nothing.
    pub strict: bool,
    /// Plan only, and write nothing.
    pub dry_run: bool,
}

/// No ranges; int8, symmetric, as coremltools does it.
impl Default for ActivationOptions {
    fn default() -> Self {
        Self {
            ranges: Ranges {
                version: VERSION,
                activations: BTreeMap::new(),
            },
            path: PathBuf::new(),
            scheme: Scheme::new(IntType::Int8, Mode::Symmetric),
            config: None,
            include: Vec::new(),
            exclude: Vec::new(),
            strict: false,
            dry_run: false,
        }
    }
}

impl ActivationOptions {
    quant_core::setters! {
        with_ranges ranges: Ranges,
        with_path path: PathBuf,
        with_scheme scheme: Scheme,
        with_config config: impl Into<Option<Config>>,
        with_include include: Vec<Regex>,
        with_exclude exclude: Vec<Regex>,
        with_strict strict: bool,
        with_dry_run dry_run: bool,
    }

    /// The default options with the ranges of a file.
    ///
    /// # Errors
    /// See [`Ranges::open`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        Ok(Self {
            ranges: Ranges::open(path)?,
            path: path.to_owned(),
            ..Self::default()
        })
    }

    /// What the work reads, beside the model at `model`: no output may touch it.
    pub fn inputs(&self, model: &Path) -> Inputs {
        let mut inputs = Inputs::of_model(model);
        inputs.file(&self.path, "the file of ranges");
        if let Some(config) = &self.config {
            inputs.file(config.path(), "the configuration");
        }
        inputs
    }

    /// Types that Core ML's `quantize` does not give.
    #[doc(hidden)]
    pub fn check(&self) -> Result<(), Error> {
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
#[non_exhaustive]
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

impl OperationReport {
    /// An operation of which nothing has been quantized yet.
    #[doc(hidden)]
    pub fn new(name: &str, operation: &str) -> Self {
        Self {
            name: name.into(),
            operation: operation.into(),
            quantized: Vec::new(),
            reason: None,
            skipped: false,
        }
    }
}

/// An activation that was quantized.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
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

impl QuantizedActivation {
    /// Of a pattern's output, with the type, the scale and the zero point of its codes.
    #[doc(hidden)]
    pub fn new(activation: &str, (min, max): (f32, f32), params: (&'static str, f32, i32)) -> Self {
        let (dtype, scale, zero_point) = params;
        Self {
            activation: activation.into(),
            input: None,
            min,
            max,
            dtype,
            scale,
            zero_point,
        }
    }
}

/// What a model needs ranges for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WantedActivations {
    /// In the order of the program.
    pub activations: Vec<WantedActivation>,
    /// Names and patterns of the options that match nothing.
    pub warnings: Vec<Note>,
}

impl WantedActivations {
    /// Both.
    #[doc(hidden)]
    pub const fn new(activations: Vec<WantedActivation>, warnings: Vec<Note>) -> Self {
        Self {
            activations,
            warnings,
        }
    }
}

/// An activation that needs a range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct WantedActivation {
    /// Its name, by which [`Ranges`] know it.
    pub name: String,
    /// The function that it is of, and the model of a pipeline, where there are several. Activations of
    /// one name share a range.
    pub function: Option<String>,
    /// Its shape; a dimension that is not constant is `None`.
    pub shape: Vec<Option<u64>>,
    /// The type of the operation that gives it, such as `relu`; `None` for an input.
    pub given_by: Option<String>,
    /// What takes it, quantized or not, in the order of the program.
    pub taken_by: Vec<Consumer>,
}

impl WantedActivation {
    /// An input of the one function, that nothing takes.
    #[doc(hidden)]
    pub const fn new(name: String, shape: Vec<Option<u64>>) -> Self {
        Self {
            name,
            function: None,
            shape,
            given_by: None,
            taken_by: Vec::new(),
        }
    }
}
