//! `quant diff`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use quant_models::Error;
use serde_json::json;

use crate::options::JsonOption;
use crate::terminal::{print, print_json};

/// Compare two models, quantized or not; exit 1 when they differ
#[derive(Args)]
pub struct Diff {
    /// The first model
    a: PathBuf,
    /// The second model
    b: PathBuf,
    #[command(flatten)]
    json: JsonOption,
}

impl Diff {
    pub fn run(&self) -> Result<ExitCode, Error> {
        let found = quant_models::diff(&self.a, &self.b)?;
        if self.json.json {
            print_json(&json!({"version": 1, "equal": found.equal, "tensors": found.tensors}))?;
        } else {
            let mut text = String::new();
            for tensor in found.tensors.iter().filter(|tensor| !tensor.equal) {
                text += &tensor.name;
                if let Some(reason) = &tensor.reason {
                    text += &format!("  {reason}");
                }
                for (what, equal) in [
                    ("codes", tensor.codes_equal),
                    ("scales", tensor.scales_equal),
                ] {
                    if let Some(equal) = equal {
                        text += &format!("  {what} {}", if equal { "equal" } else { "differ" });
                    }
                }
                if let Some(error) = tensor.max_abs_error {
                    text += &match tensor.sqnr_db {
                        Some(db) => format!("  {db:.1} dB, largest difference {error:e}"),
                        None => "  stored differently, the values are equal".into(),
                    };
                }
                text += "\n";
            }
            let differ = found.tensors.iter().filter(|tensor| !tensor.equal).count();
            text += &format!("{differ} of {} tensors differ\n", found.tensors.len());
            print(&text)?;
        }
        Ok(ExitCode::from(u8::from(!found.equal)))
    }
}
