//! `quant plot`: the distributions of activations and their ranges, to be looked at.

mod chart;
mod overview;
mod page;

use std::path::PathBuf;

use clap::{Args, ValueHint};
use quant_models::{AtomicFile, Calibration, Error, Inputs};
use serde_json::json;

use crate::options::{ForceOption, JsonOption, QuietOption};
use crate::terminal::{print, print_json, shown, warn};

const EXAMPLE: &str = "\
Example:
  quant plot ranges.json -o ranges.html";

/// Draw what calibration has seen of each activation, and the range that it chose
///
/// A self-contained page (.html) or picture (.svg), by the output's extension: a histogram per
/// activation, its counts on a logarithmic scale, with what the range clips shaded; and minimum,
/// maximum, share of clipped values, scale and zero point as text. min-max and moving-average make no
/// histogram: all their ranges are drawn in one chart. Colours follow the viewer's scheme, light or
/// dark.
#[derive(Args)]
#[command(after_long_help = EXAMPLE)]
pub struct Plot {
    /// What `quant calibrate` wrote
    #[arg(value_hint = ValueHint::FilePath)]
    ranges: PathBuf,
    /// The result [default: beside the ranges, as NAME.html]
    #[arg(short, long, value_name = "FILE.html|FILE.svg", value_hint = ValueHint::FilePath)]
    output: Option<PathBuf>,
    #[command(flatten)]
    force: ForceOption,
    #[command(flatten)]
    quiet: QuietOption,
    #[command(flatten)]
    json: JsonOption,
}

impl Plot {
    pub fn run(&self) -> Result<(), Error> {
        let output = match &self.output {
            Some(output) => output.clone(),
            None => self.ranges.with_extension("html"),
        };
        let bad = |problem: &str| Error::File {
            file: output.clone(),
            problem: problem.into(),
        };
        let extension = output.extension().and_then(|extension| extension.to_str());
        let make = match extension {
            Some("html" | "htm") => page::page,
            Some("svg") => page::picture,
            _ => return Err(bad("the name of a plot ends with .html or .svg")),
        };
        let mut inputs = Inputs::new();
        inputs.file(&self.ranges, "the input");
        let file = AtomicFile::create(&output, "output", self.force.force, &inputs)?;
        warn(file.warnings());
        let calibration = Calibration::open(&self.ranges)?;
        let text =
            make(&calibration).map_err(|problem| bad(&format!("cannot draw it: {problem}")))?;
        file.commit(text.as_bytes())?;
        if self.json.json {
            return print_json(&json!({"version": 1, "output": output.to_string_lossy()}));
        }
        match self.quiet.quiet {
            true => Ok(()),
            false => print(&format!("{}\n", shown(&output))),
        }
    }
}
