//! Exit statuses.

use quant_models::Error;

pub const DONE: u8 = 0;
pub const FAILED: u8 = 1;
pub const USAGE: u8 = 2;
const FELL_SHORT: u8 = 3;
/// What `quant diff` ends with, as diff(1) does.
pub const DIFFERENT: u8 = 1;
pub const TROUBLE: u8 = 2;

/// The end of every help text and manual page.
pub const TABLE: &str = "\
Exit status:
    0  done; diff: the models are equal
    1  failed, and nothing was written, unless only printing or the report failed; diff: the models differ
    2  the command line is wrong; diff: an error, such as a model that cannot be read
    3  --strict: something that was selected cannot be quantized, and nothing was written
  129, 130, 143  ended by SIGHUP, SIGINT (Ctrl-C), SIGTERM";

/// Of a command that ended with an error; `signal` is what asked it to stop.
pub fn of(error: &Error, is_diff: bool, signal: Option<u8>) -> u8 {
    match error {
        Error::Interrupted | Error::Paused { .. } => 128 + signal.unwrap_or(2),
        _ if is_diff => TROUBLE,
        Error::Strict { .. } => FELL_SHORT,
        Error::Option(_) => USAGE,
        _ => FAILED,
    }
}
