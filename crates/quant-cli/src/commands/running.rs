//! What commands that run models share.

use std::io::BufReader;
use std::path::{Path, PathBuf};

use clap::builder::TypedValueParser;
use clap::{Args, ValueHint};
use quant_models::{Error, Inputs};
use quant_run::{ImageFit, Model, RunOptions, Samples, States};

use crate::choices::offered;
use crate::mixed::at_least_one;
use crate::progress::Input;
use crate::terminal::{count, shown, warn};

/// How a model runs.
#[derive(Args)]
pub struct RunningOptions {
    /// The function to run [default: the model's]
    #[arg(long, value_name = "NAME", value_hint = ValueHint::Other)]
    function: Option<String>,
    /// Round every float16 value to float16; without it, such models run in float32
    #[arg(long)]
    round_f16: bool,
    /// Memory for weights and values of a run, such as 512M or 8G [default: what is free]
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

/// The samples that a model is measured with.
#[derive(Args)]
pub struct MeasuringOptions {
    /// Files and folders of samples, as `quant evaluate` takes them; repeatable
    #[arg(long, value_name = "PATH", num_args = 1.., value_hint = ValueHint::AnyPath)]
    pub samples: Vec<PathBuf>,
    /// Only the first so many samples
    #[arg(long, value_name = "COUNT", value_parser = at_least_one, value_hint = ValueHint::Other)]
    samples_limit: Option<usize>,
    /// What happens to images of another size than the model's
    #[arg(long, value_parser = image_fit(), value_name = "HOW", default_value = "crop")]
    image_fit: ImageFit,
    /// Memory for weights and values, such as 512M or 8G [default: what is free]
    #[arg(long, value_name = "SIZE", value_hint = ValueHint::Other, value_parser = size)]
    memory: Option<usize>,
}

/// Adds samples, and the folders that hold them, to what no output may be.
pub fn add_samples(samples: &Samples, inputs: &mut Inputs) {
    let files = samples.files().iter();
    files.for_each(|path| inputs.file(path, "a sample"));
    let folders = samples.folders().iter();
    folders.for_each(|path| inputs.file(path, "the samples"));
}

impl MeasuringOptions {
    /// Adds the samples to what no output may be.
    pub fn add_inputs(&self, inputs: &mut Inputs) {
        let samples = self.samples.iter();
        samples.for_each(|path| inputs.folder(path, "the samples"));
    }

    /// The model at `path`, ready to run, and its samples.
    pub fn open(&self, path: &Path) -> Result<(Model, Samples), Error> {
        let running = RunningOptions {
            function: None,
            round_f16: false,
            memory: self.memory,
            max_iterations: 100_000,
        };
        let model = running.open(path)?;
        let samples = SampleOptions {
            samples_limit: self.samples_limit,
            image_fit: self.image_fit,
            sequence: false,
        };
        let samples = samples.list(&self.samples, &model)?;
        Ok((model, samples))
    }
}

/// The memory that is free for this process, but for an eighth; some, where the system does not say.
pub fn free_memory() -> usize {
    let free = [available_memory(), group_memory()].into_iter().flatten();
    let free = free.min().map(|bytes| bytes / 8 * 7);
    free.unwrap_or(RunOptions::default().memory)
}

/// What Linux can give without swapping.
fn available_memory() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// What is left to the control group, such as that of a container.
fn group_memory() -> Option<usize> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let root = Path::new("/sys/fs/cgroup");
    let left = |folder: &Path| -> Option<usize> {
        let number = |name| {
            let text = std::fs::read_to_string(folder.join(name)).ok()?;
            text.trim().parse::<usize>().ok()
        };
        // Without a limit it says `max`.
        Some(number("memory.max")?.saturating_sub(number("memory.current")?))
    };
    let own = root.join(own);
    let groups = own.ancestors().take_while(|it| it.starts_with(root));
    groups.filter_map(left).min()
}

impl RunningOptions {
    /// How a model runs, as far as it decides what comes out, in words.
    pub fn describe(&self, samples: &SampleOptions) -> String {
        let function = self.function.as_ref();
        let parts = [
            function.map(|name| format!("function {name}")),
            self.round_f16.then(|| "float16 rounded".into()),
            samples.sequence.then(|| "one sequence".into()),
            match samples.image_fit {
                ImageFit::Crop => None,
                ImageFit::Stretch => Some("images stretched".into()),
                ImageFit::Exact => Some("images of the exact size".into()),
            },
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        parts.join(", ")
    }

    /// Bytes that the values of a run may take.
    pub fn memory(&self) -> usize {
        self.memory.unwrap_or_else(free_memory)
    }

    /// Reads a package and makes it ready.
    pub fn open(&self, path: &Path) -> Result<Model, Error> {
        self.opened(path, |_| {})
    }

    /// The same, for one pass.
    pub fn open_once(&self, path: &Path) -> Result<Model, Error> {
        self.opened(path, |options| options.single_pass = true)
    }

    /// The same, with its activations left as they are where it quantizes them.
    pub fn open_float(&self, path: &Path) -> Result<Model, Error> {
        self.opened(path, |options| options.float_activations = true)
    }

    fn opened(&self, path: &Path, more: impl Fn(&mut RunOptions)) -> Result<Model, Error> {
        let mut options = RunOptions::default();
        options.function.clone_from(&self.function);
        options.round_f16 = self.round_f16;
        options.memory = self.memory();
        options.max_iterations = self.max_iterations;
        more(&mut options);
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

/// What happens to an image of another size than the model's.
pub fn image_fit() -> impl TypedValueParser<Value = ImageFit> {
    offered(|fit| match fit {
        ImageFit::Crop => {
            Some("Scale it until it covers the model's size, and cut off what is beyond")
        }
        ImageFit::Stretch => Some("Scale it to the model's size, whatever its proportions"),
        ImageFit::Exact => Some("It is an error"),
    })
}

/// Which samples, and how they are passed through a model.
#[derive(Args)]
pub struct SampleOptions {
    /// Only the first so many samples
    #[arg(long, value_name = "COUNT", value_parser = at_least_one, value_hint = ValueHint::Other)]
    pub samples_limit: Option<usize>,
    /// What happens to images of another size than the model's
    #[arg(long, value_parser = image_fit(), value_name = "HOW", default_value = "crop")]
    image_fit: ImageFit,
    /// The samples are one sequence: states go from each to the next, instead of beginning as zeros
    #[arg(long)]
    pub sequence: bool,
}

/// Says which files are left out.
pub fn warn_of_ignored(samples: &Samples) {
    let ignored = samples.ignored();
    if let Some(first) = ignored.first() {
        warn(&[format!(
            "{} left out that are no samples, the first is {}",
            count(ignored.len(), "file"),
            shown(first)
        )]);
    }
}

impl SampleOptions {
    /// Lists samples, and says what is left out and what is scaled.
    pub fn list(&self, paths: &[PathBuf], model: &Model) -> Result<Samples, Error> {
        let at = |error| at_model(model.path(), error);
        let stream = Path::new("-");
        let mut samples = match paths {
            [only] if only == stream => Samples::stream(BufReader::new(Input::new())),
            paths if paths.iter().any(|path| path == stream) => {
                let problem = "--samples: `-` reads a stream alone, not beside files";
                return Err(Error::Option(problem.into()));
            }
            paths => Samples::list(paths).map_err(at)?,
        };
        samples = samples.with_image_fit(self.image_fit);
        if let Some(limit) = self.samples_limit {
            samples.truncate(limit);
        }
        warn_of_ignored(&samples);
        let (images, scaled) = samples.images(model.inputs()).map_err(at)?;
        let how = match self.image_fit {
            ImageFit::Crop => "scaled, and cut where the proportions differ (--image-fit)",
            ImageFit::Stretch => "stretched",
            // Reading the first of them ends the run.
            ImageFit::Exact => return Ok(samples),
        };
        if scaled > 0 {
            let images = count(images, "image");
            warn(&[format!(
                "{scaled} of {images} have another size than the model's and are {how}"
            )]);
        }
        Ok(samples)
    }

    /// The states of the next sample: those that the one before has left, if it is one sequence.
    pub fn states(&self, model: &Model, before: Option<States>) -> Result<States, Error> {
        match before {
            Some(before) if self.sequence => Ok(before),
            _ => model
                .states()
                .map_err(|error| at_model(model.path(), error)),
        }
    }
}

/// Bytes of a sample's file, for a progress bar.
pub fn bytes_of(samples: &Samples, index: usize) -> u64 {
    let file = samples.files().get(index);
    file.and_then(|file| std::fs::metadata(file).ok())
        .map_or(0, |file| file.len())
}
