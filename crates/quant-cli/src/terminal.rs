//! What reaches standard output and standard error.

use std::io::{self, Write as _};

use quant_models::Error;
use serde_json::Value;

pub fn stdout_error(source: io::Error) -> Error {
    Error::Io {
        file: "standard output".into(),
        doing: "write to it",
        source,
    }
}

/// A reader that has seen enough, such as `head`, is no error.
pub fn print(text: &str) -> Result<(), Error> {
    let mut stdout = io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(stdout_error(error)),
        _ => Ok(()),
    }
}

pub fn print_json(value: &Value) -> Result<(), Error> {
    print(&format!("{value:#}\n"))
}

/// Where not even an error can be said, the exit status still tells.
pub fn say_error(error: &Error) {
    let _ = writeln!(io::stderr(), "quant: {error}");
}

pub fn warn(warnings: &[String]) {
    for warning in warnings {
        let _ = writeln!(io::stderr(), "quant: warning: {warning}");
    }
}

/// A name may hold anything; not all of it may stand in a line, or in XML.
pub fn printable(text: &str) -> String {
    let mut printable = String::new();
    for char in text.chars() {
        match char.is_control() || ('\u{fffe}'..='\u{ffff}').contains(&char) {
            true => printable.extend(char.escape_default()),
            false => printable.push(char),
        }
    }
    printable
}
