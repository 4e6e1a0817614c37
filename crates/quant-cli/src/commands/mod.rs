//! The subcommands, a file each: its arguments and its run.

mod activations;
mod backends;
mod calibrate;
mod completions;
mod dequantize;
mod diff;
mod inspect;
mod man;
mod plot;
mod quantize;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use quant_models::Error;

/// Linear quantization of model files, with the arithmetic of coremltools.
#[derive(Parser)]
#[command(name = "quant", version)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Quantize(quantize::Quantize),
    Activations(activations::Activations),
    Calibrate(calibrate::Calibrate),
    Plot(plot::Plot),
    Dequantize(dequantize::Dequantize),
    Inspect(inspect::Inspect),
    Diff(diff::Diff),
    Backends(backends::Backends),
    Completions(completions::Completions),
    Man(man::Man),
}

impl Arguments {
    /// Does what was asked; the exit status says how it went.
    pub fn run(self) -> Result<ExitCode, Error> {
        match self.command {
            Command::Quantize(command) => command.run()?,
            Command::Activations(command) => command.run()?,
            Command::Calibrate(command) => command.run()?,
            Command::Plot(command) => command.run()?,
            Command::Dequantize(command) => command.run()?,
            Command::Inspect(command) => command.run()?,
            Command::Diff(command) => return command.run(),
            Command::Backends(command) => command.run()?,
            Command::Completions(command) => command.run(&mut Self::command())?,
            Command::Man(command) => command.run(Self::command())?,
        }
        Ok(ExitCode::SUCCESS)
    }
}
