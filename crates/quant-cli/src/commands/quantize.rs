//! `quant quantize`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, ValueHint};
use quant_core::{IntType, Mode, Scheme};
use quant_models::{
    ActivationOptions, AtomicFile, AtomicFolder, ComputeUnit, Encoding, Error, Inputs, Job,
    NonFinite, Plan, QuantizeOptions, Report, quantized_kind,
};
use serde_json::json;

use super::auto::{AutoFlags, Decided};
use crate::called;
use crate::choices::{byte_type, compute_unit, named};
use crate::needs::lines;
use crate::options::{
    BackendOption, CautionOptions, ForceOption, JsonOption, SyncOption, ThreadsOption,
    WeightsOnlyOption,
};
use crate::paths::{JSON, check_name, output_of};
use crate::progress::{only_words_are_left, with_progress};
use crate::report::print_summary;
use crate::terminal::{json_text, print, print_json, shown, warn};
use crate::weights::WeightOptions;

const EXAMPLES: &str = "\
Examples:
  quant quantize model.safetensors
  quant quantize model.safetensors --dtype int4 --granularity per-block --block-size 32
  quant quantize model.safetensors --exclude '^lm_head' --dry-run
  quant quantize Model.mlpackage --config config.yaml -o Small.mlpackage
  quant quantize Model.mlpackage --ranges ranges.json
  quant quantize Model.mlpackage --dtype int4 --search mse --method gptq --samples samples/
  quant quantize Model.aimodel --dialect coreai-torch
  quant quantize model.safetensors --plan plan.json
  quant quantize Model.mlpackage --auto --target ane --quality 35dB
  quant quantize flux.safetensors --format gguf --type q8_0";

/// Quantize a model's weights
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Quantize {
    /// A .safetensors file, a folder with an index or one file, an index, an .mlpackage, an .aimodel or a .gguf file
    #[arg(value_hint = ValueHint::AnyPath)]
    model: PathBuf,
    /// The result [default: beside the model, as NAME.DTYPE.safetensors, .mlpackage, .aimodel or .gguf]
    #[arg(short, long, value_hint = ValueHint::AnyPath)]
    output: Option<PathBuf>,
    #[command(flatten)]
    weights: WeightOptions,
    /// What is to happen to each tensor, as `quant plan` writes it, in place of the options above
    #[arg(long, value_name = "FILE.json", value_hint = ValueHint::FilePath)]
    plan: Option<PathBuf>,
    #[cfg(feature = "run")]
    #[command(flatten)]
    gptq: super::gptq::GptqFlags,
    /// Core ML: quantize activations too; their ranges, as `quant activations` takes them
    #[arg(long, value_name = "FILE.json", value_hint = ValueHint::FilePath)]
    ranges: Option<PathBuf>,
    /// With --ranges: type of the activations' codes
    #[arg(long, value_parser = byte_type(), default_value = "int8")]
    activation_dtype: IntType,
    /// With --ranges: range of the activations symmetric about zero, or as it is
    #[arg(long, value_parser = named::<Mode>(), default_value = "symmetric")]
    activation_mode: Mode,
    #[command(flatten)]
    auto: AutoFlags,
    /// Core ML: warn of what is known to run badly there; with --auto, leave it out
    #[arg(long, value_parser = compute_unit())]
    target: Option<ComputeUnit>,
    /// What to do with a tensor that holds NaN or Inf
    #[arg(long, value_parser = named::<NonFinite>(), default_value = "error")]
    non_finite: NonFinite,
    #[command(flatten)]
    backend: BackendOption,
    #[command(flatten)]
    threads: ThreadsOption,
    #[command(flatten)]
    caution: CautionOptions,
    #[command(flatten)]
    force: ForceOption,
    #[command(flatten)]
    sync: SyncOption,
    #[command(flatten)]
    weights_only: WeightsOnlyOption,
    /// Print nothing but errors and warnings, and do not measure what was lost: it is faster
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    json: JsonOption,
    /// Write the report as JSON to a file
    #[arg(long, value_name = "FILE.json", value_hint = ValueHint::FilePath)]
    report: Option<PathBuf>,
}

impl Quantize {
    fn options(&self) -> Result<QuantizeOptions, Error> {
        let activations = self.ranges.as_ref().map(|path| {
            let mut activations = ActivationOptions::open(path)?;
            activations.scheme = Scheme::new(self.activation_dtype, self.activation_mode);
            Ok::<_, Error>(activations)
        });
        Ok(self
            .weights
            .options(&self.model)?
            .with_plan(self.plan.as_deref().map(Plan::open).transpose()?)
            .with_non_finite(self.non_finite)
            .with_activations(activations.transpose()?)
            .with_target(self.target)
            .with_strict(self.caution.strict)
            .with_dry_run(self.caution.dry_run)
            .with_weights_only(self.weights_only.weights_only)
            .with_backend(self.backend.find()?)
            // Nobody would see them.
            .with_stats(
                !self.quiet || self.json.json && !called::is_called() || self.report.is_some(),
            ))
    }

    /// What the name of the result says of it.
    fn suffix(&self, options: &QuantizeOptions, encoding: Encoding) -> &'static str {
        let is_mixed = options.config.is_some() || options.plan.is_some() || self.auto.is_wanted();
        match encoding {
            Encoding::Gguf if options.plan.is_some() => "quantized",
            Encoding::Gguf => options.block_type.map_or("gguf", quant_core::Named::name),
            Encoding::Native if is_mixed => "quantized",
            Encoding::Native => options.scheme.dtype.name(),
            other => other.name(),
        }
    }

    /// What is read, beside the output.
    fn inputs(&self, options: &QuantizeOptions) -> Inputs {
        #[cfg_attr(not(feature = "run"), expect(unused_mut, reason = "samples"))]
        let mut inputs = options.inputs(&self.model);
        #[cfg(feature = "run")]
        self.gptq.add_inputs(&mut inputs);
        inputs
    }

    /// Refuses a place for the output before work that may take hours. What may be replaced, its format
    /// knows.
    fn check_place(&self, output: &Path, options: &QuantizeOptions) -> Result<(), Error> {
        let replaces = self.force.force && output.symlink_metadata().is_ok();
        if self.caution.dry_run || replaces {
            return Ok(());
        }
        // A folder can be made where a file can.
        let place = AtomicFolder::create(output, false, &self.inputs(options), |_| false)?;
        warn(place.warnings());
        Ok(())
    }

    /// Whether there is work before the model is rewritten.
    fn finds_first(&self) -> bool {
        #[cfg(feature = "run")]
        if self.gptq.is_wanted() {
            return true;
        }
        self.auto.is_wanted()
    }

    /// Does the work.
    fn quantize(
        &self,
        output: &Path,
        mut options: QuantizeOptions,
        job: &Job<'_>,
    ) -> Result<(Report, Option<Decided>), Error> {
        let decided = match self.auto.is_wanted() {
            true => Some(self.auto.decide(&self.model, &mut options, job)?),
            false => None,
        };
        #[cfg(feature = "run")]
        if self.gptq.is_wanted() {
            self.gptq.find(&self.model, &mut options, job)?;
        }
        let mut report = quant_models::quantize(&self.model, output, &options, job)?;
        let planned = decided.iter().flat_map(|decided| decided.warnings.iter());
        let planned: Vec<_> = planned
            .filter(|one| !report.warnings.contains(one))
            .cloned()
            .collect();
        report.warnings.splice(..0, planned);
        Ok((report, decided))
    }

    // Long: the steps of the command, in order.
    pub fn run(&self) -> Result<(), Error> {
        let options = self.options()?;
        let encoding = match &options.plan {
            Some(plan) => plan.format,
            None => options.encoding,
        };
        let result = quantized_kind(&self.model, encoding);
        let inputs = || self.inputs(&options);
        let given = self.output.as_deref();
        let output = output_of(
            given,
            &self.model,
            result,
            inputs,
            self.suffix(&options, encoding),
        )?;
        // A report that cannot be written ends the work before it begins.
        let report_file = self.report.as_deref().map(|path| {
            let mut inputs = self.inputs(&options);
            inputs.output(&output);
            let file = AtomicFile::create(path, "report", self.force.force, &inputs)?;
            warn(file.warnings());
            check_name(JSON, path)?;
            Ok::<_, Error>(file)
        });
        let report_file = report_file.transpose()?;
        if self.finds_first() {
            self.check_place(&output, &options)?;
        }
        let start = Instant::now();
        let quiet = self.quiet || self.json.json;
        let bytes = quant_models::total_bytes(&self.model);
        let (report, decided) = with_progress(
            self.threads.threads,
            quiet,
            self.force.force,
            bytes,
            |job| self.quantize(&output, options, &self.sync.of(job)),
        )?;
        let seconds = start.elapsed().as_secs_f64();
        let value = || {
            let mut value = json!({
            "version": 1,
            "input": self.model.to_string_lossy(),
            "output": (!self.caution.dry_run).then(|| output.to_string_lossy()),
            "seconds": seconds,
            "bytes_before": report.bytes_before,
            "bytes_after": report.bytes_after,
            "warnings": lines(&report.warnings),
            "notes": lines(&report.notes),
            "copied": report.copied,
            "tensors": report.tensors,
            "operations": report.operations,
            });
            if let (Some(decided), Some(value)) = (&decided, value.as_object_mut()) {
                value.insert("auto".into(), decided.value.clone());
            }
            value
        };
        warn(&lines(&report.warnings));
        if let Some(file) = report_file {
            let written = file.commit(json_text(&value()).as_bytes());
            if written.is_err() && !self.caution.dry_run {
                warn(&[format!(
                    "{} is written, and its report is not",
                    shown(&output)
                )]);
            }
            written?;
        }
        only_words_are_left();
        match (self.json.json, self.quiet) {
            (true, _) => print_json(&value()),
            (false, true) => Ok(()),
            (false, false) => {
                print_summary(&report, &output, seconds)?;
                print(decided.as_ref().map_or("", |decided| &decided.text))
            }
        }
    }
}
