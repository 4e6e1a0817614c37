//! What a command does otherwise that another program calls: it keeps what would be printed, is watched
//! and stopped.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use quant_models::{Error, Hint, Job};

/// How far a command is, for other threads to see, and to stop it.
#[derive(Debug, Default)]
pub struct Watch {
    /// Bytes that have been dealt with.
    pub done: AtomicU64,
    /// Of so many; 0 where nobody knows.
    pub total: AtomicU64,
    /// Set it to end the work.
    pub cancelled: AtomicBool,
}

/// What a command would have printed.
#[derive(Debug, Default)]
pub struct Answer {
    /// On standard output.
    pub text: String,
    /// On standard error, a line each.
    pub warnings: Vec<String>,
}

/// How the caller says an option or a command that a message speaks of.
pub type Say = fn(&Hint) -> String;

struct Call {
    say: Say,
    watch: Arc<Watch>,
    answer: Answer,
}

thread_local! {
    /// Of the command that this thread runs.
    static CALL: RefCell<Option<Call>> = const { RefCell::new(None) };
}

/// From now on this thread's command is called.
pub fn begin(watch: &Arc<Watch>, say: Say) {
    CALL.set(Some(Call {
        say,
        watch: Arc::clone(watch),
        answer: Answer::default(),
    }));
}

/// What would have been printed since.
pub fn end() -> Answer {
    CALL.take().map(|call| call.answer).unwrap_or_default()
}

/// How the caller of this thread's command says hints, if it was called.
pub fn say() -> Option<Say> {
    CALL.with_borrow(|call| call.as_ref().map(|call| call.say))
}

/// Whether this thread's command was called.
pub fn is_called() -> bool {
    CALL.with_borrow(Option::is_some)
}

/// Keeps what would be printed; `false` where it is to be printed.
pub fn keep(text: &str) -> bool {
    CALL.with_borrow_mut(|call| match call {
        Some(call) => {
            call.answer.text.push_str(text);
            true
        }
        None => false,
    })
}

/// Keeps warnings; `false` where they are to be printed.
pub fn keep_warnings(warnings: &[String]) -> bool {
    CALL.with_borrow_mut(|call| match call {
        Some(call) => {
            call.answer.warnings.extend_from_slice(warnings);
            true
        }
        None => false,
    })
}

/// Who watches this thread's command, if it was called.
pub fn watch() -> Option<Arc<Watch>> {
    CALL.with_borrow(|call| Some(Arc::clone(&call.as_ref()?.watch)))
}

/// Runs `work` under a watch.
pub fn with_progress<T: Send>(
    watch: &Watch,
    pool: &rayon::ThreadPool,
    force: bool,
    bytes: u64,
    work: impl FnOnce(&Job<'_>) -> Result<T, Error> + Send,
) -> Result<T, Error> {
    watch.total.store(bytes, Ordering::Relaxed);
    let progress = |bytes| {
        watch.done.fetch_add(bytes, Ordering::Relaxed);
    };
    let job = Job::UNWATCHED
        .with_force(force)
        .with_progress(&progress)
        .with_cancel(&watch.cancelled);
    pool.install(|| work(&job))
}
