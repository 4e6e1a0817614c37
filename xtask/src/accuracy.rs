//! `cargo xtask accuracy`: what ways of quantizing cost trained models, into docs/accuracy.md.

use std::process::Command;

use crate::python::{environment, run};
use crate::toolchain::target_dir;
use crate::{Outcome, memory};

const PACKAGES: &[&str] = &[
    "coremltools==9.0",
    "torch==2.7.0",
    // What coremltools converts from torch fails with later ones.
    "numpy<2.3",
    "safetensors",
    "tokenizers",
];

/// Makes the models under target/ where they are not there, and measures them.
pub fn accuracy() -> Outcome {
    memory::build_running_quant()?;
    let python = environment("accuracy", PACKAGES)?.join("bin/python");
    let folder = target_dir().join("accuracy");
    let mut make = Command::new(&python);
    run(make.arg("examples/accuracy/models.py").arg(&folder))?;
    let mut measure = Command::new(&python);
    measure.arg("examples/accuracy/measure.py");
    measure.arg(target_dir().join("release/quant")).arg(folder);
    run(measure.arg("docs/accuracy.md"))
}
