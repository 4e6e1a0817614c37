//! A package being written: a folder under a temporary name beside its place.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::{Builder, TempDir};

use super::package::{Contents, Folder, Package, contents, is_package};
use crate::output::{EXISTS, parent, put_folder, sync};
use crate::{Error, Job};

/// Where the result will stand.
#[derive(Debug)]
pub(crate) struct Target {
    path: PathBuf,
    folder: TempDir,
}

impl Target {
    /// Refuses what exists, or is the input; nothing is replaced before `finish`.
    pub fn new(package: &Package, path: &Path, job: &Job<'_>) -> Result<Self, Error> {
        let bad = |problem: &str| Err(Error::file(path, problem));
        let whole = |path: &Path| path.canonicalize().ok();
        let input = whole(package.path).unwrap_or_else(|| package.path.to_owned());
        if whole(path).is_some_and(|output| output == input) {
            return bad("the output is the input itself; choose another with -o");
        }
        if whole(parent(path)).is_some_and(|parent| parent.starts_with(&input)) {
            return bad("inside the input; choose another place with -o");
        }
        if let Ok(existing) = fs::symlink_metadata(path) {
            if !job.force {
                return bad(EXISTS);
            }
            if !existing.is_dir() || !is_package(path) {
                return bad("exists and is no Core ML package; choose another name with -o");
            }
            if whole(path).is_some_and(|output| input.starts_with(output)) {
                return bad("holds the input; choose another place with -o");
            }
        }
        let folder = Builder::new().prefix(".quant-").tempdir_in(parent(path));
        let folder = folder.map_err(Error::io(path, "create a folder beside it"))?;
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755))
            .map_err(Error::io(path, "create it"))?;
        Ok(Self {
            path: path.to_owned(),
            folder,
        })
    }

    /// What messages name for a file of the package.
    pub fn shown(&self, inner: &Path) -> PathBuf {
        self.path.join(inner)
    }

    /// Where a file of the package stands meanwhile; its folder is there then.
    pub fn place(&self, inner: &Path) -> Result<PathBuf, Error> {
        let place = self.folder.path().join(inner);
        fs::create_dir_all(parent(&place)).map_err(Error::io(&self.path, "create its folders"))?;
        Ok(place)
    }

    /// Makes all folders of the package, also empty ones, which its manifest may name; copies all its
    /// files but `others`, and returns the bytes of these.
    pub fn copy_rest(
        &self,
        package: &Package,
        others: &[PathBuf],
        job: &Job<'_>,
    ) -> Result<u64, Error> {
        let mut bytes = 0;
        let Contents { files, folders } = contents(package.path)?;
        for inner in folders {
            let made = fs::create_dir_all(self.folder.path().join(inner));
            made.map_err(Error::io(&self.path, "create its folders"))?;
        }
        for inner in files {
            if others.contains(&inner) {
                continue;
            }
            job.check()?;
            let (from, to) = (package.path.join(&inner), self.place(&inner)?);
            bytes += fs::copy(&from, &to).map_err(Error::io(&from, "copy it"))?;
            // What may not be written may be read-only in a cache; the copy is the user's.
            let _ = fs::set_permissions(&to, Permissions::from_mode(0o644));
        }
        Ok(bytes)
    }

    /// Writes the model.
    pub fn put(&self, inner: &Path, bytes: &[u8]) -> Result<(), Error> {
        fs::write(self.place(inner)?, bytes).map_err(Error::io(&self.shown(inner), "write it"))
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
            Error::file(&self.path, problem)
        })
    }

    /// Gives the package its name, once it can be read again.
    pub fn finish(self, job: &Job<'_>) -> Result<(), Error> {
        self.check()?;
        sync_all(self.folder.path()).map_err(Error::io(&self.path, "sync it"))?;
        job.check()?;
        put_folder(self.folder, &self.path).map_err(Error::io(&self.path, "put it in place"))?;
        // The rename itself should survive a power cut; not every file system can promise it.
        let _ = sync(parent(&self.path));
        Ok(())
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
    for inner in contents(package)?.files {
        let path = package.join(inner);
        let file = fs::metadata(&path).map_err(Error::io(&path, "read it"))?;
        bytes += file.len();
    }
    Ok(bytes)
}
