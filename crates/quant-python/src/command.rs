//! The `quant` command, called: what functions on files do, with its options.

use std::ffi::OsString;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use pyo3::prelude::*;
use quant_cli::{Answer, CallError, Watch};

use crate::errors::{Raised, keyword};

/// How long a signal, such as that of Ctrl-C, may wait.
const TURN: Duration = Duration::from_millis(50);

/// Runs the command as a program does: prints, and returns the exit status.
#[pyfunction]
pub fn run(py: Python<'_>, line: Vec<OsString>) -> u8 {
    py.detach(|| quant_cli::run(line))
}

/// Runs a line of the command; returns the document that it answers, and its warnings. `progress` is
/// called with the bytes that are done, and how many there are (0: nobody knows).
///
/// # Errors
/// What the command says; what `progress` or a signal handler raises, after the work has ended.
#[pyfunction]
pub fn call(
    py: Python<'_>,
    line: Vec<OsString>,
    progress: Option<Py<PyAny>>,
) -> PyResult<(String, Vec<String>)> {
    let watch = Arc::new(Watch::default());
    let (sender, mut receiver) = mpsc::channel();
    let theirs = Arc::clone(&watch);
    let work = move || {
        let answer = quant_cli::call(line, &theirs, keyword);
        // Who does not wait any more has seen a panic.
        let _ = sender.send(answer);
    };
    let thread = std::thread::Builder::new().name("linquant-command".into());
    let thread = thread.spawn(work);
    thread.map_err(|error| Raised::new("Error", format!("cannot start a thread: {error}")))?;
    let mut stopped = None;
    loop {
        let waiting = &mut receiver;
        let answer = py.detach(move || waiting.recv_timeout(TURN));
        let turn = || {
            py.check_signals()?;
            tell(py, progress.as_ref(), &watch)
        };
        if stopped.is_none()
            && let Err(error) = turn()
        {
            watch.cancelled.store(true, Ordering::Relaxed);
            stopped = Some(error);
        }
        match answer {
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(stopped.unwrap_or_else(|| Raised::internal("a panic").into()));
            }
            Ok(answer) => return finished(answer, stopped),
        }
    }
}

fn tell(py: Python<'_>, progress: Option<&Py<PyAny>>, watch: &Watch) -> PyResult<()> {
    let Some(progress) = progress else {
        return Ok(());
    };
    let done = watch.done.load(Ordering::Relaxed);
    let total = watch.total.load(Ordering::Relaxed);
    progress.call1(py, (done, total)).map(drop)
}

/// What stopped the work is told, unless the work was done before it saw that.
fn finished(
    answer: Result<Answer, CallError>,
    stopped: Option<PyErr>,
) -> PyResult<(String, Vec<String>)> {
    match (answer, stopped) {
        (_, Some(error)) => Err(error),
        (Ok(answer), None) => Ok((answer.text, answer.warnings)),
        (Err(CallError::Line(problem)), None) => Err(Raised::new("OptionError", problem).into()),
        (Err(CallError::Command(error)), None) => Err(Raised::from(error).into()),
    }
}
