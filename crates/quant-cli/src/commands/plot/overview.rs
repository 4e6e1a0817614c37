//! The ranges of all activations below each other, on one axis.

use plotters::coord::Shift;
use plotters::coord::ranged1d::{KeyPointHint, Ranged, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use quant_models::{Calibrated, Calibration, shortened};

use super::chart::number;
use crate::colours::{BARS, OBSERVED, RANGE, TEXT};

pub const WIDTH: u32 = 1080;
/// Of one activation.
const ROW: u32 = 24;
/// Above and below the rows: the axis and its title.
const EDGES: u32 = 64;
/// Beside them: names, and figures.
const NAMES: u32 = 300;
const FIGURES: u32 = 190;
/// What fits there, in columns of letters.
const NAME_COLUMNS: usize = 42;

/// Where the largest bound is more than so many times the smallest, the axis is logarithmic.
const MOST_LINEAR: f64 = 30.0;

pub fn height(calibration: &Calibration) -> u32 {
    EDGES + ROW * calibration.activations.len().max(1) as u32
}

/// From values to places: as they are; or as their logarithms, but for those near zero.
#[derive(Clone)]
struct Axis {
    /// Where the logarithm begins.
    linear: Option<f64>,
    /// Of places.
    from: f64,
    to: f64,
}

impl Axis {
    fn new(bounds: &[f64]) -> Self {
        let magnitudes = || {
            bounds
                .iter()
                .map(|bound| bound.abs())
                .filter(|&bound| bound > 0.0)
        };
        let largest = magnitudes().fold(0.0, f64::max);
        let smallest = magnitudes().fold(largest, f64::min).max(1e-8 * largest);
        let linear = (largest > MOST_LINEAR * smallest).then_some(smallest);
        let mut axis = Self {
            linear,
            from: 0.0,
            to: 0.0,
        };
        for &bound in bounds {
            axis.from = axis.from.min(axis.place(bound));
            axis.to = axis.to.max(axis.place(bound));
        }
        let margin = match axis.to - axis.from {
            0.0 => 1.0,
            width => 0.03 * width,
        };
        axis.from -= margin;
        axis.to += margin;
        axis
    }

    fn place(&self, value: f64) -> f64 {
        match self.linear {
            Some(linear) => (value / linear).asinh(),
            None => value,
        }
    }

    fn value(&self, place: f64) -> f64 {
        match self.linear {
            Some(linear) => place.sinh() * linear,
            None => place,
        }
    }

    /// Zero, and powers of ten on both sides.
    fn decades(&self, linear: f64, most: usize) -> Vec<f64> {
        let last = self.value(self.to.max(-self.from)).log10().floor() as i32;
        let first = linear.log10().ceil() as i32;
        let step = ((last - first + 1) as usize)
            .div_ceil((most / 2).max(1))
            .max(1);
        let powers = (first..=last)
            .rev()
            .step_by(step)
            .map(|power| 10_f64.powi(power));
        let both = powers.flat_map(|power| [-power, power]).chain([0.0]);
        both.map(|value| self.place(value)).collect()
    }
}

impl Ranged for Axis {
    type FormatOption = plotters::coord::ranged1d::NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let share = (value - self.from) / (self.to - self.from);
        limit.0 + (share * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        match self.linear {
            Some(linear) => self.decades(linear, hint.max_num_points()),
            None => {
                let plain: RangedCoordf64 = (self.from..self.to).into();
                plain.key_points(hint)
            }
        }
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.from..self.to
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, place: &f64) -> String {
        // What is left of zero after steps of a tenth is zero.
        match place.abs() < 1e-9 * (self.to - self.from) {
            true => "0".into(),
            false => number(self.value(*place)),
        }
    }
}

/// Draws them all.
pub fn draw<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    calibration: &Calibration,
) -> Result<(), String> {
    draw_rows(area, calibration).map_err(|error| error.to_string())
}

fn draw_rows<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    calibration: &Calibration,
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    let activations = &calibration.activations;
    let found = activations
        .values()
        .filter_map(|found| found.range.zip(found.observed));
    let bounds: Vec<f64> = found
        .flat_map(|(range, observed)| [range.min, range.max, observed.min, observed.max])
        .map(f64::from)
        .collect();
    let axis = Axis::new(&bounds);
    let rows = activations.len().max(1) as f64;
    let font = ("sans-serif", 13).into_font().color(&TEXT);
    let mut chart = ChartBuilder::on(area)
        .margin_top(10)
        .margin_right(FIGURES)
        .margin_left(NAMES)
        .x_label_area_size(EDGES - 14)
        .build_cartesian_2d(axis.clone(), rows..0.0)?;
    let title = match axis.linear {
        Some(_) => "value (linear near zero, logarithmic beyond)",
        None => "value",
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .bold_line_style(OBSERVED.mix(0.25))
        .light_line_style(TRANSPARENT)
        .axis_style(OBSERVED)
        .label_style(font.clone())
        .axis_desc_style(font.clone())
        .x_desc(title)
        .x_labels(10)
        .draw()?;
    for (row, found) in activations.values().enumerate() {
        draw_bar(&mut chart, &axis, row as f64 + 0.5, found)?;
    }
    draw_words(area, calibration, font)
}

/// A bar each for what was observed and for the range, and the range's ends.
fn draw_bar<B: DrawingBackend>(
    chart: &mut ChartContext<'_, B, Cartesian2d<Axis, RangedCoordf64>>,
    axis: &Axis,
    middle: f64,
    found: &Calibrated,
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    let Some((range, observed)) = found.range.zip(found.observed) else {
        return Ok(());
    };
    let bounds = [range.min, range.max, observed.min, observed.max];
    let [min, max, low, high] = bounds.map(|bound| axis.place(bound.into()));
    let bar = |from, to, half: f64| [(from, middle - half), (to, middle + half)];
    chart.draw_series([Rectangle::new(
        bar(low, high, 0.12),
        OBSERVED.mix(0.6).filled(),
    )])?;
    chart.draw_series([Rectangle::new(bar(min, max, 0.28), BARS.filled())])?;
    for bound in [min, max] {
        let end = [(bound, middle - 0.38), (bound, middle + 0.38)];
        chart.draw_series([PathElement::new(end, RANGE.stroke_width(2))])?;
    }
    Ok(())
}

/// Names on the left, figures on the right.
fn draw_words<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    calibration: &Calibration,
    font: TextStyle<'_>,
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    let activations = &calibration.activations;
    let left = font.pos(Pos::new(HPos::Left, VPos::Center));
    for (row, (name, found)) in activations.iter().enumerate() {
        let y = 10 + (ROW as usize * row + ROW as usize / 2) as i32;
        let name = shortened(name, NAME_COLUMNS).into_owned();
        area.draw(&Text::new(name, (8, y), left.clone()))?;
        area.draw(&Text::new(
            figures(found),
            ((WIDTH - FIGURES + 12) as i32, y),
            left.clone(),
        ))?;
    }
    Ok(())
}

fn figures(found: &Calibrated) -> String {
    match found.range {
        Some(range) => format!(
            "{} to {}",
            number(range.min.into()),
            number(range.max.into())
        ),
        None => "no finite value, no range".into(),
    }
}

#[cfg(test)]
mod tests {
    use quant_models::columns;

    use super::*;

    #[test]
    fn every_bound_has_a_place_on_the_axis() {
        let (tiny, huge) = (f64::from(f32::from_bits(1)), f64::from(f32::MAX));
        for bounds in [
            &[][..],
            &[0.0, 0.0],
            &[-1.0, 2.0],
            &[-3.0, -2.0],
            &[0.001, 1000.0],
            &[-tiny, huge],
            &[tiny],
            &[-huge, huge],
        ] {
            let axis = Axis::new(bounds);
            assert!(axis.from < axis.to);
            for &bound in bounds {
                let place = axis.map(&axis.place(bound), (0, 1000));
                assert!((0..=1000).contains(&place), "{bounds:?}");
            }
            for place in axis.key_points(10) {
                let text = axis.format_ext(&place);
                assert!(columns(&text) < 12, "{text}");
            }
        }
    }
}
