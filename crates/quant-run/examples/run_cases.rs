//! Runs captured cases of coremltools' tests and compares: `run_cases FOLDER... [--list WHAT]`.
//!
//! A case is `NAME.mlpackage` beside `NAME.io` with `in_X.npy`, `out_X.npy` and `meta.json`, as the
//! capturing script writes them. Prints a line per kind of operation: cases that have it, and how
//! many passed, were wrong, were refused by name, or failed. Fails if a case is wrong, or if fewer than
//! 97 of 100 cases that have a reference pass. `cargo xtask cases` captures cases, and runs it.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};

#[path = "../tests/cases/mod.rs"]
mod cases;

use cases::run;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (mut folders, mut list) = (Vec::new(), None);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--list" => list = arguments.next(),
            _ => folders.push(PathBuf::from(argument)),
        }
    }
    let mut packages: Vec<PathBuf> = Vec::new();
    for folder in &folders {
        let entries = std::fs::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.path()));
        packages.extend(entries.filter(|path| path.extension().is_some_and(|e| e == "mlpackage")));
    }
    packages.sort();
    let mut table: BTreeMap<String, [usize; 5]> = BTreeMap::new();
    let mut total = [0; 5];
    for package in &packages {
        let outcome = run(package);
        if list
            .as_deref()
            .is_some_and(|what| what == outcome.name() || what == "all")
        {
            println!("{} {}: {outcome}", outcome.name(), stem(package));
        }
        let place = outcome.place();
        total[place] += 1;
        for kind in cases::kinds(package) {
            table.entry(kind).or_default()[place] += 1;
        }
    }
    println!("{:<36} passed wrong refused failed skipped", "operation");
    for (kind, counts) in &table {
        println!("{kind:<36} {}", row(counts));
    }
    println!("{:<36} {}", "all cases", row(&total));
    let [passed, wrong, refused, failed, _] = total;
    let all = passed + wrong + refused + failed;
    let share = 100.0 * passed as f64 / all.max(1) as f64;
    println!("{share:.2} % of {all} cases with a reference pass");
    match wrong == 0 && share >= 97.0 {
        true => Ok(()),
        false => Err(format!("{wrong} wrong cases, {share:.2} % passed").into()),
    }
}

fn row(counts: &[usize; 5]) -> String {
    let [passed, wrong, refused, failed, skipped] = counts;
    format!("{passed:>6} {wrong:>5} {refused:>7} {failed:>6} {skipped:>7}")
}

fn stem(package: &Path) -> String {
    let stem = package.file_stem().unwrap_or_default();
    stem.to_string_lossy().into_owned()
}
