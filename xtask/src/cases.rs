//! `cargo xtask cases`: coremltools' own tests as cases that quant must compute, thousands of them.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Outcome;
use crate::python::{environment, run};
use crate::toolchain::cargo;

const SCRIPTS: &str = "crates/quant-run/tests/cases";
const FOLDER: &str = "target/cases";
/// What the tests of coremltools need beside it.
const PACKAGES: [&str; 6] = [
    "coremltools==9.0",
    "torch==2.7.0",
    "numpy<2.3",
    "pytest",
    "scipy",
    "pillow",
];
/// The tests of operations, and of the converter of torch.
const TESTS: [(&str, &str); 2] = [
    ("operations", "mil/ops/tests"),
    ("torch", "frontend/torch/test/test_torch_ops.py"),
];

/// Runs the cases in `folders`; without any, captures one test in `every`, from number `first` on.
pub fn cases(folders: &[PathBuf], every: usize, first: usize) -> Outcome {
    let mut folders = folders.to_vec();
    if folders.is_empty() {
        folders = capture(every, first)?;
    }
    let mut cargo = cargo("run");
    cargo.args(["--release", "--quiet", "--package", "quant-run"]);
    cargo.args(["--example", "run_cases", "--"]).args(folders);
    run(cargo.args(["--list", "wrong"]))
}

fn capture(every: usize, first: usize) -> Result<Vec<PathBuf>, Box<dyn std::error::Error>> {
    let python = environment("case-tools", &PACKAGES)?.join("bin/python");
    let find = "import coremltools, os; print(os.path.dirname(coremltools.__file__))";
    let found = Command::new(&python).args(["-c", find]).output()?;
    let text = String::from_utf8(found.stdout)?;
    let tests = Path::new(text.trim()).join("converters/mil");
    let mut folders = Vec::new();
    for (name, path) in TESTS {
        let folder = Path::new(FOLDER).join(format!("{name}-{first}-{every}"));
        let mut pytest = Command::new(&python);
        pytest.args(["-m", "pytest", "-q", "-p", "no:cacheprovider"]);
        pytest.args(["-p", "capture_cases"]).arg(tests.join(path));
        pytest.env("PYTHONPATH", SCRIPTS).env("CASES", &folder);
        pytest.env("EVERY", every.to_string());
        // Some tests fail where there is no macOS; those that got to their end are cases.
        pytest.env("FIRST", first.to_string()).status()?;
        folders.push(folder);
    }
    Ok(folders)
}
