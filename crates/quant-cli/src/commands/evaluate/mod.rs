//! `quant evaluate`.

mod labels;
mod page;

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::{Args, ValueEnum, ValueHint};
use quant_models::{AtomicFile, Error, Inputs, printable};
use quant_run::{Evaluation, EvaluationOptions, Model, OutputScore, Samples, Score};
use serde_json::{Value, json};

use super::running::{RunningOptions, SampleOptions, add_samples, at_model, bytes_of};
use crate::html;
use crate::options::{ForceOption, JsonOption, QuietOption, ThreadsOption};
use crate::progress::with_progress;
use crate::terminal::{number, print, print_json, shown, warn};

const EXAMPLES: &str = "\
Examples:
  quant evaluate Model.mlpackage Small.mlpackage --samples samples/ --labels labels.csv
  quant evaluate Model.mlpackage Small.mlpackage --samples photos/ --report error.html";

/// How far apart the answers of two Core ML packages are, and where it begins
///
/// Runs the same samples through both: a float model and a quantized one, or two quantized ones. For
/// each output: signal to quantization noise (SQNR), cosine, the greatest difference, and how often both
/// have the same greatest element (top-1), or the first one's among the second one's five greatest
/// (top-5). For each value that both compute, in the order of the program: its SQNR.
///
/// Weights and activations apart: --only weights is the second model with its activations left as they
/// are, beside the first; --only activations is the second model as it is, beside the same with its
/// activations left as they are.
///
/// Samples are npy, npz, safetensors, png or jpeg files, one file each, or `-`, a stream of npz archives,
/// as `quant calibrate --samples` takes them. Labels are classes: an npy array in the order of the
/// samples, or a text file with a line each, of the class, or of a file's name, a comma and the class.
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Evaluate {
    /// The first .mlpackage: what the second is measured by
    #[arg(value_hint = ValueHint::AnyPath)]
    first: PathBuf,
    /// The second .mlpackage
    #[arg(value_hint = ValueHint::AnyPath)]
    second: PathBuf,
    /// Files and folders of samples, or - for a stream of npz archives; repeatable
    #[arg(long, value_name = "PATH", required = true, num_args = 1.., value_hint = ValueHint::AnyPath)]
    samples: Vec<PathBuf>,
    #[command(flatten)]
    sample: SampleOptions,
    /// The class of each sample
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    labels: Option<PathBuf>,
    /// Only the error of quantized weights, or only that of quantized activations
    #[arg(long, value_enum, value_name = "WHAT")]
    only: Option<Only>,
    /// Draw the error along the depth of the model, into a page
    #[arg(long, value_name = "FILE.html", value_hint = ValueHint::FilePath)]
    report: Option<PathBuf>,
    #[command(flatten)]
    force: ForceOption,
    #[command(flatten)]
    running: RunningOptions,
    #[command(flatten)]
    threads: ThreadsOption,
    #[command(flatten)]
    quiet: QuietOption,
    #[command(flatten)]
    json: JsonOption,
}

/// Whose error.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Only {
    /// That of quantized weights
    Weights,
    /// That of quantized activations
    Activations,
}

impl Evaluate {
    pub fn run(&self) -> Result<(), Error> {
        let [first, second] = self.models()?;
        let samples = self.sample.list(&self.samples, &first)?;
        let labels = self.labels.as_deref();
        let limited = self.sample.samples_limit.is_some();
        let labels = labels.map(|path| labels::labels(path, &samples, limited));
        let labels = labels.transpose()?;
        let report = self.report_file(&samples)?;
        let count = samples.count().unwrap_or(0);
        let bytes = (0..count).map(|index| bytes_of(&samples, index));
        let quiet = self.quiet.quiet || self.json.json;
        let threads = self.threads.threads;
        let found = with_progress(threads, quiet, false, bytes.sum(), |job| {
            let go_on = || !job.cancelled.load(Ordering::Relaxed);
            let count = AtomicUsize::new(0);
            let done = || {
                let index = count.fetch_add(1, Ordering::Relaxed);
                (job.progress)(bytes_of(&samples, index));
            };
            let options = EvaluationOptions::default()
                .with_labels(labels.as_deref())
                .with_memory(self.running.memory())
                .with_sequence(self.sample.sequence);
            quant_run::evaluate([&first, &second], &samples, &options, &go_on, &done)
                .map_err(|error| at_model(first.path(), error))
        })?;
        let warnings = self.warnings(&found);
        warn(&warnings);
        if let Some(file) = report {
            let names = [&self.first, &self.second].map(|path| path.to_string_lossy());
            let only = self.only.map(|only| match only {
                Only::Weights => "weights",
                Only::Activations => "activations",
            });
            let page = page::page(&found, [&names[0], &names[1]], only);
            let page = page.map_err(|problem| Error::Option(format!("--report: {problem}")))?;
            file.commit(page.as_bytes())?;
        }
        match self.json.json {
            true => print_json(&document(&found, &warnings)),
            false => print(&summary(&found)),
        }
    }

    /// What makes the figures less than they seem.
    fn warnings(&self, found: &Evaluation) -> Vec<String> {
        let models = match self.only {
            Some(Only::Activations) => [&self.second, &self.second],
            _ => [&self.first, &self.second],
        };
        let places = models.iter().zip(&found.non_finite);
        let mut warnings: Vec<String> = places
            .filter_map(|(model, found)| {
                let place = found.nan.as_ref().or(found.infinity.as_ref())?;
                Some(format!("{}: {place}", shown(model)))
            })
            .collect();
        warnings.dedup();
        if found.dropped > 0 {
            let count = found.dropped;
            warnings.push(format!(
                "{count} values were not compared for want of memory; give more with --memory"
            ));
        }
        warnings
    }

    /// The two models to run.
    fn models(&self) -> Result<[Model; 2], Error> {
        let running = &self.running;
        let [first, second] = [&self.first, &self.second];
        let models = match self.only {
            None => [running.open(first)?, running.open(second)?],
            Some(Only::Weights) => [running.open(first)?, running.open_float(second)?],
            Some(Only::Activations) => [running.open_float(second)?, running.open(second)?],
        };
        if self.only == Some(Only::Activations) && models[1].quantized_activations() == 0 {
            return Err(Error::File {
                file: second.clone(),
                problem: "no activation of it is quantized; --only activations compares nothing"
                    .into(),
            });
        }
        Ok(models)
    }

    /// Where the page goes, looked at before any work.
    fn report_file(&self, samples: &Samples) -> Result<Option<AtomicFile>, Error> {
        let Some(path) = &self.report else {
            return Ok(None);
        };
        let mut inputs = Inputs::of_model(&self.first);
        inputs.model(&self.second);
        add_samples(samples, &mut inputs);
        if let Some(labels) = &self.labels {
            inputs.file(labels, "the labels");
        }
        let file = html::file(path, self.force.force, &inputs)?;
        Ok(Some(file.later()))
    }
}

/// A number for JSON, which knows no infinity.
fn finite(value: f64) -> Value {
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
        "sqnr_db": finite(score.sqnr_db()),
        "cosine": finite(score.cosine()),
        "max_error": finite(score.max_error),
        "exact": score.max_error == 0.0,
    })
}

fn document(found: &Evaluation, warnings: &[String]) -> Value {
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
        "warnings": warnings,
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
        "{}  {}  cosine {:.6}, greatest difference {}",
        printable(&score.name),
        decibels(score).trim(),
        score.cosine(),
        number(score.max_error, 4)
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
