//! `cargo xtask mca`: what the NEON kernels cost on Apple's processors, as llvm-mca models them.
//!
//! The loops of quant-simd's release build are disassembled; the debug information, which names
//! inlined functions with all their types, says which kernel each of them belongs to.

mod kernels;
mod loops;

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::Outcome;
use crate::artifacts;
use crate::toolchain::{AARCH64_LINUX, Toolchain, llvm, root};
use kernels::{Origin, Row, TARGETS};
use loops::{Function, Instruction};

const PROCESSOR: [&str; 2] = ["-mtriple=arm64-apple-macos", "-mcpu=apple-m1"];
const ITERATIONS: u32 = 100;

/// Where the table is written down.
const RECORD: &str = "benches/record/apple-m1-mca.md";
const WHAT: &str = "\
As llvm-mca models it (`cargo xtask mca`): cycles per 16 elements; of a loop that surrounds others,
its own instructions, spread over the elements of the loops within it.";

/// Prints the loops of every NEON kernel, the cheapest of each phase or `all`, and the sums that
/// have a target; writes that down, if asked to.
pub fn mca(all: bool, record: bool) -> Outcome {
    let library = library()?;
    let listing = capture(
        Command::new(llvm("llvm-objdump")?)
            .args(["--disassemble", "--no-show-raw-insn"])
            .arg(&library),
        "",
    )?;
    let functions = loops::functions(&listing);
    let pieces = pieces(&functions);
    let origins = origins(&library, &pieces)?;
    let mut rows = rows(&pieces, &origins)?;
    let targets = TARGETS
        .iter()
        .map(|target| (target.name, target.line(&rows)));
    let targets: Vec<_> = targets.collect();
    if !all {
        rows = kernels::cheapest(rows);
    }
    let kernel_width = rows.iter().map(|row| row.kernel.len()).max().unwrap_or(0);
    let mut table = vec![format!(
        "{:<kernel_width$} {:<36} {:>8} {:>7} {:>7}",
        "kernel", "loop", "elements", "instrs", "cycles"
    )];
    table.extend(rows.iter().map(|row| row.line(kernel_width)));
    table.push(String::new());
    let mut missing = Vec::new();
    for (name, line) in targets {
        match line {
            Some(line) => table.push(line),
            None => missing.push(name),
        }
    }
    let table = table.join("\n");
    println!("{WHAT}\n\n{table}");
    if record {
        let text = format!("# NEON kernels on Apple M1\n\n{WHAT}\n\n```\n{table}\n```\n");
        std::fs::write(root().join(RECORD), text)?;
    }
    match missing.as_slice() {
        [] => Ok(()),
        missing => Err(format!("no loops of {}", missing.join(", ")).into()),
    }
}

/// quant-simd for aarch64 with every instance of a kernel, as one file with addresses.
fn library() -> Result<PathBuf, Box<dyn Error>> {
    let toolchain = Toolchain::find(&AARCH64_LINUX)?;
    let mut cargo = toolchain.cargo("build");
    cargo.args(["--release", "--package", "quant-simd", "--lib"]);
    cargo.env("CARGO_PROFILE_RELEASE_DEBUG", "limited");
    // The older mangling leaves types out.
    cargo.env("RUSTFLAGS", "-Csymbol-mangling-version=v0");
    let artifacts = artifacts::build(cargo)?;
    let library = artifacts.iter().find(|it| it.name == "quant_simd");
    let library = &library.ok_or("quant-simd was not built")?.path;
    let linked = library.with_extension("so");
    let linker = AARCH64_LINUX.linker.unwrap_or("cc");
    let status = Command::new(linker)
        .args([
            "-shared",
            "-nostdlib",
            "-Wl,--unresolved-symbols=ignore-all",
        ])
        .arg("-Wl,--whole-archive")
        .arg(library)
        .arg("-o")
        .arg(&linked)
        .status()?;
    match status.success() {
        true => Ok(linked),
        false => Err("quant-simd could not be linked".into()),
    }
}

/// Instructions of one loop that are not in a loop within it.
struct Piece<'a> {
    function: &'a Function,
    positions: Vec<usize>,
    body: std::ops::Range<usize>,
    is_innermost: bool,
}

fn pieces(functions: &[Function]) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    for function in functions {
        for found in loops::loops(function) {
            let body = &function[found.body.clone()];
            if body.iter().any(Instruction::is_vector) {
                pieces.push(Piece {
                    function,
                    positions: found.own,
                    body: found.body,
                    is_innermost: found.is_innermost,
                });
            }
        }
    }
    pieces
}

/// The kernels that instructions come from, by address. Those of other backends are left out.
fn origins(library: &Path, pieces: &[Piece<'_>]) -> Result<BTreeMap<u64, Origin>, Box<dyn Error>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        address: String,
        symbol: Vec<Symbol>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Symbol {
        function_name: String,
    }
    // The names are long, and those of the vector instructions are enough.
    let bodies = pieces.iter().flat_map(|it| &it.function[it.body.clone()]);
    let vectors = bodies.filter(|it| it.is_vector());
    let addresses: BTreeSet<u64> = vectors.map(|it| it.address).collect();
    let addresses: Vec<String> = addresses.iter().map(|it| format!("{it:#x}\n")).collect();
    let mut symbolizer = Command::new(llvm("llvm-symbolizer")?);
    symbolizer.args(["--inlines", "--output-style=JSON", "--obj"]);
    let text = capture(symbolizer.arg(library), &addresses.concat())?;
    let mut origins = BTreeMap::new();
    for line in text.lines() {
        let answer: Answer = serde_json::from_str(line)?;
        let address = answer.address.trim_start_matches("0x");
        let frames: Vec<String> = answer
            .symbol
            .into_iter()
            .map(|it| it.function_name)
            .collect();
        if let Some(origin) = Origin::of(&frames) {
            origins.insert(u64::from_str_radix(address, 16)?, origin);
        }
    }
    Ok(origins)
}

/// Costs of all pieces, one row for each kernel and phase in each of them.
// Long: one pass over the loops.
fn rows(pieces: &[Piece<'_>], origins: &BTreeMap<u64, Origin>) -> Result<Vec<Row>, Box<dyn Error>> {
    let mut regions = Vec::new();
    let mut source = String::new();
    for (number, piece) in pieces.iter().enumerate() {
        let mut parts: BTreeMap<&Origin, Vec<&Instruction>> = BTreeMap::new();
        // What has no name belongs to what is before it.
        let mut origin = None;
        for &i in &piece.positions {
            let instruction = &piece.function[i];
            origin = origins.get(&instruction.address).or(origin);
            if let Some(origin) = origin {
                parts.entry(origin).or_default().push(instruction);
            }
        }
        let body = &piece.function[piece.body.clone()];
        let phases: BTreeSet<_> = body
            .iter()
            .filter_map(|it| origins.get(&it.address))
            .collect();
        // An innermost loop is all of it one thing.
        if piece.is_innermost {
            let most = parts
                .iter()
                .max_by_key(|(_, instructions)| instructions.len());
            let Some((&origin, _)) = most else { continue };
            let all = piece
                .positions
                .iter()
                .map(|&i| &piece.function[i])
                .collect();
            parts = BTreeMap::from([(origin, all)]);
        }
        for (origin, instructions) in parts {
            if !instructions.iter().any(|it| it.is_vector()) {
                continue;
            }
            source += "# LLVM-MCA-BEGIN\n";
            for instruction in &instructions {
                source += &instruction.text();
                source.push('\n');
            }
            source += "# LLVM-MCA-END\n";
            let around = match (piece.is_innermost, phases.len()) {
                (true, _) => kernels::Around::Nothing,
                (false, 1) => kernels::Around::OnePhase,
                (false, _) => kernels::Around::Phases,
            };
            regions.push((number, origin, instructions, around));
        }
    }
    let cycles = cycles(&source)?;
    if cycles.len() != regions.len() {
        return Err("llvm-mca did not understand everything".into());
    }
    let rows = regions.into_iter().zip(cycles);
    let mut rows: Vec<Row> = rows
        .map(|((number, origin, instructions, around), cycles)| {
            Row::new(number, origin, &instructions, around, cycles)
        })
        .collect();
    rows.sort_by(|a, b| (&a.kernel, &a.phase).cmp(&(&b.kernel, &b.phase)));
    Ok(rows)
}

/// Cycles per iteration of each region.
fn cycles(source: &str) -> Result<Vec<f64>, Box<dyn Error>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Report {
        code_regions: Vec<Region>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Region {
        summary_view: Summary,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Summary {
        total_cycles: f64,
    }
    let mut mca = Command::new(llvm("llvm-mca")?);
    mca.args(PROCESSOR).arg("--json");
    mca.arg(format!("-iterations={ITERATIONS}"));
    let report: Report = serde_json::from_str(&capture(&mut mca, source)?)?;
    let regions = report.code_regions.iter();
    let per_iteration = |it: &Region| it.summary_view.total_cycles / f64::from(ITERATIONS);
    Ok(regions.map(per_iteration).collect())
}

/// What a program prints when it is given some input.
fn capture(command: &mut Command, input: &str) -> Result<String, Box<dyn Error>> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    // Warnings about calls within a loop.
    let mut child = command.stderr(Stdio::null()).spawn()?;
    let mut stdin = child.stdin.take().ok_or("no standard input")?;
    let input = input.to_owned();
    // Written beside reading, or both sides would wait for each other.
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output()?;
    writer.join().map_err(|_| "a thread panicked")??;
    if !output.status.success() {
        return Err(format!("{command:?}: {}", output.status).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}
