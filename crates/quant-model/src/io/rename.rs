//! Renames that replace nothing, or exactly what was checked, whatever the file system can do.
//!
//! The one step that does it (`renameat2` with flags) is missing on many network, FUSE and foreign
//! file systems. Then a new name is claimed first, and what is replaced is moved out of the way and
//! back again if something fails.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::{Id, id, parent, sync};

/// What a file system is asked for. Tests take some of it away.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Renames {
    pub(crate) flags: bool,
    pub links: bool,
    /// A folder may be renamed over an empty one.
    pub(crate) over_empty: bool,
    /// Whether a new name is to be on the disk before what it replaced is removed.
    pub(crate) sync: bool,
}

/// Ask for everything; a refusal leads to the next best way.
pub const ANY: Renames = Renames {
    flags: true,
    links: true,
    over_empty: true,
    sync: true,
};

/// Why nothing was replaced.
#[derive(Debug)]
pub(crate) enum Refusal {
    Io(io::Error),
    /// What stands there is not what was checked, and is as it was.
    Changed(String),
    /// The new one is in place; what it replaced could not be put back or removed, and is here.
    Left(PathBuf, io::Error),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Whether another way may work: what file systems say of flags that they do not know is any error.
/// Where the reason is another one, the other way meets it, too.
fn may_be_unsupported(error: &io::Error) -> bool {
    error.kind() != io::ErrorKind::AlreadyExists
}

impl Renames {
    fn with_flags(self, from: &Path, to: &Path, flags: RenameFlags) -> io::Result<()> {
        match self.flags {
            true => Ok(renameat_with(CWD, from, CWD, to, flags)?),
            false => Err(Errno::INVAL.into()),
        }
    }

    fn link(self, from: &Path, to: &Path) -> io::Result<()> {
        match self.links {
            true => fs::hard_link(from, to),
            false => Err(Errno::PERM.into()),
        }
    }

    fn folder_over_empty(self, from: &Path, to: &Path) -> io::Result<()> {
        match self.over_empty {
            true => fs::rename(from, to),
            false => Err(Errno::EXIST.into()),
        }
    }

    /// A rename should survive a power cut, too; not every file system can promise it.
    pub(crate) fn sync_names(self, target: &Path) {
        if self.sync {
            let _ = sync(parent(target));
        }
    }

    /// Gives a file a name that nothing has.
    pub(crate) fn place_file(self, temporary: &Path, target: &Path) -> io::Result<()> {
        match self.with_flags(temporary, target, RenameFlags::NOREPLACE) {
            Err(error) if may_be_unsupported(&error) => {}
            done => return done,
        }
        match self.link(temporary, target) {
            Ok(()) => return fs::remove_file(temporary),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(error),
            Err(_) => {}
        }
        // Claims the name, and then replaces what it has put there itself.
        let claim = File::options().write(true).create_new(true).open(target)?;
        let claimed = id(&claim.metadata()?);
        let is_claim = || fs::symlink_metadata(target).is_ok_and(|found| id(&found) == claimed);
        if !is_claim() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        fs::rename(temporary, target).inspect_err(|_| {
            if is_claim() {
                let _ = fs::remove_file(target);
            }
        })
    }

    /// Gives a folder a name that nothing has.
    pub(crate) fn place_folder(self, temporary: &Path, target: &Path) -> io::Result<()> {
        match self.with_flags(temporary, target, RenameFlags::NOREPLACE) {
            Err(error) if may_be_unsupported(&error) => {}
            done => return done,
        }
        fs::create_dir(target)?;
        let Err(first) = self.folder_over_empty(temporary, target) else {
            return Ok(());
        };
        // Only an empty folder goes away so: what has been put into it meanwhile stays.
        if fs::remove_dir(target).is_err() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        match first.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::EXIST | Errno::NOTEMPTY | Errno::ACCESS | Errno::PERM) => {
                fs::rename(temporary, target)
            }
            _ => Err(first),
        }
    }

    /// Puts a file where another stands, which is removed.
    pub(crate) fn replace_file(
        self,
        temporary: &Path,
        target: &Path,
        old: Id,
    ) -> Result<(), Refusal> {
        let is_old = |path: &Path| fs::symlink_metadata(path).is_ok_and(|found| id(&found) == old);
        let changed = || Refusal::Changed("something else has been put there meanwhile".into());
        match self.with_flags(temporary, target, RenameFlags::EXCHANGE) {
            Ok(()) if is_old(temporary) => {
                self.sync_names(target);
                fs::remove_file(temporary).map_err(|error| Refusal::Left(temporary.into(), error))
            }
            Ok(()) => {
                let back = self.with_flags(temporary, target, RenameFlags::EXCHANGE);
                back.map_err(|error| Refusal::Left(temporary.into(), error))?;
                Err(changed())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(changed()),
            Err(_) if !is_old(target) => Err(changed()),
            Err(_) => Ok(fs::rename(temporary, target)?),
        }
    }

    /// Puts a folder where another stands. `spare` is an unused name beside it: what stood there is
    /// moved to one of these two names, and `remove` takes it away once `check` has found it to be
    /// what may be replaced.
    pub(crate) fn replace_folder(
        self,
        temporary: &Path,
        target: &Path,
        spare: &Path,
        check: impl Fn(&Path) -> Result<(), String>,
        remove: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<(), Refusal> {
        let old = match self.with_flags(temporary, target, RenameFlags::EXCHANGE) {
            Ok(()) => {
                if let Err(problem) = check(temporary) {
                    let back = self.with_flags(temporary, target, RenameFlags::EXCHANGE);
                    back.map_err(|error| Refusal::Left(temporary.into(), error))?;
                    return Err(Refusal::Changed(problem));
                }
                temporary
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Refusal::Changed("it has been removed meanwhile".into()));
            }
            Err(_) => {
                check(target).map_err(Refusal::Changed)?;
                fs::rename(target, spare)?;
                let done = check(spare).map_err(Refusal::Changed);
                let done = done.and_then(|()| Ok(self.place_folder(temporary, target)?));
                if let Err(refusal) = done {
                    let back = self.place_folder(spare, target);
                    back.map_err(|error| Refusal::Left(spare.into(), error))?;
                    return Err(refusal);
                }
                spare
            }
        };
        // Not before the new one would survive a power cut.
        self.sync_names(target);
        remove(old).map_err(|error| Refusal::Left(old.into(), error))
    }
}

#[cfg(test)]
mod tests;
