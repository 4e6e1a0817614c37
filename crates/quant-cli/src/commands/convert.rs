//! `quant convert`.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use indicatif::HumanBytes;
use quant_models::{DequantizeOptions, Encoding, Error, Inputs, convert, quantized_kind};
use serde_json::json;

use crate::options::{
    ForceOption, JsonOption, QuietOption, SyncOption, ThreadsOption, WeightsOnlyOption, named,
};
use crate::paths::{Kind, default_output};
use crate::progress::{only_words_are_left, with_progress};
use crate::report::copied;
use crate::terminal::{count, print, print_json, shown, warn};

const EXAMPLES: &str = "\
Examples:
  quant convert model.int4 --format compressed-tensors
  quant convert model.int8.safetensors --format gguf -o model.gguf";

/// Write a quantized model in another format, with the same codes, scales and zero points
///
/// Nothing is quantized anew: where a tensor cannot be said there with the same values, nothing is
/// written, and the reason is.
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Convert {
    /// A quantized model of safetensors: a file, a folder or an index
    #[arg(value_hint = ValueHint::AnyPath)]
    model: PathBuf,
    /// The format of the result
    #[arg(long, value_name = "NAME", value_parser = named::<Encoding>())]
    format: Encoding,
    /// The result [default: beside the model, as NAME.FORMAT]
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

impl Convert {
    pub fn run(&self) -> Result<(), Error> {
        let result = quantized_kind(&self.model, self.format);
        let output = match &self.output {
            Some(output) => {
                Kind::check_result(result, &Inputs::of_model(&self.model), output)?;
                output.clone()
            }
            None => default_output(&self.model, result, self.format.name()),
        };
        let bytes = quant_models::total_bytes(&self.model);
        let (threads, force) = (self.threads.threads, self.force.force);
        let quiet = self.quiet.quiet || self.json.json;
        let options = DequantizeOptions {
            weights_only: self.weights_only.weights_only,
        };
        let made = with_progress(threads, quiet, force, bytes, |job| {
            convert(
                &self.model,
                &output,
                self.format,
                &options,
                &self.sync.of(job),
            )
        })?;
        warn(&made.warnings);
        only_words_are_left();
        if self.json.json {
            return print_json(&json!({
                "version": 1,
                "input": self.model.to_string_lossy(),
                "output": output.to_string_lossy(),
                "tensors": made.tensors,
                "bytes": made.bytes,
                "warnings": made.warnings,
                "copied": made.copied,
            }));
        }
        if quiet {
            return Ok(());
        }
        print(&format!(
            "{}{}  {} converted, {}\n",
            copied(&made.copied),
            shown(&output),
            count(made.tensors, "tensor"),
            HumanBytes(made.bytes)
        ))
    }
}
