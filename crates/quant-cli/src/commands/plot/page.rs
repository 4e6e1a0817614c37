//! All activations, as a page or as a picture.

use std::fmt::Write as _;

use plotters::prelude::*;
use quant_models::{Calibrated, Calibration};

use super::chart::{draw, number};
use crate::terminal::printable;

/// Of one chart on a page.
const SIZE: (u32, u32) = (720, 220);
/// Of one panel of a picture, and the part of it that is text.
const PANEL: (u32, u32) = (960, 280);
const HEADING: u32 = 48;
/// A picture higher than that is for no viewer.
const MOST_PANELS: usize = 200;

const STYLE: &str = "
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff; margin: 2em auto; max-width: 1560px; padding: 0 1.5em; }
h1 { font-size: 1.4em; margin-bottom: .2em; }
h2 { font: 600 1em ui-monospace, monospace; margin: 0; overflow-wrap: anywhere; }
p { margin: .3em 0 1em; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .87em; font-variant-numeric: tabular-nums; }
th, td { padding: .15em .8em; text-align: right; white-space: nowrap; border-bottom: 1px solid #e4e4e4; }
th:first-child, td:first-child { text-align: left; white-space: normal; overflow-wrap: anywhere; min-width: 14em; max-width: 40em; font-family: ui-monospace, monospace; }
th:first-child { font-family: inherit; }
a { color: #25508c; text-decoration: none; }
a:hover { text-decoration: underline; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(34em, 100%), 1fr)); gap: 1.6em 2em; margin-top: 2em; }
section { min-width: 0; }
section p { font-size: .85em; margin: .1em 0; color: #444; font-variant-numeric: tabular-nums; }
section svg { width: 100%; height: auto; display: block; }
.range { color: #c82828; font-weight: 600; }
";

const LEGEND: &str = "Counts are on a logarithmic scale. \
    <span class=\"range\">Red</span>: the range to quantize over; shaded: what it clips. \
    Grey: the smallest and largest value. Names lead to the charts.";

/// A page with a table and a chart for each activation.
pub fn page(calibration: &Calibration) -> Result<String, String> {
    let settings = escape(&calibration.settings.describe());
    let count = calibration.activations.len();
    let mut text = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>Ranges of activations</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <h1>Ranges of {count} activations</h1>\n<p>{settings}. {LEGEND}</p>\n\
         <div class=\"scroll\"><table>\n<tr>"
    );
    for column in [
        "activation",
        "min",
        "max",
        "observed min",
        "observed max",
        "clipped",
        "scale",
        "zero point",
        "samples",
        "values",
        "not finite",
    ] {
        let _ = write!(text, "<th>{column}</th>");
    }
    text += "</tr>\n";
    for (i, (name, found)) in calibration.activations.iter().enumerate() {
        let name = escape(name);
        let _ = write!(text, "<tr><td><a href=\"#a{i}\">{name}</a></td>");
        for cell in cells(found) {
            let _ = write!(text, "<td>{cell}</td>");
        }
        text += "</tr>\n";
    }
    text += "</table></div>\n<div class=\"charts\">\n";
    for (i, (name, found)) in calibration.activations.iter().enumerate() {
        let mut svg = String::new();
        {
            let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
            draw(&area, found)?;
            area.present().map_err(|error| error.to_string())?;
        }
        let (name, figures) = (escape(name), escape(&figures(found)));
        let _ = writeln!(
            text,
            "<section id=\"a{i}\"><h2>{name}</h2><p>{figures}</p>\n{svg}</section>"
        );
    }
    Ok(text + "</div>\n</body>\n</html>\n")
}

/// One picture, with a panel for each activation below the other.
pub fn picture(calibration: &Calibration) -> Result<String, String> {
    let panels = calibration.activations.len();
    if panels > MOST_PANELS {
        return Err(format!(
            "{panels} activations are too many for a picture; give a name that ends with .html"
        ));
    }
    let mut svg = String::new();
    let size = (PANEL.0, HEADING + PANEL.1 * panels as u32);
    {
        let whole = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        draw_all(&whole, calibration)?;
        whole.present().map_err(|error| error.to_string())?;
    }
    Ok(svg)
}

fn draw_all<B: DrawingBackend>(
    whole: &DrawingArea<B, plotters::coord::Shift>,
    calibration: &Calibration,
) -> Result<(), String> {
    let text = |area: &DrawingArea<B, _>, text: String, y: i32, size: i32| {
        let style = ("sans-serif", size).into_font();
        let drawn = area.draw(&Text::new(text, (16, y), style));
        drawn.map_err(|error| error.to_string())
    };
    whole.fill(&WHITE).map_err(|error| error.to_string())?;
    let (heading, panels) = whole.split_vertically(HEADING);
    let title = format!("Ranges of activations: {}", calibration.settings.describe());
    text(&heading, title, 16, 17)?;
    let panels = panels.split_evenly((calibration.activations.len().max(1), 1));
    for (panel, (name, found)) in panels.iter().zip(&calibration.activations) {
        let (words, chart) = panel.split_vertically(HEADING);
        text(&words, printable(name), 6, 15)?;
        text(&words, figures(found), 28, 12)?;
        draw(&chart, found)?;
    }
    Ok(())
}

fn cells(found: &Calibrated) -> [String; 10] {
    let range = found.range;
    let observed = found.observed;
    let params = found.params.as_ref().ok();
    let or_dash = |cell: Option<String>| cell.unwrap_or_else(|| "–".into());
    [
        or_dash(range.map(|range| number(range.min.into()))),
        or_dash(range.map(|range| number(range.max.into()))),
        or_dash(observed.map(|range| number(range.min.into()))),
        or_dash(observed.map(|range| number(range.max.into()))),
        or_dash(found.clipped().map(percent)),
        or_dash(params.map(|&(scale, _)| number(scale.into()))),
        or_dash(params.map(|(_, zero_point)| zero_point.to_string())),
        found.samples.to_string(),
        found.elements.to_string(),
        found.non_finite.to_string(),
    ]
}

fn percent(share: f64) -> String {
    match 100.0 * share {
        0.0 => "0 %".into(),
        percent if percent < 0.0001 => format!("{percent:.1e} %"),
        percent if percent < 0.01 => format!("{percent:.4} %"),
        percent => format!("{percent:.2} %"),
    }
}

/// The figures in a sentence.
fn figures(found: &Calibrated) -> String {
    let [
        min,
        max,
        low,
        high,
        clipped,
        scale,
        zero_point,
        samples,
        values,
        non_finite,
    ] = cells(found);
    let mut text = match found.range {
        Some(_) => format!("{min} to {max}, observed {low} to {high}"),
        None => "no finite value".into(),
    };
    if found.clipped().is_some() {
        text += &format!("; {clipped} clipped");
    }
    if found.params.is_ok() {
        text += &format!("; scale {scale}, zero point {zero_point}");
    }
    let plural = if found.samples == 1 { "" } else { "s" };
    text += &format!("; {values} values in {samples} sample{plural}");
    if found.non_finite > 0 {
        text += &format!(", {non_finite} not finite");
    }
    text
}

fn escape(text: &str) -> String {
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
