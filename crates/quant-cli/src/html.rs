//! Pages that stand alone: their head, their style, and pictures in them.

use std::ops::Range;
use std::path::Path;

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use quant_models::{AtomicFile, Error, Inputs, printable};

use crate::colours::{OBSERVED, TEXT, dark_style};
use crate::terminal::warn;

const STYLE: &str = "
:root { color-scheme: light dark; --ground: #fff; --text: #222; --soft: #555; --line: #e2e2e2; --link: #25508c; --range: #c82828; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #181a1e; --text: #e2e4e8; --soft: #a8acb4; --line: #363a42; --link: #8ab4f0; --range: #ff6e64; }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--ground); margin: 2em auto; max-width: 1400px; padding: 0 1.5em; }
h1 { font-size: 1.4em; margin-bottom: .2em; }
h2 { font: 600 1em ui-monospace, monospace; margin: 0; overflow-wrap: anywhere; }
p { margin: .3em 0 1em; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .84em; font-variant-numeric: tabular-nums; }
th, td { padding: .15em .5em; text-align: right; border-bottom: 1px solid var(--line); }
td { white-space: nowrap; }
th { vertical-align: bottom; color: var(--soft); font-weight: 600; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
td:first-child { white-space: normal; overflow-wrap: anywhere; min-width: 9em; font-family: ui-monospace, monospace; }
@media (max-width: 60em) { table { font-size: .72em; } th, td { padding: .15em .3em; } body { padding: 0 .8em; } }
a { color: var(--link); text-decoration: none; }
a:hover { text-decoration: underline; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(34em, 100%), 1fr)); gap: 1.6em 2em; margin-top: 2em; }
section, figure { min-width: 0; margin: 0; }
figure { margin-top: 2em; }
section p { font-size: .85em; margin: .1em 0; color: var(--soft); font-variant-numeric: tabular-nums; }
svg { width: 100%; height: auto; display: block; }
.range { color: var(--range); font-weight: 600; }
";

/// Of a name: the whole one is in the page too.
pub const NAME_COLUMNS: usize = 120;

/// All of a page before its content; `introduction` is HTML, the others are text.
pub fn head(title: &str, heading: &str, introduction: &str) -> String {
    let (title, heading) = (escape(title), escape(heading));
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>{title}</title>\n<style>{STYLE}{}</style>\n</head>\n<body>\n\
         <h1>{heading}</h1>\n<p>{introduction}</p>\n",
        dark_style()
    )
}

/// What ends a page.
pub const FOOT: &str = "</body>\n</html>\n";

/// A picture in a page.
pub fn svg(
    size: (u32, u32),
    draw: impl FnOnce(&DrawingArea<SVGBackend<'_>, Shift>) -> Result<(), String>,
) -> Result<String, String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        draw(&area)?;
        area.present().map_err(|error| error.to_string())?;
    }
    Ok(svg)
}

/// The file that a page goes to, looked at before any work.
pub fn file(path: &Path, force: bool, inputs: &Inputs) -> Result<AtomicFile, Error> {
    let extension = path.extension().and_then(|extension| extension.to_str());
    if !extension.is_some_and(|extension| ["html", "htm"].contains(&extension)) {
        let problem = "the name of a report ends with .html";
        return Err(Error::File {
            file: path.to_owned(),
            problem: problem.into(),
        });
    }
    let file = AtomicFile::create(path, "report", force, inputs)?;
    warn(file.warnings());
    Ok(file)
}

/// A chart of SQNRs in dB: along what, with how many digits; and what stands at its left side.
pub fn chart<'a, B: DrawingBackend>(
    area: &'a DrawingArea<B, Shift>,
    (xs, x_name, digits): (Range<f64>, &str, usize),
    (ys, y_name): (Range<f64>, &str),
) -> Result<ChartOf<'a, B>, DrawingAreaErrorKind<B::ErrorType>> {
    let font = ("sans-serif", 14).into_font().color(&TEXT);
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .margin_right(24)
        .x_label_area_size(40)
        .y_label_area_size(64)
        .build_cartesian_2d(xs, ys)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .bold_line_style(OBSERVED.mix(0.25))
        .light_line_style(TRANSPARENT)
        .axis_style(OBSERVED)
        .label_style(font.clone())
        .axis_desc_style(font)
        .x_desc(x_name)
        .y_desc(y_name)
        .x_label_formatter(&|x| format!("{x:.digits$}"))
        .y_label_formatter(&|y| format!("{y:.0}"))
        .draw()?;
    Ok(chart)
}

/// What [`chart`] draws.
pub type ChartOf<'a, B> = ChartContext<'a, B, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// Text fit to stand in a page.
pub fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for char in printable(text).chars() {
        match char {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            _ => escaped.push(char),
        }
    }
    escaped
}
