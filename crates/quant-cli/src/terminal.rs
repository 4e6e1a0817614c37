//! What reaches standard output and standard error.

use std::io::{self, IsTerminal as _, Write as _};

use console::Term;
use quant_models::{Error, printable, shortened};
use serde::Serialize as _;
use serde_json::Value;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

use crate::called;

/// Of a line of help, where neither the terminal nor `COLUMNS` says how wide it is; and at the most.
const USUAL_WIDTH: usize = 100;
const MOST_WIDTH: usize = 120;
/// Of a line of a table or of help, at the least.
const LEAST_WIDTH: usize = 40;
/// Of a warning: there may be names in it.
const WARNING: usize = 2000;

pub fn stdout_error(source: io::Error) -> Error {
    Error::Io {
        file: "standard output".into(),
        doing: "write to it",
        source,
    }
}

/// A reader that has seen enough, such as `head`, is no error.
pub fn is_broken_pipe(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}

/// Columns of the terminal; `None` where standard output is a file or a pipe, whose lines have any length.
pub fn width() -> Option<usize> {
    if !io::stdout().is_terminal() {
        return None;
    }
    let (_, columns) = Term::stdout().size();
    Some(Ord::max(columns.into(), LEAST_WIDTH))
}

/// Columns of a line of help.
pub fn help_width() -> usize {
    let terminals = [Term::stdout(), Term::stderr()];
    let size = terminals.iter().find_map(Term::size_checked);
    let columns = size.map(|(_, columns)| usize::from(columns));
    let given = || std::env::var("COLUMNS").ok()?.parse().ok();
    let columns: usize = columns.or_else(given).unwrap_or(USUAL_WIDTH);
    columns.clamp(LEAST_WIDTH, MOST_WIDTH)
}

pub fn print(text: &str) -> Result<(), Error> {
    if called::keep(text) {
        return Ok(());
    }
    let mut stdout = io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    match written {
        Err(error) if !is_broken_pipe(&error) => Err(stdout_error(error)),
        _ => Ok(()),
    }
}

pub fn print_json(value: &Value) -> Result<(), Error> {
    print(&json_text(value))
}

/// JSON in which whatever a terminal does not show as itself is escaped.
pub fn json_text(value: &Value) -> String {
    let mut text = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut text, Escaping(PrettyFormatter::new()));
    // A vector takes everything, and a value has no keys but strings.
    let _ = value.serialize(&mut serializer);
    text.push(b'\n');
    String::from_utf8(text).unwrap_or_default()
}

/// Writes `\u202e` and the like instead of the characters.
struct Escaping<'a>(PrettyFormatter<'a>);

impl Formatter for Escaping<'_> {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        if matches!(printable(fragment), std::borrow::Cow::Borrowed(_)) {
            return writer.write_all(fragment.as_bytes());
        }
        let (mut plain, mut units) = ([0; 4], [0; 2]);
        for char in fragment.chars() {
            let encoded = char.encode_utf8(&mut plain);
            // A mark alone is escaped, wherever it stands.
            if printable(encoded) == *encoded {
                writer.write_all(encoded.as_bytes())?;
                continue;
            }
            for unit in char.encode_utf16(&mut units) {
                write!(writer, "\\u{unit:04x}")?;
            }
        }
        Ok(())
    }

    fn begin_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_array(writer)
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array(writer)
    }

    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.0.begin_array_value(writer, first)
    }

    fn end_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array_value(writer)
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object(writer)
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.0.begin_object_key(writer, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object_value(writer)
    }
}

/// Help, in colours where the terminal has them.
pub fn print_styled(text: &clap::builder::StyledStr) -> Result<(), Error> {
    let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    match io::stdout().is_terminal() && !is_plain {
        true => print(&text.ansi().to_string()),
        false => print(&text.to_string()),
    }
}

/// Where not even an error can be said, the exit status still tells.
pub fn say(line: &str) {
    let _ = writeln!(io::stderr(), "quant: {line}");
}

pub fn warn(warnings: &[String]) {
    if called::keep_warnings(warnings) {
        return;
    }
    for warning in warnings {
        say(&format!("warning: {}", shortened(warning, WARNING)));
    }
}

/// The path as it can be printed.
pub fn shown(path: &std::path::Path) -> String {
    printable(&path.to_string_lossy()).into_owned()
}

/// `1 tensor`, `2 tensors`.
pub fn count(n: usize, what: &str) -> String {
    match n {
        1 => format!("1 {what}"),
        _ => format!("{n} {what}s"),
    }
}

/// So many significant digits, and an exponent only where the number is very small or large: `9.28`,
/// `1.2e-5`.
pub fn number(x: f64, digits: usize) -> String {
    let scientific = format!("{x:.*e}", digits - 1);
    let Some((mantissa, exponent)) = scientific.split_once('e') else {
        // NaN and infinities.
        return scientific;
    };
    match exponent.parse::<i32>() {
        Ok(exponent @ -4..=6) if x != 0.0 => {
            let decimals = digits as i32 - 1 - exponent;
            trimmed(&format!("{x:.*}", decimals.max(0) as usize)).into()
        }
        _ if x == 0.0 => "0".into(),
        _ => format!("{}e{exponent}", trimmed(mantissa)),
    }
}

fn trimmed(digits: &str) -> &str {
    match digits.contains('.') {
        true => digits.trim_end_matches('0').trim_end_matches('.'),
        false => digits,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_people_write_them() {
        for (x, wanted) in [
            (9.279_415_130_615_234, "9.28"),
            (1.2e-5, "1.2e-5"),
            (0.000_123_4, "0.000123"),
            (0.0, "0"),
            (-0.0, "0"),
            (-1.0, "-1"),
            (0.5, "0.5"),
            (999.9, "1000"),
            (1234.6, "1235"),
            (1_234_567.0, "1234567"),
            (12_345_678.0, "1.23e7"),
            (3.402_823_5e38, "3.4e38"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "inf"),
        ] {
            assert_eq!(number(x, 3), wanted);
        }
    }

    #[test]
    fn json_keeps_names_and_hides_nothing() {
        let name = "größe\u{1b}[31m\u{202e}\u{e0041}\u{feff}\u{9b}\"\\\n";
        let text = json_text(&serde_json::json!({"name": [name, 1.5, null]}));
        assert!(
            text.chars()
                .all(|char| char == '\n' || printable(&char.to_string()) == char.to_string())
        );
        let back: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(back["name"][0], name);
        assert!(text.contains("größe") && text.contains("\\u202e"), "{text}");
    }
}
