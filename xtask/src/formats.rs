//! `cargo xtask formats`: what quant writes beside what other tools write, in Python environments of
//! their own.

use std::path::PathBuf;
use std::process::Command;

use crate::python::{environment, run};
use crate::toolchain::{cargo, target_dir};
use crate::{Outcome, memory};

/// A format, the packages of the tool that writes it, and the script that compares.
struct Reference {
    name: &'static str,
    packages: &'static [&'static str],
    /// Packages that are installed without what they ask for.
    together: &'static [&'static str],
    script: &'static str,
    /// An option of the script, and the program of `benches` that it runs: another library that loads
    /// the format.
    peer: Option<(&'static str, &'static str)>,
}

const REFERENCES: &[Reference] = &[
    Reference {
        name: "mlx",
        packages: &["mlx==0.32.4", "mlx-cpu==0.32.4", "mlx-lm==0.32.2", "numpy"],
        together: &[],
        script: "crates/quant-models/tests/mlx/check.py",
        peer: None,
    },
    Reference {
        name: "compressed-tensors",
        packages: &[
            "torch",
            "transformers",
            "loguru",
            "datasets",
            "accelerate",
            "requests",
            "pydantic",
        ],
        // llmcompressor asks for an earlier compressed-tensors, and works with this one.
        together: &["compressed-tensors==0.20.0", "llmcompressor==0.14.0.1"],
        script: "crates/quant-models/tests/compressed_tensors/check.py",
        peer: None,
    },
    Reference {
        name: "gguf",
        packages: &["gguf==0.19.0", "numpy"],
        together: &[],
        script: "crates/quant-models/tests/gguf/check.py",
        peer: Some(("--candle", "candle")),
    },
    Reference {
        name: "coreai",
        packages: &[
            "torch==2.13.0",
            "coreai-core==1.0.0b3",
            "coreai-opt==0.4.0",
            "coreai-torch==0.4.3",
            "scikit-learn",
        ],
        together: &[],
        script: "crates/quant-models/tests/coreai/check.py",
        peer: None,
    },
];

/// Builds a program of `benches` that loads a format with another library.
fn peer(program: &str) -> Result<PathBuf, Box<dyn std::error::Error>> {
    let mut build = cargo("build");
    build.args([
        "--package",
        "benches",
        "--features",
        "peers",
        "--bin",
        program,
    ]);
    run(&mut build)?;
    Ok(target_dir().join("debug").join(program))
}

/// Compares one format, or all.
pub fn formats(name: Option<&str>) -> Outcome {
    let is_wanted = |one: &&Reference| name.is_none_or(|name| name == one.name);
    let wanted: Vec<_> = REFERENCES.iter().filter(is_wanted).collect();
    if wanted.is_empty() {
        let names: Vec<_> = REFERENCES.iter().map(|one| one.name).collect();
        return Err(format!("no such format; there are {}", names.join(", ")).into());
    }
    memory::build_quant()?;
    for one in wanted {
        let python =
            environment(&format!("formats-{}", one.name), one.packages)?.join("bin/python");
        if !one.together.is_empty() {
            let mut pip = Command::new(&python);
            pip.args(["-m", "pip", "install", "--quiet", "--no-deps"]);
            run(pip.args(one.together))?;
        }
        println!("{}:", one.name);
        let mut check = Command::new(python);
        check.arg(one.script).arg("target/release/quant");
        if let Some((option, program)) = one.peer {
            check.arg(option).arg(peer(program)?);
        }
        run(&mut check)?;
    }
    Ok(())
}
