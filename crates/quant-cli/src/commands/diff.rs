//! `quant diff`.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use quant_models::{Error, TensorDifference, diff_with_progress};
use serde_json::json;

use crate::options::{JsonOption, QuietOption};
use crate::progress::{only_words_are_left, with_progress};
use crate::status::{DIFFERENT, DONE};
use crate::table::{Row, print_table};
use crate::terminal::{count, number, print, print_json, warn};

const EXAMPLES: &str = "\
Examples:
  quant diff model.safetensors model.int8.safetensors
  quant diff --quiet a.mlpackage b.mlpackage && echo equal";

/// Compare two models, quantized or not
///
/// Values are compared in f32, as each format says them: those of quantized safetensors are of the float
/// model's type, those of a .gguf file's blocks f32. So a bf16 model and what `quant convert` makes of it
/// differ by that rounding. The weights of an .aimodel must be those of its main.hash.
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Diff {
    /// The first model, as `quant inspect` takes it
    #[arg(value_hint = ValueHint::AnyPath)]
    a: PathBuf,
    /// The second model
    #[arg(value_hint = ValueHint::AnyPath)]
    b: PathBuf,
    #[command(flatten)]
    quiet: QuietOption,
    #[command(flatten)]
    json: JsonOption,
}

impl Diff {
    pub fn run(&self) -> Result<u8, Error> {
        let quiet = self.quiet.quiet || self.json.json;
        let found = with_progress(0, quiet, false, quant_models::total_bytes(&self.a), |job| {
            diff_with_progress(&self.a, &self.b, job)
        })?;
        only_words_are_left();
        warn(&found.warnings);
        let differ = found.tensors.iter().filter(|tensor| !tensor.equal);
        if self.json.json {
            print_json(&json!({"version": 1, "equal": found.equal, "tensors": found.tensors}))?;
        } else if !self.quiet.quiet {
            print_table(1, || differ.clone().map(row))?;
            let all = count(found.tensors.len(), "tensor");
            let verb = match found.tensors.len() {
                1 => "differs",
                _ => "differ",
            };
            print(&format!("{} of {all} {verb}\n", differ.count()))?;
        }
        Ok(match found.equal {
            true => DONE,
            false => DIFFERENT,
        })
    }
}

fn row(tensor: &TensorDifference) -> Row {
    let mut text = Vec::new();
    text.extend(tensor.reason.clone());
    for (what, equal) in [
        ("codes", tensor.codes_equal),
        ("scales", tensor.scales_equal),
    ] {
        text.extend(
            equal.map(|equal| format!("{what} {}", if equal { "equal" } else { "differ" })),
        );
    }
    text.extend(values(tensor));
    Row::new(&tensor.name, [], text.join("  "))
}

/// What is said of values that were compared.
fn values(tensor: &TensorDifference) -> Option<String> {
    let non_finite = tensor.non_finite?;
    let error = match (tensor.sqnr_db, tensor.max_abs_error) {
        (Some(db), Some(error)) => {
            let error = number(error, 3);
            Some(format!("{db:.1} dB, largest difference {error}"))
        }
        _ if non_finite > 0 => None,
        _ => Some("stored differently, the values are equal".into()),
    };
    let apart = (non_finite > 0).then(|| {
        let values = count(non_finite as usize, "value");
        let verb = if non_finite == 1 { "is" } else { "are" };
        let first = tensor.first_non_finite.as_deref().unwrap_or_default();
        format!("{values} {verb} NaN or Inf in only one of them, the first at {first:?}")
    });
    Some(
        error
            .into_iter()
            .chain(apart)
            .collect::<Vec<_>>()
            .join("; "),
    )
}
