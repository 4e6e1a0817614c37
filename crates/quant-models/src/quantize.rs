//! The verbs that make a quantized model, for models of every format.

use std::path::Path;

use quant_model::format::Inserted;
use quant_model::mixed::{Damage, MixedOptions, MixedSummary};
use quant_model::{Error, Job, Note, Plan, QuantizeOptions, Remarks, Report, execute, mixed};

use crate::formats;

/// Quantizes the model at `input` into `output`: a file; or a folder, for a sharded model or a Core
/// ML package. With [`QuantizeOptions::activations`], a package's activations too.
///
/// ```
/// use quant_models::{Job, QuantizeOptions, diff, inspect, quantize};
///
/// # let folder = std::env::temp_dir().join(format!("quant-models-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder).unwrap();
/// # let (model, small) = (folder.join("model.safetensors"), folder.join("small.safetensors"));
/// let header = br#"{"w":{"dtype":"F32","shape":[64,64],"data_offsets":[0,16384]}} "#;
/// let values = (0..64 * 64).flat_map(|i| (i as f32).sin().to_le_bytes());
/// let mut file = (header.len() as u64).to_le_bytes().to_vec();
/// file.extend(header.iter().copied().chain(values));
/// std::fs::write(&model, file).unwrap();
///
/// let report = quantize(&model, &small, &QuantizeOptions::default(), &Job::UNWATCHED)?;
/// assert!(report.tensors[0].sqnr_db.unwrap() > 49.0);
/// assert_eq!(inspect(&small, false)?.tensors[0].dtype, "int8");
/// assert_eq!(diff(&model, &small)?.tensors[0].name, "w");
/// # std::fs::remove_dir_all(folder).unwrap();
/// # Ok::<(), quant_models::Error>(())
/// ```
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
        return formats::open_for(input, options, job, |model| {
            execute::quantize(model, Inserted::default(), output, options, job)
        });
    };
    formats::open_activations(input, job, |model, with_activations| {
        model.check_options(options)?;
        let mut report = None;
        with_activations.with_pairs(activations, &mut |inserted, model| {
            report = Some(execute::quantize(model, inserted, output, options, job)?);
            Ok(())
        })?;
        Ok(report.expect("a model with pairs is quantized"))
    })
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
/// let options = QuantizeOptions::default().with_plan(plan);
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
) -> Result<(Plan, Remarks), Error> {
    formats::open_for(input, options, job, |model| {
        execute::plan(model, options, job)
    })
}

/// Shows each tensor that [`quantize`] would give codes, with what makes them and its values: for codes
/// that are found in another way, see [`GivenCodes`](crate::GivenCodes).
///
/// ```no_run
/// use quant_models::{Job, QuantizeOptions, visit_quantized};
///
/// let (model, options) = ("model.safetensors".as_ref(), QuantizeOptions::default());
/// visit_quantized(model, &options, &Job::UNWATCHED, &mut |name, quantizer, values| {
///     println!("{name}: {:?}, {} bytes", quantizer.blocks.shape(), values()?.len());
///     Ok(())
/// })?;
/// # Ok::<(), quant_models::Error>(())
/// ```
///
/// # Errors
/// As [`plan`]; what `visit` says.
pub fn visit_quantized(
    input: &Path,
    options: &QuantizeOptions,
    job: &Job<'_>,
    visit: execute::Visit<'_>,
) -> Result<(), Error> {
    formats::open_for(input, options, job, |model| {
        execute::visit_quantized(model, options, job, visit)
    })
}

/// A plan that mixes precisions: of all that give each tensor one of the candidates and keep to the
/// target, the one of least error; what it comes to; and what the user should know, a line each. `damage`
/// says the error of a tensor where more is known than its values.
///
/// ```no_run
/// use quant_models::{Candidate, Job, MixedOptions, MixedTarget, QuantizeOptions, plan_mixed};
///
/// let mixed = MixedOptions::new(MixedTarget::Bits(4.5))
///     .with_candidates(vec!["int4:block32".parse()?, "int8".parse()?, Candidate::Float]);
/// let model = "model.safetensors".as_ref();
/// let options = QuantizeOptions::default();
/// let (plan, summary, _) = plan_mixed(model, &options, &mixed, &Job::UNWATCHED, None)?;
/// println!("{} bits per weight", summary.bits);
/// # drop(plan);
/// # Ok::<(), quant_models::Error>(())
/// ```
///
/// # Errors
/// As [`quantize`](crate::quantize), but for what is about the output; a target that no plan of the
/// candidates reaches.
pub fn plan_mixed(
    input: &Path,
    options: &QuantizeOptions,
    mixed: &MixedOptions,
    job: &Job<'_>,
    damage: Option<Damage<'_>>,
) -> Result<(Plan, MixedSummary, Vec<Note>), Error> {
    formats::open(input, job, |model| {
        mixed::plan_mixed(model, options, mixed, job, damage)
    })
}
