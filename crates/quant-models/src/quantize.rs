//! From a float model to a quantized one.

use std::path::Path;

use quant_core::{Blocks, ErrorStats, FloatType, Granularity, ParamsError, Scheme};
use quant_simd::{Backend, Failure, TensorQuantizer};
use regex::Regex;
use serde::Serialize;

use crate::output::{Output, Part, PartSink, Target};
use crate::scheme_record::{KEY, Records};
use crate::{Entry, Error, Job, Model, SafetensorsFile, SchemeRecord};

/// What to do with a tensor that holds NaN or infinities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum NonFinite {
    /// End with an error.
    #[default]
    Error,
    /// Leave the tensor in float.
    Skip,
}

/// How to quantize a model.
#[derive(Clone, Debug)]
pub struct QuantizeOptions {
    /// Integer type, mode and dialect.
    pub scheme: Scheme,
    /// Which elements share a scale.
    pub granularity: Granularity,
    /// Only tensors with more elements than this, and of rank 2 or more.
    pub min_elements: usize,
    /// Where not empty: only tensors whose name one of these matches.
    pub include: Vec<Regex>,
    /// No tensor whose name one of these matches.
    pub exclude: Vec<Regex>,
    /// What to do about NaN and infinities.
    pub non_finite: NonFinite,
    /// End with an error where a selected tensor cannot be quantized.
    pub strict: bool,
    /// Plan only, and write nothing.
    pub dry_run: bool,
    /// The kernels to use.
    pub backend: Backend,
    /// Whether the report tells each tensor's error, which takes a third of the time.
    pub stats: bool,
}

impl Default for QuantizeOptions {
    fn default() -> Self {
        Self {
            scheme: Scheme::new(quant_core::IntType::Int8, quant_core::Mode::Symmetric),
            granularity: Granularity::PerChannel { axis: 0 },
            min_elements: 2048,
            include: Vec::new(),
            exclude: Vec::new(),
            non_finite: NonFinite::Error,
            strict: false,
            dry_run: false,
            backend: Backend::detect(),
            stats: true,
        }
    }
}

/// What was done.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Per tensor, in the order of the files.
    pub tensors: Vec<TensorReport>,
    /// Bytes of the input files.
    pub bytes_before: u64,
    /// Bytes of the output files; `None` after a dry run.
    pub bytes_after: Option<u64>,
}

/// What was done with one tensor.
#[derive(Clone, Debug, Serialize)]
pub struct TensorReport {
    /// Its name.
    pub name: String,
    /// Its type in the input.
    pub dtype: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Bytes before.
    pub bytes_before: u64,
    /// Bytes after, scales and zero points included.
    pub bytes_after: u64,
    /// How it was quantized; `None` where it was left alone.
    pub scheme: Option<SchemeRecord>,
    /// Why it was left alone.
    pub reason: Option<String>,
    /// Whether it was left alone although it was selected.
    pub skipped: bool,
    /// Signal to noise in dB; `None` without any error, or where nothing was quantized.
    pub sqnr_db: Option<f64>,
    /// Mean absolute error.
    pub mean_abs_error: Option<f64>,
    /// Largest absolute error.
    pub max_abs_error: Option<f64>,
    /// Values that were clipped.
    pub saturated: Option<u64>,
}

impl TensorReport {
    fn set_stats(&mut self, stats: &ErrorStats) {
        self.sqnr_db = Some(stats.sqnr_db()).filter(|db| db.is_finite());
        self.mean_abs_error = Some(stats.mean_absolute());
        self.max_abs_error = Some(stats.max_absolute);
        self.saturated = Some(stats.saturated);
    }
}

enum Decision {
    Quantize(TensorQuantizer),
    LeaveAlone(String),
    Skip(String),
}

/// Quantizes the model at `input` into `output`: a file, or a folder for a sharded model.
///
/// # Errors
/// See [`Error`]; then nothing has been written, and what stood at `output` is untouched.
pub fn quantize(
    input: &Path,
    output: &Path,
    options: &QuantizeOptions,
    job: &Job<'_>,
) -> Result<Report, Error> {
    let model = Model::open(input)?;
    if model.is_quantized() {
        let problem = "already quantized by quant; quantize the float model, or `quant dequantize` this one first";
        return Err(Error::file(input, problem));
    }
    let decisions = decide(&model, options)?;
    let mut tensors = Vec::new();
    for (file, decisions) in model.files.iter().zip(&decisions) {
        for ((name, entry), decision) in file.entries().iter().zip(decisions) {
            tensors.push(report(name, entry, decision));
        }
    }
    let mut skipped = tensors.iter().filter(|tensor| tensor.skipped);
    if let (true, Some(first)) = (options.strict, skipped.next()) {
        return Err(Error::Strict {
            count: 1 + skipped.count(),
            tensor: first.name.clone(),
            reason: first.reason.clone().unwrap_or_default(),
        });
    }
    let mut report = Report {
        tensors,
        bytes_before: model.files.iter().map(SafetensorsFile::len).sum(),
        bytes_after: None,
    };
    if options.dry_run {
        return Ok(report);
    }
    let target = Target::new(&model, output, job)?;
    let mut outputs = Vec::new();
    let mut reports = report.tensors.iter_mut();
    for (file, decisions) in model.files.iter().zip(&decisions) {
        let output = open_output(&target, file, decisions)?;
        for ((name, entry), decision) in file.entries().iter().zip(decisions) {
            let report = reports.next();
            let Decision::Quantize(quantizer) = decision else {
                output.copy(name, file.data(entry), job)?;
                continue;
            };
            let stats = quantize_tensor(file, name, entry, quantizer, &output, options.stats, job)?;
            if let (Some(report), Some(stats)) = (report, stats) {
                report.set_stats(&stats);
            }
        }
        outputs.push(output);
    }
    report.bytes_after = Some(target.finish(&model, outputs, job)?);
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
    let done = match stats {
        true => quantizer.quantize(values, &sink).map(Some),
        false => quantizer.quantize_unmeasured(values, &sink).map(|()| None),
    };
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
                format!("block {at:?}: {source} ({}); {}", entry.dtype, advice(source, quantizer, name))
            }
        };
        Error::tensor(file.path(), name, problem)
    })
}

fn advice(error: ParamsError, quantizer: &TensorQuantizer, name: &str) -> String {
    let wide = Scheme {
        dialect: quant_core::Dialect::Wide,
        ..quantizer.scheme
    };
    let helps = quantizer.source != FloatType::F32 && wide != quantizer.scheme;
    match (helps, error) {
        (true, _) => "use --dialect wide".into(),
        (false, _) => format!(
            "--dialect wide does not help here, leave the tensor in float with --exclude '^{}$'",
            regex::escape(name)
        ),
    }
}

fn position(mut flat: usize, shape: &[usize]) -> Vec<usize> {
    let mut position: Vec<usize> = shape
        .iter()
        .rev()
        .map(|&dim| {
            let index = flat % dim.max(1);
            flat /= dim.max(1);
            index
        })
        .collect();
    position.reverse();
    position
}

fn decide(model: &Model, options: &QuantizeOptions) -> Result<Vec<Vec<Decision>>, Error> {
    let mut fits = 0;
    let mut misfit = None;
    let mut decisions = Vec::new();
    for file in &model.files {
        let mut of_file = Vec::new();
        for (name, entry) in file.entries() {
            let mut decision = decide_one(file, name, entry, options);
            match &decision {
                Decision::Quantize(quantizer) => {
                    fits += 1;
                    check_names(model, file, name, quantizer)?;
                    if options.non_finite == NonFinite::Skip
                        && let Some((first, count)) = quantizer.non_finite(file.data(entry))
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

fn decide_one(
    file: &SafetensorsFile,
    name: &str,
    entry: &Entry,
    options: &QuantizeOptions,
) -> Decision {
    let Some(source) = entry.float_type() else {
        return Decision::LeaveAlone(format!("type {}", entry.dtype));
    };
    if options.exclude.iter().any(|regex| regex.is_match(name)) {
        return Decision::LeaveAlone("excluded by name".into());
    }
    if !options.include.is_empty() && !options.include.iter().any(|regex| regex.is_match(name)) {
        return Decision::LeaveAlone("not included by name".into());
    }
    if entry.shape.len() < 2 {
        return Decision::LeaveAlone(format!("rank {}", entry.shape.len()));
    }
    let elements = file.data(entry).len() / source.size();
    if elements == 0 {
        return Decision::LeaveAlone("no elements".into());
    }
    if elements <= options.min_elements {
        return Decision::LeaveAlone(format!(
            "{elements} elements, not more than {}",
            options.min_elements
        ));
    }
    match Blocks::new(&entry.shape, &options.granularity) {
        Err(error) => Decision::Skip(error.to_string()),
        Ok(blocks) => Decision::Quantize(TensorQuantizer {
            backend: options.backend,
            scheme: options.scheme,
            source,
            blocks,
        }),
    }
}

fn report(name: &str, entry: &Entry, decision: &Decision) -> TensorReport {
    let bytes_before = (entry.data_offsets.1 - entry.data_offsets.0) as u64;
    let (bytes_after, scheme, reason) = match decision {
        Decision::Quantize(quantizer) => (
            (quantizer.codes_len() + quantizer.scales_len() + quantizer.zero_points_len()) as u64,
            Some(SchemeRecord::of(quantizer)),
            None,
        ),
        Decision::LeaveAlone(reason) | Decision::Skip(reason) => {
            (bytes_before, None, Some(reason.clone()))
        }
    };
    TensorReport {
        name: name.into(),
        dtype: entry.dtype.clone(),
        shape: entry.shape.clone(),
        bytes_before,
        bytes_after,
        scheme,
        reason,
        skipped: matches!(decision, Decision::Skip(_)),
        sqnr_db: None,
        mean_abs_error: None,
        max_abs_error: None,
        saturated: None,
    }
}

pub(crate) fn type_name(float: FloatType) -> &'static str {
    match float {
        FloatType::F32 => "F32",
        FloatType::F16 => "F16",
        FloatType::Bf16 => "BF16",
    }
}

fn open_output(
    target: &Target,
    file: &SafetensorsFile,
    decisions: &[Decision],
) -> Result<Output, Error> {
    let mut records = Records {
        version: 1,
        tensors: Default::default(),
    };
    let mut parts = Vec::new();
    for ((name, entry), decision) in file.entries().iter().zip(decisions) {
        let Decision::Quantize(quantizer) = decision else {
            parts.push(Part {
                name: name.clone(),
                dtype: entry.dtype.clone(),
                shape: entry.shape.clone(),
                len: file.data(entry).len(),
            });
            continue;
        };
        let dtype = quantizer.scheme.dtype;
        let byte = match dtype {
            quant_core::IntType::Int8 => "I8",
            _ => "U8",
        };
        let scale_shape = quantizer.blocks.scale_shape();
        records
            .tensors
            .insert(name.clone(), SchemeRecord::of(quantizer));
        parts.push(Part {
            name: name.clone(),
            dtype: byte.into(),
            shape: match dtype.bits() {
                4 => vec![quantizer.codes_len()],
                _ => entry.shape.clone(),
            },
            len: quantizer.codes_len(),
        });
        parts.push(Part {
            name: format!("{name}.scale"),
            dtype: type_name(quantizer.scale_type()).into(),
            shape: scale_shape.clone(),
            len: quantizer.scales_len(),
        });
        if quantizer.scheme.stores_zero_point() {
            parts.push(Part {
                name: format!("{name}.zero_point"),
                dtype: if dtype.is_signed() { "I8" } else { "U8" }.into(),
                shape: scale_shape,
                len: quantizer.zero_points_len(),
            });
        }
    }
    let mut metadata = file.metadata().clone();
    let records = serde_json::to_string(&records)
        .map_err(|error| Error::file(file.path(), error.to_string()))?;
    metadata.insert(KEY.into(), records);
    target.file(&metadata, parts)
}
