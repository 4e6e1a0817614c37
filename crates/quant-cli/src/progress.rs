//! Long work: its threads, its progress bar, and how the user stops it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{ProgressBar, ProgressStyle};
use quant_models::{Error, Job};

/// Runs `work` on so many threads, with a progress bar of `bytes` (0: nobody knows), until it is done or the user
/// asks to stop.
pub fn with_progress<T: Send>(
    threads: u16,
    quiet: bool,
    force: bool,
    bytes: u64,
    work: impl FnOnce(&Job<'_>) -> Result<T, Error> + Send,
) -> Result<T, Error> {
    let cancelled = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&cancelled);
    ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed))
        .map_err(|error| Error::Option(format!("cannot watch for Ctrl-C: {error}")))?;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads.into())
        .build()
        .map_err(|error| Error::Option(format!("cannot start {threads} threads: {error}")))?;
    let bar = match quiet {
        true => ProgressBar::hidden(),
        false => ProgressBar::new(bytes),
    };
    let style = match bytes {
        0 => "{spinner} {bytes}, {bytes_per_sec}",
        _ => "{bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left",
    };
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    let job = Job {
        force,
        progress: &|bytes| bar.inc(bytes),
        cancelled: &cancelled,
    };
    let result = pool.install(|| work(&job));
    bar.finish_and_clear();
    result
}

/// Bytes of a file, or of all files in a folder: what a progress bar goes through.
pub fn size_of(model: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(model) else {
        return std::fs::metadata(model).map_or(0, |file| file.len());
    };
    let entries = entries.flatten().map(|entry| entry.path());
    entries
        .map(|path| if path.is_symlink() { 0 } else { size_of(&path) })
        .sum()
}
