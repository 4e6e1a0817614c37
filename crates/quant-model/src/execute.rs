//! From a float model to a quantized one, whatever its format: facts, decisions, and the format's
//! rewriting.

use std::path::{Path, PathBuf};

use quant_simd::TensorQuantizer;

use crate::format::{Inserted, OpenModel};
use crate::plan::{PlannedTensor, TensorSpec, VERSION};
use crate::policy::{self, Decided};
use crate::report::Decision;
use crate::{
    Error, Job, Large, NonFinite, Note, Plan, QuantizeOptions, Remarks, Report, TensorReport,
    weighing,
};

/// Is shown a tensor: its name, what makes its codes, and what reads its values, which are little-endian.
pub type Visit<'v> = &'v mut dyn FnMut(
    &str,
    &TensorQuantizer,
    &dyn Fn() -> Result<Vec<u8>, Error>,
) -> Result<(), Error>;

/// What is decided, and reported if nothing is written.
pub(crate) fn decide<'j>(
    model: &dyn OpenModel,
    inserted: Inserted,
    options: &QuantizeOptions,
    job: &Job<'j>,
) -> Result<(Large<'j, Decided>, Large<'j, Report>), Error> {
    model.check_options(options)?;
    let mut warnings = Vec::new();
    let tensors = Large::new(model.facts(options, job, &mut warnings)?, job);
    let decided = match &options.plan {
        Some(plan) => plan.apply(model, &tensors, options, job)?,
        None => policy::decide(model, &tensors, options, job)?,
    };
    let mut decided = Large::new(decided, job);
    if options.non_finite == NonFinite::Skip {
        policy::skip_non_finite(model, &tensors, &mut decided.decisions)?;
    }
    let without_importance = weighing::apply(options, &tensors, &mut decided.decisions)?;
    warnings.append(&mut decided.warnings);
    warnings.extend(model.advice(&decided.decisions, options));
    let mut reports = Large::new(Vec::new(), job);
    for (facts, decision) in tensors.into_inner().into_iter().zip(&decided.decisions) {
        job.check()?;
        let mut report = TensorReport::new(facts, decision, |facts, quantizer| {
            model.stored_len(facts, quantizer, options)
        });
        if report.scheme.is_some() && options.given(&report.name).is_some() {
            report.method = options.codes.as_ref().map(|codes| codes.method().into());
        }
        reports.push(report);
    }
    let weighed = weighing::note(options, &decided.decisions);
    let notes = decided.notes.drain(..).chain(weighed);
    let report = Report {
        tensors: reports.into_inner(),
        operations: inserted.operations,
        warnings: warnings.into_iter().map(Note::from).collect(),
        notes: notes.map(Note::from).collect(),
        copied: Vec::new(),
        bytes_before: model.bytes()?,
        bytes_after: None,
    };
    let mut report = Large::new(report, job);
    job.check()?;
    let mut unmatched = inserted.unmatched;
    unmatched.extend(model.unmatched(options));
    unmatched.extend(without_importance);
    let activations = options.activations.as_ref();
    let strict = options.strict || activations.is_some_and(|activations| activations.strict);
    report.check(strict, &unmatched)?;
    Ok((decided, report))
}

/// Quantizes the weights of a model that is open.
///
/// # Errors
/// See [`Error`]; then there is no output.
pub fn quantize(
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
    Ok(report.into_inner())
}

/// Shows each tensor that [`quantize`] would give codes, with what makes them and its values.
///
/// # Errors
/// As [`plan`]; what `visit` says.
pub fn visit_quantized(
    model: &dyn OpenModel,
    options: &QuantizeOptions,
    job: &Job<'_>,
    visit: Visit<'_>,
) -> Result<(), Error> {
    let (decided, report) = decide(model, Inserted::default(), options, job)?;
    let tensors = report.tensors.iter().zip(&decided.decisions).enumerate();
    for (index, (tensor, decision)) in tensors {
        job.check()?;
        if let Decision::Quantize(quantizer) = decision {
            visit(&tensor.name, quantizer, &|| {
                Ok(model.data(index)?.whole()?.into_owned())
            })?;
        }
    }
    Ok(())
}

/// The plan for a model that is open; and what the user should know.
///
/// # Errors
/// As [`quantize`], but for what is about the output or about values.
pub fn plan(
    model: &dyn OpenModel,
    options: &QuantizeOptions,
    job: &Job<'_>,
) -> Result<(Plan, Remarks), Error> {
    let (decided, report) = decide(model, Inserted::default(), options, job)?;
    let report = report.into_inner();
    let tensors = report.tensors.into_iter().zip(&decided.decisions);
    let tensors = tensors.map(|(report, decision)| PlannedTensor {
        name: report.name,
        dtype: Some(report.dtype),
        shape: Some(report.shape),
        quantize: match decision {
            Decision::Quantize(quantizer) => Some(TensorSpec::from_quantizer(quantizer)),
            Decision::Blocks(quantizer) => Some(TensorSpec::of_blocks(quantizer)),
            Decision::LeaveAlone(_) | Decision::Skip(_) => None,
        },
        reason: report.reason,
    });
    let plan = Plan {
        version: VERSION,
        format: options.encoding(),
        importance: options.importance_path(),
        asked: options.asked(),
        tensors: tensors.collect(),
        path: PathBuf::new(),
    };
    let remarks = Remarks {
        warnings: report.warnings,
        notes: report.notes,
    };
    Ok((plan, remarks))
}
