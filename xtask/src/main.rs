//! The project's own tasks: `cargo xtask test` runs every test there is, `cargo xtask memory`
//! measures what a large model takes, `cargo xtask bench` how fast kernels and models are.

mod bench;
mod memory;

use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .as_slice()
    {
        ["test"] => test(),
        ["memory"] => done(memory::report()),
        ["bench", options @ ..] => done(bench::run(options)),
        _ => {
            eprintln!("usage: cargo xtask test|memory|bench");
            ExitCode::from(2)
        }
    }
}

fn done(result: Result<(), Box<dyn std::error::Error>>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}

fn test() -> ExitCode {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    match Command::new(cargo).args(["test", "--workspace"]).status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: cannot start cargo: {error}");
            ExitCode::FAILURE
        }
    }
}
