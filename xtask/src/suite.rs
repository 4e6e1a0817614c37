//! Test programs, run in some other way than by cargo.

use std::error::Error;
use std::path::Path;
use std::process::Command;

use crate::artifacts::{self, Artifact};

/// The example of quant-simd that prints what detection finds.
pub const DETECTION: &str = "backends";
/// Emulated floating-point arithmetic takes a hundred times as long as the processor's.
const PROPTEST_CASES: &str = "200";

/// Builds the tests and examples of packages by `cargo test`.
///
/// # Errors
/// If the build fails.
pub fn build(mut cargo: Command, packages: &[&str]) -> Result<Vec<Artifact>, Box<dyn Error>> {
    cargo.arg("--no-run");
    for package in packages {
        cargo.args(["--package", package]);
    }
    let mut artifacts = artifacts::build(cargo)?;
    artifacts.retain(|artifact| artifact.is_program);
    Ok(artifacts)
}

/// Builds the tests of a package alone.
///
/// # Errors
/// If the build fails.
pub fn build_tests(mut cargo: Command, package: &str) -> Result<Vec<Artifact>, Box<dyn Error>> {
    cargo.args(["--no-run", "--lib", "--tests", "--package", package]);
    let mut artifacts = artifacts::build(cargo)?;
    artifacts.retain(|artifact| artifact.is_program);
    Ok(artifacts)
}

/// Asks for few proptest cases, where the caller has not asked for a number.
pub fn few_cases(command: &mut Command) {
    if std::env::var_os("PROPTEST_CASES").is_none() {
        command.env("PROPTEST_CASES", PROPTEST_CASES);
    }
}

/// Runs all of them, each by the command that `run` makes of it, and returns how many tests
/// passed. Detection must find exactly these backends, or the tests would pass for others.
///
/// # Errors
/// The output of what failed.
pub fn run(
    programs: &[Artifact],
    run: impl Fn(&Path) -> Command,
    backends: &str,
) -> Result<usize, Box<dyn Error>> {
    let mut detected = false;
    let mut passed = 0;
    for Artifact { name, path, .. } in programs {
        let text = output(run(path))?;
        if name == DETECTION {
            let found: Vec<&str> = text.lines().collect();
            if found.join(" ") != backends {
                return Err(format!("{name}: found {found:?}, not {backends}").into());
            }
            detected = true;
        } else {
            passed += count(name, &text)?;
        }
    }
    match passed {
        0 => Err("not a single test".into()),
        _ if !detected => Err(format!("the example {DETECTION} was not built").into()),
        passed => Ok(passed),
    }
}

/// Runs tests that no backend is found by, and returns how many of them passed.
///
/// # Errors
/// The output of what failed.
pub fn run_tests(
    programs: &[Artifact],
    run: impl Fn(&Path) -> Command,
) -> Result<usize, Box<dyn Error>> {
    let mut passed = 0;
    for Artifact { name, path, .. } in programs {
        passed += count(name, &output(run(path))?)?;
    }
    Ok(passed)
}

/// What a program prints.
fn output(mut command: Command) -> Result<String, Box<dyn Error>> {
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{text}{errors}{command:?}: {}", output.status).into());
    }
    Ok(text.into_owned())
}

/// The count in `test result: ok. 10 passed; ...`.
fn count(name: &str, text: &str) -> Result<usize, String> {
    let count = || {
        let (_, rest) = text.rsplit_once("test result: ok. ")?;
        let (count, _) = rest.split_once(" passed")?;
        count.parse().ok()
    };
    count().ok_or_else(|| format!("{name} does not say what it tested"))
}
