//! Where a calibration stands, so that another process goes on with it.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use quant_core::observer::Observer;
use serde::{Deserialize, Serialize};

use super::settings::CalibrationSettings;
use crate::output::temporary;
use crate::{Error, map::map};

const VERSION: u32 = 1;

/// What comes next, in the order of files, tensors and values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    pub file: usize,
    pub tensor: usize,
    pub element: u64,
}

/// What the data is, and how it is looked at: another process must have the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    #[serde(flatten)]
    pub settings: CalibrationSettings,
    /// `--name`.
    pub name: Option<String>,
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
}

/// `ranges.json.checkpoint`.
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
        }
    }

    /// Reads one and checks that it is of this task. `None` where there is none.
    pub fn open(path: &Path, task: &Task) -> Result<Option<Self>, Error> {
        if fs::symlink_metadata(path).is_err() {
            return Ok(None);
        }
        let bytes = map(path, "a checkpoint is expected there")?;
        let bad = |problem: String| Error::file(path, problem);
        let checkpoint: Self = serde_json::from_slice(&bytes).map_err(|error| {
            bad(format!(
                "not a checkpoint: {error}; begin anew with --force"
            ))
        })?;
        if checkpoint.version != VERSION {
            let version = checkpoint.version;
            return Err(bad(format!(
                "version {version} of checkpoints, where {VERSION} is known"
            )));
        }
        let then = &checkpoint.task;
        if then.settings != task.settings || then.name != task.name {
            return Err(bad(format!(
                "of another command line: {}, where it is now {}; give the same one, or begin anew with --force",
                described(then),
                described(task)
            )));
        }
        if then != task {
            return Err(bad(format!(
                "the data has changed: {} files of {} bytes then, {} of {} now, or other names or times; begin anew with --force",
                then.files, then.bytes, task.files, task.bytes
            )));
        }
        let config = task.settings.observer;
        let fits = |(_, observer): &(String, Observer)| *observer.config() == config;
        if checkpoint.position.file > task.files || !checkpoint.observers.iter().all(fits) {
            return Err(bad("a damaged checkpoint; begin anew with --force".into()));
        }
        Ok(Some(checkpoint))
    }

    /// Writes it: at any moment the whole old one or the whole new one is there.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let write = "write the checkpoint";
        let mut file = temporary(path)?;
        let text =
            serde_json::to_vec(self).map_err(|error| Error::io(path, write)(error.into()))?;
        file.write_all(&text)
            .and_then(|()| file.as_file().sync_all())
            .map_err(Error::io(path, write))?;
        let kept = file.persist(path).map_err(|error| error.error);
        kept.map(drop).map_err(Error::io(path, write))
    }
}

fn described(task: &Task) -> String {
    match &task.name {
        Some(name) => format!("{}, --name {name}", task.settings.describe()),
        None => task.settings.describe(),
    }
}
