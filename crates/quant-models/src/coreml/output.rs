//! A package being written: a folder under a temporary name beside its place.

use std::fs::{self, DirBuilder};
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::package::{Package, files};
use super::replaceable::own_files;
use crate::io::{self, Destination, Inputs, Links, TemporaryFolder, group_and_others, parent, sync};
use crate::{Error, Job};

/// Where the result will stand.
#[derive(Debug)]
pub(crate) struct Target {
    destination: Destination,
    folder: TemporaryFolder,
    /// What the folders in it may let others do at most.
    others: u32,
    /// What the user should know, a line each.
    pub warnings: Vec<String>,
}

impl Target {
    /// Refuses what exists, or has to do with `inputs`; nothing is replaced before `finish`.
    pub fn new(
        package: &Package,
        inputs: &Inputs,
        path: &Path,
        job: &Job<'_>,
    ) -> Result<Self, Error> {
        let destination = Destination::folder(path, job.force, inputs, own_files)?;
        let warnings = io::clean(parent(destination.path()));
        let links = Links::new(&package.path)?;
        for inner in files(&package.path)? {
            links.inside_package(&package.path.join(inner))?;
        }
        let input = fs::metadata(&package.path).map_err(Error::io(&package.path, "open it"))?;
        let others = group_and_others(&input);
        Ok(Self {
            folder: TemporaryFolder::new(destination.path(), others)?,
            destination,
            others,
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

    /// Where a file of the package stands meanwhile; its folder is there then.
    pub fn place(&self, inner: &Path) -> Result<PathBuf, Error> {
        let place = self.folder.path().join(inner);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700 | self.others)
            .create(parent(&place))
            .map_err(Error::io(self.path(), "create its folders"))?;
        Ok(place)
    }

    /// Copies all files of the package but `others`, and returns the bytes of these.
    pub fn copy_rest(
        &self,
        package: &Package,
        others: &[PathBuf],
        job: &Job<'_>,
    ) -> Result<u64, Error> {
        let links = Links::new(&package.path)?;
        let mut bytes = 0;
        for inner in files(&package.path)? {
            if others.contains(&inner) {
                continue;
            }
            job.check()?;
            let from = links.inside_package(&package.path.join(&inner))?;
            bytes += io::copy(&from, &self.place(&inner)?, job)?;
        }
        Ok(bytes)
    }

    /// Writes the model.
    pub fn put(&self, package: &Package, inner: &Path, bytes: &[u8]) -> Result<(), Error> {
        let others = package.group_and_others(inner);
        io::create(&self.place(inner)?, others)
            .and_then(|mut file| file.write_all(bytes))
            .map_err(Error::io(&self.shown(inner), "write it"))
    }

    /// Gives the package its name.
    pub fn finish(self, job: &Job<'_>) -> Result<(), Error> {
        sync_all(self.folder.path()).map_err(Error::io(self.path(), "sync it"))?;
        job.check()?;
        self.destination.put_folder(self.folder)
    }
}

fn sync_all(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => sync_all(&entry.path())?,
            false => sync(&entry.path())?,
        }
    }
    sync(folder)
}

/// Bytes of all files of a package.
pub(crate) fn size(package: &Path) -> Result<u64, Error> {
    let mut bytes = 0;
    for inner in files(package)? {
        let path = package.join(inner);
        let file = fs::metadata(&path).map_err(Error::io(&path, "read it"))?;
        bytes += file.len();
    }
    Ok(bytes)
}
