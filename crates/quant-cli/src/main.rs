//! The `quant` command.
#![forbid(unsafe_code)]

mod choices;
mod commands;
mod options;
mod paths;
mod progress;
mod report;
mod terminal;

use std::process::ExitCode;

use clap::Parser;
use quant_models::Error;

fn main() -> ExitCode {
    match commands::Arguments::parse().run() {
        Ok(code) => code,
        Err(error) => {
            terminal::say_error(&error);
            ExitCode::from(match error {
                Error::Strict { .. } => 3,
                Error::Interrupted | Error::Paused { .. } => 130,
                _ => 1,
            })
        }
    }
}
