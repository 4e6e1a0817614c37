//! The `quant` command.
#![forbid(unsafe_code)]

mod arguments;
mod commands;

use std::process::ExitCode;

use clap::Parser;
use quant_models::Error;

fn main() -> ExitCode {
    match commands::run(arguments::Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("quant: {error}");
            ExitCode::from(match error {
                Error::Strict { .. } => 3,
                Error::Interrupted => 130,
                _ => 1,
            })
        }
    }
}
