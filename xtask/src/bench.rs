//! `cargo xtask bench`: kernels beside limits and peers, whole models beside copies.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::memory::{self, Model, Usage};

const PAIRS: usize = 5;

/// `--models` measures whole models; any other options are the report's own.
pub fn run(options: &[&str]) -> Result<(), Box<dyn Error>> {
    match options {
        ["--models"] => models(),
        _ => kernels(options),
    }
}

/// The report reads the options itself; `--peers` also builds the peers in.
fn kernels(options: &[&str]) -> Result<(), Box<dyn Error>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut run = Command::new(cargo);
    run.args([
        "run",
        "--quiet",
        "--profile",
        "bench",
        "--package",
        "benches",
    ]);
    run.args(["--bin", "report"]);
    if options.contains(&"--peers") {
        run.args(["--features", "peers"]);
    }
    let status = run.arg("--").args(options).status()?;
    if !status.success() {
        return Err(format!("the report ended with {status}").into());
    }
    Ok(())
}

/// `quant quantize` and `cp` by turns, from the page cache.
fn models() -> Result<(), Box<dyn Error>> {
    memory::build_quant()?;
    let model = Model::new(Path::new("target/models"), 1)?;
    // Else the kernel writes it back while others are timed.
    run_to_end(Command::new("sync").arg(&model.path))?;
    println!(
        "{:<57} {:>7} {:>7} {:>8} {:>8} {:>13} {:>11} {:>9}",
        "1 GiB, f16; medians of seconds",
        "quant",
        "cp",
        "cp, sync",
        "quant/cp",
        "quant/cp,sync",
        "anonymous",
        "resident"
    );
    for options in [
        "--dtype int8 --threads 2 --quiet",
        "--dtype int8 --threads 2",
        "--dtype int8 --threads 1 --quiet",
        "--dtype int8 --threads 1",
        "--dtype int4 --granularity per-block --threads 2 --quiet",
        "--dtype int4 --granularity per-block --threads 2",
    ] {
        let mut rounds: Vec<[Usage; 3]> = Vec::new();
        // The first round only warms up.
        for round in 0..=PAIRS {
            let usages = [
                once(&model, &mut model.quantize(options))?,
                once(&model, &mut copy(&model, "cp \"$0\" \"$1\""))?,
                once(&model, &mut copy(&model, "cp \"$0\" \"$1\" && sync \"$1\""))?,
            ];
            if round > 0 {
                rounds.push(usages);
            }
        }
        let of = |figure: fn(&[Usage; 3]) -> f64| median(rounds.iter().map(figure).collect());
        println!(
            "{options:<57} {:>7.3} {:>7.3} {:>8.3} {:>8.2} {:>13.2} {:>7.1} MiB {:>5.0} MiB",
            of(|[quant, ..]| quant.seconds),
            of(|[_, cp, _]| cp.seconds),
            of(|[.., synced]| synced.seconds),
            of(|[quant, cp, _]| quant.seconds / cp.seconds),
            of(|[quant, _, synced]| quant.seconds / synced.seconds),
            of(|[quant, ..]| quant.anonymous_mib),
            of(|[quant, ..]| quant.resident_mib),
        );
    }
    Ok(())
}

fn copy(model: &Model, script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]).args([&model.path, &model.out]);
    command
}

/// Times one run and removes what it wrote.
fn once(model: &Model, command: &mut Command) -> Result<Usage, Box<dyn Error>> {
    let usage = memory::watch(command)?;
    fs::remove_file(&model.out)?;
    Ok(usage)
}

fn run_to_end(command: &mut Command) -> Result<(), Box<dyn Error>> {
    let status = command.status()?;
    if !status.success() {
        return Err(format!("{command:?} ended with {status}").into());
    }
    Ok(())
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
