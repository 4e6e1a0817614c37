//! Images in other sizes.

use super::Table;
use crate::call::{Call, result, sizes};
use crate::tensor::{Tensor, Values, map_values};

pub(super) const TABLE: Table = &[
    ("resize", resize),
    ("resize_bilinear", |c| {
        let size = target(c)?;
        let mode = Sampling::read(&c.text("sampling_mode", "DEFAULT")?)?;
        bilinear(c, size, mode)
    }),
    ("resize_nearest_neighbor", |c| {
        let size = target(c)?;
        nearest(c, size, Places::Centers)
    }),
    ("upsample_bilinear", |c| {
        let size = scaled(c)?;
        let mode = match c.bool("align_corners", true)? {
            true => Sampling::StrictAlignCorners,
            false => Sampling::UnalignCorners,
        };
        bilinear(c, size, mode)
    }),
    ("upsample_nearest_neighbor", |c| {
        let size = scaled(c)?;
        nearest(c, size, Places::Starts)
    }),
];

/// Where results lie among the elements of an axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Sampling {
    StrictAlignCorners,
    AlignCorners,
    Default,
    OffsetCorners,
    UnalignCorners,
}

impl Sampling {
    pub fn read(name: &str) -> Result<Self, String> {
        Ok(match name.to_uppercase().as_str() {
            "STRICT_ALIGN_CORNERS" => Self::StrictAlignCorners,
            "ALIGN_CORNERS" => Self::AlignCorners,
            "DEFAULT" => Self::Default,
            "OFFSET_CORNERS" => Self::OffsetCorners,
            "UNALIGN_CORNERS" => Self::UnalignCorners,
            other => return Err(format!("sampling_mode `{other}`")),
        })
    }

    /// Where each of `out` results lies in an interval of `len` elements, which starts at `from` and
    /// ends at `to` (the first and the last element, or reversed).
    pub fn grid(self, from: f64, to: f64, len: f64, out: usize) -> Vec<f64> {
        let count = out as f64;
        let span = to - from;
        let sign = if span < 0.0 { -1.0 } else { 1.0 };
        let place = |i: usize| {
            let i = i as f64;
            match self {
                Self::StrictAlignCorners if out > 1 => from + i * span / (count - 1.0),
                Self::StrictAlignCorners => from,
                Self::AlignCorners if out > 1 => from + i * span / (count - 1.0),
                Self::AlignCorners => (from + to) / 2.0,
                Self::Default => from + i * sign * len / count,
                Self::OffsetCorners => {
                    let delta = (len - 1.0).max(1.0) / count;
                    from + sign * (0.5 * delta + i * delta)
                }
                Self::UnalignCorners => from + sign * ((i + 0.5) * len / count - 0.5),
            }
        };
        (0..out).map(place).collect()
    }
}

fn plane(x: &Tensor) -> Result<[usize; 2], String> {
    match x.shape[..] {
        [.., h, w] if h > 0 && w > 0 => Ok([h, w]),
        _ => Err(format!("an image of shape {:?}", x.shape)),
    }
}

fn target(call: &Call<'_>) -> Result<[usize; 2], String> {
    let one = |name| {
        let size = call.int(name, 1)?;
        usize::try_from(size).map_err(|_| format!("its input `{name}` is {size}"))
    };
    Ok([one("target_size_height")?, one("target_size_width")?])
}

fn scaled(call: &Call<'_>) -> Result<[usize; 2], String> {
    let [h, w] = plane(call.tensor("x")?)?;
    let one = |dim: usize, name| {
        let factor = call.float(name, 1.0)?;
        // A factor such as 1/3 must not lose a row to its last digit.
        let size = (dim as f64 * f64::from(factor) + 1e-5).floor();
        match (0.0..4e9).contains(&size) {
            true => Ok(size as usize),
            false => Err(format!("its input `{name}` is {factor}")),
        }
    };
    Ok([
        one(h, "scale_factor_height")?,
        one(w, "scale_factor_width")?,
    ])
}

fn resized(x: &Tensor, size: [usize; 2]) -> Vec<usize> {
    let mut shape = x.shape.clone();
    let rank = shape.len();
    shape[rank - 2..].copy_from_slice(&size);
    shape
}

/// What of a result's elements is looked up among the input's: where they start, as upsampling has
/// it, or their centers, as resizing to a size has it (TensorFlow's `half_pixel_centers`).
#[derive(Clone, Copy)]
enum Places {
    Starts,
    Centers,
}

fn nearest(call: &mut Call<'_>, size: [usize; 2], places: Places) -> Result<Vec<Tensor>, String> {
    let x = call.tensor("x")?;
    let dims = plane(x)?;
    call.room(&resized(x, size))?;
    let picks = |i: usize| -> Vec<usize> {
        let (dim, out) = (dims[i] as u128, size[i] as u128);
        let place = |at: u128| match places {
            Places::Starts => at * dim / out,
            Places::Centers => (2 * at + 1) * dim / (2 * out),
        };
        (0..out).map(|at| place(at).min(dim - 1) as usize).collect()
    };
    pick(call, size, &picks(0), &picks(1))
}

/// The elements at the crossings of rows and columns.
fn pick(
    call: &Call<'_>,
    size: [usize; 2],
    rows: &[usize],
    columns: &[usize],
) -> Result<Vec<Tensor>, String> {
    let x = call.tensor("x")?;
    let [h, w] = plane(x)?;
    let shape = resized(x, size);
    call.room(&shape)?;
    let values = map_values!(&x.values, v => {
        let mut out = Vec::with_capacity(shape.iter().product());
        for image in v.chunks_exact(h * w) {
            for &row in rows {
                let row = &image[row * w..(row + 1) * w];
                out.extend(columns.iter().map(|&column| row[column]));
            }
        }
        out
    })?;
    result(shape, values)
}

/// Two neighbours and the weight of the second, for each place on an axis of `dim` elements.
fn neighbours(grid: &[f64], dim: usize) -> Vec<(usize, usize, f32)> {
    let last = dim - 1;
    let one = |&at: &f64| {
        let at = at.clamp(0.0, last as f64);
        let low = at.floor() as usize;
        (low, (low + 1).min(last), (at - low as f64) as f32)
    };
    grid.iter().map(one).collect()
}

fn bilinear(call: &mut Call<'_>, size: [usize; 2], mode: Sampling) -> Result<Vec<Tensor>, String> {
    let x = call.tensor("x")?;
    let [h, w] = plane(x)?;
    let shape = resized(x, size);
    call.room(&shape)?;
    let grid = |dim: usize, out| mode.grid(0.0, (dim - 1) as f64, dim as f64, out);
    let rows = neighbours(&grid(h, size[0]), h);
    let columns = neighbours(&grid(w, size[1]), w);
    let values = x.to_floats()?;
    let mut out = Vec::with_capacity(shape.iter().product());
    for image in values.chunks_exact(h * w) {
        for &(top, bottom, v) in &rows {
            let (top, bottom) = (&image[top * w..][..w], &image[bottom * w..][..w]);
            out.extend(columns.iter().map(|&(left, right, u)| {
                let upper = mix(top[left], top[right], u);
                mix(upper, mix(bottom[left], bottom[right], u), v)
            }));
        }
    }
    let values: Values = match x.floats() {
        Some(_) => out.into(),
        None => out
            .iter()
            .map(|&value| value as i32)
            .collect::<Vec<_>>()
            .into(),
    };
    result(shape, values)
}

/// Between two values; exactly the first one at 0.
pub(super) fn mix(a: f32, b: f32, weight: f32) -> f32 {
    match weight == 0.0 {
        true => a,
        false => a * (1.0 - weight) + b * weight,
    }
}

fn resize(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let x = call.tensor("x")?;
    let wanted = call.ints("shape")?.ok_or("its input `shape` is missing")?;
    let wanted = sizes(&wanted, "shape")?;
    let count = usize::try_from(call.int("resized_dims", 2)?).unwrap_or(usize::MAX);
    if count > wanted.len() || count > x.rank() {
        return Err(format!(
            "the last {count} of {wanted:?} for shape {:?}",
            x.shape
        ));
    }
    let mut shape = x.shape.clone();
    for i in 1..=count {
        let dim = wanted[wanted.len() - i];
        let at = shape.len() - i;
        if dim != 0 {
            shape[at] = dim;
        }
    }
    let [h, w] = plane(x)?;
    let rank = shape.len();
    if shape[..rank - 2] != x.shape[..rank - 2] {
        return Err("more than two dimensions in another size".into());
    }
    let size = [shape[rank - 2], shape[rank - 1]];
    let mode = Sampling::read(&call.text("sampling_mode", "DEFAULT")?)?;
    match call.text("interpolation_mode", "LINEAR")?.as_str() {
        "LINEAR" => bilinear(call, size, mode),
        "NEAREST_NEIGHBOR" if mode == Sampling::Default => nearest(call, size, Places::Centers),
        "NEAREST_NEIGHBOR" => {
            call.room(&resized(x, size))?;
            let picks = |dim: usize, out: usize| -> Vec<usize> {
                let last = (dim - 1) as f64;
                let grid = mode.grid(0.0, last, dim as f64, out);
                let place = |&at: &f64| (at + 0.5).floor().clamp(0.0, last) as usize;
                grid.iter().map(place).collect()
            };
            pick(call, size, &picks(h, size[0]), &picks(w, size[1]))
        }
        other => Err(format!("interpolation_mode `{other}`")),
    }
}
