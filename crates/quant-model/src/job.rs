//! How work is watched and stopped.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::Error;

/// How a command is watched and stopped.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    /// Replace an existing output.
    pub force: bool,
    /// Called, from any thread, with input bytes that have been dealt with.
    pub progress: &'a (dyn Fn(u64) + Sync),
    /// Set it to end the work.
    pub cancelled: &'a AtomicBool,
}

static NEVER: AtomicBool = AtomicBool::new(false);

impl Job<'static> {
    /// Work that nobody watches or ends.
    pub const UNWATCHED: Self = Self {
        force: false,
        progress: &|_| {},
        cancelled: &NEVER,
    };
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
