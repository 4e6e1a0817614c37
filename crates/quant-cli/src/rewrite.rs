//! Commands that write a model again, with nothing quantized.

use std::path::Path;

use clap::Args;
use indicatif::HumanBytes;
use quant_models::{DequantizeOptions, Error, Job};
use serde_json::json;

use crate::options::{
    ForceOption, JsonOption, QuietOption, SyncOption, ThreadsOption, WeightsOnlyOption,
};
use crate::progress::{only_words_are_left, with_progress};
use crate::report::copied;
use crate::terminal::{count, print, print_json, shown, warn};

/// The options that all of them have.
#[derive(Args)]
pub struct RewriteOptions {
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

/// What was done.
pub struct Rewritten {
    /// Bytes of the result.
    pub bytes: u64,
    /// How many tensors became other ones, where that is said.
    pub tensors: Option<usize>,
    pub warnings: Vec<String>,
    /// The small files that were copied.
    pub copied: Vec<String>,
}

impl RewriteOptions {
    /// Does the work, and says what was done.
    pub fn run(
        &self,
        model: &Path,
        output: &Path,
        work: impl FnOnce(&DequantizeOptions, &Job<'_>) -> Result<Rewritten, Error> + Send,
    ) -> Result<(), Error> {
        let options =
            DequantizeOptions::default().with_weights_only(self.weights_only.weights_only);
        let quiet = self.quiet.quiet || self.json.json;
        let bytes = quant_models::total_bytes(model);
        let (threads, force) = (self.threads.threads, self.force.force);
        let done = with_progress(threads, quiet, force, bytes, |job| {
            work(&options, &self.sync.of(job))
        })?;
        warn(&done.warnings);
        only_words_are_left();
        if self.json.json {
            let mut said = json!({
                "version": 1,
                "input": model.to_string_lossy(),
                "output": output.to_string_lossy(),
                "bytes": done.bytes,
                "warnings": done.warnings,
                "copied": done.copied,
            });
            if let Some(tensors) = done.tensors {
                said["tensors"] = tensors.into();
            }
            return print_json(&said);
        }
        if quiet {
            return Ok(());
        }
        let tensors = done.tensors.map_or_else(String::new, |tensors| {
            format!("{} converted, ", count(tensors, "tensor"))
        });
        print(&format!(
            "{}{}  {tensors}{}\n",
            copied(&done.copied),
            shown(output),
            HumanBytes(done.bytes)
        ))
    }
}
