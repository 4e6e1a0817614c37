//! Large models and long streams, and what `quant` takes for them: time and peak memory (Linux).

mod folder;
mod run;
mod stream;

use std::error::Error;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::artifacts;
use crate::toolchain::cargo;

const SIDE: usize = 8192;
/// f16 tensors of SIDE x SIDE that make a GiB.
const PER_GIB: usize = 8;

/// A generated model, its quantized form, and the folder that holds both until it is dropped.
pub struct Model {
    folder: PathBuf,
    pub path: PathBuf,
    pub out: PathBuf,
}

/// What a process took.
pub struct Usage {
    pub seconds: f64,
    /// Peak of memory that is not a mapped file.
    pub anonymous_mib: f64,
    /// Peak of all memory, mapped pages included.
    pub resident_mib: f64,
}

/// Quantizes a 2 GiB model in three ways, runs one of 1 GiB, calibrates with so many samples, and prints
/// tables; or quantizes a folder of so many shards, of a GiB each, in all formats.
pub fn report(samples: u64, shards: Option<usize>) -> Result<(), Box<dyn Error>> {
    let folder = Path::new("target/memory");
    if let Some(gib) = shards {
        return folder::report(gib, folder);
    }
    build_quant()?;
    report_model(folder)?;
    println!();
    run::report(folder)?;
    println!();
    stream::report(samples, folder)
}

fn report_model(folder: &Path) -> Result<(), Box<dyn Error>> {
    let model = Model::new(folder, 2)?;
    println!(
        "{:<44} {:>9} {:>16}",
        "2 GiB, f16", "seconds", "anonymous memory"
    );
    for options in [
        "--dtype int8 --granularity per-channel",
        "--dtype int8 --granularity per-channel --axis 1",
        "--dtype int4 --granularity per-block",
    ] {
        let usage = watch(&mut model.quantize(options))?;
        println!(
            "{options:<44} {:>9.2} {:>12.1} MiB",
            usage.seconds, usage.anonymous_mib
        );
    }
    Ok(())
}

/// Builds the release form of `quant`.
pub fn build_quant() -> Result<(), Box<dyn Error>> {
    let mut build = cargo("build");
    let build = artifacts::released(&mut build).args(["--quiet", "--bin", "quant"]);
    let built = build.status()?;
    if !built.success() {
        return Err("the build failed".into());
    }
    Ok(())
}

/// The same with what runs models, which it is built without elsewhere.
pub fn build_running_quant() -> Result<(), Box<dyn Error>> {
    let mut build = cargo("build");
    build.args(["--release", "--quiet", "--package", "quant-cli"]);
    match build.status()?.success() {
        true => Ok(()),
        false => Err("the build failed".into()),
    }
}

/// Runs a command to its end.
pub fn watch(command: &mut Command) -> Result<Usage, Box<dyn Error>> {
    watch_with(command, |_| || {})
}

/// The same, while another thread does something for it.
fn watch_with<W: FnOnce() + Send>(
    command: &mut Command,
    meanwhile: impl FnOnce(&mut Child) -> W,
) -> Result<Usage, Box<dyn Error>> {
    let start = Instant::now();
    let mut child = command.spawn()?;
    let meanwhile = meanwhile(&mut child);
    let (process, done) = (child.id(), AtomicBool::new(false));
    let (status, seconds, peaks) = std::thread::scope(|scope| {
        let peaks = scope.spawn(|| {
            let mut peaks = [0; 2];
            while !done.load(Ordering::Relaxed) {
                let [anonymous, resident] = memory_kib(process).unwrap_or_default();
                peaks = [peaks[0].max(anonymous), peaks[1].max(resident)];
                std::thread::sleep(Duration::from_millis(2));
            }
            peaks
        });
        scope.spawn(meanwhile);
        let status = child.wait();
        let seconds = start.elapsed().as_secs_f64();
        done.store(true, Ordering::Relaxed);
        (status, seconds, peaks.join().expect("it does not panic"))
    });
    let status = status?;
    if !status.success() {
        return Err(format!("{command:?} ended with {status}").into());
    }
    let [anonymous_mib, resident_mib] = peaks.map(|kib| kib as f64 / 1024.0);
    Ok(Usage {
        seconds,
        anonymous_mib,
        resident_mib,
    })
}

/// Anonymous memory now, and the peak of all memory.
fn memory_kib(process: u32) -> Option<[u64; 2]> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let field = |name: &str| -> Option<u64> {
        let line = status.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    Some([field("RssAnon:")?, field("VmHWM:")?])
}

impl Model {
    /// Makes a model of so many GiB in `folder`.
    pub fn new(folder: &Path, gib: usize) -> Result<Self, Box<dyn Error>> {
        fs::create_dir_all(folder)?;
        let model = Self {
            folder: folder.into(),
            path: folder.join("model.safetensors"),
            out: folder.join("out.safetensors"),
        };
        let names: Vec<String> = (0..gib * PER_GIB).map(|i| format!("w{i:02}")).collect();
        write_tensors(&model.path, &names)?;
        Ok(model)
    }

    /// `quant quantize` with these options.
    pub fn quantize(&self, options: &str) -> Command {
        let mut command = Command::new("target/release/quant");
        command
            .args(["quantize", "--force", "-o"])
            .args([&self.out, &self.path])
            .args(options.split(' '))
            .stdout(Stdio::null());
        command
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        // What cannot be removed lies under target, where nobody misses the space for long.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A safetensors file of matrices.
fn write_tensors(path: &Path, names: &[String]) -> Result<(), Box<dyn Error>> {
    let len = 2 * SIDE * SIDE;
    let entry = |(i, name): (usize, &String)| {
        format!(
            r#""{name}":{{"dtype":"F16","shape":[{SIDE},{SIDE}],"data_offsets":[{},{}]}}"#,
            i * len,
            (i + 1) * len
        )
    };
    let entries: Vec<String> = names.iter().enumerate().map(entry).collect();
    let mut header = format!("{{{}}}", entries.join(","));
    header.extend(std::iter::repeat_n(
        ' ',
        header.len().next_multiple_of(8) - header.len(),
    ));
    let mut file = BufWriter::new(File::create(path)?);
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    // Magnitudes from 2^-7 to 1 with any mantissa and sign.
    let mut state = 1_u64;
    let mut row = vec![0; 2 * SIDE];
    for _ in 0..names.len() * SIDE {
        for pair in row.chunks_exact_mut(2) {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let bits = (state >> 48) as u16;
            let exponent = 8 + (bits >> 10 & 7);
            pair.copy_from_slice(&(bits & 0x83ff | exponent << 10).to_le_bytes());
        }
        file.write_all(&row)?;
    }
    // What is still on its way to the disk would be waited for by who is measured.
    file.into_inner()?.sync_all()?;
    Ok(())
}
