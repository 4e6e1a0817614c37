//! Files as memory.

use std::fs::File;
use std::path::Path;

use memmap2::Mmap;

use crate::Error;

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
