//! What a task had to leave out because this machine cannot have it. That is no failure, and must not
//! be overlooked either: it is said again at the very end.

use std::fmt;
use std::sync::Mutex;

static ALL: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Remembers what was left out, and why.
pub fn note(what: String) {
    ALL.lock().expect("no panic").push(what);
}

/// The last lines of a task's output.
pub fn print() {
    for what in ALL.lock().expect("no panic").iter() {
        println!("NOT RUN: {what}");
    }
}

/// Why something is not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Absent {
    /// No package would help: this machine cannot have it.
    Impossible(String),
    /// `cargo xtask setup` installs what is missing.
    NotInstalled(String),
}

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Impossible(why) | Self::NotInstalled(why)) = self;
        f.write_str(why)
    }
}

impl std::error::Error for Absent {}
