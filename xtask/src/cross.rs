//! `cargo xtask cross`: the test suites on processors that this machine does not have.

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Instant;

use crate::Outcome;
use crate::artifacts::Artifact;
use crate::suite;
use crate::toolchain::{self, AARCH64_LINUX, HOST, Toolchain, program};

const PACKAGES: [&str; 2] = ["quant-core", "quant-simd"];
/// An emulated processor, and the backends that it must be seen to have, the fastest first.
struct Processor {
    architecture: &'static str,
    name: &'static str,
    backends: &'static str,
}

const PROCESSORS: [Processor; 4] = [
    Processor::new("aarch64", "max", "neon scalar"),
    // ARMv8.0, without the optional half-precision arithmetic, dot products, LSE.
    Processor::new("aarch64", "cortex-a53", "neon scalar"),
    // SSE4.2, no AVX.
    Processor::new("x86_64", "Nehalem", "scalar"),
    // AVX2, FMA and F16C, no AVX-512.
    Processor::new("x86_64", "Haswell-v4", "avx2 scalar"),
];

impl Processor {
    const fn new(architecture: &'static str, name: &'static str, backends: &'static str) -> Self {
        Self {
            architecture,
            name,
            backends,
        }
    }

    /// Runs a program of the processor's architecture.
    fn run(&self, program: &Path) -> Command {
        let mut command = Command::new(format!("qemu-{}-static", self.architecture));
        command.args(["-cpu", self.name]);
        if self.architecture == "aarch64" {
            command.args(["-L", "/usr/aarch64-linux-gnu"]);
        }
        command.arg(program);
        command
    }
}

/// Builds the tests for every architecture and runs them on every processor, two at a time.
pub fn cross() -> Outcome {
    let mut failed = Vec::new();
    println!(
        "{:<8} {:<11} {:<13} {:>6} {:>8}",
        "", "processor", "backends", "tests", "seconds"
    );
    for processors in PROCESSORS.chunk_by(|a, b| a.architecture == b.architecture) {
        let executables = executables(processors[0].architecture)?;
        let run = &|processor: &'static Processor| {
            let start = Instant::now();
            let passed = suite::run(&executables, |it| processor.run(it), processor.backends)
                .map_err(|error| error.to_string());
            (processor, passed, start.elapsed().as_secs_f64())
        };
        let outcomes: Vec<_> = thread::scope(|scope| {
            let threads = processors.iter().map(|it| scope.spawn(move || run(it)));
            let threads: Vec<_> = threads.collect();
            let join = |thread: thread::ScopedJoinHandle<'_, _>| thread.join();
            threads.into_iter().map(join).collect::<Result<_, _>>()
        })
        .map_err(|_| "a thread panicked")?;
        for (processor, passed, seconds) in outcomes {
            let Processor {
                architecture, name, ..
            } = processor;
            match passed {
                Ok(count) => println!(
                    "{architecture:<8} {name:<11} {:<13} {count:>6} {seconds:>8.1}",
                    processor.backends
                ),
                Err(error) => {
                    eprintln!("{error}");
                    failed.push(format!("{architecture} {name}"));
                }
            }
        }
    }
    match failed.as_slice() {
        [] => Ok(()),
        failed => Err(format!("failed on {}", failed.join(", ")).into()),
    }
}

fn executables(architecture: &str) -> Result<Vec<Artifact>, Box<dyn std::error::Error>> {
    let emulator = format!("qemu-{architecture}-static");
    if program(&emulator).is_none() {
        return Err(format!("no {emulator}; `cargo xtask setup` installs it").into());
    }
    let command = match architecture {
        _ if HOST.starts_with(architecture) && HOST.ends_with("linux-gnu") => {
            toolchain::cargo("test")
        }
        "aarch64" => Toolchain::find(&AARCH64_LINUX)?.cargo("test"),
        _ => return Err(format!("no way to build for {architecture} on this machine").into()),
    };
    suite::build(command, &PACKAGES)
}
