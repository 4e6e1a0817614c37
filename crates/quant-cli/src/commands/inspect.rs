//! `quant inspect`.

use std::path::PathBuf;

use clap::Args;
use indicatif::HumanBytes;
use quant_models::Error;
use serde_json::json;

use crate::options::JsonOption;
use crate::terminal::{print, print_json};

/// List a model's tensors
#[derive(Args)]
pub struct Inspect {
    /// A .safetensors file, a folder with an index, an index, or an .mlpackage
    file: PathBuf,
    /// Look at the values too: share of zeros, number of different values
    #[arg(long)]
    values: bool,
    #[command(flatten)]
    json: JsonOption,
}

impl Inspect {
    pub fn run(&self) -> Result<(), Error> {
        let found = quant_models::inspect(&self.file, self.values)?;
        if self.json.json {
            return print_json(&json!({
                "version": 1,
                "tensors": found.tensors,
                "bytes": found.bytes,
                "elements": found.elements,
                "bits_per_weight": found.bits_per_weight,
            }));
        }
        let mut text = String::new();
        for tensor in &found.tensors {
            text += &format!("{}  {} {:?}", tensor.name, tensor.dtype, tensor.shape);
            if let Some(scheme) = &tensor.scheme {
                text += &format!(" {} blocks {:?}", scheme.mode, scheme.blocks);
            }
            if let Some(kind) = &tensor.kind {
                text += &format!(" {kind}");
            }
            if let (Some(low), Some(high)) = (tensor.scale_min, tensor.scale_max) {
                text += &format!(" scales {low:e} to {high:e}");
            }
            let (bytes, bits) = (HumanBytes(tensor.bytes), tensor.bits_per_weight);
            text += &format!("  {bytes}  {bits:.2} bits per weight");
            if let (Some(zeros), Some(unique)) = (tensor.sparsity, tensor.unique_values) {
                text += &format!("  {:.1} % zeros, {unique} different values", 100.0 * zeros);
            }
            for consumer in &tensor.consumers {
                text += &format!(
                    "  -> {} `{}` {}",
                    consumer.operation, consumer.name, consumer.input
                );
            }
            text += "\n";
        }
        text += &format!(
            "{} tensors, {} elements, {}, {:.2} bits per weight\n",
            found.tensors.len(),
            found.elements,
            HumanBytes(found.bytes),
            found.bits_per_weight
        );
        print(&text)
    }
}
