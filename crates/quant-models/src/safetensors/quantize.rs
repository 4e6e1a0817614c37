//! From a float model to a quantized one.

use std::path::Path;

use quant_core::{Blocks, ErrorStats, FloatType};
use quant_simd::{Failure, TensorQuantizer};

use super::experts::Stacks;
use super::foreign::Foreign;
use super::output::{Layout, Output, Part, PartSink, Target};
use crate::config::Patterns;
use crate::options::Settings;
use crate::report::{self, Decision};
use crate::scheme_record::{KEY, Records};
use crate::unmatched::{Known, Unmatched};
use crate::values::{advice, position};
use crate::{
    Entry, Error, Job, Model, NonFinite, QuantizeOptions, Report, SafetensorsFile, SchemeRecord,
    TensorReport,
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
    let mut tensors = Vec::new();
    for (file, decisions) in model.files.iter().zip(&decisions) {
        for ((name, entry), decision) in file.entries().iter().zip(decisions) {
            job.check()?;
            tensors.push(report(name, entry, decision));
        }
    }
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
    let layouts = model.files.iter().zip(&decisions);
    let layouts = layouts.map(|(file, decisions)| layout(file, decisions, job));
    let layouts = layouts.collect::<Result<Vec<_>, Error>>()?;
    let inputs = options.inputs(input);
    let mut target = Target::new(&model, &inputs, &layouts, output, job)?;
    if !options.weights_only {
        target.copy_companions(job)?;
    }
    let mut reports = report.tensors.iter_mut();
    for ((file, decisions), layout) in model.files.iter().zip(&decisions).zip(layouts) {
        let output = target.begin(file, layout)?;
        for ((name, entry), decision) in file.entries().iter().zip(decisions) {
            let report = reports.next();
            let Decision::Quantize(quantizer) = decision else {
                output.copy(name, &file.data(entry), job)?;
                continue;
            };
            let stats = quantize_tensor(file, name, entry, quantizer, &output, options.stats, job)?;
            if let Some(report) = report {
                report.set_stats(stats.as_ref());
            }
        }
        target.end(file, output, job)?;
    }
    report.warnings.append(&mut target.warnings);
    report.copied = std::mem::take(&mut target.copied);
    report.bytes_after = Some(target.finish(job)?);
    Ok(report)
}

fn quantize_tensor(
    file: &SafetensorsFile,
    name: &str,
    entry: &Entry,
    quantizer: &TensorQuantizer,
    output: &Output,
    stats: bool,
    job: &Job<'_>,
) -> Result<Option<ErrorStats>, Error> {
    let sink = PartSink {
        output,
        job,
        name,
        scale: format!("{name}.scale"),
        zero_point: format!("{name}.zero_point"),
        per_code_byte: (
            quantizer.source.size() as u64 * 8,
            quantizer.scheme.dtype.bits().into(),
        ),
    };
    let values = file.data(entry);
    let done = report::quantize_tensor(quantizer, stats, &values, &sink);
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
) -> Result<Vec<Vec<Decision>>, Error> {
    let options = chooser.options;
    let (mut fits, mut misfit) = (0, None);
    let mut decisions = Vec::new();
    for file in &model.files {
        let mut of_file = Vec::new();
        for (name, entry) in file.entries() {
            job.check()?;
            let mut decision = chooser.decide(name, entry);
            match &decision {
                Decision::Quantize(quantizer) => {
                    fits += 1;
                    check_names(model, file, name, quantizer)?;
                    if options.non_finite == NonFinite::Skip
                        && let Some((first, count)) =
                            quantizer.non_finite_source(&file.data(entry))?
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
                            format!(
                                "{reason}; choose another, or leave the tensor out with --exclude"
                            ),
                        )
                    });
                }
                Decision::LeaveAlone(_) => {}
            }
            of_file.push(decision);
        }
        decisions.push(of_file);
    }
    // A block or axis that fits no tensor at all is a mistake in the options, not in the model.
    match misfit {
        Some(error) if fits == 0 && !options.strict => Err(error),
        _ => Ok(decisions),
    }
}

fn check_names(
    model: &Model,
    file: &SafetensorsFile,
    name: &str,
    quantizer: &TensorQuantizer,
) -> Result<(), Error> {
    let zero_point = quantizer.scheme.stores_zero_point().then_some("zero_point");
    for suffix in ["scale"].into_iter().chain(zero_point) {
        let part = format!("{name}.{suffix}");
        if model.contains(&part) {
            let problem = format!(
                "its {suffix} would be named `{part}`, which exists already; rename that tensor or leave this one out with --exclude"
            );
            return Err(Error::tensor(file.path(), name, problem));
        }
    }
    Ok(())
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
            Ok(blocks) => Decision::Quantize(TensorQuantizer {
                backend: self.options.backend,
                scheme,
                source,
                blocks,
            }),
        }
    }
}

fn report(name: &str, entry: &Entry, decision: &Decision) -> TensorReport {
    let bytes = (entry.data_offsets.1 - entry.data_offsets.0) as u64;
    TensorReport::new(name, &entry.dtype, &entry.shape, bytes, decision)
}

pub(crate) fn type_name(float: FloatType) -> &'static str {
    match float {
        FloatType::F32 => "F32",
        FloatType::F16 => "F16",
        FloatType::Bf16 => "BF16",
    }
}

/// What a quantized tensor consists of in a file: codes, scales and, where the scheme stores them,
/// zero points.
pub(crate) fn parts(name: &str, quantizer: &TensorQuantizer) -> Vec<Part> {
    let dtype = quantizer.scheme.dtype;
    let packed = dtype.packing().is_packed();
    let byte = match (packed, dtype.is_signed()) {
        (false, true) => "I8",
        (false, false) | (true, _) => "U8",
    };
    let scale_shape = quantizer.blocks.scale_shape();
    let mut parts = vec![
        Part {
            name: name.into(),
            dtype: byte.into(),
            shape: match packed {
                true => vec![quantizer.codes_len()],
                false => quantizer.blocks.shape().to_vec(),
            },
            len: quantizer.codes_len(),
        },
        Part {
            name: format!("{name}.scale"),
            dtype: type_name(quantizer.scale_type()).into(),
            shape: scale_shape.clone(),
            len: quantizer.scales_len(),
        },
    ];
    if quantizer.scheme.stores_zero_point() {
        parts.push(Part {
            name: format!("{name}.zero_point"),
            dtype: if dtype.is_signed() { "I8" } else { "U8" }.into(),
            shape: scale_shape,
            len: quantizer.zero_points_len(),
        });
    }
    parts
}

fn layout(file: &SafetensorsFile, decisions: &[Decision], job: &Job<'_>) -> Result<Layout, Error> {
    let mut records = Records {
        version: 1,
        tensors: Default::default(),
    };
    let mut all = Vec::new();
    for ((name, entry), decision) in file.entries().iter().zip(decisions) {
        job.check()?;
        let Decision::Quantize(quantizer) = decision else {
            all.push(Part {
                name: name.clone(),
                dtype: entry.dtype.clone(),
                shape: entry.shape.clone(),
                len: entry.len(),
            });
            continue;
        };
        records
            .tensors
            .insert(name.clone(), SchemeRecord::of(quantizer));
        all.extend(parts(name, quantizer));
    }
    let mut metadata = file.metadata().clone();
    let records = serde_json::to_string(&records)
        .map_err(|error| Error::file(file.path(), error.to_string()))?;
    metadata.insert(KEY.into(), records);
    Layout::new(&metadata, all, job)
}
