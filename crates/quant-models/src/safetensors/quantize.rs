//! From a float model to a quantized one.

use std::path::Path;

use quant_core::{Blocks, ErrorStats};
use quant_simd::{Failure, TensorQuantizer};

use super::encodings::{Step, check_names};
use super::experts::Stacks;
use super::foreign::Foreign;
use super::output::{Layout, PartSink, Target};
use crate::config::Patterns;
use crate::options::Settings;
use crate::report::{self, Decision};
use crate::unmatched::{Known, Unmatched};
use crate::values::{advice, position};
use crate::{
    Entry, Error, Job, Model, NonFinite, QuantizeOptions, Report, SafetensorsFile, TensorReport,
};

/// Quantizes the model at `input` into `output`: a file, or a folder for a sharded model.
pub(crate) fn quantize(
    input: &Path,
    output: &Path,
    options: &QuantizeOptions,
    job: &Job<'_>,
) -> Result<Report, Error> {
    let model = Model::open_for(input, job)?;
    if model.is_quantized() {
        let problem = "already quantized by quant; quantize the float model, or `quant dequantize` this one first";
        return Err(Error::file(input, problem));
    }
    let convention = options.encoding.convention();
    convention.check_model(&model)?;
    let patterns = options.config.as_ref().map(|config| config.patterns());
    let patterns = patterns.transpose()?;
    let foreign = Foreign::find(&model, job)?;
    if let Some(problem) = foreign.refusal() {
        return Err(Error::file(input, problem));
    }
    let mut chooser = Chooser {
        options,
        patterns: patterns.as_ref(),
        foreign: &foreign,
        stacks: Stacks::new(&options.experts, &model),
    };
    let decisions = decide(&model, &mut chooser, job)?;
    let tensors = model.entries().zip(&decisions);
    let tensors = tensors.map(|((_, name, entry), decision)| {
        TensorReport::new(
            name,
            &entry.dtype,
            &entry.shape,
            entry.len() as u64,
            decision,
        )
    });
    let tensors = tensors.collect();
    let mut report = Report {
        tensors,
        operations: Vec::new(),
        warnings: foreign.warning().into_iter().collect(),
        notes: chooser.stacks.notes(),
        copied: Vec::new(),
        bytes_before: model.files.iter().map(SafetensorsFile::len).sum(),
        bytes_after: None,
    };
    job.check()?;
    report.check(options.strict, &chooser.unmatched(&model))?;
    if options.dry_run {
        return Ok(report);
    }
    let files = convention.files(&model, &decisions, job)?;
    let layouts = files.iter().map(|file| Layout::new(file, job));
    let layouts = layouts.collect::<Result<Vec<_>, Error>>()?;
    let mut target = Target::new(&model, &options.inputs(input), &layouts, output, job)?;
    if !options.weights_only {
        target.copy_companions(&|name| convention.writes(name), job)?;
    }
    let entries: Vec<_> = model.entries().collect();
    for (file, layout) in files.into_iter().zip(layouts) {
        let output = target.begin(file.like, layout)?;
        for step in &file.steps {
            match step {
                Step::Write { to, bytes } => output.write_part(&to.part, to.offset, bytes)?,
                Step::Copy { tensor, to } => {
                    let (file, _, entry) = entries[*tensor];
                    output.copy(to, &file.data(entry), job)?;
                }
                Step::Quantize {
                    tensor,
                    codes,
                    scales,
                    offsets,
                } => {
                    let Decision::Quantize(quantizer) = &decisions[*tensor] else {
                        unreachable!("what goes to codes is quantized");
                    };
                    let sink = PartSink {
                        output: &output,
                        job,
                        codes,
                        scales: Some(scales),
                        offsets: offsets.as_ref(),
                        per_code_byte: (
                            quantizer.source.size() as u64 * 8,
                            quantizer.scheme.dtype.bits().into(),
                        ),
                    };
                    let stats = quantize_tensor(entries[*tensor], quantizer, &sink, options.stats)?;
                    report.tensors[*tensor].set_stats(stats.as_ref());
                }
            }
        }
        target.end(&file.name, output, job)?;
    }
    target.write_documents(|written| convention.documents(&model, written, job))?;
    report.warnings.append(&mut target.warnings);
    report.copied = std::mem::take(&mut target.copied);
    report.bytes_after = Some(target.finish(job)?);
    Ok(report)
}

fn quantize_tensor(
    (file, name, entry): (&SafetensorsFile, &str, &Entry),
    quantizer: &TensorQuantizer,
    sink: &PartSink<'_>,
    stats: bool,
) -> Result<Option<ErrorStats>, Error> {
    let values = file.data(entry);
    let done = report::quantize_tensor(quantizer, stats, &values, sink);
    done.map_err(|failure| {
        let problem = match failure {
            Failure::Sink(error) => return error,
            Failure::NonFinite { first, count } => format!(
                "{count} of {} values are NaN or Inf, the first at {:?}; mend the model, or leave such tensors in float with --non-finite skip",
                quantizer.blocks.element_count(),
                position(first, &entry.shape)
            ),
            Failure::Params { block, source } => {
                let at = position(block, &quantizer.blocks.scale_shape());
                format!("block {at:?}: {source} ({}); {}", entry.dtype, advice(quantizer, name, true))
            }
        };
        Error::tensor(file.path(), name, problem)
    })
}

fn decide(
    model: &Model,
    chooser: &mut Chooser<'_, '_>,
    job: &Job<'_>,
) -> Result<Vec<Decision>, Error> {
    let options = chooser.options;
    let (mut fits, mut misfit) = (0, None);
    let mut decisions = Vec::new();
    for (file, name, entry) in model.entries() {
        job.check()?;
        let mut decision = chooser.decide(name, entry);
        match &decision {
            Decision::Quantize(quantizer) => {
                fits += 1;
                let convention = options.encoding.convention();
                check_names(model, file, name, &convention.parts(name, quantizer))?;
                if options.non_finite == NonFinite::Skip
                    && let Some((first, count)) = quantizer.non_finite_source(&file.data(entry))?
                {
                    let at = position(first, &entry.shape);
                    decision = Decision::Skip(format!(
                        "{count} values are NaN or Inf, the first at {at:?}"
                    ));
                }
            }
            Decision::Skip(reason) => {
                misfit.get_or_insert_with(|| {
                    Error::tensor(
                        file.path(),
                        name,
                        format!("{reason}; choose another, or leave the tensor out with --exclude"),
                    )
                });
            }
            Decision::LeaveAlone(_) => {}
        }
        decisions.push(decision);
    }
    // A block or axis that fits no tensor at all is a mistake in the options, not in the model.
    match misfit {
        Some(error) if fits == 0 && !options.strict => Err(error),
        _ => Ok(decisions),
    }
}

/// What decides about tensors.
struct Chooser<'o, 'm> {
    options: &'o QuantizeOptions,
    patterns: Option<&'o Patterns<'o>>,
    foreign: &'o Foreign<'m>,
    stacks: Stacks<'o, 'm>,
}

impl Chooser<'_, '_> {
    /// Names and patterns of the options that match no tensor.
    fn unmatched(&self, model: &Model) -> Vec<Unmatched> {
        let entries = model.files.iter().flat_map(SafetensorsFile::entries);
        let known = Known::new("tensor", entries.map(|(name, _)| name.as_str()));
        let mut found = self.options.unmatched(&known);
        found.extend(self.stacks.unmatched());
        let patterns = self.patterns.map(|patterns| patterns.unmatched(&known));
        found.extend(patterns.unwrap_or_default());
        found
    }

    fn decide(&mut self, name: &str, entry: &Entry) -> Decision {
        if let Some(reason) = self.foreign.reason(name) {
            return Decision::LeaveAlone(reason);
        }
        let Some(source) = entry.float_type() else {
            return Decision::LeaveAlone(format!("type {}", entry.dtype));
        };
        if let Some(reason) = self.options.left_out(&[name]) {
            return Decision::LeaveAlone(reason.into());
        }
        let settings = match self.patterns {
            None => self.options.settings(),
            Some(patterns) => match patterns.of(name) {
                Some(settings) => settings.clone(),
                None => return Decision::LeaveAlone("left out by the configuration".into()),
            },
        };
        if entry.shape.len() < 2 {
            return Decision::LeaveAlone(format!("rank {}", entry.shape.len()));
        }
        let elements = entry.len() / source.size();
        if elements == 0 {
            return Decision::LeaveAlone("no elements".into());
        }
        let misfit = settings.misfit(entry.shape.len());
        let Settings {
            scheme,
            granularity,
            min_elements,
            ..
        } = settings;
        if elements <= min_elements {
            return Decision::LeaveAlone(format!(
                "{elements} elements, not more than {min_elements}"
            ));
        }
        if let Some(problem) = misfit {
            return Decision::Skip(problem);
        }
        let granularity = self.stacks.blocks(name, &entry.shape, &granularity);
        match Blocks::new(&entry.shape, &granularity) {
            Err(error) => Decision::Skip(error.to_string()),
            Ok(blocks) => {
                let quantizer = TensorQuantizer {
                    backend: self.options.backend,
                    scheme,
                    source,
                    blocks,
                };
                let convention = self.options.encoding.convention();
                match convention.supports(&quantizer) {
                    Ok(()) => Decision::Quantize(quantizer),
                    Err(problem) => Decision::Skip(problem),
                }
            }
        }
    }
}
