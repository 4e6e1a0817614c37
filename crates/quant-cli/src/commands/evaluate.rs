//! `quant evaluate`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::{Args, ValueHint};
use quant_models::{Error, printable};
use quant_run::{Evaluation, OutputScore, Samples, Score, read_arrays};
use serde_json::{Value, json};

use super::running::{RunningOptions, at_model, bytes_of, list_samples};
use crate::options::{JsonOption, QuietOption, ThreadsOption};
use crate::progress::with_progress;
use crate::terminal::{print, print_json, warn};

/// How far apart the answers of two Core ML packages are, and where it begins
///
/// Runs the same samples through both: a float model and a quantized one, or two quantized ones. For
/// each output: signal to quantization noise (SQNR), cosine, the greatest difference, and how often both
/// have the same greatest element (top-1), or the first one's among the second one's five greatest
/// (top-5). For each value that both compute, in the order of the program: its SQNR.
///
/// Samples are npy, npz or safetensors files, one file each, as `quant calibrate --samples` takes them.
/// Labels are classes: an npy array in the order of the samples, or a text file with a line each, of the
/// class, or of a file's name, a comma and the class.
///
/// Examples:
///
///     quant evaluate Model.mlpackage Small.mlpackage --samples samples/ --labels labels.csv
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Evaluate {
    /// The first .mlpackage: what the second is measured by
    #[arg(value_hint = ValueHint::AnyPath)]
    first: PathBuf,
    /// The second .mlpackage
    #[arg(value_hint = ValueHint::AnyPath)]
    second: PathBuf,
    /// Files and folders of samples; repeatable
    #[arg(long, value_name = "PATH", required = true, num_args = 1.., value_hint = ValueHint::AnyPath)]
    samples: Vec<PathBuf>,
    /// Only the first so many samples
    #[arg(long, value_name = "COUNT", value_hint = ValueHint::Other)]
    samples_limit: Option<usize>,
    /// The class of each sample
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    labels: Option<PathBuf>,
    #[command(flatten)]
    running: RunningOptions,
    #[command(flatten)]
    threads: ThreadsOption,
    #[command(flatten)]
    quiet: QuietOption,
    #[command(flatten)]
    json: JsonOption,
}

impl Evaluate {
    pub fn run(&self) -> Result<(), Error> {
        let models = [
            self.running.open(&self.first)?,
            self.running.open(&self.second)?,
        ];
        let samples = list_samples(&self.samples, self.samples_limit, &self.first)?;
        let labels = self
            .labels
            .as_deref()
            .map(|path| labels(path, &samples))
            .transpose()?;
        let bytes = (0..samples.len())
            .map(|index| bytes_of(&samples, index))
            .sum();
        let quiet = self.quiet.quiet || self.json.json;
        let [first, second] = &models;
        let found = with_progress(self.threads.threads, quiet, false, bytes, |job| {
            let go_on = || !job.cancelled.load(Ordering::Relaxed);
            let count = AtomicUsize::new(0);
            let done = || {
                let index = count.fetch_add(1, Ordering::Relaxed);
                (job.progress)(bytes_of(&samples, index));
            };
            let memory = self.running.memory();
            let labels = labels.as_deref();
            quant_run::evaluate([first, second], &samples, labels, memory, &go_on, &done)
                .map_err(|error| at_model(&self.first, error))
        })?;
        if found.dropped > 0 {
            let count = found.dropped;
            warn(&[format!(
                "{count} values were not compared for want of memory; give more with --memory"
            )]);
        }
        match self.json.json {
            true => print_json(&document(&found)),
            false => print(&summary(&found)),
        }
    }
}

/// Reads the class of each sample.
fn labels(path: &Path, samples: &Samples) -> Result<Vec<i64>, Error> {
    let fail = |problem: String| Error::File {
        file: path.to_owned(),
        problem,
    };
    if path.extension().is_some_and(|end| end == "npy") {
        let arrays = read_arrays(path).map_err(|error| at_model(path, error))?;
        let ints = arrays.first().and_then(|(_, tensor)| tensor.ints());
        let ints = ints.ok_or_else(|| fail("no array of integers".into()))?;
        return Ok(ints.iter().map(|&label| label.into()).collect());
    }
    let text = std::fs::read_to_string(path).map_err(Error::io(path, "read it"))?;
    let (mut in_order, mut by_name) = (Vec::new(), HashMap::new());
    for (i, line) in text.lines().enumerate() {
        let (name, label) = match line.rsplit_once(',') {
            Some((name, label)) => (Some(name.trim()), label.trim()),
            None => (None, line.trim()),
        };
        match (label.parse::<i64>(), name) {
            (Ok(label), Some(name)) => drop(by_name.insert(name.to_owned(), label)),
            (Ok(label), None) => in_order.push(label),
            // The first line may say what stands in the columns.
            (Err(_), _) if i == 0 || label.is_empty() => {}
            (Err(_), _) => return Err(fail(format!("line {}: `{label}` is no class", i + 1))),
        }
    }
    if by_name.is_empty() {
        let (have, want) = (in_order.len(), samples.len());
        return match have >= want {
            true => Ok(in_order),
            false => Err(fail(format!("{have} labels for {want} samples"))),
        };
    }
    let label = |file: &PathBuf| {
        let part = |part: Option<&std::ffi::OsStr>| {
            part.unwrap_or_default().to_string_lossy().into_owned()
        };
        let names = [part(file.file_name()), part(file.file_stem())];
        let found = names.iter().find_map(|name| by_name.get(name));
        found
            .copied()
            .ok_or_else(|| fail(format!("no label for {}", names[0])))
    };
    samples.files().iter().map(label).collect()
}

/// A number for JSON, which knows no infinity.
fn number(value: f64) -> Value {
    match value.is_finite() {
        true => json!(value),
        false => Value::Null,
    }
}

fn score(score: &Score) -> Value {
    json!({
        "name": score.name,
        "operation": score.kind,
        "elements": score.elements,
        "sqnr_db": number(score.sqnr_db()),
        "cosine": number(score.cosine()),
        "max_error": number(score.max_error),
        "exact": score.max_error == 0.0,
    })
}

fn document(found: &Evaluation) -> Value {
    let outputs = found.outputs.iter().map(|output| {
        let mut value = score(&output.score);
        value["top1"] = json!(output.top1);
        value["top5"] = json!(output.top5);
        value["accuracy"] = json!(output.accuracy);
        value
    });
    json!({
        "version": 1,
        "samples": found.samples,
        "outputs": outputs.collect::<Vec<_>>(),
        "intermediates": found.intermediates.iter().map(score).collect::<Vec<_>>(),
        "not_compared": found.dropped,
    })
}

fn decibels(score: &Score) -> String {
    match score.sqnr_db() {
        db if db.is_finite() => format!("{db:6.1} dB"),
        _ if score.max_error == 0.0 => "   exact ".into(),
        _ => "       --".into(),
    }
}

fn output_line(output: &OutputScore) -> String {
    let score = &output.score;
    let mut line = format!(
        "{}  {}  cosine {:.6}, greatest difference {:.4e}",
        printable(&score.name),
        decibels(score).trim(),
        score.cosine(),
        score.max_error
    );
    for (what, share) in [("top-1", output.top1), ("top-5", output.top5)] {
        if let Some(share) = share {
            line += &format!(", {what} {:.2} %", 100.0 * share);
        }
    }
    if let Some([first, second]) = output.accuracy {
        line += &format!(
            ", accuracy {:.2} % and {:.2} %",
            100.0 * first,
            100.0 * second
        );
    }
    line + "\n"
}

fn summary(found: &Evaluation) -> String {
    let mut text = String::new();
    for score in &found.intermediates {
        let (name, kind) = (printable(&score.name), printable(&score.kind));
        text += &format!("{}  {name} ({kind})\n", decibels(score));
    }
    text += &format!("{} samples\n", found.samples);
    found
        .outputs
        .iter()
        .for_each(|output| text += &output_line(output));
    text
}
