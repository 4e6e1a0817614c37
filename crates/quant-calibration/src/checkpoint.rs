//! Where a calibration stands, so that another process goes on with it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use quant_core::observer::Observer;
use quant_model::error::option;
use quant_model::io::read_bounded;
use quant_model::ranges::LARGEST;
use quant_model::{AtomicFile, Error, Inputs};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh64::xxh64;

use super::settings::CalibrationSettings;

const VERSION: u32 = 1;

/// What comes next, in the order of files, tensors and values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    pub file: usize,
    pub tensor: usize,
    pub element: u64,
}

impl Position {
    /// Behind so many elements of the tensor, or all of it.
    pub fn pass(&mut self, elements: u64, ends_tensor: bool) {
        match ends_tensor {
            true => (self.tensor, self.element) = (self.tensor + 1, 0),
            false => self.element += elements,
        }
    }
}

/// What the data is, and how it is looked at: another process must have the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    #[serde(flatten)]
    pub settings: CalibrationSettings,
    /// `--name`.
    pub name: Option<String>,
    /// The model that samples are passed through, and how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    pub files: usize,
    pub bytes: u64,
    /// Of paths, sizes and times of change.
    pub fingerprint: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Checkpoint {
    version: u32,
    #[serde(flatten)]
    pub task: Task,
    pub position: Position,
    pub observers: Vec<(String, Observer)>,
    /// Activations that are not observed, and their types.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub passed_over: BTreeMap<String, String>,
}

/// `ranges.json.checkpoint`: xxHash64 of a line of JSON, and that line.
pub fn path_of(output: &Path) -> PathBuf {
    let mut path = output.as_os_str().to_owned();
    path.push(".checkpoint");
    path.into()
}

impl Checkpoint {
    pub fn new(task: Task) -> Self {
        Self {
            version: VERSION,
            task,
            position: Position::default(),
            observers: Vec::new(),
            passed_over: BTreeMap::new(),
        }
    }

    /// Reads one and checks that it is of this task. `None` where there is none.
    pub fn open(path: &Path, task: &Task) -> Result<Option<Self>, Error> {
        if fs::symlink_metadata(path).is_err() {
            return Ok(None);
        }
        let bytes = read_bounded(path, LARGEST, "a checkpoint is expected there")?;
        let bad = |problem: String| Error::file(path, problem);
        let text = str::from_utf8(&bytes).ok().and_then(|text| {
            let (digest, text) = text.strip_suffix('\n')?.split_once('\n')?;
            (digest == format!("{:016x}", xxh64(text.as_bytes(), 0))).then_some(text)
        });
        let text = text.ok_or_else(|| {
            bad(
                "not a checkpoint, or a damaged one; begin anew without \u{fdd2}resume\u{fdd3}, with \u{fdd2}force\u{fdd3}"
                    .into(),
            )
        })?;
        let checkpoint: Self = serde_json::from_str(text).map_err(|error| {
            bad(format!(
                "not a checkpoint: {error}; begin anew without \u{fdd2}resume\u{fdd3}, with \u{fdd2}force\u{fdd3}"
            ))
        })?;
        if checkpoint.version != VERSION {
            let version = checkpoint.version;
            return Err(bad(format!(
                "version {version} of checkpoints, where {VERSION} is known"
            )));
        }
        let then = &checkpoint.task;
        if then.settings != task.settings || then.name != task.name || then.model != task.model {
            return Err(bad(format!(
                "made with other options: {}, where they are now {}; give the same ones, or begin anew without \u{fdd2}resume\u{fdd3}, with \u{fdd2}force\u{fdd3}",
                described(then),
                described(task)
            )));
        }
        if then != task {
            return Err(bad(format!(
                "the data has changed: {} files of {} bytes then, {} of {} now, or other names or times; begin anew without \u{fdd2}resume\u{fdd3}, with \u{fdd2}force\u{fdd3}",
                then.files, then.bytes, task.files, task.bytes
            )));
        }
        let config = task.settings.observer;
        let fits = |(_, observer): &(String, Observer)| *observer.config() == config;
        if checkpoint.position.file > task.files || !checkpoint.observers.iter().all(fits) {
            return Err(bad(
                "a damaged checkpoint; begin anew without \u{fdd2}resume\u{fdd3}, with \u{fdd2}force\u{fdd3}".into(),
            ));
        }
        Ok(Some(checkpoint))
    }

    /// Writes it: at any moment the whole old one or the whole new one is there.
    pub fn write(&self, path: &Path, inputs: &Inputs) -> Result<(), Error> {
        let text = serde_json::to_string(self)
            .map_err(|error| Error::io(path, "write the checkpoint")(error.into()))?;
        let text = format!("{:016x}\n{text}\n", xxh64(text.as_bytes(), 0));
        AtomicFile::create(path, "checkpoint", true, inputs)?.commit(text.as_bytes())
    }
}

fn described(task: &Task) -> String {
    let mut text = task.settings.describe();
    if let Some(name) = &task.name {
        text += &format!(", {}", option(&format!("name {name}")));
    }
    if let Some(model) = &task.model {
        text += &format!(", samples through {model}");
    }
    text
}
