//! The one list of file formats, and how a model of any is opened.

use std::path::Path;

use quant_coreai::CoreAi;
use quant_coreml::CoreMl;
use quant_gguf::Gguf;
use quant_model::format::{Activations, Format, OpenModel, ResultKind, Target};
use quant_model::{Converted, DequantizeOptions, Encoding, Error, Job, QuantizeOptions};
use quant_safetensors::Safetensors;

/// All formats; the first one that matches a path reads it.
const FORMATS: [&dyn Format; 4] = [&CoreMl, &CoreAi, &Gguf, &Safetensors];

/// Formats that models of any other are written in, and the encoding that asks for each.
const TARGETS: [(Encoding, &dyn Target); 1] = [(Encoding::Gguf, &Gguf)];

fn target(encoding: Encoding) -> Option<&'static dyn Target> {
    let found = TARGETS.iter().find(|(of, _)| *of == encoding);
    found.map(|(_, target)| *target)
}

/// The format of a model.
pub(crate) fn format(path: &Path) -> &'static dyn Format {
    let found = FORMATS.iter().find(|format| format.matches(path));
    *found.unwrap_or(&FORMATS[FORMATS.len() - 1])
}

/// Opens a model for its activations.
///
/// # Errors
/// A model that cannot be read, or that does not say where they are; what `work` says.
pub(crate) fn open_activations<T>(
    path: &Path,
    job: &Job<'_>,
    work: impl FnOnce(&dyn OpenModel, &dyn Activations) -> Result<T, Error>,
) -> Result<T, Error> {
    let none = || {
        let problem = "no Core ML package; only such a model says where its activations are";
        Error::file(path, problem)
    };
    if !format(path).has_activations() {
        return Err(none());
    }
    open(path, job, |model| match model.activations() {
        Some(activations) => work(model, activations),
        None => Err(none()),
    })
}

/// Opens a model for as long as `work` takes.
///
/// # Errors
/// A model that cannot be read; what `work` says.
pub(crate) fn open<T>(
    path: &Path,
    job: &Job<'_>,
    work: impl FnOnce(&dyn OpenModel) -> Result<T, Error>,
) -> Result<T, Error> {
    let (mut work, mut done) = (Some(work), None);
    format(path).open(path, job, &mut |model| {
        if let Some(work) = work.take() {
            done = Some(work(model)?);
        }
        Ok(())
    })?;
    Ok(done.expect("a format that opens a model does the work"))
}

/// Opens a model to quantize it with these options: as its own format, or as the one that it is
/// written in.
///
/// # Errors
/// A model that cannot be read; what `work` says.
pub(crate) fn open_for<T>(
    path: &Path,
    options: &QuantizeOptions,
    job: &Job<'_>,
    work: impl FnOnce(&dyn OpenModel) -> Result<T, Error>,
) -> Result<T, Error> {
    let encoding = options.encoding();
    open(path, job, |model| {
        let Some(target) = target(encoding).filter(|_| !model.writes(encoding)) else {
            return work(model);
        };
        let (mut work, mut done) = (Some(work), None);
        target.take(model, path, options, job, &mut |model| {
            if let Some(work) = work.take() {
                done = Some(work(model)?);
            }
            Ok(())
        })?;
        Ok(done.expect("a format that takes a model does the work"))
    })
}

/// See [`convert`](crate::convert).
pub(crate) fn convert(
    path: &Path,
    output: &Path,
    encoding: Encoding,
    options: &DequantizeOptions,
    job: &Job<'_>,
) -> Result<Converted, Error> {
    // Tensors alone; what has a program has names of its own for them.
    let is_tensors = result_kind(path).is_tensors;
    open(path, job, |model| {
        model.check_restorable(job)?;
        let mut converted = match target(encoding) {
            Some(target) if is_tensors => target.convert(model, path, output, job),
            _ => model.convert(path, output, encoding, options, job),
        }?;
        converted.warnings.extend(model.lost());
        Ok(converted)
    })
}

/// What the result of a command on `model` is that has no encoding of its own.
pub fn result_kind(model: &Path) -> ResultKind {
    format(model).result(model)
}

/// The encoding of a model's results where nothing else is said.
pub fn encoding_of(model: &Path) -> Encoding {
    format(model).encoding()
}

/// What [`quantize`](crate::quantize()) makes of a model with an encoding.
pub fn quantized_kind(model: &Path, encoding: Encoding) -> ResultKind {
    match target(encoding) {
        Some(target) => target.result(),
        None => result_kind(model),
    }
}
