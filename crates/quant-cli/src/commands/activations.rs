//! `quant activations`.

use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, ValueHint};
use quant_models::{ActivationOptions, Config, Error, Inputs, WantedActivation, result_kind};
use serde_json::json;

use crate::needs::lines;
use crate::options::{
    ActivationScheme, CautionOptions, ForceOption, JsonOption, NameOptions, QuietOption, SyncOption,
};
use crate::paths::output_of;
use crate::progress::{only_words_are_left, with_progress};
use crate::report::print_operations;
use crate::table::{Row, print_table};
use crate::terminal::{print, print_json, shown, warn};

const EXAMPLE: &str = "\
Each conv, linear, add, avg_pool and max_pool gets what it takes through a pair of quantize and
dequantize, and so does what takes its output, after the activation function where one follows, as
coremltools' linear_quantize_activations does it. Operations without a range are listed, and left in
float. Weights stay as they are; `quant quantize --ranges` does both.

Ranges are JSON, by the names of the model's variables, which --list shows:

  {\"version\": 1, \"activations\": {\"input\": {\"min\": 0, \"max\": 1}, \"conv_1\": {\"min\": -3.5, \"max\": 4}}}

The whole way:

  quant activations Model.mlpackage --list              # record these, as recorded/NAME/000001.npy
  quant calibrate recorded -o ranges.json
  quant plot ranges.json -o ranges.html
  quant activations Model.mlpackage --ranges ranges.json -o Model.a8.mlpackage";

/// Quantize the activations of an .mlpackage, as their ranges say
#[derive(Args)]
#[command(after_long_help = EXAMPLE)]
pub struct Activations {
    /// An .mlpackage for iOS17 or later
    #[arg(value_hint = ValueHint::AnyPath)]
    model: PathBuf,
    /// The ranges of its activations, by the names that --list shows
    #[arg(long, value_name = "FILE.json", required_unless_present = "list",
        value_hint = ValueHint::FilePath)]
    ranges: Option<PathBuf>,
    /// List the activations that need a range, and write nothing
    #[arg(long)]
    list: bool,
    /// The result [default: beside the model, as NAME.activations.mlpackage]
    #[arg(short, long, value_hint = ValueHint::AnyPath)]
    output: Option<PathBuf>,
    #[command(flatten)]
    scheme: ActivationScheme,
    /// A coremltools configuration, YAML or JSON, in place of --dtype and --mode
    #[arg(long, value_name = "FILE.yaml", value_hint = ValueHint::FilePath)]
    config: Option<PathBuf>,
    #[command(flatten)]
    names: NameOptions,
    #[command(flatten)]
    caution: CautionOptions,
    #[command(flatten)]
    force: ForceOption,
    #[command(flatten)]
    sync: SyncOption,
    #[command(flatten)]
    quiet: QuietOption,
    #[command(flatten)]
    json: JsonOption,
}

impl Activations {
    pub fn run(&self) -> Result<(), Error> {
        let scheme = self.scheme.scheme();
        let config = self.config.as_ref();
        let config = config.map(|path| Config::open(path, scheme.dialect));
        let given = match &self.ranges {
            Some(ranges) => ActivationOptions::open(ranges)?,
            None => ActivationOptions::default(),
        };
        let options = given
            .with_scheme(scheme)
            .with_config(config.transpose()?)
            .with_include(self.names.include()?)
            .with_exclude(self.names.exclude()?)
            .with_strict(self.caution.strict)
            .with_dry_run(self.caution.dry_run);
        if self.list {
            return self.list(&options);
        }
        let result = result_kind(&self.model);
        let inputs = || Inputs::of_model(&self.model);
        let given = self.output.as_deref();
        let output = output_of(given, &self.model, result, inputs, "activations")?;
        let start = Instant::now();
        let bytes = quant_models::total_bytes(&self.model);
        let report = with_progress(1, true, self.force.force, bytes, |job| {
            quant_models::quantize_activations(&self.model, &output, &options, &self.sync.of(job))
        })?;
        warn(&lines(&report.warnings));
        only_words_are_left();
        if self.json.json {
            return print_json(&json!({
                "version": 1,
                "input": self.model.to_string_lossy(),
                "output": (!self.caution.dry_run).then(|| output.to_string_lossy()),
                "seconds": start.elapsed().as_secs_f64(),
                "bytes_before": report.bytes_before,
                "bytes_after": report.bytes_after,
                "warnings": lines(&report.warnings),
                "operations": report.operations,
            }));
        }
        if self.quiet.quiet {
            return Ok(());
        }
        let written = match report.bytes_after {
            None => "No model was written (--dry-run).".into(),
            Some(_) => shown(&output),
        };
        print_operations(&report)?;
        print(&format!("{written}\n"))
    }

    fn list(&self, options: &ActivationOptions) -> Result<(), Error> {
        let wanted = quant_models::wanted_activations(&self.model, options)?;
        warn(&lines(&wanted.warnings));
        let activations = wanted.activations;
        if self.json.json {
            return print_json(&json!({
                "version": 1,
                "input": self.model.to_string_lossy(),
                "warnings": lines(&wanted.warnings),
                "activations": activations,
            }));
        }
        print_table(2, || activations.iter().map(row))?;
        print(&match activations.len() {
            0 => "no activation needs a range: no conv, linear, add, avg_pool or max_pool is left to be quantized\n".into(),
            1 => "1 activation needs a range\n".into(),
            count => format!("{count} activations need a range\n"),
        })
    }
}

fn row(activation: &WantedActivation) -> Row {
    let (shape, given_by, taken_by) = columns(activation);
    Row::new(&activation.name, [shape, given_by], taken_by)
}

fn columns(activation: &WantedActivation) -> (String, String, String) {
    let dims = activation.shape.iter();
    let dims: Vec<_> = dims
        .map(|dim| dim.map_or("?".into(), |dim| dim.to_string()))
        .collect();
    let given_by = match &activation.given_by {
        Some(operation) => format!("produced by {operation}"),
        None => "an input".into(),
    };
    let given_by = match &activation.function {
        Some(function) => format!("{given_by} of function {function}"),
        None => given_by,
    };
    let taken_by = activation.taken_by.iter();
    let mut taken_by: Vec<_> = taken_by
        .map(|taker| format!("{} `{}`", taker.operation, taker.name))
        .collect();
    taken_by.dedup();
    let taken_by = match taken_by.len() {
        0 => "consumed by nothing".into(),
        _ => format!("consumed by {}", taken_by.join(", ")),
    };
    (format!("[{}]", dims.join(", ")), given_by, taken_by)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dimension_that_is_not_constant_is_a_question_mark() {
        let mut activation = WantedActivation::new("x".into(), vec![None, Some(3)]);
        activation.function = Some("main".into());
        let wanted = ["[?, 3]", "an input of function main", "consumed by nothing"];
        assert_eq!(columns(&activation), wanted.map(String::from).into());
    }
}
