//! What a task had to leave out because this machine cannot have it. That is no failure, and must not
//! be overlooked either: it is said again at the very end.

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
