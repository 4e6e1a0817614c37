//! Samples passed through a model, whose activations are observed: `quant calibrate --samples`.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use quant_models::{ActivationOptions, AtomicFile, AtomicFolder, Calibration, CalibrationSettings};
use quant_models::{DirectCalibration, DirectTask, Error, Inputs, Job};
use quant_run::{Model, Samples, Tensor, Watch, write_safetensors};
use quant_simd::Backend;

use super::running::{RunningOptions, SampleOptions, add_samples, at_model, bytes_of};
use crate::terminal::warn;

/// Gives the values of wanted activations to observers.
struct Observing<'a> {
    wanted: &'a HashSet<String>,
    found: &'a mut DirectCalibration,
    /// What each activation was, time after time; `None` where nothing is recorded.
    recorded: Option<BTreeMap<String, Vec<Tensor>>>,
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
        let Some(floats) = value.floats().filter(|_| self.wanted.contains(name)) else {
            return Ok(());
        };
        self.found.observe(name, floats)?;
        if let Some(recorded) = &mut self.recorded {
            let times = recorded.entry(name.to_owned()).or_default();
            times.push(value.clone());
        }
        Ok(())
    }

    fn go_on(&mut self) -> bool {
        !self.job.cancelled.load(Ordering::Relaxed)
    }
}

/// What passing samples through a model takes.
pub struct Passing<'a> {
    pub model: &'a Model,
    pub samples: &'a Samples,
    pub options: &'a SampleOptions,
    pub running: &'a RunningOptions,
    pub settings: CalibrationSettings,
    pub backend: Backend,
    pub output: &'a Path,
    /// A folder for the values that were observed.
    pub record: Option<&'a Path>,
    pub resume: bool,
    pub checkpoint_every: Duration,
}

impl Passing<'_> {
    /// Passes samples through the model and writes the ranges of the activations that quantization
    /// needs.
    pub fn calibrate(&self, job: &Job<'_>) -> Result<Calibration, Error> {
        let path = self.model.path();
        let wanted = quant_models::wanted_activations(path, &ActivationOptions::default())?;
        let wanted = wanted.activations.into_iter();
        let wanted: HashSet<String> = wanted.map(|wanted| wanted.name).collect();
        if wanted.is_empty() {
            let problem = "no activation of it needs a range; there is nothing to quantize";
            return Err(Error::File {
                file: path.to_owned(),
                problem: problem.into(),
            });
        }
        let (inputs, file, record) = self.places(job)?;
        let task = DirectTask {
            model: path,
            options: &self.running.describe(self.options),
            files: self.samples.files(),
        };
        let found = DirectCalibration::new(self.settings, self.backend)?;
        let every = self.checkpoint_every;
        let begin = [self.resume, job.force];
        let mut found = found.with_checkpoints(self.output, &task, every, begin, &inputs)?;
        self.observe(&mut found, &wanted, record.as_ref(), job)?;
        if found.is_empty() {
            let problem = "none of the activations that need a range was computed in any sample";
            return Err(Error::File {
                file: path.to_owned(),
                problem: problem.into(),
            });
        }
        let calibration = found.write(file, job)?;
        if let Some(record) = record {
            record.commit()?;
        }
        Ok(calibration)
    }

    /// Looks at what will be written before any work.
    fn places(&self, job: &Job<'_>) -> Result<(Inputs, AtomicFile, Option<AtomicFolder>), Error> {
        let mut inputs = Inputs::of_model(self.model.path());
        add_samples(self.samples, &mut inputs);
        let file = AtomicFile::create(self.output, "output", job.force, &inputs)?.later();
        warn(file.warnings());
        let Some(path) = self.record else {
            return Ok((inputs, file, None));
        };
        let folder = AtomicFolder::create(path, job.force, &inputs, is_recording)?
            .as_closed_as(self.samples.files());
        // By whatever name or link.
        let mut ranges = Inputs::new();
        ranges.output(self.output);
        if ranges.check(path, "record").is_err() {
            let problem = "--record: the ranges cannot lie in the folder of recordings";
            return Err(Error::Option(problem.into()));
        }
        warn(folder.warnings());
        Ok((inputs, file, Some(folder)))
    }

    fn observe(
        &self,
        found: &mut DirectCalibration,
        wanted: &HashSet<String>,
        record: Option<&AtomicFolder>,
        job: &Job<'_>,
    ) -> Result<(), Error> {
        let (mut first_problem, mut states) = (None, None);
        let first = found.position();
        (0..first).for_each(|index| (job.progress)(bytes_of(self.samples, index)));
        for index in first.. {
            let file = &self.samples.name(index);
            let sample = self.samples.read(index, self.model.inputs());
            let Some(sample) = sample.map_err(|error| at_model(self.model.path(), error))? else {
                break;
            };
            let mut now = self.options.states(self.model, states.take())?;
            let mut watch = Observing {
                wanted,
                recorded: record.map(|_| BTreeMap::new()),
                found,
                non_finite: quant_run::NonFinite::default(),
                job,
            };
            let given = sample.iter();
            let given: Vec<(&str, Tensor)> = given
                .map(|(name, tensor)| (name.as_str(), tensor.clone()))
                .collect();
            let outcome = self.model.run(&given, &mut now, &mut watch);
            let outcome = outcome.map_err(|error| quant_run::Error::at_sample(file, error));
            let (problem, recorded) = (watch.non_finite, watch.recorded);
            match outcome {
                Err(quant_run::Error::Interrupted) => return Err(found.interrupted()),
                outcome => outcome.map_err(|error| at_model(self.model.path(), error))?,
            };
            states = Some(now);
            if let (None, Some(problem)) = (&first_problem, problem.nan.or(problem.infinity)) {
                first_problem = Some(format!("{}: {problem}", file.display()));
            }
            if let (Some(folder), Some(recorded)) = (record, recorded) {
                write_recordings(folder, index, recorded)?;
            }
            found.end_sample()?;
            (job.progress)(bytes_of(self.samples, index));
        }
        warn(first_problem.as_slice());
        Ok(())
    }
}

/// `000001.safetensors`, and `000001_2.safetensors` for what the sample's loops computed the second
/// time.
fn write_recordings(
    folder: &AtomicFolder,
    index: usize,
    mut recorded: BTreeMap<String, Vec<Tensor>>,
) -> Result<(), Error> {
    recorded.values_mut().for_each(|times| times.reverse());
    for time in 1.. {
        let tensors: Vec<(String, Tensor)> = recorded
            .iter_mut()
            .filter_map(|(name, times)| Some((name.clone(), times.pop()?)))
            .collect();
        if tensors.is_empty() && time > 1 {
            break;
        }
        let name = match time {
            1 => format!("{:06}.safetensors", index + 1),
            _ => format!("{:06}_{time}.safetensors", index + 1),
        };
        let bytes = write_safetensors(&tensors).map_err(|error| at_model(name.as_ref(), error))?;
        folder.write(&name, &bytes)?;
    }
    Ok(())
}

/// Whether a file can be one that `--record` has written.
fn is_recording(name: &str) -> bool {
    let stem = name.strip_suffix(".safetensors");
    stem.is_some_and(|stem| {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let (sample, time) = stem.split_once('_').unwrap_or((stem, "2"));
        sample.len() >= 6 && digits(sample) && digits(time)
    })
}
