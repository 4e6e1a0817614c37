//! A stream of samples to `quant calibrate`, as long as one likes.

use std::error::Error;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use quant_core::observer::Histogram;
use serde_json::Value;

/// Values of a sample.
const ELEMENTS: usize = 8192;
/// Samples that the stream repeats.
const DIFFERENT: u64 = 64;
const BINS: usize = 2048;
/// What calibration must not exceed, however much comes.
const LIMIT_MIB: f64 = 200.0;

/// Sends so many samples to each observer that keeps something of its own, looks whether all of them
/// have arrived, and prints time and peak memory.
///
/// # Errors
/// A result that is not that of the samples; memory above the limit.
pub fn report(samples: u64, folder: &Path) -> Result<(), Box<dyn Error>> {
    // Whole rounds, so that what must come out is a multiple.
    let rounds = samples.div_ceil(DIFFERENT);
    let samples = rounds * DIFFERENT;
    let bytes = samples * ELEMENTS as u64 * 4;
    let (arrays, all) = arrays()?;
    std::fs::create_dir_all(folder)?;
    let output = folder.join("ranges.json");
    println!(
        "{:<44} {:>9} {:>12} {:>16}",
        format!(
            "{samples} samples, {:.0} GB, through a pipe",
            bytes as f64 / 1e9
        ),
        "seconds",
        "Gel/s",
        "resident memory"
    );
    for observer in ["min-max", "moving-average", "percentile"] {
        let mut command = Command::new("target/release/quant");
        command
            .args(["calibrate", "-", "--name", "x", "--force", "--quiet"])
            .args(["--observer", observer, "-o"])
            .arg(&output)
            .stdin(Stdio::piped());
        let usage = super::watch_with(&mut command, |child| {
            let mut pipe = child.stdin.take().expect("it is piped");
            let arrays = &arrays;
            move || {
                // Where quant ends early, it has said why.
                (0..rounds).try_for_each(|_| pipe.write_all(arrays)).ok();
            }
        })?;
        println!(
            "{observer:<44} {:>9.2} {:>12.2} {:>12.1} MiB",
            usage.seconds,
            (samples * ELEMENTS as u64) as f64 / usage.seconds / 1e9,
            usage.resident_mib
        );
        check(&output, samples, rounds, &all)?;
        if usage.resident_mib > LIMIT_MIB {
            return Err(format!("{observer} takes more than {LIMIT_MIB} MiB").into());
        }
    }
    std::fs::remove_file(&output)?;
    Ok(())
}

/// The different samples as npy arrays, one after the other, and the histogram of them all.
fn arrays() -> Result<(Vec<u8>, Histogram), Box<dyn Error>> {
    let mut all = Histogram::new(BINS)?;
    let mut arrays = Vec::new();
    let mut state = 1_u64;
    for _ in 0..DIFFERENT {
        write_header(&mut arrays)?;
        let mut uniform = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 40) as f32 / (1 << 24) as f32 - 0.5
        };
        // Nearly a bell curve.
        let values: Vec<f32> = (0..ELEMENTS)
            .map(|_| uniform() + uniform() + uniform() + uniform())
            .collect();
        all.observe(&values);
        arrays.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }
    Ok((arrays, all))
}

fn write_header(to: &mut impl Write) -> io::Result<()> {
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({ELEMENTS},), }}");
    // With the ten bytes before it a multiple of 64, as NumPy writes it.
    let len = (10 + header.len() + 1).next_multiple_of(64) - 10;
    to.write_all(b"\x93NUMPY\x01\0")?;
    to.write_all(&(len as u16).to_le_bytes())?;
    writeln!(to, "{header:<width$}", width = len - 1)
}

/// Looks whether the result is that of `rounds` times the samples.
fn check(output: &Path, samples: u64, rounds: u64, all: &Histogram) -> Result<(), Box<dyn Error>> {
    let document: Value = serde_json::from_slice(&std::fs::read(output)?)?;
    let found = &document["activations"]["x"];
    let range = all.range().ok_or("samples without values")?;
    for (field, value) in [
        ("samples", Value::from(samples)),
        ("elements", Value::from(samples * ELEMENTS as u64)),
        ("non_finite", Value::from(0)),
        ("observed_min", Value::from(f64::from(range.min))),
        ("observed_max", Value::from(f64::from(range.max))),
    ] {
        if found[field] != value {
            let problem = format!("{field} is {} where {value} was sent", found[field]);
            return Err(problem.into());
        }
    }
    let Some(histogram) = found.get("histogram") else {
        return Ok(());
    };
    let mut counts = vec![0; histogram["first"].as_u64().ok_or("no first bin")? as usize];
    for count in histogram["counts"].as_array().ok_or("no counts")? {
        match count.as_i64() {
            Some(empty @ ..0) => counts.resize(counts.len() + empty.unsigned_abs() as usize, 0),
            _ => counts.push(count.as_u64().ok_or("a count that is no number")?),
        }
    }
    counts.resize(BINS, 0);
    match counts
        .iter()
        .copied()
        .eq(all.counts().iter().map(|count| count * rounds))
    {
        true => Ok(()),
        false => Err("the histogram is not that of the samples".into()),
    }
}
