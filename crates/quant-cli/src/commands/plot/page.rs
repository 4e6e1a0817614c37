//! All activations, as a page or as a picture.

use std::fmt::Write as _;

use plotters::coord::Shift;
use plotters::prelude::*;
use quant_models::{Calibrated, Calibration, shortened};

use super::chart::{draw, number};
use super::overview;
use crate::colours::{GROUND, TEXT, dark_style};
use crate::html::{FOOT, NAME_COLUMNS, escape, head, svg};
use crate::terminal::count;

/// Of one chart on a page.
const SIZE: (u32, u32) = (720, 240);
/// Of one panel of a picture, and the part of it that is text.
const PANEL: (u32, u32) = (960, 280);
const HEADING: u32 = 48;
/// A picture higher than that is for no viewer.
const MOST_PANELS: usize = 200;

const LEGEND: &str = "Counts are on a logarithmic scale. \
    <span class=\"range\">Red</span>: the range to quantize over; shaded: what it clips. \
    Grey: the smallest and largest value. Names lead to the charts.";
const OVERVIEW_LEGEND: &str = "Blue, between <span class=\"range\">red</span> ends: the range to quantize over. \
    Grey: the smallest and largest value. This observer keeps no histogram.";

/// A page with a table, and a chart for each activation; or one for all, where there are no
/// histograms.
pub fn page(calibration: &Calibration) -> Result<String, String> {
    let settings = escape(&calibration.settings.describe());
    let title = format!(
        "Ranges of {}",
        count(calibration.activations.len(), "activation")
    );
    let legend = match is_overview(calibration) {
        true => OVERVIEW_LEGEND,
        false => LEGEND,
    };
    let mut text = head(
        "Ranges of activations",
        &title,
        &format!("{settings}. {legend}"),
    );
    table(&mut text, calibration);
    match is_overview(calibration) {
        true => {
            let svg = svg((overview::WIDTH, overview::height(calibration)), |area| {
                overview::draw(area, calibration)
            })?;
            let _ = writeln!(text, "<figure id=\"ranges\">\n{svg}</figure>");
        }
        false => charts(&mut text, calibration)?,
    }
    Ok(text + FOOT)
}

/// Whether there is nothing to draw of each activation but its range.
fn is_overview(calibration: &Calibration) -> bool {
    let mut found = calibration.activations.values();
    found.all(|found| found.histogram.is_none())
}

/// Beside the name, in the order of [`cells`].
const COLUMNS: [&str; 10] = [
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
];

fn table(text: &mut String, calibration: &Calibration) {
    *text += "<div class=\"scroll\"><table>\n<tr>";
    // Without a histogram nothing is known to be clipped.
    let overview = is_overview(calibration);
    let is_shown = |&(_, column): &(usize, &str)| !(overview && column == "clipped");
    let columns: Vec<_> = COLUMNS.into_iter().enumerate().filter(is_shown).collect();
    *text += "<th>activation</th>";
    for (_, column) in &columns {
        let _ = write!(text, "<th>{column}</th>");
    }
    *text += "</tr>\n";
    for (i, (name, found)) in calibration.activations.iter().enumerate() {
        let (whole, name) = (escape(name), escape(&shortened(name, NAME_COLUMNS)));
        let title = match whole == name {
            true => String::new(),
            false => format!(" title=\"{whole}\""),
        };
        let target = match overview {
            true => "ranges".into(),
            false => format!("a{i}"),
        };
        let _ = write!(text, "<tr><td><a href=\"#{target}\"{title}>{name}</a></td>");
        let cells = cells(found);
        for (column, _) in &columns {
            let _ = write!(text, "<td>{}</td>", cells[*column]);
        }
        *text += "</tr>\n";
    }
    *text += "</table></div>\n";
}

fn charts(text: &mut String, calibration: &Calibration) -> Result<(), String> {
    *text += "<div class=\"charts\">\n";
    for (i, (name, found)) in calibration.activations.iter().enumerate() {
        let svg = svg(SIZE, |area| draw(area, found))?;
        let name = escape(&shortened(name, NAME_COLUMNS));
        let figures = escape(&figures(found));
        let _ = writeln!(
            text,
            "<section id=\"a{i}\"><h2>{name}</h2><p>{figures}</p>\n{svg}</section>"
        );
    }
    *text += "</div>\n";
    Ok(())
}

/// One picture, with a panel for each activation below the other.
pub fn picture(calibration: &Calibration) -> Result<String, String> {
    let panels = calibration.activations.len();
    if panels > MOST_PANELS {
        return Err(format!(
            "{panels} activations are too many for a picture; give a name that ends with .html"
        ));
    }
    let rest = match is_overview(calibration) {
        true => overview::height(calibration),
        false => PANEL.1 * panels as u32,
    };
    let width = match is_overview(calibration) {
        true => overview::WIDTH,
        false => PANEL.0,
    };
    let svg = svg((width, HEADING + rest), |whole| {
        draw_all(whole, calibration)
    })?;
    // It begins with its own tag.
    match svg.split_once(">\n") {
        Some((tag, rest)) => Ok(format!("{tag}>\n<style>{}</style>\n{rest}", dark_style())),
        None => Ok(svg),
    }
}

fn draw_all<B: DrawingBackend>(
    whole: &DrawingArea<B, Shift>,
    calibration: &Calibration,
) -> Result<(), String> {
    let text = |area: &DrawingArea<B, _>, text: String, y: i32, size: i32| {
        let style = ("sans-serif", size).into_font().color(&TEXT);
        let drawn = area.draw(&Text::new(text, (16, y), style));
        drawn.map_err(|error| error.to_string())
    };
    whole.fill(&GROUND).map_err(|error| error.to_string())?;
    let (heading, panels) = whole.split_vertically(HEADING);
    let title = format!("Ranges of activations: {}", calibration.settings.describe());
    text(&heading, title, 16, 17)?;
    if is_overview(calibration) {
        return overview::draw(&panels, calibration);
    }
    let panels = panels.split_evenly((calibration.activations.len().max(1), 1));
    for (panel, (name, found)) in panels.iter().zip(&calibration.activations) {
        let (words, chart) = panel.split_vertically(HEADING);
        text(&words, shortened(name, NAME_COLUMNS).into_owned(), 6, 15)?;
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
