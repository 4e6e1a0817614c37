//! The project's own tasks: `cargo xtask test` runs every test there is, `cargo xtask exhaustive`
//! tries every input there is (`--reduced`: some of each kind), `cargo xtask memory` measures what
//! a large model takes.

mod exhaustive;
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
        ["memory"] => match memory::report() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("xtask: {error}");
                ExitCode::FAILURE
            }
        },
        ["exhaustive"] => exhaustive(false),
        ["exhaustive", "--reduced"] => exhaustive(true),
        _ => {
            eprintln!("usage: cargo xtask test|exhaustive [--reduced]|memory");
            ExitCode::from(2)
        }
    }
}

fn test() -> ExitCode {
    cargo(&["test", "--workspace"])
}

/// Runs here if this is an optimized build; makes and runs one otherwise.
fn exhaustive(reduced: bool) -> ExitCode {
    if cfg!(debug_assertions) {
        let mut arguments = vec!["run", "--release", "--quiet", "--package", "xtask", "--"];
        arguments.push("exhaustive");
        arguments.extend(reduced.then_some("--reduced"));
        return cargo(&arguments);
    }
    match exhaustive::run(reduced) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn cargo(arguments: &[&str]) -> ExitCode {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    match Command::new(cargo).args(arguments).status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: cannot start cargo: {error}");
            ExitCode::FAILURE
        }
    }
}
