//! The `quant` command.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(quant_cli::run(std::env::args_os()))
}
