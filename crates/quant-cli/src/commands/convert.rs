//! `quant convert`.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use quant_models::{Encoding, Error, Inputs, convert, quantized_kind};

use crate::choices::named;
use crate::paths::output_of;
use crate::rewrite::{RewriteOptions, Rewritten};

const EXAMPLES: &str = "\
Examples:
  quant convert model.int4 --format compressed-tensors
  quant convert model.int8.safetensors --format gguf -o model.gguf";

/// Write a quantized model in another format, with the same codes, scales and zero points
///
/// Nothing is quantized anew: where a tensor cannot be said there with the same values, nothing is
/// written, and the reason is.
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Convert {
    /// A quantized model of safetensors: a file, a folder or an index
    #[arg(value_hint = ValueHint::AnyPath)]
    model: PathBuf,
    /// The format of the result
    #[arg(long, value_name = "NAME", value_parser = named::<Encoding>())]
    format: Encoding,
    /// The result [default: beside the model, as NAME.FORMAT]
    #[arg(short, long, value_hint = ValueHint::AnyPath)]
    output: Option<PathBuf>,
    #[command(flatten)]
    rewrite: RewriteOptions,
}

impl Convert {
    pub fn run(&self) -> Result<(), Error> {
        let result = quantized_kind(&self.model, self.format);
        let inputs = || Inputs::of_model(&self.model);
        let given = self.output.as_deref();
        let output = output_of(given, &self.model, result, inputs, self.format.name())?;
        self.rewrite.run(&self.model, &output, |options, job| {
            let made = convert(&self.model, &output, self.format, options, job)?;
            Ok(Rewritten {
                bytes: made.bytes,
                tensors: Some(made.tensors),
                warnings: made.warnings,
                copied: made.copied,
            })
        })
    }
}
