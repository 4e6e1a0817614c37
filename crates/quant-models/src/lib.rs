//! Model files: safetensors and Core ML packages in, quantized ones out, in bounded memory.
//!
//! Inputs are read window by window, and may be larger than memory. Outputs are written under a temporary name in the target folder,
//! synced and renamed: they appear whole or not at all.
#![forbid(unsafe_code)]

mod activations;
mod calibration;
mod config;
mod coreml;
mod diff;
mod error;
mod inspect;
mod io;
mod job;
mod options;
mod patterns;
pub mod program;
mod ranges;
mod report;
mod safetensors;
mod scheme_record;
mod sniff;
mod stored;
mod text;
mod unique;
mod unmatched;
mod values;

use std::path::Path;

pub use activations::{
    ActivationOptions, OperationReport, QuantizedActivation, WantedActivation, WantedActivations,
};
pub use calibration::{
    Calibrated, Calibration, CalibrationOptions, CalibrationSettings, DirectCalibration,
    DirectTask, Recordings, calibrate, calibrate_stream, merge_calibrations,
};
pub use config::Config;
pub use diff::{Difference, TensorDifference, diff, diff_with_progress};
pub use error::Error;
pub use inspect::{Inspection, TensorInfo, inspect, inspect_with_progress};
pub use io::{AtomicFile, AtomicFolder, Inputs};
pub use job::Job;
pub use options::{
    ComputeUnit, Consumer, ExpertAxes, Experts, Granularity, NonFinite, QuantizeOptions,
};
pub use patterns::patterns;
pub use ranges::{ActivationRange, Ranges};
pub use report::{Report, TensorReport};
pub use safetensors::{Encoding, Entry, Model, Quantized, SafetensorsFile, Tensor};
pub use scheme_record::SchemeRecord;
pub use text::{columns, printable, shortened};

const NO_EXPERTS: &str = "--experts and --expert-axes are for safetensors; in a Core ML package the operations say which axes their weights have";
const NO_ENCODING: &str = "this format is for safetensors; a Core ML package has one of its own";
const NO_ACTIVATIONS: &str = "no Core ML package; only such a model says where its activations are";

/// What [`dequantize`] has done.
#[derive(Clone, Debug)]
pub struct Restored {
    /// Bytes of the output.
    pub bytes: u64,
    /// What the user should know, a line each.
    pub warnings: Vec<String>,
    /// The small files beside the weights that were copied.
    pub copied: Vec<String>,
}

/// How to restore a model.
#[derive(Clone, Debug, Default)]
pub struct DequantizeOptions {
    /// A sharded model: do not copy the small files beside the weights that a loader needs, such as
    /// `config.json` and the tokenizer.
    pub weights_only: bool,
}

/// Quantizes the model at `input` into `output`: a file; or a folder, for a sharded model or a Core
/// ML package. With [`QuantizeOptions::activations`], a package's activations too.
///
/// # Errors
/// See [`Error`]; then nothing has been written, and what stood at `output` is untouched.
pub fn quantize(
    input: &Path,
    output: &Path,
    options: &QuantizeOptions,
    job: &Job<'_>,
) -> Result<Report, Error> {
    if let Some(activations) = &options.activations {
        activations.check()?;
    }
    match coreml::is_package(input) {
        true if !options.experts.is_default() => Err(Error::file(input, NO_EXPERTS)),
        true if options.encoding != Encoding::Native => Err(Error::file(input, NO_ENCODING)),
        true => coreml::quantize::quantize(input, output, options, job),
        false if options.activations.is_some() => Err(Error::file(input, NO_ACTIVATIONS)),
        false => safetensors::quantize::quantize(input, output, options, job),
    }
}

/// Quantizes the activations of the Core ML package at `input` into one at `output`; its weights stay
/// as they are.
///
/// # Errors
/// See [`Error`]; then nothing has been written, and what stood at `output` is untouched.
pub fn quantize_activations(
    input: &Path,
    output: &Path,
    options: &ActivationOptions,
    job: &Job<'_>,
) -> Result<Report, Error> {
    options.check()?;
    match coreml::is_package(input) {
        true => coreml::activations::quantize(input, output, options, job),
        false => Err(Error::file(input, NO_ACTIVATIONS)),
    }
}

/// The activations of the Core ML package at `input` that [`quantize_activations`] wants ranges for
/// with these options, in the order of the program. Ranges that the options have are not looked at.
///
/// # Errors
/// See [`Error`]; with [`strict`](ActivationOptions::strict), where a name or pattern matches nothing.
pub fn wanted_activations(
    input: &Path,
    options: &ActivationOptions,
) -> Result<WantedActivations, Error> {
    options.check()?;
    match coreml::is_package(input) {
        true => coreml::activations::wanted(input, options),
        false => Err(Error::file(input, NO_ACTIVATIONS)),
    }
}

/// Restores float tensors of the source type.
///
/// # Errors
/// See [`Error`]; then nothing has been written, and what stood at `output` is untouched.
pub fn dequantize(
    input: &Path,
    output: &Path,
    options: &DequantizeOptions,
    job: &Job<'_>,
) -> Result<Restored, Error> {
    match coreml::is_package(input) {
        true => coreml::dequantize::dequantize(input, output, job),
        false => safetensors::dequantize::dequantize(input, output, options, job),
    }
}

/// Whether a path is that of a Core ML package, by its form or its name.
pub fn is_package(path: &Path) -> bool {
    coreml::is_package(path)
}
