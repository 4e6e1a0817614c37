//! `quant calibrate`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueHint};
use indicatif::HumanBytes;
use quant_core::observer::{Averaging, ConfigError, Observer, ObserverConfig};
use quant_models::{Calibrated, Calibration, CalibrationOptions, CalibrationSettings};
use quant_models::{Error, Recordings};
use serde_json::{Map, Value, json};

use crate::options::{
    ActivationScheme, BackendOption, ForceOption, JsonOption, QuietOption, ThreadsOption,
};
use crate::paths::{JSON, check_name};
use crate::progress::with_progress;
use crate::table::{Row, print_table};
use crate::terminal::{count, number, print, print_json, shown, warn};

const EXAMPLES: &str = "\
Examples:
  quant calibrate recorded/ -o ranges.json --observer percentile --percentile 99.99
  python record.py | quant calibrate - --name input -o ranges.json
  quant calibrate Model.mlpackage --samples samples/ -o ranges.json
  python samples.py | quant calibrate Model.mlpackage --samples - -o ranges.json
  quant calibrate --merge a.json b.json -o ranges.json
  quant calibrate Model.mlpackage --samples samples/ --importance -o importance.safetensors";

/// Find the ranges of activations in recordings
///
/// A safetensors file is one sample of each activation that one of its tensors is named for. An npy
/// file is one sample of one activation: NAME.npy of NAME; in a folder below one that is given, such
/// as DATA/NAME/000001.npy, of that folder's NAME. An npz archive is one sample of each activation that
/// one of its arrays is named for; if it holds one array without a name, it is like an npy file. `-`
/// reads npy arrays from a stream, one after the other. Folders are read in the order of names, without
/// what begins with a dot. f16, bf16, f32 and f64 are read; f64 is rounded to f32. NaN and infinities
/// are counted, and left out. Integers and truth values are passed over, and told.
///
/// Data is read once and not kept: some 40 MiB of memory are enough for any amount of it, beside 80
/// bytes for each file and three times the histograms, which may take 512 MiB in all: 8 bytes for each
/// bin of each activation. While files are read, OUTPUT.checkpoint keeps what was
/// found; after a crash or Ctrl-C, the same command with --resume goes on there, and writes the same
/// ranges.
///
/// Which activations of a Core ML package need a range, `quant activations Model.mlpackage --list` shows.
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Calibrate {
    /// Files and folders of recordings; - is a stream of npy arrays
    #[arg(required = true, value_hint = ValueHint::AnyPath)]
    data: Vec<PathBuf>,
    /// The result, a .json file; with --importance a .safetensors file
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    output: PathBuf,
    /// DATA is a Core ML package: pass these samples through it, and observe what quantization needs
    /// ranges of; files and folders of npy, npz, safetensors, png and jpeg, one file per sample; - is
    /// a stream of npz archives, one per sample; repeatable
    #[cfg(feature = "run")]
    #[arg(long, value_name = "PATH", num_args = 1.., value_hint = ValueHint::AnyPath)]
    samples: Vec<PathBuf>,
    /// Find how large the inputs of weights are, in place of ranges: OUTPUT is a .safetensors file for
    /// `quant quantize --search mse --importance`; DATA a package with --samples; files of arrays
    /// (safetensors, npz) named as the weights are, with the inputs along their last axis; or with
    /// --merge such files
    #[cfg(feature = "run")]
    #[arg(long)]
    importance: bool,
    /// Write what was observed into a new folder of recordings: FOLDER/000001.safetensors and so on
    #[cfg(feature = "run")]
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    record: Option<PathBuf>,
    #[cfg(feature = "run")]
    #[command(flatten)]
    sample: super::running::SampleOptions,
    #[cfg(feature = "run")]
    #[command(flatten)]
    running: super::running::RunningOptions,
    /// DATA are results, to be made into one: that of all their recordings
    #[arg(long)]
    merge: bool,
    /// How ranges are found
    #[arg(long, value_parser = observer(), default_value = "min-max")]
    observer: ObserverConfig,
    /// Bins of a histogram, a power of two [default: 2048]
    #[arg(long, value_hint = ValueHint::Other)]
    bins: Option<usize>,
    /// Percent of the values that percentile keeps [default: 99.999]
    #[arg(long, allow_negative_numbers = true, value_hint = ValueHint::Other)]
    percentile: Option<f64>,
    /// How averages move: constant=C, as torch does it, or ratio=R [default: constant=0.01]
    #[arg(long, value_parser = averaging, value_hint = ValueHint::Other)]
    averaging: Option<Averaging>,
    #[command(flatten)]
    scheme: ActivationScheme,
    /// The activation of every npy file, and of a stream
    #[arg(long, value_hint = ValueHint::Other)]
    name: Option<String>,
    #[command(flatten)]
    backend: BackendOption,
    #[command(flatten)]
    threads: ThreadsOption,
    /// Go on from OUTPUT.checkpoint, if there is one
    #[arg(long)]
    resume: bool,
    /// Seconds from one checkpoint to the next
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_hint = ValueHint::Other)]
    checkpoint: u64,
    #[command(flatten)]
    force: ForceOption,
    #[command(flatten)]
    quiet: QuietOption,
    #[command(flatten)]
    json: JsonOption,
}

/// How ranges are found, with the usual settings.
fn observer() -> impl TypedValueParser<Value = ObserverConfig> {
    let value = |config: ObserverConfig| {
        PossibleValue::new(config.name()).help(match config {
            ObserverConfig::MinMax => "All values",
            ObserverConfig::MovingAverage { .. } => {
                "Averages of the smallest and largest value of each sample, in order"
            }
            ObserverConfig::Percentile { .. } => "All but the outermost values",
            ObserverConfig::Entropy { .. } => {
                "The least Kullback-Leibler divergence, as TensorRT finds it"
            }
            ObserverConfig::Mse { .. } => "The least mean squared error",
            _ => "",
        })
    };
    PossibleValuesParser::new(ObserverConfig::ALL.map(value))
        .try_map(|name| ObserverConfig::from_name(&name).ok_or("no observer"))
}

fn averaging(text: &str) -> Result<Averaging, String> {
    let (kind, number) = text.split_once('=').unwrap_or((text, ""));
    let number = number
        .parse()
        .map_err(|_| "give constant=C or ratio=R, such as constant=0.01".to_string())?;
    match kind {
        "constant" => Ok(Averaging::Constant(number)),
        "ratio" => Ok(Averaging::Ratio(number)),
        _ => Err("give constant=C or ratio=R".into()),
    }
}

/// The option that an observer cannot be made of.
fn option_of(error: ConfigError) -> &'static str {
    match error {
        ConfigError::Bins => "--bins",
        ConfigError::Percentile => "--percentile",
        ConfigError::Averaging => "--averaging",
        _ => "--observer",
    }
}

impl Calibrate {
    fn observer(&self) -> Result<ObserverConfig, Error> {
        let mut config = self.observer;
        if let Some(bins) = self.bins {
            config = config.with_bins(bins);
        }
        if let Some(percentile) = self.percentile {
            config = config.with_percentile(percentile);
        }
        if let Some(averaging) = self.averaging {
            config = config.with_averaging(averaging);
        }
        match Observer::new(config) {
            Ok(_) => Ok(config),
            Err(error) => Err(Error::Option(format!("{}: {error}", option_of(error)))),
        }
    }

    pub fn run(&self) -> Result<(), Error> {
        let start = Instant::now();
        let (threads, force) = (self.threads.threads, self.force.force);
        let quiet = self.quiet.quiet || self.json.json;
        let output = &self.output;
        #[cfg(feature = "run")]
        if self.importance {
            return self.run_importance(start);
        }
        let (calibration, bytes) = if self.merge {
            if !self.data.contains(output) {
                check_name(JSON, output)?;
            }
            let merged = with_progress(threads, true, force, 0, |job| {
                quant_models::merge_calibrations(&self.data, output, job)
            })?;
            (merged, 0)
        } else {
            let scheme = self.scheme.scheme();
            let settings = CalibrationSettings::new(self.observer()?, scheme.dtype, scheme.mode);
            let options = CalibrationOptions::new(settings)
                .with_backend(self.backend.find()?)
                .with_activation(self.name.clone())
                .with_resume(self.resume)
                .with_checkpoint_every(Duration::from_secs(self.checkpoint));
            let stream = Path::new("-");
            #[cfg(feature = "run")]
            if let Some(found) = self.run_samples(&options, quiet)? {
                return self.report(&found.0, start, found.1);
            }
            if self.data == [stream] {
                check_name(JSON, output)?;
                let found = with_progress(threads, quiet, force, 0, |job| {
                    quant_models::calibrate_stream(std::io::stdin(), output, &options, job)
                })?;
                (found, 0)
            } else if self.data.iter().any(|path| path == stream) {
                let problem = "`-` reads a stream alone, not beside files";
                return Err(Error::Option(problem.into()));
            } else {
                let name = options.activation.as_deref();
                let recordings = Recordings::list(&self.data, name, output)?;
                check_name(JSON, output)?;
                let bytes = recordings.bytes();
                let found = with_progress(threads, quiet, force, bytes, |job| {
                    quant_models::calibrate(&recordings, output, &options, job)
                })?;
                // After --resume they are not those of this run.
                (found, if self.resume { 0 } else { bytes })
            }
        };
        self.report(&calibration, start, bytes)
    }

    /// How large the inputs of weights are.
    #[cfg(feature = "run")]
    fn run_importance(&self, start: Instant) -> Result<(), Error> {
        let finding = super::importance::Finding {
            data: &self.data,
            samples: &self.samples,
            options: &self.sample,
            running: &self.running,
            merge: self.merge,
            name: self.name.as_deref(),
            output: &self.output,
        };
        let quiet = self.quiet.quiet || self.json.json;
        let sums = finding.run(self.threads.threads, quiet, self.force.force)?;
        if self.json.json {
            let inputs = sums.means();
            let inputs: Map<String, Value> = inputs
                .iter()
                .map(|(name, means)| (name.clone(), json!({ "inputs": means.len() })))
                .collect();
            return print_json(&json!({
                "version": 1,
                "output": self.output.to_string_lossy(),
                "seconds": start.elapsed().as_secs_f64(),
                "weights": inputs,
            }));
        }
        match self.quiet.quiet {
            true => Ok(()),
            false => print(&format!(
                "importance of the inputs of {} in {:.2} s\n{}\n",
                count(sums.len(), "weight"),
                start.elapsed().as_secs_f64(),
                shown(&self.output)
            )),
        }
    }

    /// The ranges that samples have in a model, and the bytes of their files; `None` without samples.
    #[cfg(feature = "run")]
    fn run_samples(
        &self,
        options: &CalibrationOptions,
        quiet: bool,
    ) -> Result<Option<(Calibration, u64)>, Error> {
        use super::{observing::Passing, running::bytes_of};
        let model_path = match (self.samples.is_empty(), self.data.as_slice()) {
            (true, [path, ..]) if quant_models::has_activations(path) => {
                return Err(Error::File {
                    file: path.clone(),
                    problem: "a model and no recording; give --samples to pass through it".into(),
                });
            }
            (true, _) => return Ok(None),
            (false, [path]) => path,
            (false, _) => {
                let problem = "--samples: give one Core ML package to pass them through";
                return Err(Error::Option(problem.into()));
            }
        };
        let model = self.running.open(model_path)?;
        let samples = self.sample.list(&self.samples, &model)?;
        check_name(JSON, &self.output)?;
        let bytes = (0..samples.count().unwrap_or(0))
            .map(|index| bytes_of(&samples, index))
            .sum();
        let passing = Passing {
            model: &model,
            samples: &samples,
            options: &self.sample,
            running: &self.running,
            settings: options.settings,
            backend: options.backend,
            output: &self.output,
            record: self.record.as_deref(),
            resume: self.resume,
            checkpoint_every: options.checkpoint_every,
        };
        let (threads, force) = (self.threads.threads, self.force.force);
        let found = with_progress(threads, quiet, force, bytes, |job| passing.calibrate(job))?;
        // After --resume they are not those of this run.
        let bytes = if self.resume { 0 } else { bytes };
        Ok(Some((found, bytes)))
    }

    fn report(&self, calibration: &Calibration, start: Instant, bytes: u64) -> Result<(), Error> {
        let output = &self.output;
        let seconds = start.elapsed().as_secs_f64();
        let warnings = calibration.warnings();
        warn(&warnings);
        if self.json.json {
            let activations: Map<String, Value> = calibration
                .activations
                .iter()
                .map(|(name, found)| (name.clone(), value(found)))
                .collect();
            return print_json(&json!({
                "version": 1,
                "output": output.to_string_lossy(),
                "seconds": seconds,
                "warnings": warnings,
                "activations": activations,
            }));
        }
        if self.quiet.quiet {
            return Ok(());
        }
        print_summary(calibration, output, seconds, bytes)
    }
}

fn value(found: &Calibrated) -> Value {
    let params = found.params.as_ref().ok();
    json!({
        "min": found.range.map(|range| range.min),
        "max": found.range.map(|range| range.max),
        "observed_min": found.observed.map(|range| range.min),
        "observed_max": found.observed.map(|range| range.max),
        "samples": found.samples,
        "elements": found.elements,
        "non_finite": found.non_finite,
        "scale": params.map(|(scale, _)| scale),
        "zero_point": params.map(|(_, zero_point)| zero_point),
        "clipped": found.clipped(),
    })
}

fn print_summary(
    calibration: &Calibration,
    output: &Path,
    seconds: f64,
    bytes: u64,
) -> Result<(), Error> {
    let activations = &calibration.activations;
    print_table(1, || {
        activations.iter().map(|(name, found)| row(name, found))
    })?;
    let elements: u64 = activations.values().map(|found| found.elements).sum();
    let rate = match bytes {
        0 => String::new(),
        _ => format!(", {}/s", HumanBytes((bytes as f64 / seconds) as u64)),
    };
    print(&format!(
        "{}: {}, {} in {seconds:.2} s{rate}\n{}\n",
        calibration.settings.describe(),
        count(activations.len(), "activation"),
        count(elements as usize, "value"),
        shown(output)
    ))
}

fn row(name: &str, found: &Calibrated) -> Row {
    let bound = |x: f32| number(x.into(), 4);
    let mut text = match (found.range, found.observed) {
        (Some(range), Some(observed)) => {
            let (min, max) = (bound(range.min), bound(range.max));
            match range == observed {
                true => format!("{min} to {max}"),
                false => {
                    let (low, high) = (bound(observed.min), bound(observed.max));
                    format!("{min} to {max} of {low} to {high}")
                }
            }
        }
        _ => "no finite value".into(),
    };
    if let Some(clipped) = found.clipped() {
        text += &format!(", {} % clipped", number(100.0 * clipped, 3));
    }
    let samples = count(found.samples as usize, "sample");
    Row::new(name, [], format!("{text}  {samples}"))
}
