//! Model files: safetensors, Core ML packages, Core AI models and GGUF files in, quantized ones out, in bounded memory.
//!
//! Inputs are read window by window, and may be larger than memory. Outputs are written under a temporary name in the target folder,
//! synced and renamed: they appear whole or not at all.
//!
//! ```no_run
//! use quant_models::quant_core::{IntType, Mode, Scheme};
//! use quant_models::{DequantizeOptions, Grouping, Job, QuantizeOptions};
//!
//! let options = QuantizeOptions::default()
//!     .with_scheme(Scheme::new(IntType::Int4, Mode::Symmetric))
//!     .with_granularity(Grouping::PerBlock { axis: None, block_axis: None, block_size: 32 })
//!     .with_exclude(vec![quant_models::Regex::new("embed").expect("a pattern")]);
//! let (model, small) = ("model.safetensors".as_ref(), "small.safetensors".as_ref());
//! let report = quant_models::quantize(model, small, &options, &Job::new())?;
//! println!("{} bytes -> {:?}", report.bytes_before, report.bytes_after);
//!
//! for tensor in quant_models::inspect(small, false)?.tensors {
//!     println!("{} {} {:?}", tensor.name, tensor.dtype, tensor.shape);
//! }
//! let lost = quant_models::diff(model, small)?;
//! println!("{} tensors differ", lost.tensors.len());
//! let back = "back.safetensors".as_ref();
//! quant_models::dequantize(small, back, &DequantizeOptions::default(), &Job::new())?;
//! # Ok::<(), quant_models::Error>(())
//! ```
//!
//! [`quantize`], [`plan()`](plan()), [`dequantize`], [`inspect()`](inspect()) and [`diff()`](diff()) take the path
//! of a model of any format that quant knows: a safetensors file, a folder or an index of such, a Core
//! ML package, a Core AI model, a GGUF file. [`calibrate`] finds the ranges that quantized activations need. A [`Job`] watches and
//! stops a call; an [`Error`] has a kind, and hints that name fields of the options.
#![forbid(unsafe_code)]
// A new type, mode or dialect must be thought of wherever there is a choice.
#![deny(
    clippy::wildcard_enum_match_arm,
    clippy::match_wildcard_for_single_variants
)]

mod diff;
mod formats;
mod importance;
mod inspect;
mod quantize;

use std::path::Path;

pub use diff::{Difference, TensorDifference, diff, diff_with_progress};
pub use formats::{encoding_of, quantized_kind, result_kind};
pub use importance::{ImportanceSums, open_importance};
pub use inspect::{Inspection, TensorInfo, inspect, inspect_with_progress};
pub use quant_calibration::{
    Calibrated, Calibration, CalibrationOptions, CalibrationSettings, DirectCalibration,
    DirectTask, Recordings, calibrate, calibrate_stream, merge_calibrations,
};
pub use quant_coreml::program;
// What the signatures of this crate use, so that a program need not name the crates it is from.
pub use quant_core;
pub use quant_model::{
    ActivationOptions, ActivationRange, Asked, AtomicFile, AtomicFolder, Candidate, Compared,
    ComputeUnit, Config, Consumer, Converted, Curve, CurvePoint, Damage, DequantizeOptions,
    Encoding, Error, ErrorKind, ExpertAxes, Experts, Extent, FoundBy, GivenCodes, Grouping, Hint,
    HintCommand, HintKind, InputImportance, Inputs, Job, Layout, MixedOptions, MixedSummary,
    MixedTarget, NonFinite, Note, OperationReport, Part, Plan, PlannedTensor, Preset,
    QuantizeOptions, QuantizedActivation, Ranges, Report, Restored, ResultKind, SchemeRecord,
    TensorReport, TensorSpec, WantedActivation, WantedActivations, columns, patterns, printable,
    shortened, sniff, total_bytes,
};
pub use quant_safetensors::{
    Entry, Model, Quantized, SafetensorsFile, Tensor, WrittenIndex, write_index,
};
pub use quant_simd;
pub use quantize::{plan, plan_mixed, quantize, visit_quantized};
pub use regex::Regex;

/// Writes the Core ML package at `input` to `output` with `quantize` and `dequantize` operations
/// around the activations that the options select; its weights stay as they are.
///
/// ```no_run
/// use quant_models::{ActivationOptions, Job, Ranges, quantize_activations};
///
/// let options = ActivationOptions::default().with_ranges(Ranges::open("ranges.json".as_ref())?);
/// let (model, small) = ("Model.mlpackage".as_ref(), "Small.mlpackage".as_ref());
/// let report = quantize_activations(model, small, &options, &Job::UNWATCHED)?;
/// println!("{} operations", report.operations.len());
/// # Ok::<(), quant_models::Error>(())
/// ```
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

/// The activations of the Core ML package at `input` that [`quantize_activations`] needs ranges for
/// with these options, in the order of the program. Ranges that the options have are not looked at.
///
/// ```no_run
/// use quant_models::{ActivationOptions, wanted_activations};
///
/// let options = ActivationOptions::default();
/// for wanted in wanted_activations("Model.mlpackage".as_ref(), &options)?.activations {
///     println!("{}", wanted.name);
/// }
/// # Ok::<(), quant_models::Error>(())
/// ```
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

/// Writes the quantized model at `input` to `output` as a float model: each quantized tensor gets the
/// float type back that it had, and all else stays as it is.
///
/// ```no_run
/// use quant_models::{DequantizeOptions, Job, dequantize};
///
/// let (small, restored) = ("small.safetensors".as_ref(), "restored.safetensors".as_ref());
/// dequantize(small, restored, &DequantizeOptions::default(), &Job::UNWATCHED)?;
/// # Ok::<(), quant_models::Error>(())
/// ```
///
/// # Errors
/// See [`Error`]; then nothing has been written, and what stood at `output` is untouched.
pub fn dequantize(
    input: &Path,
    output: &Path,
    options: &DequantizeOptions,
    job: &Job<'_>,
) -> Result<Restored, Error> {
    formats::open(input, job, |model| {
        model.check_restorable(job)?;
        model.dequantize(output, options, job)
    })
}

/// Writes a quantized model in another encoding, where its codes, scales and zero points can be said
/// with the same values. What every tensor stands for is compared on the way.
///
/// ```no_run
/// use quant_models::{DequantizeOptions, Encoding, Job, convert};
///
/// let (folder, small) = ("quantized".as_ref(), "small.gguf".as_ref());
/// let options = DequantizeOptions::default();
/// convert(folder, small, Encoding::Gguf, &options, &Job::UNWATCHED)?;
/// # Ok::<(), quant_models::Error>(())
/// ```
///
/// # Errors
/// Tensors that cannot be said so, and why; see [`Error`]. Then nothing has been written, and what
/// stood at `output` is untouched.
pub fn convert(
    input: &Path,
    output: &Path,
    encoding: Encoding,
    options: &DequantizeOptions,
    job: &Job<'_>,
) -> Result<Converted, Error> {
    formats::convert(input, output, encoding, options, job)
}

/// Whether a path is that of a model that says where its activations are, by its form or its name: of
/// a Core ML package.
pub fn has_activations(path: &Path) -> bool {
    formats::format(path).has_activations()
}

/// The README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
