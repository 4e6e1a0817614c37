//! The `quant` command.
#![forbid(unsafe_code)]

mod choices;
mod commands;
mod needs;
mod options;
mod paths;
mod progress;
mod report;
mod status;
mod table;
mod terminal;

use std::io::Write as _;
use std::process::ExitCode;

use quant_models::printable;

use commands::Arguments;

fn main() -> ExitCode {
    let (arguments, matches) = match Arguments::read() {
        Ok(read) => read,
        Err(error) => return usage(&error),
    };
    let is_diff = arguments.is_diff();
    match needs::check(&matches).and_then(|()| arguments.run()) {
        Ok(code) => code,
        Err(error) => {
            terminal::say(&error.to_string());
            status::of(&error, is_diff, progress::signal())
        }
    }
}

/// Help that was asked for, or what is wrong with the command line.
fn usage(error: &clap::Error) -> ExitCode {
    if error.use_stderr() {
        // The words of the command line are the user's own, but may have been pasted.
        for line in error.render().to_string().lines() {
            let _ = writeln!(std::io::stderr(), "{}", printable(line));
        }
        return ExitCode::from(status::USAGE);
    }
    match terminal::print_styled(&error.render()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            terminal::say(&error.to_string());
            ExitCode::from(status::FAILED)
        }
    }
}
