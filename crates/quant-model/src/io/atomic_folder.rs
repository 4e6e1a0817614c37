//! A folder of files that appears whole or not at all.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::destination::Destination;
use super::temporary::{TemporaryFolder, group_and_others_of};
use super::{Inputs, clean, parent};
use crate::Error;

/// A folder under a temporary name, until all of its files are there.
///
/// ```
/// use quant_model::{AtomicFolder, Inputs};
///
/// let room = tempfile::tempdir()?;
/// let path = room.path().join("recordings");
/// let folder = AtomicFolder::create(&path, false, &Inputs::new(), |_| false)?;
/// folder.write("000001.npy", b"...")?;
/// assert!(!path.exists());
/// folder.commit()?;
/// assert!(path.join("000001.npy").exists());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct AtomicFolder {
    destination: Destination,
    folder: TemporaryFolder,
    warnings: Vec<String>,
}

impl AtomicFolder {
    /// Begins one. With `force`, a folder is replaced that holds nothing but files whose names
    /// `is_own` knows.
    ///
    /// # Errors
    /// A file at `path`; a folder, without `force` or with anything else in it; one that has to do
    /// with `inputs`; a place that cannot be written.
    pub fn create(
        path: &Path,
        force: bool,
        inputs: &Inputs,
        is_own: impl Fn(&str) -> bool,
    ) -> Result<Self, Error> {
        let own = |path: &Path| own_files(path, &is_own).map_err(Error::io(path, "list it"));
        let destination = Destination::folder(path, force, inputs, own)?;
        let warnings = clean(parent(destination.path()));
        let folder = TemporaryFolder::new(destination.path(), 0o077)?;
        Ok(Self {
            destination,
            folder,
            warnings,
        })
    }

    /// Is no more open to group and others than these files, of which it is made.
    #[must_use]
    pub fn as_closed_as(mut self, inputs: &[PathBuf]) -> Self {
        let files = group_and_others_of(inputs);
        // Who may read a file may look into its folder.
        self.folder.limit(files | (files & 0o044) >> 2);
        self
    }

    /// What runs that were ended had left beside it, a line each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Puts a file into it.
    ///
    /// # Errors
    /// A name that is used already, or leads elsewhere; a file that cannot be written.
    pub fn write(&self, name: &str, content: &[u8]) -> Result<(), Error> {
        let is_plain = Path::new(name).file_name() == Some(name.as_ref());
        let path = self.destination.path().join(name);
        if !is_plain {
            return Err(Error::file(&path, "not the name of a file in a folder"));
        }
        let place = self.folder.path().join(name);
        let file = OpenOptions::new().write(true).create_new(true).open(place);
        let write = |mut file: File| {
            file.write_all(content)?;
            file.sync_all()
        };
        file.and_then(write).map_err(Error::io(&path, "write it"))
    }

    /// Gives the folder its name.
    ///
    /// # Errors
    /// A folder that has appeared meanwhile; a rename that fails. Then all is as before.
    pub fn commit(self) -> Result<(), Error> {
        let synced = super::sync(self.folder.path());
        synced.map_err(Error::io(self.destination.path(), "write it"))?;
        self.destination.put_folder(self.folder)
    }
}

/// The files in a folder that may go with it.
fn own_files(folder: &Path, is_own: &impl Fn(&str) -> bool) -> std::io::Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if entry.file_type()?.is_file() && name.to_str().is_some_and(is_own) {
            found.insert(name.into());
        }
    }
    Ok(found)
}
