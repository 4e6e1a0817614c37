//! Files: what may be written where, temporary names, renames, and inputs read with bounds.

mod atomic_file;
mod atomic_folder;
mod copy;
mod destination;
mod input_file;
mod inputs;
mod leftovers;
mod links;
mod preallocated_file;
mod rename;
mod room;
mod small_file;
mod temporary;

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::Job;

pub use atomic_file::AtomicFile;
pub use atomic_folder::AtomicFolder;
pub use inputs::Inputs;

pub use copy::{copy, create};
pub use destination::Destination;
pub use input_file::{Data, DataKey, InputFile};
pub use leftovers::clean;
pub use links::Links;
pub use preallocated_file::PreallocatedFile;
pub use room::check_room;
pub use small_file::read_bounded;
pub use temporary::{TemporaryFile, TemporaryFolder, group_and_others};

/// Device and inode: which file or folder it is, by whatever name.
pub type Id = (u64, u64);

pub(crate) fn id(found: &fs::Metadata) -> Id {
    (found.dev(), found.ino())
}

/// The folder that holds `path`.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Waits until a file or folder is on the disk, where a job wants that ([`Job::sync`]).
///
/// # Errors
/// What the operating system says.
pub fn sync_for(job: &Job<'_>, path: &Path) -> std::io::Result<()> {
    match job.sync {
        true => sync(path),
        false => Ok(()),
    }
}

/// Waits until a file or folder is on the disk.
///
/// # Errors
/// What the operating system says.
pub fn sync(path: &Path) -> std::io::Result<()> {
    File::open(path)?.sync_all()
}
