//! `quant dequantize`.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use indicatif::HumanBytes;
use quant_models::{DequantizeOptions, Error, Inputs, result_kind};
use serde_json::json;

use crate::needs::lines;
use crate::options::{
    ForceOption, JsonOption, QuietOption, SyncOption, ThreadsOption, WeightsOnlyOption,
};
use crate::paths::{Kind, default_output};
use crate::progress::{only_words_are_left, with_progress};
use crate::report::copied;
use crate::terminal::{print, print_json, shown, warn};

const EXAMPLES: &str = "\
Examples:
  quant dequantize model.int8.safetensors
  quant dequantize Small.mlpackage -o Model.mlpackage --force";

/// Turn a quantized model back into a float one
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Dequantize {
    /// A model quantized by quant, or an .mlpackage, .aimodel or .gguf file quantized by anyone
    #[arg(value_hint = ValueHint::AnyPath)]
    file: PathBuf,
    /// The result [default: beside the model, as NAME.float.safetensors, .mlpackage, .aimodel or .gguf]
    #[arg(short, long, value_hint = ValueHint::AnyPath)]
    output: Option<PathBuf>,
    #[command(flatten)]
    threads: ThreadsOption,
    #[command(flatten)]
    force: ForceOption,
    #[command(flatten)]
    sync: SyncOption,
    #[command(flatten)]
    weights_only: WeightsOnlyOption,
    #[command(flatten)]
    quiet: QuietOption,
    #[command(flatten)]
    json: JsonOption,
}

impl Dequantize {
    pub fn run(&self) -> Result<(), Error> {
        let result = result_kind(&self.file);
        let output = match &self.output {
            Some(output) => {
                Kind::check_result(result, &Inputs::of_model(&self.file), output)?;
                output.clone()
            }
            None => default_output(&self.file, result, "float"),
        };
        let bytes = quant_models::total_bytes(&self.file);
        let (threads, force) = (self.threads.threads, self.force.force);
        let quiet = self.quiet.quiet || self.json.json;
        let options = DequantizeOptions {
            weights_only: self.weights_only.weights_only,
        };
        let restored = with_progress(threads, quiet, force, bytes, |job| {
            quant_models::dequantize(&self.file, &output, &options, &self.sync.of(job))
        })?;
        warn(&lines(&restored.warnings));
        only_words_are_left();
        if self.json.json {
            return print_json(&json!({
                "version": 1,
                "input": self.file.to_string_lossy(),
                "output": output.to_string_lossy(),
                "bytes": restored.bytes,
                "warnings": lines(&restored.warnings),
                "copied": restored.copied,
            }));
        }
        if quiet {
            return Ok(());
        }
        print(&format!(
            "{}{}  {}\n",
            copied(&restored.copied),
            shown(&output),
            HumanBytes(restored.bytes)
        ))
    }
}
