//! `quant plan`.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use quant_models::{AtomicFile, Error, QuantizeOptions};

use crate::choices::NonFinite;
use crate::mixed::{MixedFlags, told};
use crate::needs::lines;
use crate::options::{ForceOption, QuietOption};
use crate::paths::{JSON, check_name};
use crate::progress::{only_words_are_left, with_progress};
use crate::terminal::{count, json_text, print, print_json, shown, warn};
use crate::weights::WeightOptions;

const EXAMPLES: &str = "\
Examples:
  quant plan model.safetensors --dtype int4 --granularity per-block -o plan.json
  quant quantize model.safetensors --plan plan.json
  quant plan model.safetensors --target-bits 5 --search mse -o plan.json
  quant plan Model.mlpackage --target-size 12MB --candidates int4:block32,int8 -o plan.json";

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
    /// What to do with a tensor that holds NaN or Inf
    #[arg(long, value_enum, default_value = "error")]
    non_finite: NonFinite,
    #[command(flatten)]
    force: ForceOption,
    #[command(flatten)]
    quiet: QuietOption,
}

impl Plan {
    pub fn run(&self) -> Result<(), Error> {
        let options = QuantizeOptions {
            non_finite: self.non_finite.into(),
            ..self.weights.options(&self.model)?
        };
        let mixed = self.mixed.options(&options)?;
        let file = self.output.as_deref().map(|path| {
            let inputs = options.inputs(&self.model);
            let file = AtomicFile::create(path, "output", self.force.force, &inputs)?;
            warn(file.warnings());
            check_name(JSON, path)?;
            Ok::<_, Error>(file)
        });
        let file = file.transpose()?;
        let bytes = quant_models::total_bytes(&self.model);
        let (plan, summary, warnings) = with_progress(0, true, false, bytes, |job| match &mixed {
            None => {
                let (plan, warnings) = quant_models::plan(&self.model, &options, job)?;
                Ok((plan, None, warnings))
            }
            Some(mixed) => {
                let (plan, summary, warnings) =
                    quant_models::plan_mixed(&self.model, &options, mixed, job)?;
                Ok((plan, Some(summary), warnings))
            }
        })?;
        warn(&lines(&warnings));
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
        let planned = plan.tensors.iter().filter(|one| one.quantize.is_some());
        if let Some(summary) = &summary {
            print(&told(summary))?;
        }
        print(&format!(
            "{} of {} to be quantized\n{}\n",
            planned.count(),
            count(plan.tensors.len(), "tensor"),
            shown(path)
        ))
    }
}
