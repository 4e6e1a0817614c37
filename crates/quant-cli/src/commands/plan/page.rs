//! The curve of size against error, as a page.

use std::fmt::Write as _;
use std::ops::Range;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use quant_models::{Candidate, MixedSummary, Plan, shortened};

use crate::colours::{BARS, OBSERVED, RANGE, TEXT};
use crate::html::{FOOT, NAME_COLUMNS, chart, escape, head, svg};
use crate::mixed::becomes;
use crate::terminal::count;

const SIZE: (u32, u32) = (1080, 420);

const LEGEND: &str = "The line is the plan of least estimated loss of each size, at the height of its \
    estimated signal to quantization noise: higher is better. Grey points give every tensor the same precision. \
    <span class=\"range\">Red</span>: the plan that was chosen.";

/// A page with the curve, a table of its points, and what each tensor is in the plan.
pub fn page(model: &str, plan: &Plan, summary: &MixedSummary) -> Result<String, String> {
    let tensors = count(plan.tensors.len(), "tensor");
    let introduction = format!("{}, {tensors}. {LEGEND}", escape(model));
    let mut text = head("Size against error", "Size against error", &introduction);
    let chart = svg(SIZE, |area| {
        draw(area, summary).map_err(|error| error.to_string())
    })?;
    let _ = writeln!(text, "<figure>\n{chart}</figure>");
    points(&mut text, summary);
    rows(&mut text, plan);
    Ok(text + FOOT)
}

fn decibels(db: f64) -> String {
    match db.is_finite() {
        true => format!("{db:.1} dB"),
        false => "no error".into(),
    }
}

fn points(text: &mut String, summary: &MixedSummary) {
    *text += "<div class=\"scroll\"><table>\n<tr><th>plan</th><th>bits per weight</th><th>bytes</th>\
        <th>estimated SQNR</th></tr>\n";
    let mut row = |name: &str, bits: f64, bytes: u64, db: f64| {
        let db = decibels(db);
        let _ = writeln!(
            text,
            "<tr><td>{name}</td><td>{bits:.3}</td><td>{bytes}</td><td>{db}</td></tr>"
        );
    };
    let chosen = "<span class=\"range\">chosen</span>";
    row(chosen, summary.bits, summary.bytes, summary.sqnr_db);
    for (candidate, point) in &summary.curve.uniform {
        row(
            &candidate.to_string(),
            point.bits,
            point.bytes,
            point.sqnr_db,
        );
    }
    for point in &summary.curve.best {
        row("best of its size", point.bits, point.bytes, point.sqnr_db);
    }
    *text += "</table></div>\n";
}

fn rows(text: &mut String, plan: &Plan) {
    *text +=
        "<div class=\"scroll\"><table>\n<tr><th>tensor</th><th>shape</th><th>becomes</th></tr>\n";
    for tensor in &plan.tensors {
        let becomes = match (&tensor.quantize, &tensor.reason) {
            (None, Some(reason)) => format!("stays: {reason}"),
            _ => becomes(tensor),
        };
        let shape = tensor.shape.as_ref().map(|shape| format!("{shape:?}"));
        let _ = writeln!(
            text,
            "<tr><td>{}</td><td>{}</td><td>{}</td></tr>",
            escape(&shortened(&tensor.name, NAME_COLUMNS)),
            shape.unwrap_or_default(),
            escape(&becomes)
        );
    }
    *text += "</table></div>\n";
}

/// The axes; plans without any error are at the end of the second one.
fn extent(summary: &MixedSummary) -> (Range<f64>, Range<f64>) {
    let curve = &summary.curve;
    let all = curve
        .best
        .iter()
        .chain(curve.uniform.iter().map(|(_, point)| point));
    let all = all.map(|point| (point.bits, point.sqnr_db));
    let all: Vec<(f64, f64)> = all.chain([(summary.bits, summary.sqnr_db)]).collect();
    let finite = all.iter().map(|point| point.1).filter(|db| db.is_finite());
    let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), db| {
        (low.min(db), high.max(db))
    });
    let (low, high) = if low > high { (0.0, 1.0) } else { (low, high) };
    let top = high + 0.1 * (high - low).max(1.0);
    let bits = all.iter().map(|point| point.0);
    let (left, right) = bits.fold((f64::INFINITY, 0.0_f64), |(left, right), bits| {
        (left.min(bits), right.max(bits))
    });
    let room = 0.04 * (right - left).max(0.5);
    (left - room..right + room, low - 1.0..top)
}

fn draw<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    summary: &MixedSummary,
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    let curve = &summary.curve;
    let (xs, ys) = extent(summary);
    let top = ys.end;
    let font = ("sans-serif", 14).into_font().color(&TEXT);
    let (xs, ys) = (
        (xs, "bits per weight", 1),
        (ys.start..top + 0.5, "estimated SQNR in dB"),
    );
    let mut chart = chart(area, xs, ys)?;
    let line = curve
        .best
        .iter()
        .map(|point| (point.bits, point.sqnr_db.min(top)));
    chart.draw_series([PathElement::new(
        line.collect::<Vec<_>>(),
        BARS.stroke_width(2),
    )])?;
    let dots = curve
        .best
        .iter()
        .map(|point| (point.bits, point.sqnr_db.min(top)));
    chart.draw_series(dots.map(|place| Circle::new(place, 3, BARS.filled())))?;
    for (candidate, point) in &curve.uniform {
        if *candidate == Candidate::Float {
            continue;
        }
        let place = (point.bits, point.sqnr_db.min(top));
        chart.draw_series([Circle::new(place, 4, OBSERVED.filled())])?;
        let at = chart.backend_coord(&place);
        let style = font.clone().pos(Pos::new(HPos::Left, VPos::Top));
        area.draw_text(&candidate.to_string(), &style, (at.0 + 8, at.1 + 4))?;
    }
    let place = (summary.bits, summary.sqnr_db.min(top));
    chart.draw_series([Circle::new(place, 6, RANGE.filled())])?;
    Ok(())
}
