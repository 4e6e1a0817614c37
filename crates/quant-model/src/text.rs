//! Text that comes from a file, made fit to print: names, types, reasons.

use std::borrow::Cow;
use std::fmt;

use unicode_properties::{GeneralCategory, UnicodeGeneralCategory as _};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Marks on one letter beyond these would paint over the lines above it.
const MOST_MARKS: usize = 3;

/// How much of a name an error quotes, in columns of a terminal.
const NAME_COLUMNS: usize = 160;
/// How long an error may be otherwise.
const PROBLEM_COLUMNS: usize = 1500;

const ELLIPSIS: char = '…';

/// The text with escapes, such as `\u{202e}`, for all that is not seen as itself: control
/// characters, ends of lines, characters that change the direction of text or have no width, spaces
/// other than the plain one, private and unassigned characters.
///
/// ```
/// assert_eq!(quant_model::printable("größe"), "größe");
/// assert_eq!(quant_model::printable("a\u{1b}[2Jb\u{202e}"), "a\\u{1b}[2Jb\\u{202e}");
/// ```
pub fn printable(text: &str) -> Cow<'_, str> {
    escaped(text, false)
}

/// The same; `marked` text keeps the marks of options.
fn escaped(text: &str, marked: bool) -> Cow<'_, str> {
    if text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Cow::Borrowed(text);
    }
    let mut printable = String::with_capacity(text.len());
    let mut marks = MOST_MARKS;
    for char in text.chars() {
        let plain = match kind(char) {
            _ if marked && [OPEN, CLOSE, COMMAND].contains(&char) => true,
            Kind::Plain => {
                marks = 0;
                true
            }
            Kind::Mark => {
                marks += 1;
                marks <= MOST_MARKS
            }
            Kind::Hidden => false,
        };
        match plain {
            true => printable.push(char),
            false => {
                // Nothing may be put on an escape.
                marks = MOST_MARKS;
                printable.extend(char.escape_default());
            }
        }
    }
    Cow::Owned(printable)
}

enum Kind {
    Plain,
    /// Put on the letter before it.
    Mark,
    Hidden,
}

fn kind(char: char) -> Kind {
    use GeneralCategory as Category;
    if matches!(char, ' '..='~') {
        return Kind::Plain;
    }
    // Unicode's "default ignorable" among letters and marks, and a letter without ink.
    if matches!(char, '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{ffa0}'
        | '\u{e0000}'..='\u{e0fff}')
    {
        return Kind::Hidden;
    }
    match char.general_category() {
        Category::Control
        | Category::Format
        | Category::LineSeparator
        | Category::ParagraphSeparator
        | Category::SpaceSeparator
        | Category::PrivateUse
        | Category::Surrogate
        | Category::Unassigned => Kind::Hidden,
        Category::NonspacingMark | Category::EnclosingMark => Kind::Mark,
        _ if char.width() == Some(0) => Kind::Mark,
        _ => Kind::Plain,
    }
}

/// [`printable`] text of no more than so many columns of a terminal: where it is longer, its middle is
/// left out.
///
/// ```
/// assert_eq!(quant_model::shortened("model.layers.17.weight", 12), "model.…eight");
/// assert_eq!(quant_model::shortened("大きい重み", 7), "大…重み");
/// ```
pub fn shortened(text: &str, columns: usize) -> Cow<'_, str> {
    cut(text, columns, false)
}

fn cut(text: &str, columns: usize, marked: bool) -> Cow<'_, str> {
    // The rest of a long text is not looked at: a character of text takes no more than ten of an escape.
    let text = match text.len() / 8 > columns.max(8) {
        true => Cow::Owned(ends(text, 4 * columns.max(8))),
        false => Cow::Borrowed(text),
    };
    let whole = match text {
        Cow::Borrowed(text) => escaped(text, marked),
        Cow::Owned(text) => Cow::Owned(escaped(&text, marked).into_owned()),
    };
    if whole.width() <= columns {
        return whole;
    }
    let room = columns.saturating_sub(1);
    let head = prefix(whole.chars(), room - room / 2);
    let tail = prefix(whole.chars().rev(), room - head.width());
    let tail = tail.chars().rev();
    Cow::Owned(head.chars().chain([ELLIPSIS]).chain(tail).collect())
}

/// The first and the last characters.
fn ends(text: &str, count: usize) -> String {
    let head: String = text.chars().take(count).collect();
    let tail: Vec<char> = text.chars().rev().take(count).collect();
    head.chars().chain(tail.into_iter().rev()).collect()
}

/// As many characters as fit.
fn prefix(chars: impl Iterator<Item = char>, columns: usize) -> String {
    let mut taken = 0;
    chars
        .take_while(|char| {
            taken += char.width().unwrap_or(0);
            taken <= columns
        })
        .collect()
}

/// How many columns of a terminal the text takes.
///
/// ```
/// assert_eq!(quant_model::columns("重み w"), 6);
/// ```
pub fn columns(text: &str) -> usize {
    text.width()
}

/// A name among others in a message.
pub fn shortened_name(name: &str) -> String {
    shortened(name, 100).into_owned()
}

/// A message that holds names, and may speak of options.
pub fn one_line(text: String) -> String {
    escaped(&text, true).into_owned()
}

/// Around an option that a message speaks of, so that a command says it as a flag, and Python as a
/// keyword. They are no characters of Unicode, and nothing else prints them.
const OPEN: char = '\u{fdd2}';
const CLOSE: char = '\u{fdd3}';
/// Behind the first one, of a command in place of an option.
const COMMAND: char = '\u{fdd4}';

/// A command of the program that a message may name.
// Exhaustive: whoever says hints must have its own name for a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HintCommand {
    /// Quantizes the activations of a model.
    Activations,
    /// Finds the ranges of activations.
    Calibrate,
    /// Restores a float model.
    Dequantize,
    /// Lists the tensors of a model.
    Inspect,
    /// Lists the activations that need a range.
    ListActivations,
    /// Says what would be done with each tensor.
    Plan,
    /// Quantizes the weights of a model.
    Quantize,
}

impl HintCommand {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Activations,
        Self::Calibrate,
        Self::Dequantize,
        Self::Inspect,
        Self::ListActivations,
        Self::Plan,
        Self::Quantize,
    ];

    /// The function of the libraries that does it.
    pub fn function(self) -> &'static str {
        match self {
            Self::Activations => "quantize_activations",
            Self::Calibrate => "calibrate",
            Self::Dequantize => "dequantize",
            Self::Inspect => "inspect",
            Self::ListActivations => "wanted_activations",
            Self::Plan => "plan",
            Self::Quantize => "quantize",
        }
    }
}

/// What a hint names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HintKind {
    /// An option.
    Option,
    /// A command of the program, which the libraries have as a function.
    Command(HintCommand),
}

/// An option that an error speaks of, what to give, or what does not fit; or a command that helps.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hint {
    /// Whether it is an option or a command.
    pub kind: HintKind,
    /// Its name: that of a field of the options, such as `exclude` or `non_finite`; or of the function
    /// that does what a command does.
    pub option: String,
    /// What to give, as a command takes it.
    pub value: Option<String>,
}

/// A line for the user, which may speak of options.
///
/// ```
/// let note = quant_model::Note::from("3 tensors".to_owned());
/// assert_eq!(note.to_string(), "3 tensors");
/// assert!(note.hints().is_empty());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note(String);

impl Note {
    /// The line with its options as `say` has them: as flags, as keywords. [`Display`](fmt::Display)
    /// has them as the names of fields.
    pub fn told(&self, say: &dyn Fn(&Hint) -> String) -> String {
        with_options(&self.0, say).0
    }

    /// The options and commands that it speaks of.
    pub fn hints(&self) -> Vec<Hint> {
        with_options(&self.0, &|_| String::new()).1
    }
}

impl From<String> for Note {
    fn from(line: String) -> Self {
        Self(line)
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.told(&as_field))
    }
}

impl serde::Serialize for Note {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// An option as the field that has its name, a command as the function.
pub(crate) fn as_field(hint: &Hint) -> String {
    match &hint.value {
        Some(value) => format!("`{} {value}`", hint.option),
        None => format!("`{}`", hint.option),
    }
}

/// An option in a message; what to give stands behind it, after a space.
pub fn option(text: &str) -> String {
    format!("{OPEN}{text}{CLOSE}")
}

/// A command in a message.
pub fn command(command: HintCommand) -> String {
    format!("{OPEN}{COMMAND}{}{CLOSE}", command.function())
}

/// What stands between the marks of a message.
fn hint(marked: &str) -> Hint {
    let (kind, inner) = match marked.strip_prefix(COMMAND) {
        Some(function) => {
            let mut all = HintCommand::ALL.into_iter();
            let named = all.find(|command| command.function() == function);
            (named.map_or(HintKind::Option, HintKind::Command), function)
        }
        None => (HintKind::Option, marked),
    };
    let (name, value) = match inner.split_once(' ') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (inner, None),
    };
    Hint {
        kind,
        option: name.to_owned(),
        value,
    }
}

/// The message with its options as `say` has them; and these.
pub(crate) fn with_options(text: &str, say: &dyn Fn(&Hint) -> String) -> (String, Vec<Hint>) {
    let (mut said, mut hints, mut rest) = (String::new(), Vec::new(), text);
    while let Some((before, marked)) = rest.split_once(OPEN) {
        said.push_str(before);
        let (inner, after) = marked.split_once(CLOSE).unwrap_or((marked, ""));
        let hint = hint(inner);
        said.push_str(&say(&hint));
        hints.push(hint);
        rest = after;
    }
    said.push_str(rest);
    (said, hints)
}

/// A name that an error quotes.
pub struct Name<'a>(pub &'a str);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shortened(self.0, NAME_COLUMNS))
    }
}

/// What an error says is wrong; there may be names in it.
pub struct Message<'a>(pub &'a str);

impl fmt::Display for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&cut(self.0, PROBLEM_COLUMNS, true))
    }
}

/// The path of a file.
pub struct File<'a>(pub &'a std::path::Path);

impl fmt::Display for File<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.0.to_string_lossy()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_hidden_is_left_and_letters_stay() {
        for text in [
            "w",
            "größe",
            "вес",
            "重み",
            "वज़न",
            "e\u{301}",
            "🙂",
            "-._/:`'\"\\",
        ] {
            assert_eq!(printable(text), text);
        }
        let hidden = [
            0x0, 0x7, 0xa, 0xd, 0x1b, 0x7f, 0x85, 0x9b, 0xa0, 0xad, 0x34f, 0x61c, 0x115f, 0x180e,
            0x2007, 0x200b, 0x200d, 0x200e, 0x200f, 0x2028, 0x2029, 0x202a, 0x202e, 0x2060, 0x2066,
            0x2069, 0x206f, 0x2800, 0x3000, 0x3164, 0xe000, 0xfdd0, 0xfe0f, 0xfeff, 0xfff9, 0xfffe,
            0xffff, 0x1d173, 0x1fffe, 0xe0001, 0xe0041, 0xe0100, 0xe01ef, 0x10_ffff,
        ];
        for code in hidden {
            let char = char::from_u32(code).unwrap();
            let shown = printable(&format!("a{char}b")).into_owned();
            assert!(
                shown.is_ascii() && shown.starts_with("a\\"),
                "{code:x}: {shown}"
            );
            assert_eq!(printable(&shown), shown);
        }
        // A mark without a letter, and a tower of them.
        assert_eq!(printable("\u{301}a"), "\\u{301}a");
        let tower = format!("a{}", "\u{301}".repeat(50));
        assert_eq!(printable(&tower).matches("\\u{301}").count(), 47);
    }

    #[test]
    fn options_are_said_in_the_callers_way() {
        let exclude = option("exclude '^a b$'");
        let text = one_line(format!("a\n, with {exclude} or {}", option("non_finite")));
        let flags = |hint: &Hint| match &hint.value {
            Some(value) => format!("--{} {value}", hint.option),
            None => format!("--{}", hint.option),
        };
        let (said, hints) = with_options(&text, &flags);
        assert_eq!(said, "a\\n, with --exclude '^a b$' or --non_finite");
        assert_eq!(hints[0].option, "exclude");
        assert_eq!(hints[0].value.as_deref(), Some("'^a b$'"));
        assert_eq!(
            (hints[1].option.as_str(), &hints[1].value),
            ("non_finite", &None)
        );
        for named in HintCommand::ALL {
            let text = one_line(format!("{} it, or \n", command(named)));
            let (said, hints) = with_options(&text, &as_field);
            assert_eq!(said, format!("`{}` it, or \\n", named.function()));
            assert_eq!(hints[0].kind, HintKind::Command(named));
        }
        // Text from a file has no marks.
        assert!(printable(&exclude).is_ascii());
        assert_eq!(with_options("\u{fdd2}x", &flags).0, "--x");
        assert_eq!(with_options("\u{fdd3}x", &flags).0, "\u{fdd3}x");
    }

    #[test]
    fn the_middle_is_left_out_by_columns() {
        for (text, columns, wanted) in [
            ("abc", 3, "abc"),
            ("abcdef", 5, "ab…ef"),
            ("abcdef", 1, "…"),
            ("重重重", 4, "重…"),
            ("a\nb", 4, "a\\nb"),
        ] {
            assert_eq!(shortened(text, columns), wanted);
        }
        for unit in ["x", "重", "\u{202e}", "e\u{301}", "\u{10ffff}"] {
            for length in [100, 65_536, 1_000_000] {
                let text = unit.repeat(length);
                for width in [10, 79, 1500] {
                    assert!(columns(&shortened(&text, width)) <= width);
                }
                assert!(columns(&shortened(&text, 40)) >= 30, "{unit}");
            }
        }
    }
}
