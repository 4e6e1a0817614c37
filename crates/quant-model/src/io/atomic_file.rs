//! A file that appears whole or not at all.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::destination::Destination;
use super::temporary::{TemporaryFile, group_and_others_of};
use super::{Inputs, clean, parent};
use crate::Error;

/// What the umask may leave to group and others.
const OTHERS: u32 = 0o066;

/// A file under a temporary name, until it is whole.
///
/// ```no_run
/// use std::path::Path;
/// use quant_model::{AtomicFile, Inputs};
///
/// let mut inputs = Inputs::new();
/// inputs.file(Path::new("ranges.json"), "the input");
/// let file = AtomicFile::create(Path::new("ranges.html"), "output", false, &inputs)?;
/// file.commit(b"<!doctype html>")?;
/// # Ok::<(), quant_model::Error>(())
/// ```
#[derive(Debug)]
pub struct AtomicFile {
    destination: Destination,
    file: Option<TemporaryFile>,
    /// What group and others may do with it at most.
    others: u32,
    warnings: Vec<String>,
}

impl AtomicFile {
    /// Begins one; messages call it `what`, such as `output` or `report`.
    ///
    /// # Errors
    /// A folder, device or pipe at `path`; without `force`, a file; one that has to do with
    /// `inputs`; a folder that is not there, or cannot be written.
    pub fn create(path: &Path, what: &str, force: bool, inputs: &Inputs) -> Result<Self, Error> {
        let destination = Destination::file(path, what, force, inputs)?;
        let warnings = clean(parent(path));
        Ok(Self {
            file: Some(TemporaryFile::new(parent(path), path, OTHERS)?),
            others: OTHERS,
            destination,
            warnings,
        })
    }

    /// What runs that were ended had left beside it, a line each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Is no more open to group and others than these files, of which it is made.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn as_closed_as(mut self, inputs: &[PathBuf]) -> Result<Self, Error> {
        self.others &= group_and_others_of(inputs);
        if let Some(file) = &self.file {
            let limited = file.limit(self.others);
            limited.map_err(Error::io(self.destination.path(), "close it to others"))?;
        }
        Ok(self)
    }

    /// Writes it to the disk, and gives it its name.
    ///
    /// # Errors
    /// It cannot be written; a file that has appeared meanwhile, or taken the place of the one that
    /// was to be replaced. Then all is as before.
    pub fn commit(self, content: &[u8]) -> Result<(), Error> {
        let path = self.destination.path().to_owned();
        let write = |mut file: &File| file.write_all(content);
        self.commit_with(|file| write(file).map_err(Error::io(&path, "write it")))
    }

    /// The same for what `write` writes, which need not be in memory.
    ///
    /// # Errors
    /// As [`commit`](Self::commit), and those of `write`.
    pub fn commit_with(self, write: impl FnOnce(&File) -> Result<(), Error>) -> Result<(), Error> {
        let path = self.destination.path();
        let temporary = match self.file {
            Some(file) => file,
            None => TemporaryFile::new(parent(path), path, self.others)?,
        };
        write(temporary.file())?;
        let synced = temporary.file().sync_all();
        synced.map_err(Error::io(path, "write it"))?;
        self.destination.put_file(temporary)
    }

    /// Without a temporary file until it is written: for work that takes long, and may be killed.
    #[must_use]
    pub fn later(mut self) -> Self {
        self.file = None;
        self
    }
}
