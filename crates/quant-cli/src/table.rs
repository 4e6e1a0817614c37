//! Tables that fit the terminal. In a file or a pipe, as in those of `ps` and `docker`, every row is a line,
//! whose names can be searched for: nothing is cut but what no person would name so.

use std::io::Write;

use quant_models::{Error, columns, shortened};
use textwrap::Options;

use crate::terminal::{is_broken_pipe, stdout_error, width};

const GAP: usize = 2;
/// Names are cut in the middle where the rest of a row would not fit, but not below this, ...
const LEAST_NAME: usize = 16;
/// ... and where they would be cut below this, rows take two lines.
const GOOD_NAME: usize = 48;
/// No other cell is wider: a file can give a type any name.
const MOST_CELL: usize = 56;
/// Without a terminal, columns are no wider: a longer name moves what stands behind it, not all rows.
const ALIGNED_NAME: usize = 120;
/// Text is wrapped to no less.
const LEAST_TEXT: usize = 32;
/// Longer text says nothing to people, and longer names neither.
const MOST_TEXT: usize = 1000;
/// The beginning of a row's second line.
const INDENT: usize = 4;

/// A row: cells, the first of which is a name, and text up to the end of the line. Rows may have fewer
/// cells than others; then their text begins earlier.
pub struct Row {
    cells: Vec<String>,
    text: String,
}

impl Row {
    pub fn new(
        name: &str,
        cells: impl IntoIterator<Item = String>,
        text: impl Into<String>,
    ) -> Self {
        let others = cells
            .into_iter()
            .map(|cell| shortened(&cell, MOST_CELL).into_owned());
        Self {
            cells: [name.to_owned()].into_iter().chain(others).collect(),
            text: text.into(),
        }
    }
}

/// How wide the columns are.
struct Layout {
    widths: Vec<usize>,
    /// So many cells stand in a row's first line; all of them, where they fit.
    first_line: usize,
    /// The end of the line, if there is one.
    width: Option<usize>,
}

impl Layout {
    /// Rows are broken after `head` cells, if they have to be.
    fn new(rows: impl Iterator<Item = Row>, head: usize, width: Option<usize>) -> Self {
        let end = width.unwrap_or(MOST_TEXT);
        let (mut widths, mut texts) = (Vec::new(), Vec::new());
        for row in rows {
            let cells = row.cells.len();
            widths.resize(cells.max(widths.len()), 0);
            texts.resize((cells + 1).max(texts.len()), 0);
            for (widest, (i, cell)) in widths.iter_mut().zip(row.cells.iter().enumerate()) {
                let most = if i == 0 { end } else { MOST_CELL };
                *widest = Ord::max(*widest, columns(&shortened(cell, most)));
            }
            texts[cells] = Ord::max(texts[cells], columns(&shortened(&row.text, end)));
        }
        let Some(end) = width else {
            if let Some(name) = widths.first_mut() {
                *name = Ord::min(*name, ALIGNED_NAME);
            }
            return Self {
                widths,
                first_line: usize::MAX,
                width,
            };
        };
        // What the others of so many cells take, gaps included.
        let others = |cells: usize| -> usize {
            widths
                .iter()
                .take(cells)
                .skip(1)
                .map(|width| width + GAP)
                .sum()
        };
        let least =
            |(cells, text): (usize, &usize)| others(cells) + GAP + Ord::min(*text, LEAST_TEXT);
        let least = texts.iter().enumerate().map(least).max().unwrap_or(0);
        let name = widths.first().copied().unwrap_or(0);
        let fits = Ord::min(name, GOOD_NAME) + least <= end;
        let (first_line, room) = match fits {
            true => (usize::MAX, end - least),
            false => (head, end.saturating_sub(others(head))),
        };
        if let Some(name) = widths.first_mut() {
            *name = Ord::min(*name, room.max(LEAST_NAME));
        }
        Self {
            widths,
            first_line,
            width,
        }
    }

    fn write(&self, row: &Row, out: &mut impl Write) -> std::io::Result<()> {
        let mut line = String::new();
        for (i, (cell, &width)) in row.cells.iter().zip(&self.widths).enumerate() {
            if i == self.first_line {
                writeln!(out, "{}", line.trim_end())?;
                line = " ".repeat(INDENT);
            }
            let cell = match self.width {
                Some(_) => shortened(cell, width),
                None => shortened(cell, MOST_TEXT),
            };
            line += &cell;
            let padding = (width + GAP).saturating_sub(columns(&cell)).max(GAP);
            line.extend(std::iter::repeat_n(' ', padding));
        }
        let text = shortened(&row.text, MOST_TEXT);
        if text.is_empty() {
            return writeln!(out, "{}", line.trim_end());
        }
        if row.cells.len() == self.first_line {
            writeln!(out, "{}", line.trim_end())?;
            line = " ".repeat(INDENT);
        }
        let Some(end) = self.width else {
            return writeln!(out, "{line}{text}");
        };
        // Text below text, if there is room to read it.
        let hanging = match end.saturating_sub(columns(&line)) >= LEAST_TEXT {
            true => columns(&line),
            false => INDENT,
        };
        let hanging = " ".repeat(hanging);
        let options = Options::new(end)
            .initial_indent(&line)
            .subsequent_indent(&hanging);
        for line in textwrap::wrap(&text, options) {
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Prints rows as they are made, which happens twice: first to see how wide they are. Where rows do
/// not fit a line, they are broken after `head` cells.
pub fn print_table<R: Iterator<Item = Row>>(
    head: usize,
    rows: impl Fn() -> R,
) -> Result<(), Error> {
    let layout = Layout::new(rows(), head, width());
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut write = || {
        for row in rows() {
            layout.write(&row, &mut out)?;
        }
        out.flush()
    };
    match write() {
        Err(error) if !is_broken_pipe(&error) => Err(stdout_error(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(
        rows: &[(&str, &[&str], &str)],
        head: usize,
        width: impl Into<Option<usize>>,
    ) -> String {
        let width = width.into();
        let rows = || {
            rows.iter().map(|(name, cells, text)| {
                let cells = cells.iter().map(|&cell| cell.to_owned());
                Row::new(name, cells, *text)
            })
        };
        let layout = Layout::new(rows(), head, width);
        let mut out = Vec::new();
        for row in rows() {
            layout.write(&row, &mut out).unwrap();
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn columns_are_aligned() {
        let rows: &[(&str, &[&str], &str)] = &[
            ("w", &["F32", "[64, 96]", "int8"], "44.6 dB"),
            ("bias", &["F16", "[64]"], "left alone: rank 1"),
        ];
        assert_eq!(
            table(rows, 3, 80),
            "w     F32  [64, 96]  int8  44.6 dB\nbias  F16  [64]      left alone: rank 1\n"
        );
        let long = "x".repeat(60);
        let rows: &[(&str, &[&str], &str)] =
            &[(&long, &["F32", "[64, 96]", "int8"], "44.6 dB"), rows[1]];
        let wanted = format!(
            "{}…{}  F32  [64, 96]\n    int8  44.6 dB\n{:<27}  F16  [64]\n    left alone: rank 1\n",
            "x".repeat(13),
            "x".repeat(13),
            "bias"
        );
        assert_eq!(table(rows, 3, 42), wanted);
    }

    #[test]
    fn names_are_whole_where_there_is_no_terminal() {
        let name = format!("model.{}.weight", "layers.".repeat(40));
        let reason = "rows of 10 do not fill blocks ".repeat(8);
        let rows: &[(&str, &[&str], &str)] =
            &[(&name, &["F32"], &reason), ("b", &["F16"], "rank 1")];
        let wanted = format!("{name}  F32  {reason}\n{:<120}  F16  rank 1\n", "b");
        assert_eq!(table(rows, 1, None), wanted);
        // One name among many makes no file large, not even its own line.
        let long = "x".repeat(65_536);
        let mut rows = vec![("b", &["F16"][..], ""); 1000];
        rows.push((&long, &["F32"], &long));
        let table = table(&rows, 1, None);
        assert!(table.len() < 1000 * 200, "{}", table.len());
        assert!(table.lines().all(|line| columns(line) < 2100));
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let long = "重み.".repeat(400_000);
        let reason = "a reason of some words, ".repeat(40);
        for width in [40, 79, 80, 120, 160, 300] {
            for name in ["w", "model.layers.0.self_attn.q_proj.weight", &long] {
                for dtype in ["F32", "int8 symmetric, per channel (axis 0)"] {
                    for text in ["", "left alone: rank 1", &reason, &long] {
                        let rows: &[(&str, &[&str], &str)] =
                            &[(name, &[dtype], text), ("b", &[], text)];
                        let table = table(rows, 1, width);
                        let widest = table.lines().map(columns).max().unwrap();
                        assert!(widest <= width.max(80), "{widest} of {width}:\n{table}");
                    }
                }
            }
        }
    }
}
