//! Ranges of values that are at hand, such as those of a model that runs.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use quant_core::observer::MinMax;
use quant_core::observer::Observer;
use quant_model::{AtomicFile, Error, Inputs, Job};
use quant_simd::Backend;
use xxhash_rust::xxh64::Xxh64;

use super::checkpoint::{self, Checkpoint, Position, Task};
use super::observing::Observers;
use super::values::Values;
use super::{begin, check_settings, remove};
use crate::{Calibration, CalibrationSettings};

/// Observers that are given values directly, sample by sample.
///
/// The ranges are those that [`crate::calibrate`] finds in recordings of the same values.
#[derive(Debug)]
pub struct DirectCalibration {
    settings: CalibrationSettings,
    backend: Backend,
    observers: Observers,
    checkpoint: Option<Checkpoints>,
}

/// What is passed through a model: a later process goes on only with the same.
#[derive(Clone, Copy, Debug)]
pub struct DirectTask<'a> {
    /// The model, and all files in it.
    pub model: &'a Path,
    /// How it runs, in words, such as `float16 rounded`; or nothing.
    pub options: &'a str,
    /// The samples, in order.
    pub files: &'a [PathBuf],
}

#[derive(Debug)]
struct Checkpoints {
    path: PathBuf,
    inputs: Inputs,
    stored: Checkpoint,
    every: Duration,
    written: Instant,
    is_on_disk: bool,
}

impl std::fmt::Debug for Observers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Observers").finish_non_exhaustive()
    }
}

impl DirectCalibration {
    /// Observers of nothing yet.
    ///
    /// # Errors
    /// Settings out of range.
    pub fn new(settings: CalibrationSettings, backend: Backend) -> Result<Self, Error> {
        check_settings(&settings)?;
        Ok(Self {
            settings,
            backend,
            observers: Observers::new(settings.observer, backend),
            checkpoint: None,
        })
    }

    /// Keeps what has been found in `OUTPUT.checkpoint`, at the end of a sample and at most so often,
    /// until [`write`](Self::write) removes it. With `resume`, goes on with the one that a process
    /// that was ended has left: [`position`](Self::position) says where.
    ///
    /// # Errors
    /// A checkpoint that is there and is not to be used, unless `force` allows to replace it; one of
    /// other data or options, or a damaged one; a place that cannot be written.
    pub fn with_checkpoints(
        mut self,
        output: &Path,
        task: &DirectTask<'_>,
        every: Duration,
        [resume, force]: [bool; 2],
        inputs: &Inputs,
    ) -> Result<Self, Error> {
        let (bytes, fingerprint) = fingerprint(task)?;
        let mut model = task.model.to_string_lossy().into_owned();
        if !task.options.is_empty() {
            model = format!("{model} ({})", task.options);
        }
        let described = Task {
            settings: self.settings,
            name: None,
            model: Some(model),
            files: task.files.len(),
            bytes,
            fingerprint,
        };
        let path = checkpoint::path_of(output);
        let mut stored = begin(&path, described, resume, force, inputs)?;
        self.observers
            .restore(std::mem::take(&mut stored.observers))?;
        self.checkpoint = Some(Checkpoints {
            is_on_disk: stored.position.file > 0,
            inputs: inputs.clone(),
            path,
            stored,
            every,
            written: Instant::now(),
        });
        Ok(self)
    }

    /// The samples that have been observed whole.
    pub fn position(&self) -> usize {
        let checkpoint = self.checkpoint.as_ref();
        checkpoint.map_or(0, |checkpoint| checkpoint.stored.position.file)
    }

    /// One sample of an activation.
    ///
    /// # Errors
    /// Settings out of range.
    pub fn observe(&mut self, activation: &str, values: &[f32]) -> Result<(), Error> {
        let index = self.observers.index(activation)?;
        let observer = self.observers.get(index);
        match self.settings.observer.bins() {
            Some(_) => Values::F32(values).observe_part(self.backend, observer),
            None => {
                let range: MinMax = Values::F32(values).min_max(self.backend);
                observer.observe_part_with(&range, |_, _| {});
            }
        }
        observer.end_sample();
        Ok(())
    }

    /// Every activation of one more sample has been observed.
    ///
    /// # Errors
    /// A checkpoint that cannot be written.
    pub fn end_sample(&mut self) -> Result<(), Error> {
        let Some(checkpoint) = &mut self.checkpoint else {
            return Ok(());
        };
        let file = checkpoint.stored.position.file + 1;
        checkpoint.stored.position = Position {
            file,
            ..Position::default()
        };
        if checkpoint.written.elapsed() < checkpoint.every {
            return Ok(());
        }
        checkpoint.stored.observers = self.observers.stored();
        let written = checkpoint
            .stored
            .write(&checkpoint.path, &checkpoint.inputs);
        checkpoint.stored.observers.clear();
        checkpoint.is_on_disk = true;
        checkpoint.written = Instant::now();
        written
    }

    /// The error of a run that was stopped within a sample: [`Error::Paused`], if the last checkpoint
    /// says how far it came.
    pub fn interrupted(&self) -> Error {
        match &self.checkpoint {
            Some(checkpoint) if checkpoint.is_on_disk => Error::Paused {
                checkpoint: checkpoint.path.clone(),
            },
            _ => Error::Interrupted,
        }
    }

    /// Whether nothing was observed.
    pub fn is_empty(&self) -> bool {
        self.observers.stored().is_empty()
    }

    /// Finds the ranges and writes them to `file`; removes the checkpoint.
    ///
    /// # Errors
    /// See [`AtomicFile::commit`]; [`Error::Interrupted`].
    pub fn write(&self, file: AtomicFile, job: &Job<'_>) -> Result<Calibration, Error> {
        let found: Vec<(String, Observer)> = self.observers.stored();
        let calibration = Calibration::from_observers(self.settings, &found, job)?;
        calibration.write(file, job)?;
        if let Some(checkpoint) = &self.checkpoint {
            remove(&checkpoint.path)?;
        }
        Ok(calibration)
    }
}

/// The bytes of all samples, and a digest of paths, sizes and times of change of samples and model.
fn fingerprint(task: &DirectTask<'_>) -> Result<(u64, String), Error> {
    let mut hash = Xxh64::new(0);
    let mut add = |path: &Path, found: &fs::Metadata| {
        let name = path.as_os_str().as_bytes();
        hash.update(&(name.len() as u64).to_le_bytes());
        hash.update(name);
        hash.update(&found.len().to_le_bytes());
        hash.update(&found.mtime().to_le_bytes());
        hash.update(&found.mtime_nsec().to_le_bytes());
    };
    let mut bytes = 0_u64;
    for path in task.files {
        let found = fs::metadata(path).map_err(Error::io(path, "read it"))?;
        bytes = bytes.saturating_add(found.len());
        add(path, &found);
    }
    for path in files_of(task.model).map_err(Error::io(task.model, "list it"))? {
        let found = fs::metadata(&path).map_err(Error::io(&path, "read it"))?;
        add(&path, &found);
    }
    Ok((bytes, format!("{:016x}", hash.digest())))
}

/// All files of a package, in the order of their names.
fn files_of(model: &Path) -> std::io::Result<Vec<PathBuf>> {
    if !model.is_dir() {
        return Ok(vec![model.to_owned()]);
    }
    let (mut files, mut folders) = (Vec::new(), vec![model.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                true => folders.push(entry.path()),
                false => files.push(entry.path()),
            }
        }
    }
    files.sort();
    Ok(files)
}
