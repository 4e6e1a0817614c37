//! A command that another program calls: it gets what would be printed, watches the work and stops it.

use std::cell::RefCell;
use std::ffi::OsString;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use quant_models::{Error, Job};

use crate::commands::Arguments;
use crate::needs;

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

/// Why a command gave no answer.
#[derive(Debug)]
pub enum Failure {
    /// The line is wrong; what is wrong with it, without advice on the command's usage.
    Line(String),
    /// As it says.
    Command(Error),
}

struct Call {
    watch: Arc<Watch>,
    answer: Answer,
}

thread_local! {
    /// Of the command that this thread runs.
    static CALL: RefCell<Option<Call>> = const { RefCell::new(None) };
}

/// Does what a command line says, as [`run`](crate::run) does, but prints nothing, and leaves signals
/// to the caller. `--json` makes the answer a document.
///
/// # Errors
/// See [`Failure`].
pub fn call(
    line: impl IntoIterator<Item = OsString>,
    watch: &Arc<Watch>,
) -> Result<Answer, Failure> {
    let (arguments, matches) =
        Arguments::read(line).map_err(|error| Failure::Line(told(&error)))?;
    CALL.set(Some(Call {
        watch: Arc::clone(watch),
        answer: Answer::default(),
    }));
    let done = needs::check(&matches).and_then(|()| arguments.run());
    let call = CALL.take();
    done.map_err(Failure::Command)?;
    Ok(call.map(|call| call.answer).unwrap_or_default())
}

/// The first paragraph, in a line.
fn told(error: &clap::Error) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let paragraph = text.split("\n\n").next().unwrap_or_default();
    paragraph.split_whitespace().collect::<Vec<_>>().join(" ")
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
pub fn watched<T: Send>(
    watch: &Watch,
    pool: &rayon::ThreadPool,
    force: bool,
    bytes: u64,
    work: impl FnOnce(&Job<'_>) -> Result<T, Error> + Send,
) -> Result<T, Error> {
    watch.total.store(bytes, Ordering::Relaxed);
    let job = Job {
        force,
        progress: &|bytes| {
            watch.done.fetch_add(bytes, Ordering::Relaxed);
        },
        cancelled: &watch.cancelled,
    };
    pool.install(|| work(&job))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_prints_nothing_and_ends_with_its_thread_free() {
        let watch = Arc::default();
        let line = |line: &[&str]| line.iter().map(OsString::from).collect::<Vec<_>>();
        let answer = call(line(&["quant", "backends", "--json"]), &watch).unwrap();
        assert!(answer.text.contains("\"available\""), "{}", answer.text);
        let Err(Failure::Line(problem)) = call(line(&["quant", "inspect"]), &watch) else {
            panic!("a line without a model");
        };
        assert!(
            problem.contains("<FILE>") && !problem.contains("Usage"),
            "{problem}"
        );
        let Err(Failure::Command(error)) = call(line(&["quant", "inspect", "/no/model"]), &watch)
        else {
            panic!("a model that is not there");
        };
        assert!(error.to_string().starts_with("/no/model"), "{error}");
        assert!(!is_called());
    }
}
