//! What the corpus runs on: this machine, and emulated ones.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use super::{Digests, lock};
use crate::artifacts::{self, Artifact};
use crate::not_run::Absent;
use crate::processors::{self, Emulator, PROCESSORS, Processor};
use crate::toolchain::{HOST, root, stdout, target_dir};
use crate::{bochs, hide};

/// The architecture of this machine.
const ARCHITECTURE: &str = std::env::consts::ARCH;

/// A processor, and the backends that must give the same bytes on it.
pub struct Target {
    pub name: String,
    pub architecture: &'static str,
    /// `None` for the machine's own.
    pub processor: Option<&'static Processor>,
    pub backends: Vec<&'static str>,
    /// Whether it converts f16 by an instruction, as the half crate does wherever there is one.
    pub has_f16: bool,
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
        has_f16: has_f16(),
        runs_command: true,
    }];
    for processor in &PROCESSORS {
        all.push(Target {
            name: format!("{}-{}", processor.architecture, processor.name),
            architecture: processor.architecture,
            processor: Some(processor),
            backends: processor.backends.split(' ').collect(),
            has_f16: processor.has_f16,
            runs_command: processor.name == "max",
        });
    }
    all
}

fn has_f16() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("f16c");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("fp16");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return false;
}

/// What each kind of target runs, or why nothing can be built for it.
pub type AllPrograms = BTreeMap<Kind, Result<Programs, Absent>>;

/// Targets of one kind run the same programs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    architecture: &'static str,
    is_static: bool,
}

/// Builds for every kind, once.
///
/// # Errors
/// If a build fails: that is no reason to leave its target out.
pub fn build(targets: &[Target]) -> Result<AllPrograms, Box<dyn Error>> {
    let mut built = BTreeMap::new();
    for target in targets {
        if built.contains_key(&target.kind()) {
            continue;
        }
        let cargo = match target.processor {
            None => Ok(crate::toolchain::cargo("build")),
            Some(processor) if processor.emulator == Emulator::Bochs => match bochs::find() {
                Ok(()) => Ok(hide::seeing(crate::toolchain::cargo("build"))),
                Err(absent) => Err(absent),
            },
            Some(_) => processors::cargo(target.architecture, "build"),
        };
        let programs = match cargo {
            Ok(cargo) => Ok(build_with(cargo, target.kind())?),
            Err(absent) => Err(absent),
        };
        built.insert(target.kind(), programs);
    }
    Ok(built)
}

/// What cargo calls the library and the program of the corpus.
const LIBRARY: &str = "quant_equivalence";
const CORPUS: &str = "quant-equivalence";

fn build_with(mut cargo: Command, kind: Kind) -> Result<Programs, Box<dyn Error>> {
    artifacts::checked(&mut cargo)?.args(["--bin", CORPUS, "--bin", "quant"]);
    let artifacts = artifacts::build(cargo)?;
    let program = |name: &str| {
        let mut programs = artifacts.iter().filter(|it| it.is_program);
        let program = programs.find(|it| it.name == name);
        program
            .map(|it| it.path.clone())
            .ok_or(format!("{name} was not built"))
    };
    Ok(Programs {
        corpus: match kind.is_static {
            false => program(CORPUS)?,
            true => link_static(&artifacts)?,
        },
        quant: program("quant")?,
    })
}

/// The corpus as a static program, of the libraries that cargo built for the other one: cargo itself
/// would build them again.
fn link_static(artifacts: &[Artifact]) -> Result<PathBuf, Box<dyn Error>> {
    let output = target_dir().join("equivalence").join(CORPUS);
    fs::create_dir_all(output.parent().expect("a folder"))?;
    let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.args([
        "--edition=2024",
        "--crate-type=bin",
        "-O",
        "--cap-lints=allow",
    ]);
    rustc.args(bochs::RUSTFLAGS).arg("-o").arg(&output);
    rustc.current_dir(root());
    for name in [LIBRARY, "quant_simd"] {
        let mut libraries = artifacts.iter().filter(|it| !it.is_program);
        let library = libraries.find(|it| it.name == name);
        let path = &library.ok_or_else(|| format!("{name} was not built"))?.path;
        let folder = path.parent().unwrap_or(path);
        rustc
            .arg("--extern")
            .arg(format!("{name}={}", path.display()));
        for folder in [folder.to_owned(), folder.join("deps"), macros(folder)] {
            rustc.arg(format!("-Ldependency={}", folder.display()));
        }
    }
    rustc.arg(root().join("crates/quant-equivalence/src/main.rs"));
    match rustc.status()? {
        status if status.success() => Ok(output),
        status => Err(format!("{rustc:?}: {status}").into()),
    }
}

/// Where the macros are that libraries in a folder of a target were compiled with: it has the same
/// place in what is built for no named target.
fn macros(folder: &Path) -> PathBuf {
    let mut parts: Vec<_> = folder.iter().collect();
    let target = parts.iter().rposition(|part| *part == HOST);
    target.map(|at| parts.remove(at));
    parts.iter().collect()
}

impl Target {
    /// Whether all cases take it long.
    pub fn is_slow(&self) -> bool {
        self.processor
            .is_some_and(|it| it.emulator == Emulator::Bochs)
    }

    /// Which programs it runs.
    pub fn kind(&self) -> Kind {
        Kind {
            architecture: self.architecture,
            is_static: self.is_slow(),
        }
    }

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

    /// The digest of every function, and of the share of its cases; or of the share alone.
    ///
    /// # Errors
    /// If the program fails, or prints something else.
    pub fn corpus(
        &self,
        programs: &Programs,
        backend: &str,
        share: bool,
    ) -> Result<Digests, String> {
        let share = share.then_some("share");
        let arguments: Vec<&str> = ["digests", backend].into_iter().chain(share).collect();
        lock::parse(self.print(programs, &arguments)?.lines())
    }
}
