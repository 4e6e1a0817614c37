//! `cargo xtask coreml`: the command beside coremltools 9.0 itself, in a Python environment of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Outcome, memory};

const ENVIRONMENT: &str = "target/coremltools";
const SCRIPTS: &str = "crates/quant-models/tests/coreml";
const PACKAGES: [&str; 2] = ["coremltools==9.0", "numpy"];

/// Compares packages; with `time`, measures instead.
pub fn coreml(time: bool) -> Outcome {
    let python = environment()?;
    memory::build_quant()?;
    let script = if time { "time_packages.py" } else { "check.py" };
    run(Command::new(&python)
        .arg(Path::new(SCRIPTS).join(script))
        .arg("target/release/quant"))?;
    match time {
        true => Ok(()),
        false => open_what_tests_write(&python),
    }
}

/// Runs the tests that write packages, keeps these, and opens all of them with coremltools.
fn open_what_tests_write(python: &Path) -> Outcome {
    let kept = std::env::current_dir()?.join("target/written-packages");
    if kept.exists() {
        std::fs::remove_dir_all(&kept)?;
    }
    std::fs::create_dir_all(&kept)?;
    let models = ["packages", "layouts", "activations", "hostile"];
    let command = ["packages", "outputs", "plan", "running", "text", "usage"];
    for (package, tests) in [("quant-models", &models[..]), ("quant-cli", &command[..])] {
        let mut cargo = Command::new("cargo");
        cargo.args(["test", "--quiet", "-p", package]);
        for test in tests {
            cargo.args(["--test", test]);
        }
        run(cargo.env("QUANT_KEEP_PACKAGES", &kept))?;
    }
    run(Command::new(python)
        .arg(Path::new(SCRIPTS).join("opens.py"))
        .arg(&kept))?;
    std::fs::remove_dir_all(&kept)?;
    Ok(())
}

/// The environment's Python, made on first use.
fn environment() -> Result<PathBuf, Box<dyn std::error::Error>> {
    let python = Path::new(ENVIRONMENT).join("bin/python");
    let installed = Path::new(ENVIRONMENT).join("installed");
    if !installed.exists() {
        run(Command::new("python3").args(["-m", "venv", ENVIRONMENT]))?;
        run(Command::new(&python)
            .args(["-m", "pip", "install", "--quiet"])
            .args(PACKAGES))?;
        std::fs::write(installed, PACKAGES.join("\n"))?;
    }
    Ok(python)
}

fn run(command: &mut Command) -> Outcome {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{command:?}: {status}").into()),
        Err(error) => Err(format!("cannot start {command:?}: {error}").into()),
    }
}
