//! Whether a disk has room, before any work is done.

use std::path::Path;

use super::parent;
use crate::Error;

/// Refuses an output of so many bytes that the disk has no room for. What it replaces is there until
/// the end, so that it makes no room.
pub fn check_room(path: &Path, bytes: u64) -> Result<(), Error> {
    // Some file systems do not tell.
    let Ok(disk) = rustix::fs::statvfs(parent(path)) else {
        return Ok(());
    };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if disk.f_blocks > 0 && bytes > free {
        let problem = format!(
            "cannot write it: {bytes} bytes, and the disk has room for {free}; make room, or choose another place"
        );
        return Err(Error::file(path, problem));
    }
    Ok(())
}
