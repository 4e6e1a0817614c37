//! `quant dequantize`.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use quant_models::{Error, Inputs, dequantize, result_kind};

use crate::needs::lines;
use crate::paths::output_of;
use crate::rewrite::{RewriteOptions, Rewritten};

const EXAMPLES: &str = "\
Examples:
  quant dequantize model.int8.safetensors
  quant dequantize Small.mlpackage -o Model.mlpackage --force";

/// Turn a quantized model back into a float one
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Dequantize {
    /// A model quantized by quant; or an MLX or compressed-tensors folder, an .mlpackage, an .aimodel or a
    /// .gguf file quantized by anyone
    #[arg(value_hint = ValueHint::AnyPath)]
    file: PathBuf,
    /// The result [default: beside the model, as NAME.float.safetensors, .mlpackage, .aimodel or .gguf]
    #[arg(short, long, value_hint = ValueHint::AnyPath)]
    output: Option<PathBuf>,
    #[command(flatten)]
    rewrite: RewriteOptions,
}

impl Dequantize {
    pub fn run(&self) -> Result<(), Error> {
        let result = result_kind(&self.file);
        let inputs = || Inputs::of_model(&self.file);
        let given = self.output.as_deref();
        let output = output_of(given, &self.file, result, inputs, "float")?;
        self.rewrite.run(&self.file, &output, |options, job| {
            let restored = dequantize(&self.file, &output, options, job)?;
            Ok(Rewritten {
                bytes: restored.bytes,
                tensors: None,
                warnings: lines(&restored.warnings),
                copied: restored.copied,
            })
        })
    }
}
