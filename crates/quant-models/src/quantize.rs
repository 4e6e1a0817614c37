//! From a float model to a quantized one, whatever its format: facts, decisions, and the format's
//! rewriting.

use std::path::{Path, PathBuf};

use crate::format::{Inserted, OpenModel};
use crate::formats;
use crate::plan::{PlannedTensor, TensorSpec, VERSION};
use crate::policy::{self, Decided};
use crate::report::Decision;
use crate::{Error, Job, NonFinite, Plan, QuantizeOptions, Report, TensorReport};

/// Quantizes the model at `input` into `output`: a file; or a folder, for a sharded model or a Core
/// ML package. With [`QuantizeOptions::activations`], a package's activations too.
///
/// # Errors
/// See [`Error`]; then nothing has been written, and what stood at `output` is untouched.
pub fn quantize(
    input: &Path,
    output: &Path,
    options: &QuantizeOptions,
    job: &Job<'_>,
) -> Result<Report, Error> {
    if let Some(activations) = &options.activations {
        activations.check()?;
    }
    let Some(activations) = &options.activations else {
        return formats::open(input, job, |model| {
            weights(model, Inserted::default(), output, options, job)
        });
    };
    formats::open_activations(input, job, |model, with_activations| {
        model.check_options(options)?;
        let mut report = None;
        with_activations.with_pairs(activations, &mut |inserted, model| {
            report = Some(weights(model, inserted, output, options, job)?);
            Ok(())
        })?;
        Ok(report.expect("a model with pairs is quantized"))
    })
}

/// What is decided, and reported if nothing is written.
pub(crate) fn decide(
    model: &dyn OpenModel,
    inserted: Inserted,
    options: &QuantizeOptions,
    job: &Job<'_>,
) -> Result<(Decided, Report), Error> {
    model.check_options(options)?;
    let mut warnings = Vec::new();
    let tensors = model.facts(options, job, &mut warnings)?;
    let mut decided = match &options.plan {
        Some(plan) => plan.apply(model, &tensors, options, job)?,
        None => policy::decide(model, &tensors, options, job)?,
    };
    if options.non_finite == NonFinite::Skip {
        policy::skip_non_finite(model, &tensors, &mut decided.decisions)?;
    }
    warnings.append(&mut decided.warnings);
    warnings.extend(model.advice(&decided.decisions, options));
    let mut reports = Vec::new();
    for (facts, decision) in tensors.into_iter().zip(&decided.decisions) {
        job.check()?;
        reports.push(TensorReport::new(facts, decision));
    }
    let mut report = Report {
        tensors: reports,
        operations: inserted.operations,
        warnings,
        notes: std::mem::take(&mut decided.notes),
        copied: Vec::new(),
        bytes_before: model.bytes()?,
        bytes_after: None,
    };
    job.check()?;
    let mut unmatched = inserted.unmatched;
    unmatched.extend(model.unmatched(options));
    let activations = options.activations.as_ref();
    let strict = options.strict || activations.is_some_and(|activations| activations.strict);
    report.check(strict, &unmatched)?;
    Ok((decided, report))
}

fn weights(
    model: &dyn OpenModel,
    inserted: Inserted,
    output: &Path,
    options: &QuantizeOptions,
    job: &Job<'_>,
) -> Result<Report, Error> {
    let (decided, mut report) = decide(model, inserted, options, job)?;
    let activations = options.activations.as_ref();
    let dry_run = options.dry_run || activations.is_some_and(|activations| activations.dry_run);
    if !dry_run {
        model.quantize(output, &decided.decisions, options, job, &mut report)?;
    }
    Ok(report)
}

/// Says what [`quantize`](crate::quantize) would do with a model, tensor by tensor; and what the user
/// should know, a line each.
///
/// ```no_run
/// use quant_models::{Job, QuantizeOptions, plan, quantize};
///
/// let model = "model.safetensors".as_ref();
/// let (mut plan, _) = plan(model, &QuantizeOptions::default(), &Job::UNWATCHED)?;
/// for tensor in &mut plan.tensors {
///     if tensor.name.contains("embed") {
///         tensor.quantize = None;
///     }
/// }
/// let options = QuantizeOptions { plan: Some(plan), ..QuantizeOptions::default() };
/// quantize(model, "small.safetensors".as_ref(), &options, &Job::UNWATCHED)?;
/// # Ok::<(), quant_models::Error>(())
/// ```
///
/// # Errors
/// As [`quantize`](crate::quantize), but for what is about the output or about values.
pub fn plan(
    input: &Path,
    options: &QuantizeOptions,
    job: &Job<'_>,
) -> Result<(Plan, Vec<String>), Error> {
    formats::open(input, job, |model| {
        let (decided, report) = decide(model, Inserted::default(), options, job)?;
        let tensors = report.tensors.into_iter().zip(&decided.decisions);
        let tensors = tensors.map(|(report, decision)| PlannedTensor {
            name: report.name,
            dtype: Some(report.dtype),
            shape: Some(report.shape),
            quantize: match decision {
                Decision::Quantize(quantizer) => Some(TensorSpec::of(quantizer)),
                Decision::LeaveAlone(_) | Decision::Skip(_) => None,
            },
            reason: report.reason,
        });
        let plan = Plan {
            version: VERSION,
            format: options.encoding(),
            tensors: tensors.collect(),
            path: PathBuf::new(),
        };
        let mut warnings = report.warnings;
        warnings.extend(report.notes);
        Ok((plan, warnings))
    })
}
