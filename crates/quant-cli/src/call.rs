//! A command line that another program calls: it gets what would be printed.

use std::ffi::OsString;
use std::sync::Arc;

use quant_models::Error;

use crate::called::{self, Answer, Say, Watch};
use crate::commands::Arguments;
use crate::needs;

/// Why a command gave no answer.
#[derive(Debug)]
pub enum CallError {
    /// The line is wrong; what is wrong with it, without advice on the command's usage.
    Line(String),
    /// As it says.
    Command(Error),
}

/// Does what a command line says, as [`run`](crate::run) does, but prints nothing, and leaves signals
/// to the caller. `--json` makes the answer a document. Warnings have options and commands as `say` has
/// them.
///
/// # Errors
/// See [`CallError`].
pub fn call(
    line: impl IntoIterator<Item = OsString>,
    watch: &Arc<Watch>,
    say: Say,
) -> Result<Answer, CallError> {
    let (arguments, matches) =
        Arguments::read(line).map_err(|error| CallError::Line(told(&error)))?;
    called::begin(watch, say);
    let done = needs::check(&matches).and_then(|()| arguments.run());
    let answer = called::end();
    done.map_err(CallError::Command)?;
    Ok(answer)
}

/// The first paragraph, in a line.
fn told(error: &clap::Error) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let paragraph = text.split("\n\n").next().unwrap_or_default();
    paragraph.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::called::is_called;

    #[test]
    fn a_call_prints_nothing_and_ends_with_its_thread_free() {
        let watch = Arc::default();
        let say: Say = |hint| hint.option.clone();
        let line = |line: &[&str]| line.iter().map(OsString::from).collect::<Vec<_>>();
        let answer = call(line(&["quant", "backends", "--json"]), &watch, say).unwrap();
        assert!(answer.text.contains("\"available\""), "{}", answer.text);
        let Err(CallError::Line(problem)) = call(line(&["quant", "inspect"]), &watch, say) else {
            panic!("a line without a model");
        };
        assert!(
            problem.contains("<FILE>") && !problem.contains("Usage"),
            "{problem}"
        );
        let Err(CallError::Command(error)) =
            call(line(&["quant", "inspect", "/no/model"]), &watch, say)
        else {
            panic!("a model that is not there");
        };
        assert!(error.to_string().starts_with("/no/model"), "{error}");
        assert!(!is_called());
    }
}
