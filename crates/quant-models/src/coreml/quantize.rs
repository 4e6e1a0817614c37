//! From a float package to a quantized one.

use std::collections::HashMap;
use std::path::Path;

use super::activations;
use super::blob::ALIGN;
use super::emit::{Emitter, rewritten};
use super::graph::Graph;
use super::output::{self, Target};
use super::package::Package;
use super::select::{self, Choice, select};
use super::weights::Weights;
use crate::report::Decision;
use crate::values::position;
use crate::{ComputeUnit, Error, Job, NonFinite, QuantizeOptions, Report, TensorReport};

/// The first version with quantized weights, iOS16, and its opset.
const FIRST: (u64, &str) = (7, "CoreML6");

/// Quantizes the package at `input` into one at `output`.
pub(crate) fn quantize(
    input: &Path,
    output: &Path,
    options: &QuantizeOptions,
    job: &Job<'_>,
) -> Result<Report, Error> {
    let mut package = Package::open(input)?;
    let (mut operations, mut unmatched, mut warnings) = (Vec::new(), Vec::new(), Vec::new());
    if let Some(activations) = &options.activations {
        let inserted = activations::insert(&package, &package.program()?, activations, 2)?;
        (operations, unmatched) = (inserted.operations, inserted.unmatched);
        package.bytes = inserted.model;
    }
    let program = package.program()?;
    let graph = Graph::of(&program);
    let mut choices = select(&package, &program, &graph, options, &mut warnings)?;
    unmatched.extend(select::unmatched(&program, &graph, &choices, options));
    check(&package, &mut choices, options)?;
    warn(&choices, options, &mut warnings);
    let tensors = choices.iter().map(|choice| {
        let bytes = choice.blob.map_or(Ok(0), |blob| {
            let (_, record) = package.record(&blob)?;
            Ok(record.data.len() as u64)
        });
        let mut report = TensorReport::new(
            &choice.name,
            &choice.dtype,
            &choice.shape,
            bytes?,
            &choice.decision,
        );
        report.consumers = choice.uses.iter().map(|one| one.consumer()).collect();
        Ok(report)
    });
    let mut report = Report {
        tensors: tensors.collect::<Result<_, Error>>()?,
        operations,
        warnings,
        copied: Vec::new(),
        bytes_before: output::size(input)?,
        bytes_after: None,
    };
    report.check(options.strict, &unmatched)?;
    if options.dry_run {
        return Ok(report);
    }
    let mut target = Target::new(&package, &options.inputs(input), output, job)?;
    report.warnings.append(&mut target.warnings);
    let mut decisions = choices.iter().map(|choice| &choice.decision);
    let changes_weights = decisions.any(|it| matches!(it, Decision::Quantize(_)));
    if !changes_weights && options.activations.is_none() {
        report.bytes_after = Some(target.copy_rest(&package, &[], job)?);
        target.finish(job)?;
        return Ok(report);
    }
    let emitter = Emitter::create(&package, &target, &room(&package, &choices)?, job)?;
    let mut weights = Weights::new(&package, &program, &graph, emitter, job, options.stats);
    weights.quantize(&choices, &mut report.tensors)?;
    let (emitter, mut changes) = weights.into_parts();
    if program.specification < FIRST.0 && changes.edits.values().next().is_some() {
        changes.version = Some(FIRST);
        report.warnings.push(format!(
            "the model was made for an older system, without quantized weights; it now needs iOS16 or macOS13 (specification version {})",
            FIRST.0
        ));
    }
    let weights = emitter.finish()?;
    let model = changes.apply(&package.bytes);
    let model = model.map_err(|problem| Error::file(&package.model_path(), problem))?;
    target.put(&package, &package.model, &model)?;
    let rest = target.copy_rest(&package, &rewritten(&package), job)?;
    target.finish(job)?;
    report.bytes_after = Some(weights + model.len() as u64 + rest);
    Ok(report)
}

/// Bytes of each weight file at most.
fn room<'a>(package: &Package, choices: &[Choice<'_, 'a>]) -> Result<HashMap<&'a str, u64>, Error> {
    let mut room = HashMap::new();
    for choice in choices {
        let (Some(blob), Decision::Quantize(quantizer)) = (choice.blob, &choice.decision) else {
            continue;
        };
        let file = package.record(&blob)?.0;
        let room = room.entry(blob.file).or_insert(file.len());
        let scales = quantizer.scales_len() + quantizer.blocks.scale_count();
        // Each record has a header, and may leave a gap.
        let after = (quantizer.codes_len() + scales) as u64 + 4 * ALIGN;
        let before = (quantizer.blocks.element_count() * quantizer.source.size()) as u64;
        *room = (*room + after).saturating_sub(before);
    }
    Ok(room)
}

/// Tensors that hold NaN or infinities, and options that fit no tensor.
fn check(
    package: &Package,
    choices: &mut [Choice<'_, '_>],
    options: &QuantizeOptions,
) -> Result<(), Error> {
    let (mut fits, mut misfit) = (0, None);
    for choice in choices {
        match (&choice.decision, choice.blob) {
            (Decision::Quantize(quantizer), Some(blob)) => {
                fits += 1;
                if options.non_finite == NonFinite::Skip {
                    let (file, record) = package.record(&blob)?;
                    if let Some((first, count)) = quantizer.non_finite(file.data(&record)) {
                        let at = position(first, &choice.shape);
                        choice.decision = Decision::Skip(format!(
                            "{count} values are NaN or Inf, the first at {at:?}"
                        ));
                    }
                }
            }
            (Decision::Skip(reason), _) if misfit.is_none() => {
                let problem =
                    format!("{reason}; choose another, or leave the tensor out with --exclude");
                misfit = Some(Error::tensor(&package.model_path(), &choice.name, problem));
            }
            _ => {}
        }
    }
    match misfit {
        // coremltools goes on, and writes the model as it is.
        Some(error) if fits == 0 && !options.strict && !options.exact_selection => Err(error),
        _ => Ok(()),
    }
}

/// What Apple's guide to coremltools says of performance, where the model does otherwise:
/// <https://apple.github.io/coremltools/docs-guides/source/opt-quantization-perf.html>.
fn warn(choices: &[Choice<'_, '_>], options: &QuantizeOptions, warnings: &mut Vec<String>) {
    let (mut all, mut blocks, mut channels_of_4) = (0, 0, 0);
    for choice in choices {
        if let Decision::Quantize(quantizer) = &choice.decision {
            let scales = quantizer.blocks.scale_shape();
            let in_blocks = scales.iter().filter(|&&count| count > 1).count() > 1;
            all += 1;
            blocks += usize::from(in_blocks);
            channels_of_4 += usize::from(!in_blocks && quantizer.scheme.dtype.bits() == 4);
        }
    }
    match options.target {
        Some(ComputeUnit::NeuralEngine) if blocks > 0 => warnings.push(format!(
            "{blocks} weights in blocks: for the Neural Engine Apple recommends scales per channel (--granularity per-channel)"
        )),
        Some(ComputeUnit::Gpu) if channels_of_4 > 0 => warnings.push(format!(
            "{channels_of_4} weights of 4 bits per channel: for 4 bits on the GPU Apple recommends blocks (--granularity per-block)"
        )),
        Some(ComputeUnit::Cpu) if all > 0 => warnings.push(format!(
            "{all} weights: on the CPU they become floats again when the model is loaded; it is smaller on disk only"
        )),
        _ => {}
    }
}
