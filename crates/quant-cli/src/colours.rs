//! The colours of charts, and what they are on a dark ground.

use plotters::style::RGBColor;

pub const GROUND: RGBColor = RGBColor(255, 255, 255);
pub const BARS: RGBColor = RGBColor(70, 110, 170);
pub const RANGE: RGBColor = RGBColor(200, 40, 40);
pub const OBSERVED: RGBColor = RGBColor(120, 120, 120);
pub const TEXT: RGBColor = RGBColor(70, 70, 70);

/// Colours in a chart, and those in their place on a dark ground.
const DARK: [(RGBColor, RGBColor); 5] = [
    (GROUND, RGBColor(24, 26, 30)),
    (BARS, RGBColor(110, 160, 235)),
    (RANGE, RGBColor(255, 110, 100)),
    (OBSERVED, RGBColor(150, 150, 150)),
    (TEXT, RGBColor(205, 208, 214)),
];

/// Rules that a picture carries, so that it follows the viewer's scheme.
pub fn dark_style() -> String {
    let mut style = String::from("@media (prefers-color-scheme: dark) {\n");
    for (light, dark) in DARK {
        for property in ["fill", "stroke"] {
            style += &format!(
                "svg [{property}=\"{}\"] {{ {property}: {}; }}\n",
                hex(light),
                hex(dark)
            );
        }
    }
    style + "}\n"
}

/// As plotters writes it.
fn hex(RGBColor(red, green, blue): RGBColor) -> String {
    format!("#{red:02X}{green:02X}{blue:02X}")
}
