//! `quant backends`.

use clap::Args;
use quant_models::Error;
use quant_simd::Backend;
use serde_json::json;

use crate::options::JsonOption;
use crate::terminal::{print, print_json};

/// List what this machine can run, the default first
#[derive(Args)]
pub struct Backends {
    #[command(flatten)]
    json: JsonOption,
}

impl Backends {
    pub fn run(&self) -> Result<(), Error> {
        let names: Vec<&str> = Backend::available()
            .iter()
            .map(|backend| backend.name())
            .collect();
        match self.json.json {
            true => print_json(
                &json!({"version": 1, "available": names, "chosen": Backend::detect().name()}),
            ),
            false => print(&format!("{}\n", names.join("\n"))),
        }
    }
}
