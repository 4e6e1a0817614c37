//! The files that the `quant` command writes: for each type, mode and granularity the quantized
//! model, what the report says of its tensors, and the model dequantized again.

use std::fs;
use std::path::Path;
use std::process::Command;

use xxhash_rust::xxh64::xxh64;

use super::targets::{Programs, Target};
use super::{Digest, Digests};
use crate::toolchain::{root, target_dir};

/// The name that it has among the functions.
pub const NAME: &str = "quant_command";

const MODEL: &str = "examples/digits/digits.safetensors";
const DTYPES: [&str; 4] = ["int8", "uint8", "int4", "uint4"];
const MODES: [&str; 2] = ["symmetric", "affine"];
const GRANULARITIES: [&str; 3] = ["per-tensor", "per-channel", "per-block"];
const THREADS: [&str; 2] = ["1", "2"];

/// What one call wrote.
pub struct Written {
    /// The options.
    pub options: String,
    /// What is compared, and the bytes of it.
    pub parts: Vec<(&'static str, Vec<u8>)>,
}

impl Written {
    pub fn digest(&self) -> u64 {
        let digest = |seed, (_, bytes): &(_, Vec<u8>)| xxh64(bytes, seed);
        self.parts.iter().fold(0, digest)
    }
}

/// Quantizes the example model in every way. Files are kept until the next run. This machine does so on
/// one thread and on two; an emulated one, which has the same threads, by turns.
///
/// # Errors
/// If the command fails, or one and two threads write something different.
pub fn run(target: &Target, programs: &Programs) -> Result<Vec<Written>, String> {
    let folder = target_dir().join("equivalence").join(&target.name);
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut all: Vec<Written> = Vec::new();
    for dtype in DTYPES {
        for mode in MODES {
            for granularity in GRANULARITIES {
                let options = [
                    "--dtype",
                    dtype,
                    "--mode",
                    mode,
                    "--granularity",
                    granularity,
                ];
                let write = |threads| quantize(target, programs, &folder, &options, threads);
                let written = write(THREADS[all.len() % THREADS.len()])?;
                if target.processor.is_none() {
                    let other = write(THREADS[(all.len() + 1) % THREADS.len()])?;
                    if other.parts != written.parts {
                        let (name, one, two) = (&target.name, written.options, other.options);
                        return Err(format!("{name}: {one} and {two} differ"));
                    }
                }
                all.push(written);
            }
        }
    }
    Ok(all)
}

fn quantize(
    target: &Target,
    programs: &Programs,
    folder: &Path,
    options: &[&str],
    threads: &str,
) -> Result<Written, String> {
    let [codes, floats, report] =
        ["codes.safetensors", "floats.safetensors", "report.json"].map(|name| folder.join(name));
    let common = ["--threads", threads, "--quiet", "--force", "-o"];
    let mut command = target.command(&programs.quant);
    command
        .args(["quantize", MODEL])
        .args(options)
        .arg("--report")
        .arg(&report);
    call(command.args(common).arg(&codes))?;
    let mut command = target.command(&programs.quant);
    command.arg("dequantize").arg(&codes);
    call(command.args(common).arg(&floats))?;
    let read = |path| fs::read(path).map_err(|error| error.to_string());
    // The rest of it names files, and says how long it took.
    let report: serde_json::Value =
        serde_json::from_slice(&read(&report)?).map_err(|error| error.to_string())?;
    Ok(Written {
        options: format!("{} --threads {threads}", options.join(" ")),
        parts: vec![
            ("quantized file", read(&codes)?),
            ("report", report["tensors"].to_string().into_bytes()),
            ("dequantized file", read(&floats)?),
        ],
    })
}

fn call(command: &mut Command) -> Result<(), String> {
    match command.current_dir(root()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{command:?}: {status}")),
        Err(error) => Err(format!("{command:?}: {error}")),
    }
}

/// One digest of all files.
pub fn digests(all: &[Written]) -> Digests {
    let bytes: Vec<u8> = all
        .iter()
        .flat_map(|it| it.digest().to_le_bytes())
        .collect();
    let digest = Digest {
        cases: all.len(),
        digest: format!("{:016x}", xxh64(&bytes, 0)),
    };
    [(NAME.to_owned(), digest)].into()
}
