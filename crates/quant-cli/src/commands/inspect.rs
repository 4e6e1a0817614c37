//! `quant inspect`.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use indicatif::HumanBytes;
use quant_models::{Error, TensorInfo, inspect_with_progress};
use serde_json::json;

use crate::options::JsonOption;
use crate::progress::{only_words_are_left, with_progress};
use crate::table::{Row, print_table};
use crate::terminal::{count, number, print, print_json};

const EXAMPLES: &str = "\
Examples:
  quant inspect model.safetensors
  quant inspect Model.mlpackage --values
  quant inspect model --json | jq '.tensors[].name'";

/// List a model's tensors
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Inspect {
    /// A .safetensors file, a folder with an index or one file, an index, an .mlpackage, an .aimodel or a .gguf file
    #[arg(value_hint = ValueHint::AnyPath)]
    file: PathBuf,
    /// Look at the values too: share of zeros, number of different values
    #[arg(long)]
    values: bool,
    #[command(flatten)]
    json: JsonOption,
}

impl Inspect {
    pub fn run(&self) -> Result<(), Error> {
        let json = self.json.json;
        let quiet = json || !self.values;
        let found = with_progress(
            0,
            quiet,
            false,
            quant_models::total_bytes(&self.file),
            |job| inspect_with_progress(&self.file, self.values, job),
        )?;
        only_words_are_left();
        if json {
            return print_json(&json!({
                "version": 1,
                "tensors": found.tensors,
                "bytes": found.bytes,
                "elements": found.elements,
                "bits_per_weight": found.bits_per_weight,
            }));
        }
        print_table(3, || found.tensors.iter().map(row))?;
        print(&format!(
            "{}, {}, {}, {:.2} bits per weight\n",
            count(found.tensors.len(), "tensor"),
            count(found.elements, "element"),
            HumanBytes(found.bytes),
            found.bits_per_weight
        ))
    }
}

fn row(tensor: &TensorInfo) -> Row {
    let mut text = Vec::new();
    if let Some(scheme) = &tensor.scheme {
        text.push(format!("{}, {}", scheme.mode, scheme.granularity()));
    }
    text.extend(tensor.kind.clone());
    if let (Some(low), Some(high)) = (tensor.scale_min, tensor.scale_max) {
        let (low, high) = (number(low.into(), 3), number(high.into(), 3));
        text.push(match low == high {
            true => format!("scale {low}"),
            false => format!("scales {low} to {high}"),
        });
    }
    if let (Some(zeros), Some(unique)) = (tensor.sparsity, tensor.unique_values) {
        let unique = count(unique, "different value");
        text.push(format!("{:.1} % zeros, {unique}", 100.0 * zeros));
    }
    text.extend(tensor.consumers.iter().map(|consumer| {
        let (operation, name) = (&consumer.operation, &consumer.name);
        format!("-> {operation} `{name}` {}", consumer.input)
    }));
    let cells = [
        tensor.dtype.clone(),
        format!("{:?}", tensor.shape),
        HumanBytes(tensor.bytes).to_string(),
        format!("{:>5.2} bits per weight", tensor.bits_per_weight),
    ];
    Row::new(&tensor.name, cells, text.join("  "))
}
