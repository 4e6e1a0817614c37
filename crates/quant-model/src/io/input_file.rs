//! Files that are read at any place, from any thread.
//!
//! They are not mapped: a mapped file that another process shortens ends this one with a signal, and
//! its bytes may change under a reference. What is read here is copied once, into memory that stays
//! in the cache, and a file that has become shorter is an error.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use quant_simd::Source;

use super::{Id, id};
use crate::Error;

/// Files that are open at a time: a model may have more shards than a process may have files.
const OPEN: usize = 32;
/// Bytes that are compared at a time.
const STEP: usize = 1 << 20;

type Slot = Mutex<Option<Arc<File>>>;

/// Those that are open, the longest first.
static SLOTS: Mutex<VecDeque<Weak<Slot>>> = Mutex::new(VecDeque::new());

/// A file, open or not.
#[derive(Debug)]
pub struct InputFile {
    path: PathBuf,
    len: u64,
    id: Id,
    slot: Arc<Slot>,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl InputFile {
    /// Finds a regular file. `expected` says what to give instead.
    pub fn open(path: &Path, expected: &str) -> Result<Self, Error> {
        // Before it is opened: a pipe would wait for somebody to write.
        let found = fs::metadata(path).map_err(Error::io(path, "open it"))?;
        if !found.is_file() {
            return Err(Error::file(path, format!("not a file; {expected}")));
        }
        let file = Self {
            path: path.to_owned(),
            len: found.len(),
            id: id(&found),
            slot: Arc::default(),
        };
        file.handle()?;
        Ok(file)
    }

    /// As it was named.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it held nothing when it was found.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes when it was found.
    pub fn len(&self) -> u64 {
        self.len
    }

    fn handle(&self) -> Result<Arc<File>, Error> {
        if let Some(file) = &*locked(&self.slot) {
            return Ok(Arc::clone(file));
        }
        let file = File::open(&self.path).map_err(Error::io(&self.path, "open it"))?;
        let found = file.metadata().map_err(Error::io(&self.path, "open it"))?;
        if id(&found) != self.id {
            let problem = "another file has taken its place meanwhile; start again";
            return Err(Error::file(&self.path, problem));
        }
        let file = Arc::new(file);
        *locked(&self.slot) = Some(Arc::clone(&file));
        let mut slots = locked(&SLOTS);
        slots.retain(|slot| slot.strong_count() > 0);
        slots.push_back(Arc::downgrade(&self.slot));
        let oldest = match slots.len() > OPEN {
            true => slots.pop_front().and_then(|slot| slot.upgrade()),
            false => None,
        };
        drop(slots);
        // Who is reading it has a handle of their own.
        if let Some(slot) = oldest.filter(|slot| !Arc::ptr_eq(slot, &self.slot)) {
            *locked(&slot) = None;
        }
        Ok(file)
    }

    /// Fills the buffer from a place on.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        let read = self.handle()?.read_exact_at(buffer, offset);
        read.map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => {
                let problem = format!(
                    "has become shorter while it was read: it had {} bytes; start again when it is whole",
                    self.len
                );
                Error::file(&self.path, problem)
            }
            _ => Error::io(&self.path, "read it")(error),
        })
    }

    /// Some of its bytes.
    pub fn data(&self, start: u64, len: usize) -> Data<'_> {
        let file = self;
        Data::File { file, start, len }
    }
}

/// Bytes in memory or in a file.
#[derive(Clone, Debug)]
pub enum Data<'a> {
    /// Bytes that are in memory.
    Memory(Cow<'a, [u8]>),
    /// Bytes that are read when they are needed.
    File {
        /// The file.
        file: &'a InputFile,
        /// Where in it they begin.
        start: u64,
        /// How many there are.
        len: usize,
    },
}

/// Equal for the same bytes of a file, and for equal ones in memory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DataKey<'a> {
    /// Bytes in memory.
    Memory(&'a [u8]),
    /// A file, the position of its bytes, their number.
    File(Id, u64, usize),
}

impl Data<'_> {
    /// None at all.
    pub const EMPTY: Self = Self::Memory(Cow::Borrowed(&[]));

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Memory(bytes) => bytes.len(),
            Self::File { len, .. } => *len,
        }
    }

    /// What they are found again by.
    pub fn key(&self) -> DataKey<'_> {
        match self {
            Self::Memory(bytes) => DataKey::Memory(bytes),
            Self::File { file, start, len } => DataKey::File(file.id, *start, *len),
        }
    }

    /// Some of them.
    pub fn part(&self, offset: usize, len: usize) -> Result<Cow<'_, [u8]>, Error> {
        match self {
            Self::Memory(bytes) => Ok(Cow::Borrowed(&bytes[offset..offset + len])),
            Self::File { .. } => {
                let mut bytes = vec![0; len];
                self.read(offset, &mut bytes)?;
                Ok(Cow::Owned(bytes))
            }
        }
    }

    /// All of them: for what is small.
    pub fn whole(&self) -> Result<Cow<'_, [u8]>, Error> {
        self.part(0, self.len())
    }

    /// Whether both are the same bytes.
    pub fn same(&self, other: &Self) -> Result<bool, Error> {
        if self.len() != other.len() {
            return Ok(false);
        }
        if self.key() == other.key() {
            return Ok(true);
        }
        for start in (0..self.len()).step_by(STEP) {
            let len = STEP.min(self.len() - start);
            if self.part(start, len)? != other.part(start, len)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Source for Data<'_> {
    type Error = Error;

    fn read(&self, offset: usize, buffer: &mut [u8]) -> Result<(), Error> {
        match self {
            Self::Memory(bytes) => {
                buffer.copy_from_slice(&bytes[offset..offset + buffer.len()]);
                Ok(())
            }
            Self::File { file, start, len } => {
                assert!(offset + buffer.len() <= *len, "inside the data");
                file.read(start + offset as u64, buffer)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_files_are_read_than_are_open() {
        let folder = tempfile::tempdir().unwrap();
        let files: Vec<_> = (0..3 * OPEN)
            .map(|i| {
                let path = folder.path().join(i.to_string());
                fs::write(&path, i.to_le_bytes()).unwrap();
                InputFile::open(&path, "a file").unwrap()
            })
            .collect();
        let open = || files.iter().filter(|file| locked(&file.slot).is_some());
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let files = &files;
                scope.spawn(move || {
                    for round in 0..200 {
                        let i = (round * 31 + thread * 7) % files.len();
                        let bytes = files[i].data(0, 8).whole().unwrap().into_owned();
                        assert_eq!(bytes, i.to_le_bytes());
                    }
                });
            }
        });
        // Those that another thread was opening at the end may be there, too.
        assert!(open().count() <= OPEN + 4, "{}", open().count());
    }

    #[test]
    fn a_file_that_changes_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        fs::write(&path, [7; 100]).unwrap();
        let file = InputFile::open(&path, "a file").unwrap();
        let data = file.data(10, 90);
        assert!(data.same(&Data::Memory(vec![7; 90].into())).unwrap());
        assert!(!data.same(&Data::Memory(vec![8; 90].into())).unwrap());
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(99)
            .unwrap();
        let said = data.whole().unwrap_err().to_string();
        assert!(
            said.contains("shorter") && said.contains("100 bytes"),
            "{said}"
        );
        *locked(&file.slot) = None;
        fs::rename(&path, folder.path().join("y")).unwrap();
        fs::write(&path, [7; 100]).unwrap();
        let said = data.whole().unwrap_err().to_string();
        assert!(said.contains("another file"), "{said}");
    }
}
