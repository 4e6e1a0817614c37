//! From a float package to a quantized one.

use std::collections::HashMap;
use std::path::Path;

use quant_model::error::option;
use quant_model::report::Decision;
use quant_model::{ComputeUnit, Error, Job, QuantizeOptions, Report};

use super::blob::{ALIGN, WeightFile};
use super::emit::Emitter;
use super::graph::Graph;
use super::output::Target;
use super::package::Package;
use super::select::Candidate;
use super::weights::Weights;
use crate::mil::program::Payload;
use crate::mil::rewrite::Changes;

/// The first version with quantized weights, iOS16, and its opset.
const FIRST: (u64, &str) = (7, "CoreML6");

/// Writes a package with these decisions, one per candidate.
#[expect(
    clippy::too_many_arguments,
    reason = "the model's parts, and what to do"
)]
pub(crate) fn quantize(
    package: &Package<'_>,
    graph: &Graph<'_, '_>,
    candidates: &[Candidate<'_, '_>],
    decisions: &[Decision],
    output: &Path,
    options: &QuantizeOptions,
    job: &Job<'_>,
    report: &mut Report,
) -> Result<(), Error> {
    let mut target = Target::new(package, &options.inputs(package.path), output, job)?;
    report.warn(std::mem::take(&mut target.warnings));
    let mut all = decisions.iter();
    let changes_weights = all.any(|it| matches!(it, Decision::Quantize(_)));
    if !changes_weights && options.activations.is_none() {
        report.bytes_after = Some(target.copy_rest(package, &[], job)?);
        return target.finish(job);
    }
    let room = room(package, graph, candidates, decisions)?;
    let emitter = Emitter::create(package, graph, &target, room, job)?;
    let mut weights = Weights::new(package, graph, emitter, job, options);
    weights.quantize(candidates, decisions, &mut report.tensors)?;
    let (emitter, mut changes) = weights.into_parts();
    if raise_versions(package, graph, candidates, decisions, &mut changes) {
        report.warn([format!(
            "the model was made for an older system, without quantized weights; it now needs iOS16 or macOS13 (specification version {})",
            FIRST.0
        )]);
    }
    report.bytes_after = Some(emitter.finish(changes)?);
    target.finish(job)
}

/// Whether a program gets quantized weights whose version knows none.
pub(crate) fn raise_versions(
    package: &Package<'_>,
    graph: &Graph<'_, '_>,
    candidates: &[Candidate<'_, '_>],
    decisions: &[Decision],
    changes: &mut Changes,
) -> bool {
    for (choice, decision) in candidates.iter().zip(decisions) {
        let function = graph.constants[choice.constant].function;
        let stage = package.program.functions[function].stage;
        let old = package.program.stages[stage].specification < FIRST.0;
        if old && matches!(decision, Decision::Quantize(_)) {
            changes.raised.insert(stage, FIRST);
        }
    }
    !changes.raised.is_empty()
}

/// Bytes of each weight file at most.
fn room(
    package: &Package<'_>,
    graph: &Graph<'_, '_>,
    candidates: &[Candidate<'_, '_>],
    decisions: &[Decision],
) -> Result<HashMap<String, u64>, Error> {
    let mut room = HashMap::new();
    for (choice, decision) in candidates.iter().zip(decisions) {
        let (Some(value), Decision::Quantize(quantizer)) = (choice.value, decision) else {
            continue;
        };
        let scales = quantizer.scales_len() + quantizer.blocks.scale_count();
        // Each record has a header, and may leave a gap.
        let after = (quantizer.codes_len() + scales) as u64 + 4 * ALIGN;
        let (file, old, before) = match &value.payload {
            Payload::Blob(blob) => {
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

fn weights(count: usize) -> String {
    match count {
        1 => "1 weight".into(),
        count => format!("{count} weights"),
    }
}

/// What Apple's guide to coremltools says of performance, where the model does otherwise:
/// <https://apple.github.io/coremltools/docs-guides/source/opt-quantization-perf.html>.
pub(crate) fn advice(decisions: &[Decision], target: Option<ComputeUnit>) -> Vec<String> {
    let (mut all, mut blocks, mut channels_of_4) = (0, 0, 0);
    for decision in decisions {
        if let Decision::Quantize(quantizer) = decision {
            let scales = quantizer.blocks.scale_shape();
            let in_blocks = scales.iter().filter(|&&count| count > 1).count() > 1;
            all += 1;
            blocks += usize::from(in_blocks);
            channels_of_4 += usize::from(!in_blocks && quantizer.scheme.dtype.bits() == 4);
        }
    }
    match target {
        Some(ComputeUnit::NeuralEngine) if blocks > 0 => vec![format!(
            "{} in blocks: for the Neural Engine Apple recommends scales per channel ({})",
            weights(blocks),
            option("granularity per-channel")
        )],
        Some(ComputeUnit::Gpu) if channels_of_4 > 0 => vec![format!(
            "{} of 4 bits per channel: for 4 bits on the GPU Apple recommends blocks ({})",
            weights(channels_of_4),
            option("granularity per-block")
        )],
        Some(ComputeUnit::Cpu) if all > 0 => vec![format!(
            "{}: the CPU restores floats when the model is loaded; it is smaller on disk only",
            weights(all)
        )],
        _ => Vec::new(),
    }
}
