//! `cargo xtask cross`: the test suites on processors that this machine does not have.

use std::path::Path;
use std::thread;
use std::time::Instant;

use crate::Outcome;
use crate::processors::{self, Emulator, PROCESSORS, Processor};
use crate::suite;
use crate::toolchain::HOST;

const PACKAGES: [&str; 2] = ["quant-core", "quant-simd"];
/// What runs models, on one processor of each architecture but this machine's.
const RUNNER: &str = "quant-run";

/// Builds the tests for every architecture and runs them on every processor, two at a time.
pub fn cross() -> Outcome {
    let mut failed = Vec::new();
    println!(
        "{:<8} {:<11} {:<13} {:>6} {:>8}",
        "", "processor", "backends", "tests", "seconds"
    );
    // There are no threads under Bochs, and each test wants one.
    let by_qemu = PROCESSORS.split(|it| it.emulator != Emulator::Qemu);
    for processors in by_qemu.flat_map(|it| it.chunk_by(|a, b| a.architecture == b.architecture)) {
        processors[0].find()?;
        let cargo = processors::cargo(processors[0].architecture, "test")?;
        let executables = suite::build(cargo, &PACKAGES)?;
        let run = &|processor: &'static Processor| {
            let start = Instant::now();
            let run = |program: &Path| {
                let mut command = processor.run(program);
                suite::few_cases(&mut command);
                command
            };
            let passed = suite::run(&executables, run, processor.backends)
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
        let [first, ..] = processors else { continue };
        if !HOST.starts_with(first.architecture)
            && let Err(error) = run_models(first)
        {
            eprintln!("{error}");
            failed.push(format!("{} {RUNNER}", first.architecture));
        }
    }
    match failed.as_slice() {
        [] => Ok(()),
        failed => Err(format!("failed on {}", failed.join(", ")).into()),
    }
}

fn run_models(processor: &Processor) -> Outcome {
    let start = Instant::now();
    let cargo = processors::cargo(processor.architecture, "test")?;
    let tests = suite::build_tests(cargo, RUNNER)?;
    let passed = suite::run_tests(&tests, |program| processor.run(program))?;
    println!(
        "{:<8} {:<11} {RUNNER:<13} {passed:>6} {:>8.1}",
        processor.architecture,
        processor.name,
        start.elapsed().as_secs_f64()
    );
    Ok(())
}
