//! The `quant` command.
#![forbid(unsafe_code)]

mod activations;
mod arguments;
mod calibrate;
mod commands;
mod plot;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;
use quant_models::Error;

fn main() -> ExitCode {
    match commands::run(arguments::Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            // Where not even this can be said, the exit code still tells.
            let _ = writeln!(std::io::stderr(), "quant: {error}");
            ExitCode::from(match error {
                Error::Strict { .. } => 3,
                Error::Interrupted | Error::Paused { .. } => 130,
                _ => 1,
            })
        }
    }
}
