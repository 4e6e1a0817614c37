//! `cargo xtask bench`: kernels beside limits and peers, whole models beside copies.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::memory::{self, Model, Usage};
use crate::toolchain::root;

const PAIRS: usize = 5;

/// `--models` measures whole models, `--table` prints what benches/README.md shows of the newest
/// records; any other options are the report's own.
pub fn run(options: &[&str]) -> Result<(), Box<dyn Error>> {
    match options {
        ["--models"] => models(),
        ["--table"] => {
            print!("{}", table(&newest_records()?)?);
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

/// What the processors of records are called, where their own names say too little.
const NAMES: [(&str, &str); 3] = [
    ("AMD EPYC (family 25, model 1)", "Zen 3"),
    ("AMD EPYC (family 25, model 17)", "Zen 4"),
    ("AMD EPYC (family 26, model 2)", "Zen 5"),
];

/// Backends, the fastest first, as the record and as readers call them.
const BACKENDS: [(&str, &str); 3] = [("avx512", "AVX-512"), ("avx2", "AVX2"), ("neon", "NEON")];

/// What was measured last on each processor, the newest first.
fn newest_records() -> Result<Vec<Value>, Box<dyn Error>> {
    let mut records: Vec<(String, PathBuf)> = Vec::new();
    for folder in fs::read_dir(root().join("benches/record"))? {
        let folder = folder?.path();
        if !folder.is_dir() {
            continue;
        }
        let mut files: Vec<PathBuf> = Vec::new();
        for file in fs::read_dir(folder)? {
            files.push(file?.path());
        }
        files.retain(|file| file.extension().is_some_and(|it| it == "json"));
        let dated = files.into_iter().filter_map(|file| {
            let date = file.file_stem()?.to_str()?.to_owned();
            Some((date, file))
        });
        records.extend(dated.max());
    }
    records.sort_by(|a, b| b.cmp(a));
    records
        .into_iter()
        .map(|(_, file)| Ok(serde_json::from_str(&fs::read_to_string(file)?)?))
        .collect()
}

/// The table of benches/README.md, and the lines that say where it comes from.
fn table(records: &[Value]) -> Result<String, Box<dyn Error>> {
    let (mut head, mut rule) = (String::new(), String::new());
    let mut origins = String::new();
    let mut columns = Vec::new();
    for record in records {
        let rows = record["rows"].as_array().ok_or("a record without rows")?;
        let text = |name: &str| record[name].as_str().ok_or("a record without its origin");
        let (cpu, date) = (text("cpu")?, text("date")?);
        let name = NAMES
            .iter()
            .find(|(it, _)| *it == cpu)
            .map(|(_, name)| *name);
        let (backend, instructions) = BACKENDS
            .into_iter()
            .find(|(name, _)| rows.iter().any(|row| row["by"] == *name))
            .ok_or("a record without vectors")?;
        for (elements, size) in [(16 << 10, "16 Ki"), (1 << 20, "1 Mi")] {
            head += &format!(" {}, {instructions}, {size} |", name.unwrap_or(cpu));
            rule += "---|";
            columns.push((rows, backend, elements));
        }
        match name {
            Some(name) => origins += &format!("- {name}: {cpu}, {date}\n"),
            None => origins += &format!("- {cpu}, {date}\n"),
        }
    }
    let mut table = format!(
        "| one thread, billions of elements per second, (share of the memory limit) |{head}\n|---|{rule}\n"
    );
    for (kernel, words) in SHOWN {
        table += &format!("| {words} |");
        for &(rows, backend, elements) in &columns {
            let row = rows.iter().find(|row| {
                row["kernel"] == kernel && row["elements"] == elements && row["by"] == backend
            });
            let figure = |name: &str| row.and_then(|row| row[name].as_f64());
            table += &match (figure("gels"), figure("of_limit")) {
                (Some(speed), Some(share)) => format!(" {speed:.1} ({share:.2}) |"),
                _ => " - |".into(),
            };
        }
        table += "\n";
    }
    Ok(table + "\n" + &origins)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{newest_records, table};
    use crate::toolchain::root;

    #[test]
    fn readme_shows_the_newest_records() {
        let table = table(&newest_records().unwrap()).unwrap();
        let readme = fs::read_to_string(root().join("benches/README.md")).unwrap();
        assert!(
            readme.contains(table.trim_end()),
            "benches/README.md lacks what `cargo xtask bench --table` prints:\n{table}"
        );
    }
}
