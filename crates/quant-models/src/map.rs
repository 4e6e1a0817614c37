//! Files as memory.

use std::fs::File;
use std::ops::Deref;
use std::path::Path;

use memmap2::Mmap;

use crate::Error;

/// What stands in a file, or is to stand there.
#[derive(Debug)]
pub(crate) enum Bytes {
    Mapped(Mmap),
    Made(Vec<u8>),
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Made(bytes) => bytes,
        }
    }
}

/// Maps a file; an empty one too.
pub(crate) fn map(path: &Path, expected: &'static str) -> Result<Mmap, Error> {
    // Before it is opened: a pipe would wait for somebody to write.
    let kind = std::fs::metadata(path).map_err(Error::io(path, "open it"))?;
    if !kind.is_file() {
        return Err(Error::file(path, format!("not a file; {expected}")));
    }
    let file = File::open(path).map_err(Error::io(path, "open it"))?;
    #[expect(unsafe_code)]
    // SAFETY: the mapping is read-only and private to its owner. Another process that shortens the
    // file meanwhile would end this one with a signal, as with every mapped reader; nothing here
    // relies on the bytes staying the same.
    let map = unsafe { Mmap::map(&file) };
    map.map_err(Error::io(path, "map it"))
}
