//! Parts of images.

use super::Table;
use super::resize::{Sampling, mix};
use crate::call::{Call, result, sizes};
use crate::index::{gather_view, signed, strides};
use crate::tensor::{Tensor, map_values};

pub(super) const TABLE: Table = &[("crop", crop), ("crop_resize", crop_resize)];

fn crop(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let pair = |name: &str| {
        let values = call.ints(name)?;
        let values = values.ok_or_else(|| format!("its input `{name}` is missing"))?;
        match sizes(&values, name)?[..] {
            [before, after] => Ok((before, after)),
            _ => Err(format!("its input `{name}` is not two values")),
        }
    };
    let (rows, columns) = (pair("crop_height")?, pair("crop_width")?);
    let x = call.tensor("x")?;
    let Some(first) = x.rank().checked_sub(2) else {
        return Err(format!("an image of shape {:?}", x.shape));
    };
    let own = signed(&strides(&x.shape));
    let (mut shape, mut start) = (x.shape.clone(), 0);
    for (i, (before, after)) in [(first, rows), (first + 1, columns)] {
        let rest = shape[i]
            .checked_sub(before)
            .and_then(|rest| rest.checked_sub(after));
        shape[i] = rest.ok_or_else(|| format!("more cut than there is of {:?}", x.shape))?;
        start += own[i] * before as isize;
    }
    call.room(&shape)?;
    let values = map_values!(&x.values, v => gather_view(v, start, &shape, &own))?;
    result(shape, values)
}

/// A box in an image: top, left, bottom, right; in elements.
struct Region {
    image: usize,
    corners: [f64; 4],
}

fn crop_resize(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let x = call.tensor("x")?;
    let &[images, channels, h, w] = &x.shape[..] else {
        return Err(format!("images of shape {:?}", x.shape));
    };
    if h == 0 || w == 0 {
        return Err(format!("images of shape {:?}", x.shape));
    }
    let size = |name: &str| {
        let size = call.int(name, 1)?;
        usize::try_from(size).map_err(|_| format!("its input `{name}` is {size}"))
    };
    let (rows, columns) = (size("target_height")?, size("target_width")?);
    let mode = Sampling::read(&call.text("sampling_mode", "DEFAULT")?)?;
    let pad = call.float("pad_value", 0.0)?;
    let (regions, lead) = regions(call, images, [h, w])?;
    let mut shape = lead;
    shape.extend([channels, rows, columns]);
    call.room(&shape)?;
    let values = call.floats("x")?;
    let mut out = Vec::with_capacity(shape.iter().product());
    for Region { image, corners } in regions {
        let [top, left, bottom, right] = corners;
        let grid = |from: f64, to: f64, n| mode.grid(from, to, (to - from).abs() + 1.0, n);
        let (ys, xs) = (grid(top, bottom, rows), grid(left, right, columns));
        for channel in 0..channels {
            let plane = &values[(image * channels + channel) * h * w..][..h * w];
            for &y in &ys {
                out.extend(xs.iter().map(|&x| sample(plane, [h, w], y, x, pad)));
            }
        }
    }
    result(shape, out)
}

/// The value at a place of an image; outside of it, `pad`.
fn sample(plane: &[f32], [h, w]: [usize; 2], y: f64, x: f64, pad: f32) -> f32 {
    let (last_y, last_x) = ((h - 1) as f64, (w - 1) as f64);
    // Corners computed in f32 may lie a little outside.
    let near = |at: f64, last: f64| (-1e-4..=last + 1e-4).contains(&at);
    if !near(y, last_y) || !near(x, last_x) {
        return pad;
    }
    let (y, x) = (y.clamp(0.0, last_y), x.clamp(0.0, last_x));
    let (top, left) = (y.floor() as usize, x.floor() as usize);
    let (bottom, right) = ((top + 1).min(h - 1), (left + 1).min(w - 1));
    let (v, u) = ((y - y.floor()) as f32, (x - x.floor()) as f32);
    let upper = mix(plane[top * w + left], plane[top * w + right], u);
    let lower = mix(plane[bottom * w + left], plane[bottom * w + right], u);
    mix(upper, lower, v)
}

/// The boxes, and the leading dimensions of the result.
fn regions(
    call: &Call<'_>,
    images: usize,
    size: [usize; 2],
) -> Result<(Vec<Region>, Vec<usize>), String> {
    let place = |at: f64| {
        let inside = at >= 0.0 && at.fract() == 0.0 && at < images as f64;
        match inside {
            true => Ok(at as usize),
            false => Err(format!("box of image {at}, where there are {images}")),
        }
    };
    let mut found = Vec::new();
    // Since iOS17 boxes are a matrix of their own.
    if let Some(boxes) = call.optional("boxes") {
        let &[count, 4] = &boxes.shape[..] else {
            return Err(format!("boxes of shape {:?}", boxes.shape));
        };
        let values = boxes.to_floats()?;
        let indices = match call.ints("box_indices")? {
            Some(indices) if indices.len() == count => indices,
            Some(indices) => return Err(format!("{} indices of {count} boxes", indices.len())),
            None => (0..count as i32).collect(),
        };
        for (corners, &index) in values.as_chunks::<4>().0.iter().zip(&indices) {
            let image = place(index.into())?;
            let corners = corners_of(call, *corners, size)?;
            found.push(Region { image, corners });
        }
        return Ok((found, vec![count]));
    }
    let roi = call.tensor("roi")?;
    let &[count, 1, fields @ (4 | 5), 1, 1] = &roi.shape[..] else {
        return Err(format!("boxes of shape {:?}", roi.shape));
    };
    for row in roi.to_floats()?.chunks_exact(fields) {
        let corners = [
            row[fields - 4],
            row[fields - 3],
            row[fields - 2],
            row[fields - 1],
        ];
        let corners = corners_of(call, corners, size)?;
        match fields {
            5 => found.push(Region {
                image: place(row[0].into())?,
                corners,
            }),
            _ => found.extend((0..images).map(|image| Region { image, corners })),
        }
    }
    let per_box = if fields == 5 { 1 } else { images };
    Ok((found, vec![count, per_box]))
}

fn corners_of(call: &Call<'_>, given: [f32; 4], size: [usize; 2]) -> Result<[f64; 4], String> {
    let [a, b, c, d] = given.map(f64::from);
    let mode = call.text("box_coordinate_mode", "CORNERS_HEIGHT_FIRST")?;
    let corners = match mode.as_str() {
        "CORNERS_HEIGHT_FIRST" => [a, b, c, d],
        "CORNERS_WIDTH_FIRST" => [b, a, d, c],
        "CENTER_SIZE_HEIGHT_FIRST" => [a - c / 2.0, b - d / 2.0, a + c / 2.0, b + d / 2.0],
        "CENTER_SIZE_WIDTH_FIRST" => [b - d / 2.0, a - c / 2.0, b + d / 2.0, a + c / 2.0],
        other => return Err(format!("box_coordinate_mode `{other}`")),
    };
    let scale = f64::from(call.float("spatial_scale", 1.0)?);
    let [h, w] = match call.bool("normalized_coordinates", false)? {
        true => size.map(|dim| (dim - 1) as f64),
        false => [1.0, 1.0],
    };
    let [top, left, bottom, right] = corners;
    let corners = [top * h, left * w, bottom * h, right * w].map(|corner| corner * scale);
    let [rows, columns] = size.map(|dim| (dim - 1) as f64 + 1e-3);
    let lasts = [rows, columns, rows, columns];
    let inside = (0..4).all(|i| (-1e-3..=lasts[i]).contains(&corners[i]));
    let pads = ["boxes", "pad_value"]
        .iter()
        .any(|name| call.optional(name).is_some());
    match inside || pads {
        true if corners.iter().all(|corner| corner.is_finite()) => Ok(corners),
        true => Err("a box that is not finite".into()),
        // Until iOS16 there is no value for what is not there, and MIL does not say what happens.
        false => Err(format!(
            "a box at {corners:?}, outside of an image of {size:?}"
        )),
    }
}
