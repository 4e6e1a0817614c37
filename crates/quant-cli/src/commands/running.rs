//! What commands that run models share.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use clap::{Args, ValueHint};
use quant_models::{ActivationOptions, AtomicFile, Calibration, CalibrationSettings};
use quant_models::{DirectCalibration, Error, Inputs, Job};
use quant_run::{Model, RunOptions, Samples, Tensor, Watch};
use quant_simd::Backend;

use crate::terminal::warn;

/// How a model runs.
#[derive(Args)]
pub struct RunningOptions {
    /// The function to run [default: the model's]
    #[arg(long, value_name = "NAME", value_hint = ValueHint::Other)]
    function: Option<String>,
    /// Round every float16 value to float16; without it, such models run in float32
    #[arg(long)]
    round_f16: bool,
    /// Memory for the values of a run, such as 512M or 8G [default: what the machine has]
    #[arg(long, value_name = "SIZE", value_hint = ValueHint::Other, value_parser = size)]
    memory: Option<usize>,
    /// How often the loops of a model may go round in a run
    #[arg(long, value_name = "COUNT", value_hint = ValueHint::Other, default_value_t = 100_000)]
    max_iterations: u64,
}

fn size(text: &str) -> Result<usize, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "B" => 0,
        "K" | "KiB" => 10,
        "M" | "MiB" => 20,
        "G" | "GiB" => 30,
        _ => return Err("give a number with K, M or G, such as 512M".into()),
    };
    let number: usize = digits.parse().map_err(|_| "give a number, such as 512M")?;
    let bytes = number.checked_mul(1 << unit).filter(|&bytes| bytes > 0);
    bytes.ok_or_else(|| "out of range".into())
}

/// The memory of this machine, where it says so.
fn machine_memory() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

impl RunningOptions {
    /// Bytes that the values of a run may take.
    pub fn memory(&self) -> usize {
        let default = || machine_memory().unwrap_or(RunOptions::default().memory);
        self.memory.unwrap_or_else(default)
    }

    /// Reads a package and makes it ready.
    pub fn open(&self, path: &Path) -> Result<Model, Error> {
        let mut options = RunOptions::default();
        options.function.clone_from(&self.function);
        options.round_f16 = self.round_f16;
        options.memory = self.memory();
        options.max_iterations = self.max_iterations;
        Model::open(path, options).map_err(|error| at_model(path, error))
    }
}

/// An error that is about a file of samples, or else about the model.
pub fn at_model(model: &Path, error: quant_run::Error) -> Error {
    match error {
        quant_run::Error::Model(error) => error,
        quant_run::Error::Interrupted => Error::Interrupted,
        quant_run::Error::Sample { file, problem } => Error::File { file, problem },
        error => Error::File {
            file: model.to_owned(),
            problem: error.to_string(),
        },
    }
}

/// Lists samples, and says what is left out.
pub fn list_samples(
    paths: &[PathBuf],
    limit: Option<usize>,
    model: &Path,
) -> Result<Samples, Error> {
    let mut samples = Samples::list(paths).map_err(|error| at_model(model, error))?;
    if let Some(limit) = limit {
        samples.truncate(limit);
    }
    let ignored = samples.ignored();
    if let Some(first) = ignored.first() {
        let count = ignored.len();
        warn(&[format!(
            "{count} of the files are no samples and were left out, the first is {}",
            first.display()
        )]);
    }
    Ok(samples)
}

/// Bytes of a sample's file, for a progress bar.
pub fn bytes_of(samples: &Samples, index: usize) -> u64 {
    std::fs::metadata(&samples.files()[index]).map_or(0, |file| file.len())
}

/// Gives the values of wanted activations to observers.
struct Observing<'a> {
    wanted: &'a HashSet<String>,
    found: &'a mut DirectCalibration,
    non_finite: quant_run::NonFinite,
    job: &'a Job<'a>,
}

impl Watch for Observing<'_> {
    fn value(
        &mut self,
        kind: &str,
        operation: &str,
        name: &str,
        value: &Tensor,
    ) -> Result<(), quant_run::Error> {
        self.non_finite.value(kind, operation, name, value)?;
        if let (true, Some(floats)) = (self.wanted.contains(name), value.floats()) {
            self.found.observe(name, floats)?;
        }
        Ok(())
    }

    fn go_on(&mut self) -> bool {
        !self.job.cancelled.load(Ordering::Relaxed)
    }
}

/// Passes samples through a model and writes the ranges of the activations that quantization wants.
pub fn calibrate(
    path: &Path,
    model: &Model,
    samples: &Samples,
    output: &Path,
    settings: CalibrationSettings,
    backend: Backend,
    job: &Job<'_>,
) -> Result<Calibration, Error> {
    let wanted = quant_models::wanted_activations(path, &ActivationOptions::default())?;
    let wanted: HashSet<String> = wanted.into_iter().map(|wanted| wanted.name).collect();
    if wanted.is_empty() {
        let problem = "no activation of it wants a range; there is nothing to quantize";
        return Err(Error::File {
            file: path.to_owned(),
            problem: problem.into(),
        });
    }
    let mut inputs = Inputs::of_model(path);
    samples
        .files()
        .iter()
        .for_each(|file| inputs.file(file, "a sample"));
    let file = AtomicFile::create(output, "output", job.force, &inputs)?;
    warn(file.warnings());
    let mut found = DirectCalibration::new(settings, backend)?;
    let mut first_nan = None;
    for index in 0..samples.len() {
        let sample = samples.read(index, model.inputs());
        let sample = sample.map_err(|error| at_model(path, error))?;
        let given: Vec<(&str, Tensor)> = (sample.iter())
            .map(|(name, tensor)| (name.as_str(), tensor.clone()))
            .collect();
        let mut watch = Observing {
            wanted: &wanted,
            found: &mut found,
            non_finite: quant_run::NonFinite::default(),
            job,
        };
        let outcome = model
            .states()
            .and_then(|mut states| model.run(&given, &mut states, &mut watch));
        let file = &samples.files()[index];
        let place = |error| at_model(path, quant_run::Error::at_sample(file, error));
        outcome.map_err(place)?;
        let problem = watch.non_finite.nan.or(watch.non_finite.infinity);
        if let (None, Some(problem)) = (&first_nan, problem) {
            first_nan = Some(format!("{}: {problem}", file.display()));
        }
        (job.progress)(bytes_of(samples, index));
    }
    warn(first_nan.as_slice());
    found.write(file, job)
}
