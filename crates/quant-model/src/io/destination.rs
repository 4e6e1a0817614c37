//! Where an output will stand: looked at before any work, and again when it gets its name.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use super::rename::{ANY, Refusal, Renames};
use super::temporary::{TemporaryFile, TemporaryFolder};
use super::{Id, Inputs, id, leftovers, parent};
use crate::Error;

pub(crate) const EXISTS: &str =
    "exists already; use \u{fdd2}force\u{fdd3} to replace it, or choose another name";
const PLACE: &str = "put it in place";
const DEVICE: &str = "is a device or a pipe; the output is a file, choose another name";
const STREAM: &str =
    "stands for standard output, and the output is a file; give its name, such as ./- for this one";

/// A place that has been found free, or to hold what may be replaced.
#[derive(Debug)]
pub struct Destination {
    path: PathBuf,
    existing: Option<Existing>,
    renames: Renames,
}

/// What may be replaced: this and nothing else.
#[derive(Debug)]
struct Existing {
    id: Id,
    /// Of a folder, all that is in it.
    entries: BTreeSet<PathBuf>,
    /// While it is open, its number does not become that of another.
    _open: Option<File>,
}

impl Existing {
    fn new(path: &Path, found: &fs::Metadata) -> Self {
        Self {
            id: id(found),
            entries: BTreeSet::new(),
            _open: keep_open(path),
        }
    }
}

/// Whatever it is, and without reading it.
#[cfg(target_os = "linux")]
fn keep_open(path: &Path) -> Option<File> {
    use rustix::fs::{Mode, OFlags, open};
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    open(path, flags, Mode::empty()).ok().map(File::from)
}

/// Numbers do not come again on Apple's file systems.
#[cfg(not(target_os = "linux"))]
fn keep_open(_: &Path) -> Option<File> {
    None
}

/// Whether a path is one of the process' own streams, such as /dev/stdout: a link that would be replaced,
/// for the whole system.
fn is_descriptor(path: &Path) -> bool {
    let mut place = path.to_owned();
    // As many links as systems follow. What is not there can only be created, or not.
    for _ in 0..40 {
        if fs::symlink_metadata(&place).is_err() {
            return false;
        }
        let folder = fs::canonicalize(parent(&place)).unwrap_or_default();
        if folder == Path::new("/dev")
            || ["/proc", "/dev/fd"].iter().any(|it| folder.starts_with(it))
        {
            return true;
        }
        let Ok(target) = fs::read_link(&place) else {
            return false;
        };
        place = parent(&place).join(target);
    }
    false
}

impl Destination {
    /// For a file. Refuses what exists, unless `force` allows a file to be replaced, and whatever
    /// has to do with `inputs`.
    pub fn file(path: &Path, what: &str, force: bool, inputs: &Inputs) -> Result<Self, Error> {
        let bad = |problem: &str| Err(Error::file(path, problem));
        let bytes = path.as_os_str().as_bytes();
        if [&b"/"[..], b"/.", b"/.."]
            .iter()
            .any(|end| bytes.ends_with(end))
        {
            return bad("the name of a folder; the output is a file, choose another name");
        }
        if bytes == b"-" {
            return bad(STREAM);
        }
        if is_descriptor(path) {
            return bad(DEVICE);
        }
        if path.is_dir() {
            return bad("is a folder; the output is a file, choose another name");
        }
        inputs.check(path, what)?;
        let found = match fs::symlink_metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            found => Some(found.map_err(Error::io(path, "create it"))?),
        };
        let existing = match (found, fs::metadata(path)) {
            (None, _) => None,
            (Some(_), Ok(target)) if !target.is_file() => {
                return bad(DEVICE);
            }
            (Some(_), _) if !force => return bad(EXISTS),
            (Some(found), _) => Some(Existing::new(path, &found)),
        };
        Ok(Self {
            path: path.to_owned(),
            existing,
            renames: ANY,
        })
    }

    /// For a folder. With `force`, one is replaced that holds nothing but what `own` tells of it;
    /// `own` refuses what is no model.
    pub fn folder(
        path: &Path,
        force: bool,
        inputs: &Inputs,
        own: impl FnOnce(&Path) -> Result<BTreeSet<PathBuf>, Error>,
    ) -> Result<Self, Error> {
        let bad = |problem: &str| Err(Error::file(path, problem));
        // A slash at the end would follow a link.
        let plain: PathBuf = path.components().collect();
        if plain.as_os_str() == "-" && path.as_os_str().as_bytes() == b"-" {
            return bad(STREAM);
        }
        inputs.check(&plain, "output")?;
        let mut destination = Self {
            path: plain.clone(),
            existing: None,
            renames: ANY,
        };
        let found = match fs::symlink_metadata(&plain) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(destination),
            found => found.map_err(Error::io(path, "create it"))?,
        };
        if !force {
            return bad(EXISTS);
        }
        if found.is_symlink() {
            return bad("is a link; the output is a folder, choose another name");
        }
        if !found.is_dir() {
            return bad("is a file; the output is a folder, choose another name");
        }
        let beside = fs::metadata(parent(&plain)).map_err(Error::io(path, "create it"))?;
        if found.dev() != beside.dev() {
            return bad(
                "is where another disk is mounted; it cannot be replaced, choose another name",
            );
        }
        let own = own(&plain)?;
        let mut existing = Existing::new(&plain, &found);
        existing.entries = entries(&plain).map_err(Error::io(path, "list it"))?;
        if let Some(stray) = stray(&existing.entries, &own) {
            let problem = format!(
                "holds `{}`, which is no part of the model there; it is not replaced, choose another name",
                stray.display()
            );
            return Err(Error::file(path, problem));
        }
        if let Some(closed) = closed(&plain, &existing.entries) {
            let problem = format!(
                "cannot be replaced: `{}` is a folder that this user cannot write to; choose another name",
                closed.display()
            );
            return Err(Error::file(path, problem));
        }
        destination.existing = Some(existing);
        Ok(destination)
    }

    /// Whether its name is to be on the disk before the work ends: else it may be lost by a power cut.
    #[must_use]
    pub fn with_sync(mut self, sync: bool) -> Self {
        self.renames.sync = sync;
        self
    }

    /// Where the output is to be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives a file, which has been synced, its name.
    pub fn put_file(&self, file: TemporaryFile) -> Result<(), Error> {
        let done = match &self.existing {
            None => self
                .renames
                .place_file(file.path(), &self.path)
                .map_err(Refusal::Io),
            Some(old) => self.renames.replace_file(file.path(), &self.path, old.id),
        };
        if !matches!(done, Err(Refusal::Io(_) | Refusal::Changed(_))) {
            file.forget();
        }
        done.map_err(|refusal| self.error(refusal))?;
        self.renames.sync_names(&self.path);
        Ok(())
    }

    /// Gives a folder, all of which has been synced, its name.
    pub fn put_folder(&self, folder: TemporaryFolder) -> Result<(), Error> {
        let whole = folder.into_whole().map_err(Error::io(&self.path, PLACE))?;
        let placed = match &self.existing {
            None => self
                .renames
                .place_folder(&whole, &self.path)
                .map_err(Refusal::Io),
            Some(old) => self.renames.replace_folder(
                &whole,
                &self.path,
                &leftovers::spare(&whole),
                |path| old.check(path),
                |path| old.remove(path),
            ),
        };
        match placed {
            Ok(()) => {}
            Err(refusal) => {
                if matches!(refusal, Refusal::Io(_) | Refusal::Changed(_)) {
                    let _ = fs::remove_dir_all(&whole);
                }
                return Err(self.error(refusal));
            }
        }
        self.renames.sync_names(&self.path);
        Ok(())
    }

    fn error(&self, refusal: Refusal) -> Error {
        match refusal {
            Refusal::Io(error) if error.kind() == ErrorKind::AlreadyExists => Error::file(
                &self.path,
                "has been made by somebody else meanwhile; it is not replaced, and nothing was written",
            ),
            Refusal::Io(error) => Error::io(&self.path, PLACE)(error),
            Refusal::Changed(problem) => Error::file(
                &self.path,
                format!("{problem}; it is not replaced, and nothing was written"),
            ),
            Refusal::Left(place, error) => Error::file(
                &self.path,
                format!(
                    "what stood there is at {} now, where it can neither be removed nor put back: {error}",
                    place.display()
                ),
            ),
        }
    }
}

impl Existing {
    /// Whether a folder is still this one, and holds the same.
    fn check(&self, path: &Path) -> Result<(), String> {
        let found = fs::symlink_metadata(path).map_err(|error| error.to_string())?;
        if id(&found) != self.id {
            return Err("something else has been put there meanwhile".into());
        }
        let now = entries(path).map_err(|error| error.to_string())?;
        match now.symmetric_difference(&self.entries).next() {
            None => Ok(()),
            Some(other) => Err(format!(
                "`{}` has been added or removed meanwhile",
                other.display()
            )),
        }
    }

    /// Removes what was found in the folder, and then the folder if it is empty.
    fn remove(&self, path: &Path) -> io::Result<()> {
        // What is in a folder comes after it.
        for entry in self.entries.iter().rev() {
            let entry = path.join(entry);
            match fs::symlink_metadata(&entry)?.is_dir() {
                true => fs::remove_dir(&entry)?,
                false => fs::remove_file(&entry)?,
            }
        }
        fs::remove_dir(path)
    }
}

/// All that is in a folder, from it on, folders too; links are not followed.
fn entries(folder: &Path) -> io::Result<BTreeSet<PathBuf>> {
    fn walk(root: &Path, inner: &Path, found: &mut BTreeSet<PathBuf>) -> io::Result<()> {
        for entry in fs::read_dir(root.join(inner))? {
            let entry = entry?;
            let inner = inner.join(entry.file_name());
            found.insert(inner.clone());
            if entry.file_type()?.is_dir() {
                walk(root, &inner, found)?;
            }
        }
        Ok(())
    }
    let mut found = BTreeSet::new();
    walk(folder, Path::new(""), &mut found)?;
    Ok(found)
}

/// The first folder, the outer one included, that nothing can be moved out of.
fn closed(folder: &Path, entries: &BTreeSet<PathBuf>) -> Option<PathBuf> {
    let inner = entries.iter().map(|inner| folder.join(inner));
    let mut folders = std::iter::once(folder.to_owned()).chain(inner);
    folders.find(|path| {
        let is_folder = fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
        is_folder && access(path.as_path(), Access::WRITE_OK | Access::EXEC_OK).is_err()
    })
}

/// The first entry that is neither one of `own` nor a folder on the way to one. A file manager's
/// own file is nobody's.
fn stray<'a>(entries: &'a BTreeSet<PathBuf>, own: &BTreeSet<PathBuf>) -> Option<&'a PathBuf> {
    let is_own = |entry: &Path| {
        own.contains(entry)
            || own.iter().any(|one| one.starts_with(entry))
            || entry.file_name().is_some_and(|name| name == ".DS_Store")
    };
    entries.iter().find(|entry| !is_own(entry))
}

#[cfg(test)]
mod tests;
