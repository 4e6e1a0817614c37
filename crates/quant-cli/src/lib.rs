//! The `quant` command as a function, for programs that carry it: the Python package does.
#![forbid(unsafe_code)]

mod call;
mod called;
mod choices;
mod colours;
mod commands;
mod html;
mod mixed;
mod needs;
mod options;
mod paths;
mod progress;
mod report;
mod rewrite;
mod status;
mod table;
mod terminal;
mod weights;

use std::ffi::OsString;
use std::io::Write as _;

use quant_models::printable;

pub use call::{CallError, call};
pub use called::{Answer, Say, Watch};
use commands::Arguments;

/// Does what a command line says, the first word of which is the program's name, and returns the exit
/// status. It handles SIGHUP, SIGINT and SIGTERM, and prints to the process' own streams.
pub fn run(line: impl IntoIterator<Item = OsString>) -> u8 {
    let (arguments, matches) = match Arguments::read(line) {
        Ok(read) => read,
        Err(error) => return usage(&error),
    };
    let is_diff = arguments.is_diff();
    let done = || needs::check(&matches).and_then(|()| arguments.run());
    progress::with_signals(|| match done() {
        Ok(status) => status,
        Err(error) => {
            terminal::say(&error.told(&needs::told));
            status::of(&error, is_diff, progress::signal())
        }
    })
}

/// Help that was asked for, or what is wrong with the command line.
fn usage(error: &clap::Error) -> u8 {
    if error.use_stderr() {
        // The words of the command line are the user's own, but may have been pasted.
        for line in error.render().to_string().lines() {
            let _ = writeln!(std::io::stderr(), "{}", printable(line));
        }
        return status::USAGE;
    }
    match terminal::print_styled(&error.render()) {
        Ok(()) => status::DONE,
        Err(error) => {
            terminal::say(&error.to_string());
            status::FAILED
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_line_comes_back_with_the_exit_status() {
        let run = |line: &[&str]| super::run(line.iter().map(Into::into));
        assert_eq!(run(&["quant", "backends"]), 0);
        assert_eq!(run(&["quant", "no-such-command"]), 2);
    }
}
