//! Images sampled at places of their own: `resample` and `affine`.

use super::Table;
use crate::call::{Call, result};
use crate::tensor::Tensor;

pub(super) const TABLE: Table = &[("affine", affine), ("resample", resample)];

/// What stands outside of an image.
#[derive(Clone, Copy)]
enum Outside {
    Constant(f32),
    Border,
    /// Mirrored at the edge elements.
    Reflection,
    /// Mirrored between an edge element and its copy.
    Symmetric,
}

/// How coordinates are meant.
struct Coordinates {
    /// Of the first and the last: -1 to 1, 0 to 1, or neither.
    range: Option<(f64, f64)>,
    align_corners: bool,
}

impl Coordinates {
    fn read(call: &Call<'_>) -> Result<Self, String> {
        let mode = call.text("coordinates_mode", "normalized_minus_one_to_one")?;
        let range = match mode.to_lowercase().as_str() {
            "unnormalized" => None,
            "normalized_minus_one_to_one" => Some((-1.0, 1.0)),
            "normalized_zero_to_one" => Some((0.0, 1.0)),
            other => return Err(format!("coordinates_mode `{other}`")),
        };
        Ok(Self {
            range,
            align_corners: call.bool("align_corners", true)?,
        })
    }

    /// In elements of an axis of `dim`.
    fn place(&self, at: f64, dim: usize) -> f64 {
        let Some((low, high)) = self.range else {
            return at;
        };
        let part = (at - low) / (high - low);
        match self.align_corners {
            true => part * (dim as f64 - 1.0),
            false => part * dim as f64 - 0.5,
        }
    }
}

fn outside(call: &Call<'_>) -> Result<Outside, String> {
    Ok(
        match call
            .text("padding_mode", "constant")?
            .to_lowercase()
            .as_str()
        {
            "constant" => Outside::Constant(call.float("padding_value", 0.0)?),
            "border" => Outside::Border,
            "reflection" => Outside::Reflection,
            "symmetric" => Outside::Symmetric,
            other => return Err(format!("padding_mode `{other}`")),
        },
    )
}

impl Outside {
    /// A place brought into the image; constants stay where they are.
    fn fold(self, at: f64, dim: usize) -> f64 {
        let last = dim as f64 - 1.0;
        match self {
            Self::Constant(_) => at,
            Self::Border => at.clamp(0.0, last),
            Self::Reflection => mirror(at, 0.0, last).clamp(0.0, last),
            Self::Symmetric => mirror(at, -0.5, last + 0.5).clamp(0.0, last),
        }
    }

    fn at(self, plane: &[f32], [h, w]: [usize; 2], y: f64, x: f64) -> f32 {
        let inside = y >= 0.0 && x >= 0.0 && y < h as f64 && x < w as f64;
        match (inside, self) {
            (true, _) => plane[y as usize * w + x as usize],
            (false, Self::Constant(value)) => value,
            (false, _) => {
                let y = y.clamp(0.0, h as f64 - 1.0);
                plane[y as usize * w + x.clamp(0.0, w as f64 - 1.0) as usize]
            }
        }
    }

    fn bilinear(self, plane: &[f32], size: [usize; 2], y: f64, x: f64) -> f32 {
        let (top, left) = (y.floor(), x.floor());
        let (v, u) = ((y - top) as f32, (x - left) as f32);
        let at = |y, x| self.at(plane, size, y, x);
        let upper = at(top, left) * (1.0 - u) + at(top, left + 1.0) * u;
        let lower = at(top + 1.0, left) * (1.0 - u) + at(top + 1.0, left + 1.0) * u;
        upper * (1.0 - v) + lower * v
    }
}

/// A place mirrored at both ends until it is between them.
fn mirror(at: f64, low: f64, high: f64) -> f64 {
    let span = high - low;
    if span <= 0.0 {
        return low;
    }
    let off = (at - low).abs() % (2.0 * span);
    low + if off > span { 2.0 * span - off } else { off }
}

fn images(x: &Tensor) -> Result<[usize; 4], String> {
    match x.shape[..] {
        [n, c, h, w] if h > 0 && w > 0 => Ok([n, c, h, w]),
        _ => Err(format!("images of shape {:?}", x.shape)),
    }
}

fn resample(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let (x, coordinates) = (call.tensor("x")?, call.tensor("coordinates")?);
    let [n, c, h, w] = images(x)?;
    let &[batches, rows, columns, 2] = &coordinates.shape[..] else {
        return Err(format!("coordinates of shape {:?}", coordinates.shape));
    };
    if batches != n {
        return Err(format!(
            "coordinates for {batches} images, where there are {n}"
        ));
    }
    let bilinear = match call
        .text("sampling_mode", "bilinear")?
        .to_lowercase()
        .as_str()
    {
        "bilinear" => true,
        "nearest" => false,
        other => return Err(format!("sampling_mode `{other}`")),
    };
    let (meaning, outside) = (Coordinates::read(call)?, outside(call)?);
    let shape = vec![n, c, rows, columns];
    call.room(&shape)?;
    let (values, places) = (call.floats("x")?, coordinates.to_floats()?);
    let area = rows * columns;
    let mut out = Vec::with_capacity(shape.iter().product());
    for image in 0..n {
        let places = &places[image * area * 2..(image + 1) * area * 2];
        let places: Vec<(f64, f64)> = (places.as_chunks::<2>().0.iter())
            .map(|&[across, down]| {
                let y = outside.fold(meaning.place(down.into(), h), h);
                (y, outside.fold(meaning.place(across.into(), w), w))
            })
            .collect();
        for channel in 0..c {
            let plane = &values[(image * c + channel) * h * w..][..h * w];
            out.extend(places.iter().map(|&(y, x)| match bilinear {
                true => outside.bilinear(plane, [h, w], y, x),
                false => {
                    let (y, x) = (y.round_ties_even(), x.round_ties_even());
                    outside.at(plane, [h, w], y, x)
                }
            }));
        }
    }
    result(shape, out)
}

fn affine(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let (x, matrices) = (call.tensor("x")?, call.tensor("transform_matrix")?);
    let [n, c, h, w] = images(x)?;
    let count = match matrices.shape[..] {
        [count, 6] if count == 1 || count == n => count,
        _ => return Err(format!("matrices of shape {:?}", matrices.shape)),
    };
    let size = |name: &str| {
        let size = call.int(name, 1)?;
        usize::try_from(size).map_err(|_| format!("its input `{name}` is {size}"))
    };
    let (rows, columns) = (size("output_height")?, size("output_width")?);
    let (meaning, outside) = (Coordinates::read(call)?, outside(call)?);
    let shape = vec![n, c, rows, columns];
    call.room(&shape)?;
    let (values, matrices) = (call.floats("x")?, matrices.to_floats()?);
    // Places of the result's elements, as the input's are named.
    let named = |i: usize, dim: usize| {
        let Some((low, high)) = meaning.range else {
            return i as f64;
        };
        let part = match (meaning.align_corners, dim) {
            (true, 1) => 0.0,
            (true, _) => i as f64 / (dim as f64 - 1.0),
            (false, _) => (i as f64 + 0.5) / dim as f64,
        };
        low + part * (high - low)
    };
    let mut out = Vec::with_capacity(shape.iter().product());
    for image in 0..n {
        let m = &matrices[image % count * 6..][..6];
        let m: Vec<f64> = m.iter().map(|&value| value.into()).collect();
        for channel in 0..c {
            let plane = &values[(image * c + channel) * h * w..][..h * w];
            for row in 0..rows {
                for column in 0..columns {
                    let (u, v) = (named(column, columns), named(row, rows));
                    let across = meaning.place(m[0] * u + m[1] * v + m[2], w);
                    let down = meaning.place(m[3] * u + m[4] * v + m[5], h);
                    let (y, x) = (outside.fold(down, h), outside.fold(across, w));
                    out.push(outside.bilinear(plane, [h, w], y, x));
                }
            }
        }
    }
    result(shape, out)
}
