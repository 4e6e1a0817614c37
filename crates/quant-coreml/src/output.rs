//! A package being written: a folder under a temporary name beside its place.

use std::fs::{self, DirBuilder};
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use quant_model::io::{
    self, Destination, Inputs, Links, TemporaryFolder, group_and_others, parent, sync,
};
use quant_model::{Error, Job};
use rayon::prelude::*;

use super::folder::Folder;
use super::package::{Contents, Package, contents};
use super::replaceable::own_files;

/// Where the result will stand.
#[derive(Debug)]
pub(crate) struct Target {
    input: PathBuf,
    destination: Destination,
    folder: TemporaryFolder,
    /// What the user should know, a line each.
    pub warnings: Vec<String>,
}

impl Target {
    /// Refuses what exists, or has to do with `inputs`; nothing is replaced before `finish`.
    pub fn new(
        package: &Package<'_>,
        inputs: &Inputs,
        path: &Path,
        job: &Job<'_>,
    ) -> Result<Self, Error> {
        let destination =
            Destination::folder(path, job.force, inputs, own_files)?.with_sync(job.sync);
        let links = Links::new(package.path)?;
        for inner in contents(package.path)?.files {
            links.inside_package(&package.path.join(inner))?;
        }
        let warnings = io::clean(parent(destination.path()));
        let input = fs::metadata(package.path).map_err(Error::io(package.path, "open it"))?;
        Ok(Self {
            input: package.path.to_owned(),
            folder: TemporaryFolder::new(destination.path(), group_and_others(&input))?,
            destination,
            warnings,
        })
    }

    /// What messages name.
    pub fn path(&self) -> &Path {
        self.destination.path()
    }

    /// What messages name for a file of the package.
    pub fn shown(&self, inner: &Path) -> PathBuf {
        self.path().join(inner)
    }

    /// What group and others may do with a file or folder of the package at most: what they may do
    /// with that of the input, or with all of it.
    pub fn others(&self, inner: &Path) -> u32 {
        let found = fs::metadata(self.input.join(inner)).or_else(|_| fs::metadata(&self.input));
        found.map_or(0, |found| group_and_others(&found))
    }

    /// Makes a folder of the package, and those that it is in.
    fn folder(&self, inner: &Path) -> Result<(), Error> {
        let at = self.folder.path().join(inner);
        if at.is_dir() {
            return Ok(());
        }
        if let Some(parent) = inner.parent() {
            self.folder(parent)?;
        }
        let made = DirBuilder::new()
            .mode(0o700 | self.others(inner))
            .create(at);
        made.map_err(Error::io(self.path(), "create its folders"))
    }

    /// Where a file of the package stands meanwhile; its folder is there then.
    pub fn place(&self, inner: &Path) -> Result<PathBuf, Error> {
        if let Some(parent) = inner.parent() {
            self.folder(parent)?;
        }
        Ok(self.folder.path().join(inner))
    }

    /// Copies all files of the package but `others`, and all its folders; returns the bytes of these
    /// files.
    pub fn copy_rest(
        &self,
        package: &Package<'_>,
        others: &[PathBuf],
        job: &Job<'_>,
    ) -> Result<u64, Error> {
        let links = Links::new(package.path)?;
        let mut bytes = 0;
        let Contents { files, folders } = contents(package.path)?;
        for inner in folders {
            self.folder(&inner)?;
        }
        for inner in files {
            if others.contains(&inner) {
                continue;
            }
            job.check()?;
            let from = links.inside_package(&package.path.join(&inner))?;
            bytes += io::copy(&from, &self.place(&inner)?, job)?;
        }
        Ok(bytes)
    }

    /// Writes the model, which [`finish`](Self::finish) syncs.
    pub fn put(&self, inner: &Path, bytes: &[u8]) -> Result<(), Error> {
        let place = self.place(inner)?;
        io::create(&place, self.others(inner))
            .and_then(|mut file| file.write_all(bytes))
            .map_err(Error::io(&self.shown(inner), "write it"))
    }

    /// Opens the package as a reader will, so that none gets a name that cannot be read again.
    fn check(&self) -> Result<(), Error> {
        let folder = Folder::open(self.folder.path());
        let opened = folder.and_then(|folder| Package::open(&folder).map(drop));
        opened.map_err(|error| {
            let problem = match error {
                Error::File { problem, .. } | Error::Tensor { problem, .. } => problem,
                other => other.to_string(),
            };
            let problem = format!(
                "the result cannot be read again ({problem}); nothing was written, please report it"
            );
            Error::file(self.path(), problem)
        })
    }

    /// Gives the package its name, once it can be read again.
    pub fn finish(self, job: &Job<'_>) -> Result<(), Error> {
        self.check()?;
        if job.sync {
            sync_all(self.folder.path()).map_err(Error::io(self.path(), "sync it"))?;
        }
        job.check()?;
        self.destination.put_folder(self.folder)
    }
}

/// Waits for all of it at once: each file and folder waits for the disk, however small it is. What was
/// synced as it was written costs nothing.
fn sync_all(folder: &Path) -> std::io::Result<()> {
    let mut found = vec![folder.to_owned()];
    let mut next = 0;
    while let Some(path) = found.get(next) {
        let entries = match fs::symlink_metadata(path)?.is_dir() {
            true => fs::read_dir(path)?.collect::<std::io::Result<Vec<_>>>()?,
            false => Vec::new(),
        };
        found.extend(entries.iter().map(fs::DirEntry::path));
        next += 1;
    }
    found.par_iter().try_for_each(|path| sync(path))
}

/// Bytes of all files of a package.
pub(crate) fn size(package: &Path) -> Result<u64, Error> {
    let mut bytes = 0;
    for inner in contents(package)?.files {
        let path = package.join(inner);
        let file = fs::metadata(&path).map_err(Error::io(&path, "read it"))?;
        bytes += file.len();
    }
    Ok(bytes)
}
