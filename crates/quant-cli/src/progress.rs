//! Long work: its threads, its progress bar, and how the user stops it.

#[cfg(feature = "run")]
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
#[cfg(feature = "run")]
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
#[cfg(feature = "run")]
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use quant_models::{Error, Job};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level::unregister;
use signal_hook::{SigId, flag};

use crate::called;

/// Bytes of standard input that are read at once.
#[cfg(feature = "run")]
const BLOCK: usize = 65_536;

/// Whether a signal asked the work to stop.
static CANCELLED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// The signal that asked to stop, or 0.
static SIGNAL: LazyLock<Arc<AtomicUsize>> = LazyLock::new(Arc::default);

/// Whether there is nothing to be undone.
static ONLY_WORDS: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// What the signals do while a command runs.
static HANDLERS: Mutex<Vec<SigId>> = Mutex::new(Vec::new());

/// Runs a command: neither signals nor handlers outlive it.
pub fn with_signals<T>(command: impl FnOnce() -> T) -> T {
    CANCELLED.store(false, Ordering::SeqCst);
    SIGNAL.store(0, Ordering::SeqCst);
    ONLY_WORDS.store(true, Ordering::SeqCst);
    let done = command();
    let mut handlers = HANDLERS.lock().unwrap_or_else(PoisonError::into_inner);
    for handler in handlers.drain(..) {
        unregister(handler);
    }
    done
}

/// All is written, and what it was remains to be told: a signal that comes now, or came too late for
/// the work, ends the process at once.
pub fn only_words_are_left() {
    if called::is_called() {
        return;
    }
    ONLY_WORDS.store(true, Ordering::SeqCst);
    if let Some(signal) = signal() {
        std::process::exit(128 + i32::from(signal));
    }
}

/// What asked to stop.
pub fn signal() -> Option<u8> {
    let signal = SIGNAL.load(Ordering::Relaxed);
    u8::try_from(signal).ok().filter(|&signal| signal != 0)
}

/// Runs `work` on so many threads, with a progress bar of `bytes` (0: nobody knows), until it is done
/// or the user asks to stop; who asks twice is not kept waiting.
pub fn with_progress<T: Send>(
    threads: u16,
    quiet: bool,
    force: bool,
    bytes: u64,
    work: impl FnOnce(&Job<'_>) -> Result<T, Error> + Send,
) -> Result<T, Error> {
    if !called::is_called() {
        ONLY_WORDS.store(false, Ordering::SeqCst);
        watch().map_err(|error| Error::Io {
            file: "signals".into(),
            doing: "watch for them",
            source: error,
        })?;
    }
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads.into())
        .build()
        .map_err(|error| Error::Io {
            file: "threads".into(),
            doing: "start them",
            source: std::io::Error::other(error),
        })?;
    if let Some(watch) = called::watch() {
        return called::with_progress(&watch, &pool, force, bytes, work);
    }
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
    let progress = |bytes| bar.inc(bytes);
    let job = Job::UNWATCHED
        .with_force(force)
        .with_progress(&progress)
        .with_cancel(&CANCELLED);
    let result = pool.install(|| work(&job));
    bar.finish_and_clear();
    // What ends by the same Ctrl-C, such as the other end of a pipe, is no trouble of ours.
    match result {
        Err(error) if CANCELLED.load(Ordering::Relaxed) => Err(match error {
            Error::Paused { .. } => error,
            _ => Error::Interrupted,
        }),
        result => result,
    }
}

/// Standard input that keeps nobody waiting who asks to stop: then reading is an error.
#[cfg(feature = "run")]
pub struct Input {
    blocks: Receiver<io::Result<Vec<u8>>>,
    block: io::Cursor<Vec<u8>>,
}

#[cfg(feature = "run")]
impl Input {
    /// Begins to read; the thread ends with the stream, or once nobody wants more of it.
    pub fn new() -> Self {
        let (send, blocks) = sync_channel(1);
        std::thread::spawn(move || {
            let mut stream = io::stdin().lock();
            loop {
                let mut block = vec![0; BLOCK];
                let read = stream.read(&mut block).map(|len| {
                    block.truncate(len);
                    block
                });
                let is_last = !read.as_ref().is_ok_and(|block| !block.is_empty());
                if send.send(read).is_err() || is_last {
                    return;
                }
            }
        });
        Self {
            blocks,
            block: io::Cursor::default(),
        }
    }
}

#[cfg(feature = "run")]
impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.block.position() == self.block.get_ref().len() as u64 {
            match self.blocks.recv_timeout(Duration::from_millis(100)) {
                Ok(block) => self.block = io::Cursor::new(block?),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(0),
            }
            // Readers try again where the kind of the error says that a signal came.
            if CANCELLED.load(Ordering::Relaxed) {
                return Err(io::Error::other("interrupted"));
            }
        }
        self.block.read(buffer)
    }
}

/// Sets the flag at the first signal, and ends the process at the second.
fn watch() -> std::io::Result<()> {
    let mut handlers = HANDLERS.lock().unwrap_or_else(PoisonError::into_inner);
    if !handlers.is_empty() {
        return Ok(());
    }
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        // `nohup` stays what it is.
        if is_ignored(signal) {
            continue;
        }
        for flag in [&CANCELLED, &ONLY_WORDS] {
            let flag = Arc::clone(flag);
            handlers.push(flag::register_conditional_shutdown(
                signal,
                128 + signal,
                flag,
            )?);
        }
        handlers.push(flag::register(signal, Arc::clone(&CANCELLED))?);
        let number = Arc::clone(&SIGNAL);
        handlers.push(flag::register_usize(signal, number, signal as usize)?);
    }
    Ok(())
}

/// Whether the process was started with a signal switched off; Linux says so.
fn is_ignored(signal: i32) -> bool {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else {
        return false;
    };
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << (signal - 1)) != 0)
}
