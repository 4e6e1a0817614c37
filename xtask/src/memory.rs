//! The peak memory of `quant quantize` on a 2 GiB model, mapped pages aside (Linux).

use std::error::Error;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const TENSORS: usize = 16;
const SIDE: usize = 8192;

/// Makes the model under `target/memory`, quantizes it in three ways and prints a table.
pub fn report() -> Result<(), Box<dyn Error>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--release", "--quiet"])
        .status()?;
    if !built.success() {
        return Err("the build failed".into());
    }
    let folder = Path::new("target/memory");
    fs::create_dir_all(folder)?;
    let (model, out) = (
        folder.join("model.safetensors"),
        folder.join("out.safetensors"),
    );
    write_model(&model)?;
    println!(
        "{:<44} {:>9} {:>16}",
        "2 GiB, f16", "seconds", "anonymous memory"
    );
    for options in [
        "--dtype int8 --granularity per-channel",
        "--dtype int8 --granularity per-channel --axis 1",
        "--dtype int4 --granularity per-block",
    ] {
        let start = Instant::now();
        let mut child = Command::new("target/release/quant")
            .args(["quantize", "--quiet", "--force", "-o"])
            .args([&out, &model])
            .args(options.split(' '))
            .spawn()?;
        let mut peak = 0;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            peak = peak.max(anonymous_kib(child.id()).unwrap_or(0));
            std::thread::sleep(Duration::from_millis(2));
        };
        if !status.success() {
            return Err(format!("quant failed with {options}").into());
        }
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "{options:<44} {seconds:>9.2} {:>12.1} MiB",
            peak as f64 / 1024.0
        );
    }
    fs::remove_dir_all(folder)?;
    Ok(())
}

fn write_model(path: &Path) -> Result<(), Box<dyn Error>> {
    let len = 2 * SIDE * SIDE;
    let entry = |i: usize| {
        format!(
            r#""w{i:02}":{{"dtype":"F16","shape":[{SIDE},{SIDE}],"data_offsets":[{},{}]}}"#,
            i * len,
            (i + 1) * len
        )
    };
    let entries: Vec<String> = (0..TENSORS).map(entry).collect();
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
    for _ in 0..TENSORS * SIDE {
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
    file.flush()?;
    Ok(())
}

fn anonymous_kib(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("RssAnon:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
