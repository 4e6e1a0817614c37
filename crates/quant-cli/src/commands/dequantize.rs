//! `quant dequantize`.

use std::path::PathBuf;

use clap::Args;
use indicatif::HumanBytes;
use quant_models::{DequantizeOptions, Error};

use crate::options::{ForceOption, QuietOption, ThreadsOption, WeightsOnlyOption};
use crate::paths::default_output;
use crate::progress::{size_of, with_progress};
use crate::report::copied;
use crate::terminal::{print, warn};

/// Turn a quantized model back into a float one
#[derive(Args)]
pub struct Dequantize {
    /// A model quantized by quant, or an .mlpackage quantized by anyone
    file: PathBuf,
    /// The result [default: beside the model, as NAME.float.safetensors or .mlpackage]
    #[arg(short)]
    output: Option<PathBuf>,
    #[command(flatten)]
    threads: ThreadsOption,
    #[command(flatten)]
    force: ForceOption,
    #[command(flatten)]
    weights_only: WeightsOnlyOption,
    #[command(flatten)]
    quiet: QuietOption,
}

impl Dequantize {
    pub fn run(&self) -> Result<(), Error> {
        let output = match &self.output {
            Some(output) => output.clone(),
            None => default_output(&self.file, "float"),
        };
        let bytes = size_of(&self.file);
        let (threads, quiet, force) = (self.threads.threads, self.quiet.quiet, self.force.force);
        let options = DequantizeOptions {
            weights_only: self.weights_only.weights_only,
        };
        let restored = with_progress(threads, quiet, force, bytes, |job| {
            quant_models::dequantize(&self.file, &output, &options, job)
        })?;
        warn(&restored.warnings);
        if quiet {
            return Ok(());
        }
        print(&format!(
            "{}{}  {}\n",
            copied(&restored.copied),
            output.display(),
            HumanBytes(restored.bytes)
        ))
    }
}
