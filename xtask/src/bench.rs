//! `cargo xtask bench`: kernels beside limits and peers, whole models beside copies.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::memory::{self, Model, Usage};
use crate::toolchain::root;

const PAIRS: usize = 5;

/// `--models` measures whole models, `--table` prints what benches/README.md shows of the newest record;
/// any other options are the report's own.
pub fn run(options: &[&str]) -> Result<(), Box<dyn Error>> {
    match options {
        ["--models"] => models(),
        ["--table"] => {
            print!("{}", table(&newest_record()?)?);
            Ok(())
        }
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

/// The kernels that benches/README.md shows, in its words.
const SHOWN: [(&str, &str); 8] = [
    ("A", "f32 -> int8, scale given"),
    ("B", "int8 -> f32"),
    ("C", "f32 -> int8, blocks of 32, scales found"),
    ("D", "f32 -> int4, blocks of 32, scales found"),
    ("E", "int4 -> f32, blocks of 32"),
    ("F", "range of f32"),
    ("G", "f16 -> int8, scale given"),
    ("N", "histogram of f32, 2048 bins"),
];

/// What was measured last, on any machine.
fn newest_record() -> Result<Value, Box<dyn Error>> {
    let mut records: Vec<(String, PathBuf)> = Vec::new();
    for folder in fs::read_dir(root().join("benches/record"))? {
        let folder = folder?.path();
        if !folder.is_dir() {
            continue;
        }
        for file in fs::read_dir(folder)? {
            let file = file?.path();
            if let (Some(date), Some("json")) = (
                file.file_stem().and_then(|it| it.to_str()),
                file.extension().and_then(|it| it.to_str()),
            ) {
                records.push((date.to_owned(), file));
            }
        }
    }
    let (_, newest) = records.into_iter().max().ok_or("no record")?;
    Ok(serde_json::from_str(&fs::read_to_string(newest)?)?)
}

/// The table of benches/README.md, and the line that says where it comes from.
fn table(record: &Value) -> Result<String, Box<dyn Error>> {
    let rows = record["rows"].as_array().ok_or("a record without rows")?;
    let mut table = String::from(
        "| one thread, billions of elements per second, (share of the memory limit) \
         | 16 Ki, AVX-512 | AVX2 | 1 Mi, AVX-512 | AVX2 |\n|---|---|---|---|---|\n",
    );
    for (kernel, words) in SHOWN {
        let mut cells = Vec::new();
        for elements in [16 << 10, 1 << 20] {
            for backend in ["avx512", "avx2"] {
                let row = rows.iter().find(|row| {
                    row["kernel"] == kernel && row["elements"] == elements && row["by"] == backend
                });
                let figure = |name: &str| row.and_then(|row| row[name].as_f64());
                cells.push(match (figure("gels"), figure("of_limit")) {
                    (Some(speed), Some(share)) => format!("{speed:.1} ({share:.2})"),
                    _ => "-".into(),
                });
            }
        }
        table += &format!("| {words} | {} |\n", cells.join(" | "));
    }
    let text = |name: &str| record[name].as_str().ok_or("a record without its origin");
    table += &format!("\nMeasured on {}, {}", text("cpu")?, text("date")?);
    Ok(table + "\n")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{newest_record, table};
    use crate::toolchain::root;

    #[test]
    fn readme_shows_the_newest_record() {
        let table = table(&newest_record().unwrap()).unwrap();
        let readme = fs::read_to_string(root().join("benches/README.md")).unwrap();
        assert!(
            readme.contains(table.trim_end()),
            "benches/README.md lacks what `cargo xtask bench --table` prints:\n{table}"
        );
    }
}
