//! The ranges of activations, found in recordings of any size, in bounded memory.

#![forbid(unsafe_code)]

mod checkpoint;
mod data;
mod direct;
mod document;
mod memory;
mod npy;
mod npz;
mod observing;
mod recording;
mod settings;
mod stream;
mod values;
mod windows;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use quant_core::observer::{MergeError, Observer};
use quant_model::error::shortened;
use quant_model::{AtomicFile, Error, Inputs, Job};
use quant_simd::Backend;

pub use data::Recordings;
pub use direct::{DirectCalibration, DirectTask};
pub use document::{Calibrated, Calibration};
pub use settings::CalibrationSettings;

use checkpoint::{Checkpoint, Task};
use memory::Memory;
use observing::Observers;
use stream::{Stream, Window};
use windows::Windows;

/// How recordings are observed.
///
/// ```
/// use quant_calibration::{CalibrationOptions, CalibrationSettings};
/// use quant_core::{IntType, Mode, observer::ObserverConfig};
///
/// let settings = CalibrationSettings::new(ObserverConfig::MinMax, IntType::Int8, Mode::Symmetric);
/// let options = CalibrationOptions::new(settings).with_resume(true);
/// assert!(options.resume && options.activation.is_none());
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CalibrationOptions {
    /// What is written into the document.
    pub settings: CalibrationSettings,
    /// Which kernels.
    pub backend: Backend,
    /// The activation of every npy file, and of a stream.
    pub activation: Option<String>,
    /// Go on where a process that was ended has left its checkpoint.
    pub resume: bool,
    /// How often a checkpoint is written, at least, at the ends of windows of some 64 MiB.
    pub checkpoint_every: Duration,
}

impl CalibrationOptions {
    /// From the beginning, by the fastest kernels, with a checkpoint every ten seconds.
    pub fn new(settings: CalibrationSettings) -> Self {
        Self {
            settings,
            backend: Backend::detect(),
            activation: None,
            resume: false,
            checkpoint_every: Duration::from_secs(10),
        }
    }

    quant_core::setters! {
        with_backend backend: Backend,
        with_activation activation: impl Into<Option<String>>,
        with_resume resume: bool,
        with_checkpoint_every checkpoint_every: Duration;
        but settings
    }
}

/// Finds the ranges of all activations in `recordings`, which [`Recordings::list`] has listed, and
/// writes them to `output`. The result does not depend on the number of threads.
///
/// Meanwhile `OUTPUT.checkpoint` keeps what has been found; it is removed at the end.
/// `job.progress` is told of the bytes of files.
///
/// # Errors
/// An output that is there already, without [`Job::force`]; a checkpoint that is, and is not to be
/// used, or is of other data or options; files that cannot be read, or hold what is no float tensor;
/// settings out of range. Then there is no output. [`Error::Paused`] where the caller has asked to
/// stop: the checkpoint says how far it went.
// Long: one loop, which ends by a document or by a checkpoint.
pub fn calibrate(
    recordings: &Recordings,
    output: &Path,
    options: &CalibrationOptions,
    job: &Job<'_>,
) -> Result<Calibration, Error> {
    check_settings(&options.settings)?;
    let inputs = recordings.inputs();
    let file = AtomicFile::create(output, "output", job.force, inputs)?.later();
    let path = checkpoint::path_of(output);
    let mut checkpoint = begin(
        &path,
        task(recordings, options),
        options.resume,
        job.force,
        inputs,
    )?;
    let mut observers = Observers::new(options.settings.observer, options.backend);
    observers.restore(std::mem::take(&mut checkpoint.observers))?;
    let mut windows = Windows::new(recordings, checkpoint.position);
    windows.passed_over = std::mem::take(&mut checkpoint.passed_over);
    let mut written = Instant::now();
    loop {
        let window = windows.next(&mut observers, job.progress)?;
        let is_last = window.is_empty();
        if let Err(error) = observers.observe(&window, job) {
            if !matches!(error, Error::Interrupted) {
                return Err(error);
            }
            // Observers are as they were before the window.
            checkpoint.observers = observers.stored();
            checkpoint.write(&path, inputs)?;
            return Err(Error::Paused { checkpoint: path });
        }
        checkpoint.position = windows.position;
        checkpoint.passed_over.clone_from(&windows.passed_over);
        if is_last {
            break;
        }
        if written.elapsed() >= options.checkpoint_every {
            checkpoint.observers = observers.stored();
            checkpoint.write(&path, inputs)?;
            checkpoint.observers.clear();
            written = Instant::now();
        }
    }
    checkpoint.observers = observers.stored();
    if checkpoint.observers.is_empty() {
        return Err(Error::file(output, nothing(&checkpoint.passed_over)));
    }
    let calibration = Calibration::from_observers(options.settings, &checkpoint.observers, job)
        .map(|calibration| calibration.with_passed_over(&checkpoint.passed_over))
        .and_then(|calibration| calibration.write(file, job).map(|()| calibration));
    if matches!(calibration, Err(Error::Interrupted)) {
        checkpoint.write(&path, inputs)?;
        return Err(Error::Paused { checkpoint: path });
    }
    let calibration = calibration?;
    remove(&path)?;
    Ok(calibration)
}

/// What a checkpoint belongs to.
fn task(recordings: &Recordings, options: &CalibrationOptions) -> Task {
    Task {
        settings: options.settings,
        name: options.activation.clone(),
        model: None,
        files: recordings.file_count(),
        bytes: recordings.bytes(),
        fingerprint: recordings.fingerprint(),
    }
}

/// Why there is nothing to write.
fn nothing(passed_over: &BTreeMap<String, String>) -> String {
    match passed_over.iter().next() {
        None => "no tensor in any of the recordings".into(),
        Some((name, dtype)) => format!(
            "no tensor of floats in any of the recordings; `{}` is of {dtype}",
            shortened(name)
        ),
    }
}

/// Where a run begins: at the checkpoint of one that was ended, or at the first file.
fn begin(
    path: &Path,
    task: Task,
    resume: bool,
    force: bool,
    inputs: &Inputs,
) -> Result<Checkpoint, Error> {
    let stored = match resume {
        true => Checkpoint::open(path, &task)?,
        false if !force && fs::symlink_metadata(path).is_ok() => {
            let problem = "a run that was ended has left this; \u{fdd2}resume\u{fdd3} goes on with it, \u{fdd2}force\u{fdd3} begins anew";
            return Err(Error::file(path, problem));
        }
        false => None,
    };
    // Else the first checkpoint would be the end.
    AtomicFile::create(path, "checkpoint", true, inputs)?;
    Ok(stored.unwrap_or_else(|| Checkpoint::new(task)))
}

/// Removes a checkpoint, if there is one.
fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io(path, "remove it")(error))
        }
        _ => Ok(()),
    }
}

/// The same for a stream of npy arrays, one after the other, each a sample of one activation. There
/// are no checkpoints: a stream does not come again.
///
/// # Errors
/// As [`calibrate`]; an activation without a name; [`Error::Interrupted`] where the caller has asked
/// to stop.
pub fn calibrate_stream(
    stream: impl Read + Send + 'static,
    output: &Path,
    options: &CalibrationOptions,
    job: &Job<'_>,
) -> Result<Calibration, Error> {
    check_settings(&options.settings)?;
    let file = AtomicFile::create(output, "output", job.force, &Inputs::new())?.later();
    let Some(activation) = &options.activation else {
        let problem = "arrays of a stream have no names; say with \u{fdd2}name\u{fdd3} which activation it is";
        return Err(Error::Option(problem.into()));
    };
    if options.resume {
        let problem =
            "\u{fdd2}resume\u{fdd3}: a stream does not come again; record to files instead";
        return Err(Error::Option(problem.into()));
    }
    let mut observers = Observers::new(options.settings.observer, options.backend);
    let mut windows = Stream::new(stream, activation)?;
    observers.index(activation)?;
    let mut window = Window::default();
    loop {
        window = windows.next(window, job)?;
        let pieces = window.pieces();
        if pieces.is_empty() {
            break;
        }
        observers.observe(&pieces, job)?;
    }
    let found = observers.stored();
    if found.iter().all(|(_, observer)| observer.samples() == 0) {
        let problem = "no array in it; what should write them has ended, or writes elsewhere";
        return Err(Error::tensor(
            Path::new(stream::STREAM),
            activation,
            problem,
        ));
    }
    let calibration = Calibration::from_observers(options.settings, &found, job)?;
    calibration.write(file, job)?;
    Ok(calibration)
}

/// Makes one document of several: the one that [`calibrate`] writes for all their recordings.
///
/// # Errors
/// As [`Calibration::open`]; documents with different settings, or of moving averages, which depend
/// on the order of samples.
pub fn merge_calibrations(
    inputs: &[PathBuf],
    output: &Path,
    job: &Job<'_>,
) -> Result<Calibration, Error> {
    let mut documents = Inputs::new();
    for path in inputs {
        documents.file(path, "the inputs");
    }
    let file = AtomicFile::create(output, "output", job.force, &documents)?.later();
    let mut settings: Option<CalibrationSettings> = None;
    let mut merged: BTreeMap<String, Observer> = BTreeMap::new();
    let mut passed_over = BTreeMap::new();
    let mut memory: Option<Memory> = None;
    for path in inputs {
        job.check()?;
        let document = Calibration::open(path)?;
        let first = *settings.get_or_insert(document.settings);
        if document.settings != first {
            return Err(Error::file(
                path,
                format!(
                    "made with {}, the first one with {}; they cannot be merged",
                    document.settings.describe(),
                    first.describe()
                ),
            ));
        }
        for (name, dtype) in &document.passed_over {
            memory::note(&mut passed_over, name, dtype);
        }
        let memory = memory.get_or_insert_with(|| Memory::new(first.observer));
        for (name, found) in document.activations {
            let bad =
                |problem: String| Error::file(path, format!("activation `{name}`: {problem}"));
            let observer = found.observer(&first).map_err(bad)?;
            let Some(whole) = merged.get_mut(&name) else {
                memory.add(&name).map_err(Error::Memory)?;
                merged.insert(name, observer);
                continue;
            };
            merge(whole, &observer).map_err(bad)?;
        }
    }
    let Some(settings) = settings else {
        return Err(Error::Option("no documents to merge".into()));
    };
    let merged: Vec<_> = merged.into_iter().collect();
    let calibration = Calibration::from_observers(settings, &merged, job)?;
    let calibration = calibration.with_passed_over(&passed_over);
    calibration.write(file, job)?;
    Ok(calibration)
}

fn merge(whole: &mut Observer, other: &Observer) -> Result<(), String> {
    // What a stored observer may have counted.
    let too_many = |a: u64, b: u64| a.checked_add(b).is_none_or(|sum| sum > Observer::MOST);
    let counts = [&*whole, other].map(|observer| (observer.samples(), observer.values().count()));
    let [(samples, values), (more_samples, more_values)] = counts;
    if too_many(samples, more_samples) || too_many(values, more_values) {
        return Err("more values than can be counted".into());
    }
    whole
        .merge(other)
        .map_err(|error: MergeError| error.to_string())
}

fn check_settings(settings: &CalibrationSettings) -> Result<(), Error> {
    if settings.dtype.bits() != 8 {
        return Err(Error::Option(format!(
            "activations of type {}: give int8 or uint8",
            settings.dtype.name()
        )));
    }
    let observer = Observer::new(settings.observer).map(drop);
    observer.map_err(|error| Error::Option(error.to_string()))
}
