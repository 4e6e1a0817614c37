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
mod encoding;
mod error;
mod facts;
mod format;
mod formats;
mod inspect;
mod io;
mod job;
mod options;
mod patterns;
mod plan;
mod planning;
mod policy;
pub mod program;
mod quantize;
mod ranges;
mod report;
mod safetensors;
mod scheme_record;
mod settings;
mod sniff;
mod stored;
mod structure;
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
pub use encoding::Encoding;
pub use error::{Error, ErrorKind};
pub use format::ResultKind;
pub use formats::result_kind;
pub use inspect::{Inspection, TensorInfo, inspect, inspect_with_progress};
pub use io::{AtomicFile, AtomicFolder, Inputs};
pub use job::Job;
pub use options::{ComputeUnit, ExpertAxes, Experts, NonFinite, QuantizeOptions};
pub use patterns::patterns;
pub use plan::{Plan, PlannedTensor, TensorSpec};
pub use quantize::{plan, quantize};
pub use ranges::{ActivationRange, Ranges};
pub use report::{Report, TensorReport};
pub use safetensors::{
    Entry, Model, Preset, Quantized, SafetensorsFile, Tensor, WrittenIndex, write_index,
};
pub use scheme_record::SchemeRecord;
pub use settings::{Consumer, Granularity};
pub use text::{Hint, columns, printable, shortened};

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
    formats::open_activations(input, job, |_, activations| {
        activations.quantize(output, options, job)
    })
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
    formats::open_activations(input, &Job::UNWATCHED, |_, activations| {
        activations.wanted(options)
    })
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
    formats::open(input, job, |model| model.dequantize(output, options, job))
}

/// Whether a path is that of a Core ML package, by its form or its name.
pub fn is_package(path: &Path) -> bool {
    result_kind(path) == ResultKind::Package
}
