//! Files made like others.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::group_and_others;
use crate::{Error, Job};

/// Bytes between two looks at whether to go on.
const STEP: usize = 1 << 20;

/// Makes a file. `others` is what group and others may do with it at most, and the umask says what
/// of that.
pub fn create(path: &Path, others: u32) -> io::Result<File> {
    File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600 | others & 0o066)
        .open(path)
}

/// Copies a regular file, and returns its bytes. The copy is its owner's to write, even where the
/// file is read-only in a cache.
pub fn copy(from: &Path, to: &Path, job: &Job<'_>) -> Result<u64, Error> {
    let failed = |doing| Error::io(from, doing);
    // Before it is opened: a pipe would wait for somebody to write.
    let found = fs::metadata(from).map_err(failed("copy it"))?;
    if !found.is_file() {
        return Err(Error::file(from, "not a file, and cannot be copied"));
    }
    let mut input = File::open(from).map_err(failed("copy it"))?;
    let mut output = create(to, group_and_others(&found)).map_err(failed("copy it"))?;
    let (mut buffer, mut bytes) = (vec![0; STEP.min(found.len() as usize + 1)], 0);
    loop {
        job.check()?;
        let count = match input.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            count => count.map_err(failed("read it"))?,
        };
        if count == 0 {
            break;
        }
        output
            .write_all(&buffer[..count])
            .map_err(failed("copy it"))?;
        bytes += count as u64;
        if bytes > found.len() {
            return Err(Error::file(
                from,
                "grows while it is copied; try again later",
            ));
        }
    }
    if job.sync {
        output.sync_all().map_err(failed("copy it"))?;
    }
    Ok(bytes)
}
