//! `cargo xtask sanitize`: the tests under AddressSanitizer, and under valgrind.

use std::error::Error;
use std::process::Command;

use crate::Outcome;
use crate::artifacts::Artifact;
use crate::suite;
use crate::toolchain::{self, HOST, root, stdout, target_dir};

/// What valgrind's processor has: this machine's, but for AVX-512, which it does not know.
fn valgrind_backends(programs: &[Artifact]) -> Result<String, Box<dyn Error>> {
    let detection = programs.iter().find(|it| it.name == suite::DETECTION);
    let detection = detection.ok_or("what prints the backends was not built")?;
    let all = stdout(&mut Command::new(&detection.path)).ok_or("detection fails")?;
    let known = all.lines().filter(|&backend| backend != "avx512");
    Ok(known.collect::<Vec<_>>().join(" "))
}

/// Tensors and slices of millions of elements.
const LONG_TESTS: [&str; 3] = [
    "across_chunks_and_windows",
    "range_of_a_large_slice",
    "results_beyond_the_cache",
];

/// Runs both; on x86-64 Linux only.
pub fn sanitize() -> Outcome {
    if HOST != "x86_64-unknown-linux-gnu" {
        return Err("only on x86-64 Linux".into());
    }
    address_sanitizer()?;
    println!("AddressSanitizer: nothing found");
    let programs = suite::build(toolchain::cargo("test"), &["quant-simd"])?;
    let valgrind = |path: &std::path::Path| {
        let mut command = Command::new("valgrind");
        command.args(["--quiet", "--error-exitcode=9", "--leak-check=no"]);
        command.arg(path);
        // It takes fifty times as long: what takes seconds is left out, of the rest some is done.
        for test in LONG_TESTS {
            command.args(["--skip", test]);
        }
        command.env("PROPTEST_CASES", "20").env("TEST_EVERY", "29");
        command
    };
    let backends = valgrind_backends(&programs)?;
    let passed = suite::run(&programs, valgrind, &backends)?;
    println!("valgrind, {backends}: {passed} tests, nothing found");
    Ok(())
}

fn address_sanitizer() -> Outcome {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", "cargo", "test", "--lib", "--tests"]);
    // With a target named, build scripts and macros are not instrumented.
    command.args(["--target", HOST, "--target-dir"]);
    command.arg(target_dir().join("sanitize"));
    // The command's tests are those of quant-models.
    for package in [
        "quant-simd",
        "quant-model",
        "quant-gguf",
        "quant-safetensors",
        "quant-coreai",
        "quant-coreml",
        "quant-calibration",
        "quant-models",
        "quant-cli",
    ] {
        command.args(["--package", package]);
    }
    let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    command.env("RUSTFLAGS", format!("{flags} -Zsanitizer=address"));
    suite::few_cases(&mut command);
    match command.current_dir(root()).status()? {
        status if status.success() => Ok(()),
        status => Err(format!("under AddressSanitizer: {status}").into()),
    }
}
