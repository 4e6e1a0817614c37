//! The error along the depth of a model, as a page.

use std::fmt::Write as _;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use quant_models::shortened;
use quant_run::{Evaluation, OutputScore, Score};

use crate::colours::{BARS, RANGE, TEXT};
use crate::html::{FOOT, NAME_COLUMNS, chart, escape, head, svg};
use crate::terminal::{count, number};

const SIZE: (u32, u32) = (1080, 380);

/// Points that can be told apart from a line.
const MOST_POINTS: usize = 400;

const LEGEND: &str = "Signal to quantization noise of each value that both models compute, in the \
    order of the first program: higher is better, and where the line falls, the damage begins. \
    Values that are equal are at the upper edge. \
    <span class=\"range\">Red</span>: the operations after which it falls most.";

/// Operations that are named in the chart.
const NAMED: usize = 3;

/// A page with a chart of all values and tables of outputs and values; `only` says whose error it is.
pub fn page(found: &Evaluation, models: [&str; 2], only: Option<&str>) -> Result<String, String> {
    let [first, second] = models.map(escape);
    let whose = match only {
        Some("weights") => format!("{second}, with float activations, beside {first}"),
        Some(_) => format!("{second}, beside itself with float activations"),
        None => format!("{second} beside {first}"),
    };
    let samples = count(found.samples, "sample");
    let introduction = format!("{whose}; {samples}. {LEGEND}");
    let mut text = head(
        "Error of quantization",
        "Error of quantization",
        &introduction,
    );
    outputs(&mut text, &found.outputs);
    if !found.intermediates.is_empty() {
        let chart = svg(SIZE, |area| {
            draw(area, &found.intermediates).map_err(|error| error.to_string())
        })?;
        let _ = writeln!(text, "<figure>\n{chart}</figure>");
        values(&mut text, &found.intermediates);
    }
    if found.dropped > 0 {
        let dropped = count(found.dropped, "value");
        let _ = writeln!(text, "<p>{dropped} not compared for want of memory.</p>");
    }
    Ok(text + FOOT)
}

fn decibels(score: &Score) -> String {
    match score.sqnr_db() {
        db if db.is_finite() => format!("{db:.1} dB"),
        _ if score.max_error == 0.0 => "exact".into(),
        _ => "–".into(),
    }
}

fn name_cell(name: &str) -> String {
    let (whole, name) = (escape(name), escape(&shortened(name, NAME_COLUMNS)));
    match whole == name {
        true => format!("<td>{name}</td>"),
        false => format!("<td title=\"{whole}\">{name}</td>"),
    }
}

fn outputs(text: &mut String, outputs: &[OutputScore]) {
    *text += "<div class=\"scroll\"><table>\n<tr><th>output</th><th>SQNR</th><th>cosine</th>\
        <th>greatest difference</th><th>top-1</th><th>top-5</th><th>accuracy</th></tr>\n";
    let percent = |share: f64| format!("{:.2} %", 100.0 * share);
    let share = |share: Option<f64>| share.map_or("–".into(), percent);
    for output in outputs {
        let score = &output.score;
        let accuracy = match output.accuracy {
            Some([first, second]) => format!("{} and {}", percent(first), percent(second)),
            None => "–".into(),
        };
        let _ = writeln!(
            text,
            "<tr>{}<td>{}</td><td>{:.6}</td><td>{}</td><td>{}</td><td>{}</td><td>{accuracy}</td></tr>",
            name_cell(&score.name),
            decibels(score),
            score.cosine(),
            number(score.max_error, 4),
            share(output.top1),
            share(output.top5),
        );
    }
    *text += "</table></div>\n";
}

fn values(text: &mut String, scores: &[Score]) {
    *text += "<div class=\"scroll\"><table>\n<tr><th>value</th><th>operation</th><th>SQNR</th>\
        <th>cosine</th><th>greatest difference</th><th>elements</th></tr>\n";
    for score in scores {
        let _ = writeln!(
            text,
            "<tr>{}<td>{}</td><td>{}</td><td>{:.6}</td><td>{}</td><td>{}</td></tr>",
            name_cell(&score.name),
            escape(&score.kind),
            decibels(score),
            score.cosine(),
            number(score.max_error, 4),
            score.elements
        );
    }
    *text += "</table></div>\n";
}

/// A value in the chart: its place in the order, and decibels.
struct Point<'a> {
    x: f64,
    y: f64,
    score: &'a Score,
}

/// Values that have decibels, equal ones at `top`.
fn points(scores: &[Score], top: f64) -> Vec<Point<'_>> {
    let points = scores.iter().enumerate().filter_map(|(i, score)| {
        let y = match score.sqnr_db() {
            db if db.is_finite() => db.min(top),
            _ if score.max_error == 0.0 => top,
            _ => return None,
        };
        let x = i as f64;
        Some(Point { x, y, score })
    });
    points.collect()
}

/// The points after which the line falls most, the first of them first.
fn falls<'a, 'b>(points: &'b [Point<'a>]) -> Vec<&'b Point<'a>> {
    let mut falls: Vec<(f64, &Point<'_>)> = points
        .windows(2)
        .map(|pair| (pair[0].y - pair[1].y, &pair[1]))
        .filter(|(fall, _)| *fall > 1.0)
        .collect();
    falls.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    falls.truncate(NAMED);
    let mut points: Vec<&Point<'_>> = falls.into_iter().map(|(_, point)| point).collect();
    points.sort_by(|a, b| a.x.total_cmp(&b.x));
    points
}

fn draw<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    scores: &[Score],
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    let font = ("sans-serif", 14).into_font().color(&TEXT);
    let finite = scores
        .iter()
        .map(Score::sqnr_db)
        .filter(|db| db.is_finite());
    let (low, high) = finite.fold((0.0_f64, 20.0_f64), |(low, high), db| {
        (low.min(db), high.max(db))
    });
    let top = high + 0.08 * (high - low);
    let right = scores.len().max(2) as f64 - 1.0;
    let (xs, ys) = (
        (0.0..right, "value, in the order of the program", 0),
        (low..top, "SQNR in dB"),
    );
    let mut chart = chart(area, xs, ys)?;
    let points = points(scores, top);
    let line: Vec<(f64, f64)> = points.iter().map(|point| (point.x, point.y)).collect();
    chart.draw_series([PathElement::new(line, BARS.stroke_width(2))])?;
    if points.len() <= MOST_POINTS {
        let dots = points.iter();
        chart.draw_series(dots.map(|point| Circle::new((point.x, point.y), 3, BARS.filled())))?;
    }
    for (i, point) in falls(&points).into_iter().enumerate() {
        let place = (point.x, point.y);
        chart.draw_series([Circle::new(place, 5, RANGE.filled())])?;
        let name = shortened(&point.score.name, 40);
        // Towards the middle, and not all at one height.
        let (pixel_x, pixel_y) = chart.backend_coord(&place);
        let left = pixel_x > SIZE.0 as i32 / 2;
        let (shift, side) = match left {
            true => (-10, HPos::Right),
            false => (10, HPos::Left),
        };
        let font = font.clone().pos(Pos::new(side, VPos::Top));
        let y = (pixel_y + 6 + 16 * i as i32).min(SIZE.1 as i32 - 60);
        area.draw(&Text::new(name.into_owned(), (pixel_x + shift, y), font))?;
    }
    Ok(())
}
