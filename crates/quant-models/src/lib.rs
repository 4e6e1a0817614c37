//! Model files: safetensors and Core ML packages in, quantized ones out, in bounded memory.
//!
//! Inputs are read window by window, and may be larger than memory. Outputs are written under a temporary name in the target folder,
//! synced and renamed: they appear whole or not at all.
#![forbid(unsafe_code)]

mod diff;
mod formats;
mod inspect;
mod quantize;

use std::path::Path;

pub use diff::{Difference, TensorDifference, diff, diff_with_progress};
pub use formats::result_kind;
pub use inspect::{Inspection, TensorInfo, inspect, inspect_with_progress};
pub use quant_calibration::{
    Calibrated, Calibration, CalibrationOptions, CalibrationSettings, DirectCalibration,
    DirectTask, Recordings, calibrate, calibrate_stream, merge_calibrations,
};
pub use quant_coreml::program;
pub use quant_model::{
    ActivationOptions, ActivationRange, AtomicFile, AtomicFolder, ComputeUnit, Config, Consumer,
    DequantizeOptions, Encoding, Error, ErrorKind, ExpertAxes, Experts, Granularity, Hint, Inputs,
    Job, NonFinite, OperationReport, Plan, PlannedTensor, Preset, QuantizeOptions,
    QuantizedActivation, Ranges, Report, Restored, ResultKind, SchemeRecord, TensorReport,
    TensorSpec, WantedActivation, WantedActivations, columns, patterns, printable, shortened,
};
pub use quant_safetensors::{
    Entry, Model, Quantized, SafetensorsFile, Tensor, WrittenIndex, write_index,
};
pub use quantize::{plan, quantize};

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
