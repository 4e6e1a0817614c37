//! `quant index`.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use indicatif::HumanBytes;
use quant_models::{Error, write_index};
use serde_json::json;

use crate::options::{ForceOption, JsonOption, QuietOption};
use crate::progress::with_progress;
use crate::terminal::{count, print, print_json, shown, warn};

const EXAMPLES: &str = "\
Examples:
  quant quantize model/model-00001-of-00002.safetensors -o small/model-00001-of-00002.safetensors
  quant quantize model/model-00002-of-00002.safetensors -o small/model-00002-of-00002.safetensors
  quant index small";

/// Write the index of a model whose shards were made one by one
///
/// It is DIR/model.safetensors.index.json, and names all safetensors files of the folder. Shards may be
/// quantized apart in quant's own format (--format native). compressed-tensors and mlx need the whole
/// folder at once, with its config.json, and write the index themselves; gguf is one file.
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Index {
    /// The folder of the shards
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    folder: PathBuf,
    #[command(flatten)]
    force: ForceOption,
    #[command(flatten)]
    quiet: QuietOption,
    #[command(flatten)]
    json: JsonOption,
}

impl Index {
    pub fn run(&self) -> Result<(), Error> {
        let force = self.force.force;
        let written = with_progress(1, true, force, 0, |job| write_index(&self.folder, job))?;
        warn(&written.warnings);
        if self.json.json {
            return print_json(&json!({
                "version": 1,
                "output": written.path.to_string_lossy(),
                "shards": written.shards,
                "tensors": written.tensors,
                "bytes": written.bytes,
                "warnings": written.warnings,
            }));
        }
        if self.quiet.quiet {
            return Ok(());
        }
        print(&format!(
            "{}  {}, {}, {}\n",
            shown(&written.path),
            count(written.shards, "shard"),
            count(written.tensors, "tensor"),
            HumanBytes(written.bytes)
        ))
    }
}
