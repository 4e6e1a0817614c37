//! The project's own tasks: `cargo xtask test` runs every test there is, `cargo xtask help` lists
//! the others.

#![forbid(unsafe_code)]

mod accuracy;
mod artifacts;
mod asm;
mod bench;
mod binaries;
mod bochs;
mod cases;
mod ci;
mod circles;
mod codegen;
mod coreml;
mod cross;
mod dist;
mod equivalence;
mod formats;
mod fuzz;
mod hide;
mod ios;
mod lengths;
mod mca;
mod memory;
mod needs;
mod not_run;
mod package;
mod paths;
mod processors;
mod python;
mod release;
mod sanitize;
mod setup;
mod suite;
mod swift;
mod toolchain;

use std::error::Error;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use clap::Parser;
use hide::Hidden;

/// The project's own tasks.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Call {
    #[command(subcommand)]
    task: Task,
    /// Work as on a machine whose processor lacks this
    #[arg(long, global = true, value_enum, value_name = "BACKEND")]
    hide: Option<Hidden>,
}

#[derive(clap::Subcommand)]
enum Task {
    /// Run every test there is: on this machine, on what it can emulate, on some of every input
    Test {
        /// Fail if `equivalence` cannot run these targets, or `all` that this machine can have
        #[arg(long, value_name = "LIST", value_delimiter = ',')]
        require: Vec<String>,
    },
    /// Run all that a change must pass, and say what each step took: what CI runs
    Ci,
    /// Install what other tasks need: targets, emulators, LLVM's programs, subcommands of cargo
    Setup {
        /// What these tasks need; without any, what `test`, `dist` and `ios` need
        #[arg(value_name = "TASK")]
        tasks: Vec<String>,
    },
    /// Run the tests on emulated processors: aarch64, x86-64 without AVX-512 and without AVX
    Cross,
    /// Demand the same bytes from every backend on every processor, emulated ones included
    Equivalence(Equivalence),
    /// Compare kernels and reference on every input, and prove the kernels' arithmetic
    Exhaustive {
        /// Some of each kind of input only
        #[arg(long)]
        reduced: bool,
    },
    /// Write the C library's header
    Codegen {
        /// Only say whether it is as it would be written
        #[arg(long)]
        check: bool,
    },
    /// Build static libraries for Apple's systems, and check what is in them
    Ios,
    /// Put the C library together: for this machine, and for Apple's systems
    Dist {
        /// Nothing for Apple's systems
        #[arg(long)]
        only_host: bool,
        /// Check one of what `ci` has compiled, each crate apart, and keep it from `target/dist`
        #[arg(long, conflicts_with_all = ["only_host", "prefix"])]
        checked: bool,
        /// Copy the host's part to this folder, too: to /usr/local, or ~/.local
        #[arg(long, value_name = "DIR")]
        prefix: Option<std::path::PathBuf>,
    },
    /// Build the host's part of `dist` in two folders, and demand the same bytes
    Reproduce,
    /// Run the Swift package's tests
    Swift {
        /// Only make ready what that takes
        #[arg(long)]
        prepare: bool,
    },
    /// Run tests under AddressSanitizer and valgrind
    Sanitize,
    /// Run a static program on an emulated processor with AVX-512, without a system
    Bochs {
        /// Built with `-C target-feature=+crt-static -C relocation-model=static`
        program: PathBuf,
        /// For the program
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Test outputs where a file system can do less, by strace, and Ctrl-C among a million tensors
    Outputs,
    /// Check that no intrinsic is left as a call in the release build
    Asm,
    /// Print what the NEON kernels cost on Apple's processors, by llvm-mca
    Mca {
        /// Print every loop, not only the cheapest of each phase
        #[arg(long)]
        all: bool,
        /// Write the table to benches/record/apple-m1-mca.md, too
        #[arg(long, conflicts_with = "all")]
        record: bool,
    },
    /// Measure kernels and models: a report beside the limit of memory traffic
    #[command(disable_help_flag = true)]
    Bench {
        /// For the report
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
    /// Build wheels, their sources, the command and the C library for Linux and macOS, and use what runs
    /// here
    Release {
        /// Only these: sdist, libraries, linux-x86_64, linux-aarch64, macos-arm64, or one's -wheel or
        /// -command
        #[arg(long, value_name = "LIST", value_delimiter = ',')]
        only: Vec<String>,
        /// Write a formula for Homebrew, too, for archives that people get from below this address
        #[arg(long, value_name = "URL", conflicts_with = "only")]
        address: Option<String>,
    },
    /// Compare Core ML packages with those of coremltools 9.0, which is installed under target/
    Coreml {
        /// Measure quant, coremltools and `cp -r` on a package of 300 MB instead
        #[arg(long)]
        time: bool,
    },
    /// Run coremltools' own tests as cases for `quant run`, which are captured under target/
    Cases {
        /// Folders of cases that were captured before, instead
        #[arg(value_name = "FOLDER")]
        folders: Vec<PathBuf>,
        /// Capture one test in so many
        #[arg(long, default_value_t = 10)]
        every: usize,
        /// The number of the first test
        #[arg(long, default_value_t = 0)]
        first: usize,
    },
    /// Build the Python package into an environment under target/, and run its tests there
    Python {
        /// Beside torch and coremltools, too, which are gigabytes
        #[arg(long)]
        all: bool,
    },
    /// Look for modules that need each other, in every crate
    Circles,
    /// Compare models with those of the tools whose format they have, which are installed under target/
    Formats {
        /// One format, such as mlx [default: all]
        name: Option<String>,
    },
    /// Measure what ways of quantizing cost trained models, into docs/accuracy.md (Python, wheels)
    Accuracy,
    /// Feed hostile inputs to the fuzz targets, by libFuzzer (C++ compiler)
    Fuzz {
        /// Such as `index` [default: all]
        #[arg(value_name = "TARGET")]
        targets: Vec<String>,
        /// How long each of them runs
        #[arg(long, default_value_t = 60)]
        seconds: u32,
    },
    /// Measure the memory that quantizing a 2 GiB model takes, and calibrating with a long stream
    Memory {
        /// Samples of the stream, 32 KiB each
        #[arg(long, default_value_t = 10_000_000)]
        samples: u64,
        /// Instead quantize a folder of so many shards, of 1 GiB each, in every format, beside `cp`: it takes
        /// twice the room on disk
        #[arg(long)]
        shards: Option<usize>,
    },
    /// Make the documentation, for this machine and for iOS: no warnings
    Doc,
    /// Check the dependencies' licenses and sources, and what is known against them
    Deny,
    /// Pack the crates that are published, build each from its archive, run the examples in there
    Package,
    /// Check that version numbers say how the libraries' interfaces have changed
    Semver {
        /// Compare with this revision instead of the last release
        #[arg(long, value_name = "REVISION")]
        baseline: Option<String>,
    },
}

/// What must be there, and what is to be written down.
#[derive(clap::Args)]
struct Equivalence {
    /// Fail if these targets cannot be run, or `all` that this machine can have
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    require: Vec<String>,
    /// Write the digests to xtask/equivalence.lock instead of comparing them
    #[arg(long)]
    update: bool,
    /// Run all cases where others have, and on slow emulators, too, instead of one of 19
    #[arg(long)]
    all_cases: bool,
}

/// What a task comes back with; an error has been explained by its text.
type Outcome = Result<(), Box<dyn Error>>;

fn main() -> ExitCode {
    let Call { task, hide } = Call::parse();
    let outcome = match task.hard_needs().map_or(Ok(()), needs::check) {
        Ok(()) => match hide {
            Some(Hidden::Avx512) if !hide::IS_HIDDEN => hide::rerun(),
            _ => run(task),
        },
        Err(missing) => Err(missing),
    };
    not_run::print();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}

impl Task {
    /// Under what name [`needs`] knows what it cannot do without. Others run what they can, and say
    /// what they have left out.
    fn hard_needs(&self) -> Option<&'static str> {
        match self {
            Self::Cross => Some("cross"),
            Self::Ios => Some("ios"),
            Self::Dist {
                only_host, checked, ..
            } if *only_host || *checked => Some("dist --only-host"),
            Self::Reproduce => Some("dist --only-host"),
            Self::Dist { .. } => Some("dist"),
            Self::Swift { .. } => Some("swift"),
            Self::Sanitize => Some("sanitize"),
            Self::Outputs => Some("outputs"),
            Self::Release { only, .. } if only.is_empty() => Some("release"),
            Self::Release { .. } => Some("release --only"),
            Self::Mca { .. } => Some("mca"),
            Self::Doc => Some("doc"),
            Self::Deny => Some("deny"),
            Self::Fuzz { .. } => Some("fuzz"),
            Self::Semver { .. } => Some("semver"),
            _ => None,
        }
    }
}

fn run(task: Task) -> Outcome {
    match task {
        Task::Test { require } => test(&require),
        Task::Ci => ci::ci(),
        Task::Setup { tasks } => setup::setup(&tasks),
        Task::Cross => cross::cross(),
        Task::Equivalence(options) => equivalence::equivalence(&options),
        Task::Exhaustive { reduced } => exhaustive(reduced),
        Task::Codegen { check } => codegen::codegen(check),
        Task::Ios => ios::ios(),
        Task::Dist { checked: true, .. } => dist::dist(dist::BuildKind::Checked, true, None),
        Task::Dist {
            only_host, prefix, ..
        } => dist::dist(dist::BuildKind::Whole, only_host, prefix.as_deref()),
        Task::Reproduce => dist::reproduce(),
        Task::Swift { prepare: true } => swift::prepare(),
        Task::Swift { prepare: false } => swift::swift(),
        Task::Sanitize => sanitize::sanitize(),
        Task::Bochs { program, arguments } => bochs::run(&program, &arguments),
        // As people run it: Ctrl-C has a second.
        Task::Outputs => cargo(&[
            "test",
            "--release",
            "--package",
            "quant-cli",
            "--test",
            "outputs",
            "--",
            "--ignored",
        ]),
        Task::Asm => asm::asm(),
        Task::Mca { all, record } => mca::mca(all, record),
        Task::Bench { options } => {
            bench::run(&options.iter().map(String::as_str).collect::<Vec<_>>())
        }
        Task::Cases {
            folders,
            every,
            first,
        } => cases::cases(&folders, every, first),
        Task::Coreml { time } => coreml::coreml(time),
        Task::Release { only, address } => binaries::release(&only, address.as_deref()),
        Task::Python { all } => python::python(all),
        Task::Circles => circles::circles(),
        Task::Formats { name } => formats::formats(name.as_deref()),
        Task::Accuracy => accuracy::accuracy(),
        Task::Fuzz { targets, seconds } => fuzz::fuzz(&targets, seconds),
        Task::Memory { samples, shards } => memory::report(samples, shards),
        Task::Doc => release::doc(),
        Task::Deny => release::deny(),
        Task::Package => package::package(),
        Task::Semver { baseline } => release::semver(baseline),
    }
}

fn test(require: &[String]) -> Outcome {
    cargo(&["test", "--workspace"])?;
    asm::asm()?;
    equivalence::equivalence(&Equivalence {
        require: require.to_vec(),
        update: false,
        all_cases: false,
    })?;
    exhaustive(true)
}

/// The program for it is built with optimization, whatever this one is built with.
fn exhaustive(reduced: bool) -> Outcome {
    let mut build = toolchain::cargo("build");
    artifacts::checked(&mut build)?.args(["--bin", "quant-exhaustive"]);
    let mut command = Command::new(artifacts::program(build, "quant-exhaustive")?);
    command.args(reduced.then_some("--reduced"));
    match command.status()?.success() {
        true => Ok(()),
        false => Err("kernels and reference differ, see above".into()),
    }
}

fn cargo(arguments: &[&str]) -> Outcome {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    match Command::new(cargo).args(arguments).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("cargo {}: {status}", arguments.join(" ")).into()),
        Err(error) => Err(format!("cannot start cargo: {error}").into()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::Value;

    use crate::toolchain;

    /// A crate whose manifest says that it has no unit tests is not compiled for them: one that is
    /// written there all the same would never run.
    #[test]
    fn no_unit_test_is_in_a_crate_that_is_not_compiled_for_tests() {
        let mut metadata = toolchain::cargo("metadata");
        metadata.args(["--format-version", "1", "--no-deps"]);
        let text = toolchain::stdout(&mut metadata).unwrap();
        let metadata: Value = serde_json::from_str(&text).unwrap();
        let (mut looked_at, mut left_out) = (0, Vec::new());
        for package in metadata["packages"].as_array().unwrap() {
            let mut targets = package["targets"].as_array().unwrap().clone();
            let others = ["bench", "example", "test"];
            targets.retain(|it| !others.contains(&it["kind"][0].as_str().unwrap()));
            for target in targets.iter().filter(|it| it["test"] == false) {
                looked_at += 1;
                let source = Path::new(target["src_path"].as_str().unwrap());
                // Beside a library, a program is one file.
                match targets.len() {
                    1 => look(source.parent().unwrap(), &mut left_out),
                    _ => look(source, &mut left_out),
                }
            }
        }
        assert!(
            looked_at >= 5,
            "only {looked_at} are not compiled for tests"
        );
        assert!(
            left_out.is_empty(),
            "{left_out:?}: see `test = false` in Cargo.toml"
        );
    }

    fn look(path: &Path, left_out: &mut Vec<String>) {
        for entry in std::fs::read_dir(path).into_iter().flatten() {
            look(&entry.unwrap().path(), left_out);
        }
        if std::fs::read_to_string(path).is_ok_and(|it| it.contains("#[test]")) {
            left_out.push(path.display().to_string());
        }
    }
}
