//! What a pass through a large model takes.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::{build_running_quant, watch};
use crate::toolchain::cargo;

/// Anonymous memory that a pass through 1 GiB of f16 weights may take. The largest weight takes 32 MiB
/// as it is stored and 64 MiB as f32.
const MOST_MIB: f64 = 160.0;

/// Runs the model once.
pub fn report(folder: &Path) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(folder)?;
    let (package, input) = (folder.join("large.mlpackage"), folder.join("x.npy"));
    let mut make = cargo("run");
    make.args(["--release", "--quiet", "--package", "quant-run"]);
    make.args(["--example", "large_model", "--"]).arg(&package);
    if !make.status()?.success() {
        return Err("no large model".into());
    }
    fs::write(&input, ones(4096))?;
    build_running_quant()?;
    let mut run = Command::new("target/release/quant");
    run.arg("run").arg(&package).arg("--input").arg(&input);
    run.args(["--force", "--quiet", "--threads", "1", "-o"]);
    let usage = watch(run.arg(folder.join("y.npz")))?;
    println!(
        "{:<44} {:>9.2} {:>12.1} MiB",
        "quant run, 1 GiB of f16 weights", usage.seconds, usage.anonymous_mib
    );
    fs::remove_dir_all(&package)?;
    match usage.anonymous_mib <= MOST_MIB {
        true => Ok(()),
        false => Err(format!("more than {MOST_MIB} MiB").into()),
    }
}

/// An npy array of a row of ones.
fn ones(count: usize) -> Vec<u8> {
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': (1, {count}), }}");
    header.extend(std::iter::repeat_n(' ', 117 - header.len()));
    header.push('\n');
    let mut out = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    out.extend(header.as_bytes());
    out.extend(1.0_f32.to_le_bytes().repeat(count));
    out
}
