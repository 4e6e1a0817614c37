//! `config.json`, which stands beside the weights of a Hugging Face model.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use quant_model::io::{Links, parent, read_bounded};
use quant_model::{Error, sniff};
use serde_json::{Map, Value};

pub(crate) const CONFIG: &str = "config.json";
/// More than any such file takes.
const LARGEST: u64 = 16 << 20;

/// A model's configuration, read once it is asked for.
#[derive(Debug)]
pub(crate) struct ModelConfig {
    path: PathBuf,
    read: OnceLock<Option<Map<String, Value>>>,
}

impl ModelConfig {
    /// The one in a folder.
    pub fn beside(folder: &Path) -> Self {
        Self {
            path: folder.join(CONFIG),
            read: OnceLock::new(),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it says; `None` where there is no such file.
    ///
    /// # Errors
    /// A file that cannot be read, is no JSON object, or is elsewhere: what it says comes into results.
    pub fn get(&self) -> Result<Option<&Map<String, Value>>, Error> {
        if let Some(read) = self.read.get() {
            return Ok(read.as_ref());
        }
        if !self.path.exists() {
            return Ok(self.read.get_or_init(|| None).as_ref());
        }
        let real = Links::new(parent(&self.path))?.inside(&self.path)?;
        let real = real.ok_or_else(|| {
            let problem =
                "a link that leads out of the model; put the file itself there, or remove the link";
            Error::file(&self.path, problem)
        })?;
        let text = read_bounded(&real, LARGEST, "it should be the model's configuration")
            .map_err(|error| error.at(&self.path))?;
        let read: Map<String, Value> = serde_json::from_slice(&text).map_err(|error| {
            let problem = format!("not a configuration: {error}");
            Error::file(&self.path, sniff::instead(&text, problem))
        })?;
        Ok(self.read.get_or_init(|| Some(read)).as_ref())
    }
}
