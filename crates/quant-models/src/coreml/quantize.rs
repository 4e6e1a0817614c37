//! From a float package to a quantized one.

use std::collections::HashMap;
use std::path::Path;

use super::activations;
use super::blob::{ALIGN, WeightFile};
use super::emit::Emitter;
use super::folder::Folder;
use super::graph::Graph;
use super::output::{self, Target};
use super::package::Package;
use super::program::Held;
use super::rewrite::Changes;
use super::select::{self, Choice, select};
use super::weights::Weights;
use crate::io::Data;
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
    let folder = Folder::open(input)?;
    let mut package = Package::open(&folder)?;
    let (mut operations, mut unmatched, mut warnings) =
        (Vec::new(), Vec::new(), package.warnings());
    let (mut strict, mut dry_run) = (options.strict, options.dry_run);
    let model;
    if let Some(activations) = &options.activations {
        let inserted = activations::insert(&package, activations, 2)?;
        (operations, unmatched) = (inserted.operations, inserted.unmatched);
        model = inserted.model;
        package = package.with_model(&model)?;
        strict |= activations.strict;
        dry_run |= activations.dry_run;
    }
    let graph = Graph::of(&package.program);
    let mut choices = select(&package, &graph, options, &mut warnings)?;
    unmatched.extend(select::unmatched(
        &package.program,
        &graph,
        &choices,
        options,
    ));
    check_axes(&package, &choices, options)?;
    if options.non_finite == NonFinite::Skip {
        skip_non_finite(&package, &mut choices)?;
    }
    warn(&choices, options, &mut warnings);
    let mut report = Report {
        tensors: reports(&package, &choices)?,
        operations,
        warnings,
        notes: Vec::new(),
        copied: Vec::new(),
        bytes_before: output::size(input)?,
        bytes_after: None,
    };
    report.check(strict, &unmatched)?;
    if dry_run {
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
    let room = room(&package, &graph, &choices)?;
    let emitter = Emitter::create(&package, &graph, &target, room, job)?;
    let mut weights = Weights::new(&package, &graph, emitter, job, options.stats);
    weights.quantize(&choices, &mut report.tensors)?;
    let (emitter, mut changes) = weights.into_parts();
    if raise_versions(&package, &graph, &choices, &mut changes) {
        report.warnings.push(format!(
            "the model was made for an older system, without quantized weights; it now needs iOS16 or macOS13 (specification version {})",
            FIRST.0
        ));
    }
    report.bytes_after = Some(emitter.finish(changes)?);
    target.finish(job)?;
    Ok(report)
}

/// Options that name axes which no weight has are a mistake. Blocks that fit none are not: coremltools
/// skips these weights, too.
fn check_axes(
    package: &Package<'_>,
    choices: &[Choice<'_, '_>],
    options: &QuantizeOptions,
) -> Result<(), Error> {
    let fits = |choice: &Choice<'_, '_>| matches!(choice.decision, Decision::Quantize(_));
    let mut lacking = choices.iter().filter(|choice| choice.lacks_axis);
    match (lacking.next(), options.strict || options.exact_selection) {
        (Some(choice), false) if !choices.iter().any(fits) => {
            let Decision::Skip(reason) = &choice.decision else {
                return Ok(());
            };
            let problem =
                format!("{reason}; choose another, or leave the tensor out with --exclude");
            Err(Error::tensor(&package.model_path(), &choice.name, problem))
        }
        _ => Ok(()),
    }
}

fn reports(package: &Package<'_>, choices: &[Choice<'_, '_>]) -> Result<Vec<TensorReport>, Error> {
    let reports = choices.iter().map(|choice| {
        let bytes = match choice.value {
            Some(value) => package.data(value)?.map_or(0, |bytes| bytes.len()),
            None => 0,
        };
        let mut report = TensorReport::new(
            &choice.name,
            &choice.dtype,
            &choice.shape,
            bytes as u64,
            &choice.decision,
        );
        report.consumers = choice.uses.iter().map(|one| one.consumer()).collect();
        Ok(report)
    });
    reports.collect()
}

/// Whether a program gets quantized weights whose version knows none.
fn raise_versions(
    package: &Package<'_>,
    graph: &Graph<'_, '_>,
    choices: &[Choice<'_, '_>],
    changes: &mut Changes,
) -> bool {
    for choice in choices {
        let function = graph.constants[choice.constant].function;
        let stage = package.program.functions[function].stage;
        let old = package.program.stages[stage].specification < FIRST.0;
        if old && matches!(choice.decision, Decision::Quantize(_)) {
            changes.raised.insert(stage, FIRST);
        }
    }
    !changes.raised.is_empty()
}

/// Bytes of each weight file at most.
fn room(
    package: &Package<'_>,
    graph: &Graph<'_, '_>,
    choices: &[Choice<'_, '_>],
) -> Result<HashMap<String, u64>, Error> {
    let mut room = HashMap::new();
    for choice in choices {
        let (Some(value), Decision::Quantize(quantizer)) = (choice.value, &choice.decision) else {
            continue;
        };
        let scales = quantizer.scales_len() + quantizer.blocks.scale_count();
        // Each record has a header, and may leave a gap.
        let after = (quantizer.codes_len() + scales) as u64 + 4 * ALIGN;
        let (file, old, before) = match &value.held {
            Held::Blob(blob) => {
                let (file, record) = package.record(blob)?;
                (blob.file.to_owned(), file.len(), record.data.len() as u64)
            }
            _ => {
                let function = graph.constants[choice.constant].function;
                let file = package.weight_file(package.program.functions[function].stage);
                let old = package.weights.get(&file).map_or(ALIGN, WeightFile::len);
                (file, old, 0)
            }
        };
        let room = room.entry(file).or_insert(old);
        *room = (*room + after).saturating_sub(before);
    }
    Ok(room)
}

/// Leaves tensors alone that hold NaN or infinities.
fn skip_non_finite(package: &Package<'_>, choices: &mut [Choice<'_, '_>]) -> Result<(), Error> {
    for choice in choices {
        let (Decision::Quantize(quantizer), Some(value)) = (&choice.decision, choice.value) else {
            continue;
        };
        let data = package.data(value)?.unwrap_or(Data::EMPTY);
        if let Some((first, count)) = quantizer.non_finite_source(&data)? {
            let at = position(first, &choice.shape);
            choice.decision = Decision::Skip(format!(
                "{count} values are NaN or Inf, the first at {at:?}"
            ));
        }
    }
    Ok(())
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
