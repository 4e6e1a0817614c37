//! What the corpus runs on: this machine, and emulated ones.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Digests, lock};
use crate::artifacts;
use crate::processors::{self, Absent, PROCESSORS, Processor};
use crate::toolchain::stdout;

/// The architecture of this machine.
const ARCHITECTURE: &str = std::env::consts::ARCH;

/// A processor, and the backends that must give the same bytes on it.
pub struct Target {
    pub name: String,
    pub architecture: &'static str,
    /// `None` for the machine's own.
    pub processor: Option<&'static Processor>,
    pub backends: Vec<&'static str>,
    /// Whether the `quant` command runs on it too.
    pub runs_command: bool,
}

/// What is run, of one architecture.
pub struct Programs {
    pub corpus: PathBuf,
    pub quant: PathBuf,
}

/// This machine first.
pub fn all() -> Vec<Target> {
    let mut all = vec![Target {
        name: "native".to_owned(),
        architecture: ARCHITECTURE,
        processor: None,
        backends: match ARCHITECTURE {
            "x86_64" => vec!["avx512", "avx2", "scalar"],
            "aarch64" => vec!["neon", "scalar"],
            _ => vec!["scalar"],
        },
        runs_command: true,
    }];
    for processor in &PROCESSORS {
        all.push(Target {
            name: format!("{}-{}", processor.architecture, processor.name),
            architecture: processor.architecture,
            processor: Some(processor),
            backends: processor.backends.split(' ').collect(),
            runs_command: processor.name == "max",
        });
    }
    all
}

/// What each architecture runs, or why nothing can be built for it.
pub type AllPrograms = BTreeMap<&'static str, Result<Programs, Absent>>;

/// Builds for every architecture, once.
///
/// # Errors
/// If a build fails: that is no reason to leave its target out.
pub fn build(targets: &[Target]) -> Result<AllPrograms, Box<dyn Error>> {
    let mut built = BTreeMap::new();
    for target in targets {
        if built.contains_key(target.architecture) {
            continue;
        }
        let cargo = match target.processor {
            None => Ok(crate::toolchain::cargo("build")),
            Some(_) => processors::cargo(target.architecture, "build"),
        };
        let programs = match cargo {
            Ok(cargo) => Ok(build_with(cargo)?),
            Err(absent) => Err(absent),
        };
        built.insert(target.architecture, programs);
    }
    Ok(built)
}

fn build_with(mut cargo: Command) -> Result<Programs, Box<dyn Error>> {
    cargo.args(["--release", "--package", "quant-equivalence"]);
    cargo.args(["--package", "quant-cli", "--bins"]);
    let artifacts = artifacts::build(cargo)?;
    let program = |name: &str| {
        let mut programs = artifacts.iter().filter(|it| it.is_program);
        let program = programs.find(|it| it.name == name);
        program
            .map(|it| it.path.clone())
            .ok_or(format!("{name} was not built"))
    };
    Ok(Programs {
        corpus: program("quant-equivalence")?,
        quant: program("quant")?,
    })
}

impl Target {
    /// Runs a program.
    pub fn command(&self, program: &Path) -> Command {
        match self.processor {
            Some(processor) => processor.run(program),
            None => Command::new(program),
        }
    }

    /// What the corpus prints.
    ///
    /// # Errors
    /// If it fails.
    pub fn print(&self, programs: &Programs, arguments: &[&str]) -> Result<String, String> {
        let mut command = self.command(&programs.corpus);
        command.args(arguments);
        stdout(&mut command).ok_or_else(|| format!("failed: {command:?}"))
    }

    /// The backends that detection finds, or why none can be looked for.
    ///
    /// # Errors
    /// If an emulated processor is seen to have others than it has: then the wrong kernels would
    /// be compared.
    pub fn find_backends(
        &self,
        programs: &Programs,
    ) -> Result<Result<Vec<String>, Absent>, String> {
        if let Some(Err(absent)) = self.processor.map(Processor::find) {
            return Ok(Err(absent));
        }
        let found = self.print(programs, &["backends"])?;
        let found: Vec<String> = found.lines().map(str::to_owned).collect();
        match self.processor {
            Some(processor) if found.join(" ") != processor.backends => {
                let (found, expected) = (found.join(" "), processor.backends);
                Err(format!(
                    "{}: detection found {found}, not {expected}",
                    self.name
                ))
            }
            _ => Ok(Ok(found)),
        }
    }

    /// The digest of every function.
    ///
    /// # Errors
    /// If the program fails, or prints something else.
    pub fn corpus(&self, programs: &Programs, backend: &str) -> Result<Digests, String> {
        lock::parse(self.print(programs, &["digests", backend])?.lines())
    }
}
