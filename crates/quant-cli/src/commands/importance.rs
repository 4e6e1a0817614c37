//! How large the inputs of weights are: `quant calibrate --importance`.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use quant_models::{
    AtomicFile, Error, ImportanceSums, Inputs, Job, ResultKind, has_activations, result_kind,
};
use quant_run::{Samples, Tensor, Watch, WeightInput, read_arrays};

use super::running::{RunningOptions, SampleOptions, at_model, bytes_of, warn_of_ignored};
use crate::paths::check_name;
use crate::progress::with_progress;
use crate::terminal::{count, warn};

/// What the result is in.
const IMPORTANCE: ResultKind = ResultKind::file("a safetensors file", "safetensors");

/// What is looked at, and where the result goes.
pub struct Finding<'a> {
    pub data: &'a [PathBuf],
    /// What passes through the model that `data` is then.
    pub samples: &'a [PathBuf],
    pub options: &'a SampleOptions,
    pub running: &'a RunningOptions,
    /// Whether `data` are results.
    pub merge: bool,
    /// The weight whose inputs npy files hold.
    pub name: Option<&'a str>,
    pub output: &'a Path,
}

struct Adding<'a> {
    sums: &'a mut ImportanceSums,
    /// The weights that a model of several functions names by theirs.
    names: &'a HashSet<String>,
    function: &'a str,
    job: &'a Job<'a>,
}

impl Watch for Adding<'_> {
    fn value(&mut self, _: &str, _: &str, _: &str, _: &Tensor) -> Result<(), quant_run::Error> {
        Ok(())
    }

    fn wants_weight_inputs(&self) -> bool {
        true
    }

    fn weight_input(&mut self, input: WeightInput<'_>) -> Result<(), String> {
        let WeightInput {
            weight,
            values,
            channels,
            inner,
        } = input;
        if let Some(bad) = values.iter().find(|value| !value.is_finite()) {
            return Err(format!("an input of `{weight}` is {bad}"));
        }
        let qualified = format!("{}/{weight}", self.function);
        let name = self.names.get(&qualified).map_or(weight, String::as_str);
        let added = self.sums.add(name, values, channels, inner);
        added.map_err(|problem| format!("the inputs of `{weight}`: {problem}"))
    }

    fn go_on(&mut self) -> bool {
        !self.job.cancelled.load(Ordering::Relaxed)
    }
}

impl Finding<'_> {
    pub fn run(&self, threads: u16, quiet: bool, force: bool) -> Result<ImportanceSums, Error> {
        check_name(IMPORTANCE, self.output)?;
        let stream = Path::new("-");
        if self.samples.is_empty() && self.data.iter().any(|path| path == stream) {
            let problem =
                "--importance reads no stream of arrays; give files, or a package with --samples";
            return Err(Error::Option(problem.into()));
        }
        with_progress(threads, quiet, force, 0, |job| {
            let mut inputs = match self.samples.is_empty() {
                true => Inputs::new(),
                false => Inputs::of_model(&self.data[0]),
            };
            let given = self.data.iter().chain(self.samples);
            given.for_each(|path| inputs.folder(path, "what is read"));
            let file = AtomicFile::create(self.output, "output", job.force, &inputs)?;
            warn(file.warnings());
            let sums = match (self.merge, self.samples.is_empty()) {
                (true, _) => self.merged()?,
                (false, true) => self.recorded(job)?,
                (false, false) => self.passed(job)?,
            };
            if sums.is_empty() {
                let problem = "no weight of a linear, matmul or convolution had an input";
                return Err(Error::File {
                    file: self.data[0].clone(),
                    problem: problem.into(),
                });
            }
            file.commit(&sums.to_safetensors())?;
            Ok(sums)
        })
    }

    fn merged(&self) -> Result<ImportanceSums, Error> {
        let mut sums = ImportanceSums::default();
        for path in self.data {
            let added = sums.merge(&ImportanceSums::open(path)?);
            added.map_err(|problem| Error::File {
                file: path.clone(),
                problem,
            })?;
        }
        Ok(sums)
    }

    /// Arrays whose names are those of the weights.
    fn recorded(&self, job: &Job<'_>) -> Result<ImportanceSums, Error> {
        let first = &self.data[0];
        let problem = match has_activations(first) {
            true => Some("a model and no recording; give --samples to pass through it"),
            false if result_kind(first).is_tensors => None,
            false => Some("a model and no recording; of models only Core ML packages are run"),
        };
        if let Some(problem) = problem {
            return Err(Error::file(first, problem));
        }
        let at = |error| at_model(first, error);
        let files = Samples::list(self.data).map_err(at)?;
        warn_of_ignored(&files);
        let (mut sums, mut others) = (ImportanceSums::default(), Vec::new());
        for path in files.files() {
            job.check()?;
            let bad = |problem: String| Error::File {
                file: path.clone(),
                problem,
            };
            let stem = path.file_stem().map(|stem| stem.to_string_lossy());
            for (name, tensor) in read_arrays(path).map_err(at)? {
                let name = name.as_deref().or(self.name).or(stem.as_deref());
                let name = name.unwrap_or_default();
                let (Some(values), Some(&channels)) = (tensor.floats(), tensor.shape().last())
                else {
                    others.push(name.to_owned());
                    continue;
                };
                if let Some(value) = values.iter().find(|value| !value.is_finite()) {
                    return Err(bad(format!("`{name}` holds {value}")));
                }
                let added = sums.add(name, values, channels, 1);
                added.map_err(|problem| bad(format!("`{name}`: {problem}")))?;
            }
        }
        if let Some(first) = others.first() {
            let arrays = count(others.len(), "array");
            warn(&[format!(
                "{arrays} passed over, which hold no rows of floats, the first is `{first}`"
            )]);
        }
        Ok(sums)
    }

    /// What samples become on their way through a model.
    fn passed(&self, job: &Job<'_>) -> Result<ImportanceSums, Error> {
        let [path] = self.data else {
            let problem = "--samples: give one Core ML package to pass them through";
            return Err(Error::Option(problem.into()));
        };
        let model = self.running.open(path)?;
        let samples = self.options.list(self.samples, &model)?;
        let tensors = quant_models::inspect(path, false)?.tensors.into_iter();
        let names = tensors.map(|tensor| tensor.name).collect();
        let mut sums = ImportanceSums::default();
        let mut states = None;
        for index in 0.. {
            let sample = samples.read(index, model.inputs());
            let Some(sample) = sample.map_err(|error| at_model(path, error))? else {
                break;
            };
            let given = sample.iter();
            let given: Vec<(&str, Tensor)> = given
                .map(|(name, tensor)| (name.as_str(), tensor.clone()))
                .collect();
            let mut now = self.options.states(&model, states.take())?;
            let mut watch = Adding {
                sums: &mut sums,
                names: &names,
                function: model.function(),
                job,
            };
            let outcome = model.run(&given, &mut now, &mut watch);
            outcome.map_err(|error| {
                let error = quant_run::Error::at_sample(&samples.name(index), error);
                at_model(path, error)
            })?;
            states = Some(now);
            (job.progress)(bytes_of(&samples, index));
        }
        Ok(sums)
    }
}
