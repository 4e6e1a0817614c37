//! How work is watched and stopped.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::Error;

/// How a command is watched and stopped.
///
/// ```
/// use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
/// use quant_model::{Job, total_bytes};
///
/// let (done, stop) = (AtomicU64::new(0), AtomicBool::new(false));
/// let total = total_bytes("model.safetensors".as_ref());
/// let progress = |bytes| {
///     let so_far = bytes + done.fetch_add(bytes, Ordering::Relaxed);
///     eprintln!("{so_far} of {total} bytes");
/// };
/// let job = Job::new().with_progress(&progress).with_cancel(&stop).with_force(true);
/// assert!(job.force && job.sync && job.check().is_ok());
/// ```
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Job<'a> {
    /// Replace an output that is there already; else that is an error.
    pub force: bool,
    /// Wait until the output is on the disk before it gets its name, so that it outlives a power cut.
    /// Without it, a power cut may leave an output with its name that is incomplete.
    pub sync: bool,
    /// Called, from any thread, with the number of input bytes that have been dealt with since the
    /// last call: the sum of all calls so far is the progress, and [`total_bytes`] about what it comes
    /// to.
    pub progress: &'a (dyn Fn(u64) + Sync),
    /// Set it, from any thread, to end the work with [`Error::Interrupted`].
    pub cancelled: &'a AtomicBool,
}

static NEVER: AtomicBool = AtomicBool::new(false);

impl Job<'static> {
    /// Work that nobody watches or ends.
    pub const UNWATCHED: Self = Self {
        force: false,
        sync: true,
        progress: &|_| {},
        cancelled: &NEVER,
    };
}

impl<'a> Job<'a> {
    /// Work that nobody watches or ends, and that replaces nothing.
    pub const fn new() -> Self {
        Job::UNWATCHED
    }

    /// Replaces an existing output, or does not.
    #[must_use]
    pub const fn with_force(self, force: bool) -> Self {
        Self { force, ..self }
    }

    /// See [`Job::sync`].
    #[must_use]
    pub const fn with_sync(self, sync: bool) -> Self {
        Self { sync, ..self }
    }

    /// See [`Job::progress`].
    #[must_use]
    pub const fn with_progress(self, progress: &'a (dyn Fn(u64) + Sync)) -> Self {
        Self { progress, ..self }
    }

    /// See [`Job::cancelled`].
    #[must_use]
    pub const fn with_cancel(self, cancelled: &'a AtomicBool) -> Self {
        Self { cancelled, ..self }
    }
}

impl Default for Job<'_> {
    fn default() -> Self {
        Self::new()
    }
}

/// Bytes of a file, or of all files in a folder, without links: what [`Job::progress`] adds up to,
/// about. 0 where there is none.
pub fn total_bytes(model: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(model) else {
        return std::fs::metadata(model).map_or(0, |file| file.len());
    };
    let entries = entries.flatten().map(|entry| entry.path());
    let sizes = entries.map(|path| match path.is_symlink() {
        true => 0,
        false => total_bytes(&path),
    });
    sizes.sum()
}

impl Job<'_> {
    /// Whether the work may go on.
    ///
    /// # Errors
    /// [`Error::Interrupted`], where the caller asked to stop.
    pub fn check(&self) -> Result<(), Error> {
        match self.cancelled.load(Ordering::Relaxed) {
            true => Err(Error::Interrupted),
            false => Ok(()),
        }
    }
}
