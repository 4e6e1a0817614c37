//! `cargo xtask python`: the Python package, built into an environment of its own and tested there.

use std::path::PathBuf;
use std::process::Command;

use crate::Outcome;
use crate::toolchain::{root, target_dir};

/// Where the package is.
pub const PACKAGE: &str = "crates/quant-python";
/// What the tests need; what others they know, they skip without.
const REQUIREMENTS: [&str; 5] = ["maturin>=1.16,<2", "ml_dtypes", "mypy", "numpy", "pytest"];

/// Builds the wheel, installs it, and runs pytest and mypy; with `all`, beside torch and coremltools.
pub fn python(all: bool) -> Outcome {
    let mut requirements = REQUIREMENTS.to_vec();
    if all {
        requirements.extend(["coremltools==9.0", "torch"]);
    }
    let environment = environment("python", &requirements)?;
    let wheels = environment.join("wheels");
    if wheels.exists() {
        std::fs::remove_dir_all(&wheels)?;
    }
    let mut maturin = Command::new(environment.join("bin/maturin"));
    maturin.args(["build", "--release", "--locked", "--quiet", "--out"]);
    run(maturin.arg(&wheels).current_dir(root().join(PACKAGE)))?;
    let python = environment.join("bin/python");
    let mut pip = Command::new(&python);
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--force-reinstall",
        "--no-deps",
    ]);
    for wheel in std::fs::read_dir(&wheels)? {
        pip.arg(wheel?.path());
    }
    run(&mut pip)?;
    let tests = |module: &[&str]| {
        let mut command = Command::new(&python);
        command.args(["-P", "-m"]).args(module);
        command.current_dir(root().join(PACKAGE).join("tests"));
        command
    };
    run(&mut tests(&[
        "pytest",
        "-q",
        "--config-file=../pyproject.toml",
        ".",
    ]))?;
    run(&mut tests(&[
        "pytest",
        "-q",
        "--doctest-modules",
        "--pyargs",
        "linquant",
    ]))?;
    run(Command::new(environment.join("bin/mypy")).current_dir(root().join(PACKAGE)))
}

/// An environment of this name under `target/`, made on first use, with these packages.
pub fn environment(
    name: &str,
    requirements: &[&str],
) -> Result<PathBuf, Box<dyn std::error::Error>> {
    let environment = target_dir().join(name);
    let installed = environment.join("installed");
    let wanted = requirements.join("\n");
    if std::fs::read_to_string(&installed).is_ok_and(|text| text == wanted) {
        return Ok(environment);
    }
    run(Command::new("python3")
        .args(["-m", "venv"])
        .arg(&environment))?;
    let mut pip = Command::new(environment.join("bin/python"));
    run(pip
        .args(["-m", "pip", "install", "--quiet"])
        .args(requirements))?;
    std::fs::write(installed, wanted)?;
    Ok(environment)
}

/// Runs a command, which must succeed.
pub fn run(command: &mut Command) -> Outcome {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{command:?}: {status}").into()),
        Err(error) => Err(format!("cannot start {command:?}: {error}").into()),
    }
}
