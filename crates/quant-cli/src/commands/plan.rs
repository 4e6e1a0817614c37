//! `quant plan`.

mod page;

use std::path::{Path, PathBuf};

use clap::{Args, ValueHint};
use quant_models::{
    AtomicFile, Error, Inputs, Job, MixedOptions, MixedSummary, MixedTarget, NonFinite, Note,
    QuantizeOptions,
};

use crate::choices::named;
use crate::html;
use crate::mixed::{MixedFlags, told};
use crate::needs::lines;
use crate::options::{ForceOption, QuietOption};
use crate::paths::{JSON, check_name};
use crate::progress::{only_words_are_left, with_progress};
use crate::report::print_notes;
use crate::terminal::{count, json_text, print, print_json, shown, warn};
use crate::weights::WeightOptions;

const EXAMPLES: &str = "\
Examples:
  quant plan model.safetensors --dtype int4 --granularity per-block -o plan.json
  quant quantize model.safetensors --plan plan.json
  quant plan model.safetensors --target-bits 5 --search mse -o plan.json
  quant plan Model.mlpackage --target-size 12MB --candidates int4:block32,int8 -o plan.json
  quant plan Model.mlpackage --target-bits 6 --samples samples/ --report curve.html -o plan.json";

/// Say what `quant quantize` would do with each tensor, as a file that can be changed by hand
///
/// The file has an entry per tensor: `quantize` says how, or null that it stays as it is, with the
/// reason. What is changed there, such as another dtype or null for one tensor, is what
/// `quant quantize --plan` does.
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Plan {
    /// A .safetensors file, a folder with an index or one file, an index, an .mlpackage, an .aimodel or a .gguf file
    #[arg(value_hint = ValueHint::AnyPath)]
    model: PathBuf,
    /// The plan [default: printed]
    #[arg(short, long, value_name = "FILE.json", value_hint = ValueHint::FilePath)]
    output: Option<PathBuf>,
    #[command(flatten)]
    weights: WeightOptions,
    #[command(flatten)]
    mixed: MixedFlags,
    #[cfg(feature = "run")]
    #[command(flatten)]
    measuring: super::running::MeasuringOptions,
    /// With --samples: how many of them tell what a tensor does to the answers by itself; whole plans are
    /// compared by all samples
    #[cfg(feature = "run")]
    #[arg(long, value_name = "COUNT", value_hint = ValueHint::Other)]
    #[arg(default_value_t = 16, value_parser = crate::mixed::at_least_one)]
    tensor_samples: usize,
    /// What to do with a tensor that holds NaN or Inf
    #[arg(long, value_parser = named::<NonFinite>(), default_value = "error")]
    non_finite: NonFinite,
    #[command(flatten)]
    force: ForceOption,
    #[command(flatten)]
    quiet: QuietOption,
}

impl Plan {
    /// What is read.
    fn inputs(&self, options: &QuantizeOptions) -> Inputs {
        #[cfg_attr(not(feature = "run"), expect(unused_mut, reason = "samples"))]
        let mut inputs = options.inputs(&self.model);
        #[cfg(feature = "run")]
        self.measuring.add_inputs(&mut inputs);
        inputs
    }

    /// Where the page goes, looked at before any work.
    fn report_file(&self, options: &QuantizeOptions) -> Result<Option<AtomicFile>, Error> {
        let Some(path) = &self.mixed.report else {
            return Ok(None);
        };
        let mut inputs = self.inputs(options);
        if let Some(output) = &self.output {
            inputs.output(output);
        }
        let file = html::file(path, self.force.force, &inputs)?;
        Ok(Some(file.later()))
    }

    /// A mixed plan, by the weights or by what they do to the model's outputs.
    fn mix(
        &self,
        options: &QuantizeOptions,
        mixed: &MixedOptions,
        job: &Job<'_>,
    ) -> Result<(quant_models::Plan, MixedSummary, Vec<Note>), Error> {
        #[cfg(feature = "run")]
        if !self.measuring.samples.is_empty() {
            let (mut model, samples) = self.measuring.open(&self.model)?;
            let at = |error| super::running::at_model(&self.model, error);
            let go_on = || !job.cancelled.load(std::sync::atomic::Ordering::Relaxed);
            let damage = quant_run::Damage::new(&mut model, &samples, &go_on);
            let mut damage = damage.map_err(at)?;
            let mut of = |part, weights: &[(&str, &_)]| {
                let samples = match part {
                    quant_models::Part::Tensor => self.tensor_samples,
                    quant_models::Part::Plan => usize::MAX,
                };
                damage.of(weights, samples).map_err(at)
            };
            return quant_models::plan_mixed(&self.model, options, mixed, job, Some(&mut of));
        }
        quant_models::plan_mixed(&self.model, options, mixed, job, None)
    }

    pub fn run(&self) -> Result<(), Error> {
        let options = self
            .weights
            .options(&self.model)?
            .with_non_finite(self.non_finite);
        let mixed = self.mixed.options()?;
        #[cfg(feature = "run")]
        if mixed.is_none() && !self.measuring.samples.is_empty() {
            return Err(Error::Option(
                "--samples needs a target; give --target-bits, --target-size or --target-sqnr"
                    .into(),
            ));
        }
        let file = self.output.as_deref().map(|path| {
            let inputs = self.inputs(&options);
            let file = AtomicFile::create(path, "output", self.force.force, &inputs)?;
            warn(file.warnings());
            check_name(JSON, path)?;
            Ok::<_, Error>(file)
        });
        let file = file.transpose()?;
        let report = self.report_file(&options)?;
        let bytes = quant_models::total_bytes(&self.model);
        let planned = with_progress(0, true, false, bytes, |job| match &mixed {
            None => {
                let (plan, remarks) = quant_models::plan(&self.model, &options, job)?;
                Ok((plan, None, remarks.warnings, remarks.notes))
            }
            Some(mixed) => {
                let (plan, summary, warnings) = self.mix(&options, mixed, job)?;
                Ok((plan, Some((summary, mixed.target)), warnings, Vec::new()))
            }
        })?;
        let (plan, summary, warnings, notes) = planned;
        warn(&lines(&warnings));
        if let (Some(report), Some((summary, _))) = (report, &summary) {
            let page = page::page(&self.model.to_string_lossy(), &plan, summary);
            let page = page.map_err(|problem| Error::Option(format!("--report: {problem}")))?;
            report.commit(page.as_bytes())?;
        }
        let value = serde_json::to_value(&plan).map_err(|error| Error::File {
            file: self.model.clone(),
            problem: format!("its plan cannot be written: {error}"),
        })?;
        let (Some(file), Some(path)) = (file, &self.output) else {
            only_words_are_left();
            return print_json(&value);
        };
        file.commit(json_text(&value).as_bytes())?;
        only_words_are_left();
        if self.quiet.quiet {
            return Ok(());
        }
        print_notes(&notes)?;
        told_of(&plan, summary.as_ref(), self.hint(), path)
    }

    /// What would decide better than the weights alone, where that can be had.
    fn hint(&self) -> &'static str {
        #[cfg(feature = "run")]
        if self.measuring.samples.is_empty() && quant_models::has_activations(&self.model) {
            return "by the weights alone; with --samples, what the model answers decides\n";
        }
        ""
    }
}

/// Says what a plan comes to, and where it is.
fn told_of(
    plan: &quant_models::Plan,
    summary: Option<&(MixedSummary, MixedTarget)>,
    hint: &str,
    path: &Path,
) -> Result<(), Error> {
    let planned = plan.tensors.iter().filter(|one| one.quantize.is_some());
    if let Some((summary, target)) = summary {
        print(&format!("{}{hint}", told(summary, *target)))?;
    }
    print(&format!(
        "{} of {} to be quantized\n{}\n",
        planned.count(),
        count(plan.tensors.len(), "tensor"),
        shown(path)
    ))
}
