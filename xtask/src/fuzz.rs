//! `cargo xtask fuzz`: libFuzzer on hostile inputs, each target for some seconds, from the inputs in
//! `fuzz/corpus`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Outcome;
use crate::artifacts;
use crate::toolchain::{HOST, cargo, root, target_dir};

/// What libFuzzer must see of a program: which branches are taken, and what is compared. LLVM's own
/// pass does it, so that no nightly rustc is needed.
const COVERAGE: [&str; 6] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];
/// Of one input.
const TIMEOUT_SECONDS: u32 = 20;
const MEMORY_MB: u32 = 2048;

/// Runs these targets, or all of them, one after the other.
pub fn fuzz(targets: &[String], seconds: u32) -> Outcome {
    let known = targets_in(&root().join("fuzz/fuzz_targets"))?;
    if let Some(unknown) = targets.iter().find(|it| !known.contains(it)) {
        let known = known.join(" ");
        return Err(format!("no fuzz target {unknown}; there are: {known}").into());
    }
    let wanted = if targets.is_empty() { &known } else { targets };
    let mut build = cargo("build");
    build.args(["--manifest-path", "fuzz/Cargo.toml", "--release"]);
    // With a target, build scripts and macros are compiled without coverage.
    build.args(["--target", HOST]);
    build.arg("--target-dir").arg(target_dir().join("fuzz"));
    build.env("CARGO_ENCODED_RUSTFLAGS", COVERAGE.join("\u{1f}"));
    for name in wanted {
        build.args(["--bin", name]);
    }
    let mut programs = artifacts::build(build)?;
    programs.retain(|it| it.is_program);
    let mut failed = Vec::new();
    for name in wanted {
        let program = programs.iter().find(|it| it.name == *name);
        let program = program.ok_or_else(|| format!("{name} was not built"))?;
        if !run(name, &program.path, seconds)? {
            failed.push(name.as_str());
        }
    }
    match failed.as_slice() {
        [] => Ok(()),
        failed => Err(format!(
            "failed: {}; the inputs are in {}",
            failed.join(", "),
            artifacts_of("").display()
        )
        .into()),
    }
}

/// The names of files with sources.
fn targets_in(folder: &Path) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|it| it == "rs")
            && let Some(name) = path.file_stem().and_then(|it| it.to_str())
        {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn artifacts_of(name: &str) -> PathBuf {
    target_dir().join("fuzz/artifacts").join(name)
}

/// Runs one target, and says how far it came.
fn run(name: &str, program: &Path, seconds: u32) -> Result<bool, Box<dyn std::error::Error>> {
    let found = target_dir().join("fuzz/corpus").join(name);
    let (failures, log) = (artifacts_of(name), found.with_extension("log"));
    fs::create_dir_all(&found)?;
    fs::create_dir_all(&failures)?;
    let mut command = Command::new(program);
    // New inputs go to the first folder.
    command
        .arg(&found)
        .arg(root().join("fuzz/corpus").join(name));
    command.arg(format!("-artifact_prefix={}/", failures.display()));
    command.arg(format!("-max_total_time={seconds}"));
    command.arg(format!("-timeout={TIMEOUT_SECONDS}"));
    command.arg(format!("-rss_limit_mb={MEMORY_MB}"));
    command.arg("-print_final_stats=1");
    let output = fs::File::create(&log)?;
    command.stdout(output.try_clone()?).stderr(output);
    let passed = command.status()?.success();
    let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    let count = |key: &str| {
        let line = text.lines().rfind(|line| line.starts_with(key));
        line.and_then(|line| line.split_whitespace().last())
            .unwrap_or("?")
    };
    let covered = text.lines().rfind(|line| line.contains(" cov: "));
    let covered = covered.and_then(|line| line.split(" cov: ").nth(1)?.split(' ').next());
    println!(
        "{name:<14} {:>9} inputs, {:>6} branches, {:>5} new inputs, {} MiB at the peak{}",
        count("stat::number_of_executed_units:"),
        covered.unwrap_or("?"),
        count("stat::new_units_added:"),
        count("stat::peak_rss_mb:"),
        if passed { "" } else { ": FAILED" }
    );
    if !passed {
        println!("  see {}", log.display());
    }
    Ok(passed)
}
