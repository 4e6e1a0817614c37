//! One activation's histogram.

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use quant_models::Calibrated;

use crate::colours::{BARS, OBSERVED, RANGE, TEXT};

/// More are narrower than a pixel or two.
const MOST_BARS: usize = 320;

/// Where bars begin, in decades: a single value is to be seen.
const GROUND: f64 = -0.3;

/// Counts of values, from an edge to the next.
struct Bar {
    from: f64,
    to: f64,
    count: u64,
}

/// Draws it, without its name.
pub fn draw<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    found: &Calibrated,
) -> Result<(), String> {
    draw_chart(area, found).map_err(|error| error.to_string())
}

fn draw_chart<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    found: &Calibrated,
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    let font = ("sans-serif", 14).into_font().color(&TEXT);
    let (Some(range), Some(observed)) = (found.range, found.observed) else {
        let text = "no finite value, no range";
        area.draw(&Text::new(text, (16, 24), font))?;
        return Ok(());
    };
    let (min, max) = (f64::from(range.min), f64::from(range.max));
    let (low, high) = (f64::from(observed.min), f64::from(observed.max));
    let bars = bars(found);
    // Half a bin beyond the values may be drawn.
    let left = bars.first().map_or(low, |bar| bar.from.min(low));
    let right = bars.last().map_or(high, |bar| bar.to.max(high));
    let largest = left.abs().max(right.abs());
    let margin = match largest {
        0.0 => 1.0,
        _ => (0.02 * (right - left)).max(0.001 * largest),
    };
    let (left, right) = (left - margin, right + margin);
    let most = bars.iter().map(|bar| bar.count).max().unwrap_or(1);
    let top = height(most) + 0.3;
    let width = right - left;

    let mut chart = ChartBuilder::on(area)
        .margin(6)
        .margin_right(16)
        .x_label_area_size(40)
        .y_label_area_size(if bars.is_empty() { 12 } else { 64 })
        .build_cartesian_2d(left..right, GROUND..top)?;
    // Under everything else: what is clipped.
    let clipped = [(left, min, low < min), (max, right, high > max)];
    for (from, to, _) in clipped.into_iter().filter(|(.., clips)| *clips) {
        let shade = Rectangle::new([(from, GROUND), (to, top)], RANGE.mix(0.10).filled());
        chart.draw_series([shade])?;
    }
    draw_axes(&mut chart, font, width, !bars.is_empty())?;
    draw_values(&mut chart, &bars, (low, high), top)?;
    for (x, style) in [
        (low, OBSERVED.stroke_width(1)),
        (high, OBSERVED.stroke_width(1)),
        (min, RANGE.stroke_width(2)),
        (max, RANGE.stroke_width(2)),
    ] {
        chart.draw_series([PathElement::new([(x, GROUND), (x, top)], style)])?;
    }
    Ok(())
}

/// Values below; on the left counts, if there are any.
fn draw_axes<B: DrawingBackend>(
    chart: &mut ChartContext<'_, B, Cartesian2d<RangedCoordf64, RangedCoordf64>>,
    font: TextStyle<'_>,
    width: f64,
    has_counts: bool,
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    // What is left of zero after steps of a tenth is zero.
    let label = |&x: &f64| number(if x.abs() < 1e-9 * width { 0.0 } else { x });
    let mut mesh = chart.configure_mesh();
    mesh.disable_x_mesh()
        .bold_line_style(OBSERVED.mix(0.25))
        .light_line_style(TRANSPARENT)
        .axis_style(OBSERVED)
        .label_style(font.clone())
        .axis_desc_style(font.clone())
        .x_desc("value")
        .y_desc("values per bar")
        .x_labels(8)
        .x_label_formatter(&label);
    match has_counts {
        false => mesh.disable_y_mesh().disable_y_axis().y_labels(0).draw()?,
        true => mesh.y_labels(5).y_label_formatter(&|&y| decade(y)).draw()?,
    }
    Ok(())
}

/// The histogram, or the observed range where there is none.
fn draw_values<B: DrawingBackend>(
    chart: &mut ChartContext<'_, B, Cartesian2d<RangedCoordf64, RangedCoordf64>>,
    bars: &[Bar],
    (low, high): (f64, f64),
    top: f64,
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    let (Some(first), Some(last)) = (bars.first(), bars.last()) else {
        let corners = [(low, 0.3 * top), (high, 0.6 * top)];
        let all = Rectangle::new(corners, BARS.mix(0.25).filled());
        chart.draw_series([all])?;
        return Ok(());
    };
    let mut outline = vec![(first.from, GROUND)];
    for bar in bars {
        outline.extend([(bar.from, height(bar.count)), (bar.to, height(bar.count))]);
    }
    outline.push((last.to, GROUND));
    chart.draw_series([Polygon::new(outline, BARS.filled())])?;
    Ok(())
}

/// The occupied part of the histogram, in no more bars than can be told apart.
fn bars(found: &Calibrated) -> Vec<Bar> {
    let Some(histogram) = &found.histogram else {
        return Vec::new();
    };
    let counts = histogram.counts();
    let first = counts.iter().position(|&count| count > 0);
    let last = counts.iter().rposition(|&count| count > 0);
    let (Some(first), Some(last)) = (first, last) else {
        return Vec::new();
    };
    let width = (last + 1 - first).div_ceil(MOST_BARS);
    let starts = (first..=last).step_by(width);
    starts
        .map(|start| {
            let end = Ord::min(start + width, counts.len());
            Bar {
                from: histogram.edge(start),
                to: histogram.edge(end),
                count: counts[start..end].iter().sum(),
            }
        })
        .collect()
}

/// Decades, so that one value is seen beside millions.
fn height(count: u64) -> f64 {
    match count {
        0 => GROUND,
        _ => (count as f64).log10(),
    }
}

fn decade(height: f64) -> String {
    match height.round() {
        whole if (whole - height).abs() > 0.01 || whole < 0.0 => String::new(),
        whole if whole <= 5.0 => format!("{}", 10_f64.powf(whole)),
        whole => format!("1e{whole}"),
    }
}

/// Few digits, and an exponent where it is shorter.
pub fn number(x: f64) -> String {
    let magnitude = x.abs();
    if magnitude != 0.0 && !(1e-3..1e6).contains(&magnitude) {
        let text = format!("{x:.4e}");
        return match text.split_once('e') {
            Some((digits, exponent)) => format!("{}e{exponent}", trimmed(digits)),
            None => text,
        };
    }
    let digits = match magnitude {
        _ if magnitude >= 1000.0 => 2,
        _ if magnitude >= 1.0 => 4,
        _ => 6,
    };
    trimmed(&format!("{x:.digits$}")).into()
}

fn trimmed(digits: &str) -> &str {
    match digits.contains('.') {
        true => digits.trim_end_matches('0').trim_end_matches('.'),
        false => digits,
    }
}
