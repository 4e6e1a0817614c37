//! What is being written, under a name that says which process writes it.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use tempfile::{Builder, NamedTempFile, TempDir};

use super::leftovers::{self, Stage};
use super::parent;
use crate::Error;

/// What an output may let others do at most: what its input lets them do.
pub fn group_and_others(input: &fs::Metadata) -> u32 {
    input.permissions().mode() & 0o077
}

/// The same of an output that is made of several files.
pub fn group_and_others_of(inputs: &[PathBuf]) -> u32 {
    let found = inputs.iter().filter_map(|path| fs::metadata(path).ok());
    found.fold(0o077, |others, input| others & group_and_others(&input))
}

/// The umask, where the system tells it: Linux does.
fn umask() -> Option<u32> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let umask = status
        .lines()
        .find_map(|line| line.strip_prefix("Umask:"))?;
    u32::from_str_radix(umask.trim(), 8).ok()
}

/// The permissions that the umask leaves to a new folder, which goes again.
fn mode_of_new(folder: &Path, others: u32) -> io::Result<u32> {
    DirBuilder::new().mode(0o700 | others).create(folder)?;
    let mode = fs::metadata(folder)?.permissions().mode();
    fs::remove_dir(folder)?;
    Ok(mode & 0o777)
}

fn create(path: &Path) -> impl FnOnce(io::Error) -> Error {
    Error::io(path, "create a file beside it")
}

/// A file without its name. It goes when it is dropped.
#[derive(Debug)]
pub struct TemporaryFile(NamedTempFile);

impl TemporaryFile {
    /// In `folder`; messages name `path`. `others` is what group and others may do with it at most,
    /// and the umask says what of that.
    pub fn new(folder: &Path, path: &Path, others: u32) -> Result<Self, Error> {
        let file = Builder::new()
            .prefix(&leftovers::prefix(Stage::Writing))
            .permissions(Permissions::from_mode(0o600 | others & 0o066))
            .tempfile_in(folder)
            .map_err(create(path))?;
        // It tells other processes that this one is at work; not every file system can.
        let _ = flock(file.as_file(), FlockOperation::NonBlockingLockExclusive);
        Ok(Self(file))
    }

    /// Where it is now.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes from group and others what is not in `others`.
    pub fn limit(&self, others: u32) -> io::Result<()> {
        let mode = self.file().metadata()?.permissions().mode();
        let limited = mode & (0o700 | others);
        self.file().set_permissions(Permissions::from_mode(limited))
    }

    /// The open file.
    pub fn file(&self) -> &File {
        self.0.as_file()
    }

    /// Once it has its name.
    pub fn forget(self) {
        // What is at the temporary name now is not its file.
        let _ = self.0.into_temp_path().keep();
    }
}

/// A folder without its name, closed to others until it gets it. It goes when it is dropped.
#[derive(Debug)]
pub struct TemporaryFolder {
    folder: TempDir,
    mode: u32,
    _lock: Option<File>,
}

impl TemporaryFolder {
    /// Beside `path`. `others` is what group and others may do with it at most in the end.
    pub fn new(path: &Path, others: u32) -> Result<Self, Error> {
        let failed = |error| Error::io(path, "create a folder beside it")(error);
        let folder = Builder::new()
            .prefix(&leftovers::prefix(Stage::Writing))
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(parent(path))
            .map_err(failed)?;
        let lock = File::open(folder.path()).ok();
        if let Some(lock) = &lock {
            let _ = flock(lock, FlockOperation::NonBlockingLockExclusive);
        }
        let mode = match umask() {
            Some(umask) => (0o700 | others) & !umask,
            None => mode_of_new(&folder.path().join("umask"), others).map_err(failed)?,
        };
        Ok(Self {
            folder,
            mode,
            _lock: lock,
        })
    }

    /// Takes from group and others what is not in `others`, once it gets its name.
    pub fn limit(&mut self, others: u32) {
        self.mode &= 0o700 | others;
    }

    /// Where it is now.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Gives it the permissions that it is to have, and a name that says that it is whole. From
    /// here on nothing removes it.
    pub(crate) fn into_whole(self) -> io::Result<PathBuf> {
        let whole = leftovers::spare(self.path());
        fs::set_permissions(self.path(), Permissions::from_mode(self.mode))?;
        fs::rename(self.path(), &whole)?;
        let _ = self.folder.keep();
        Ok(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_umask_that_is_told_is_the_one_that_works() {
        let Some(umask) = umask() else { return };
        let folder = tempfile::tempdir().unwrap();
        for others in [0, 0o05, 0o70, 0o77] {
            let mode = mode_of_new(&folder.path().join("new"), others).unwrap();
            assert_eq!(mode, (0o700 | others) & !umask);
        }
    }
}
