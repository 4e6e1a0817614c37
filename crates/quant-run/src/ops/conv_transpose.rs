//! Transposed convolutions of one to three dimensions.

use super::Table;
use super::conv::{Geometry, plane};
use crate::call::{Call, result, sizes};
use crate::engine::{View, Window};
use crate::index::{gather_view, scatter_view, signed, strides};
use crate::tensor::Tensor;

pub(super) const TABLE: Table = &[("conv_transpose", conv_transpose)];

// Long: the checks of its parameters, one after the other.
fn conv_transpose(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let (x, weight) = (call.tensor("x")?, call.tensor("weight")?);
    let spatial = x
        .rank()
        .checked_sub(2)
        .filter(|&rank| (1..=3).contains(&rank));
    let (Some(spatial), true) = (spatial, weight.rank() == x.rank()) else {
        let (a, b) = (&x.shape, &weight.shape);
        return Err(format!("an input of shape {a:?} and a weight of {b:?}"));
    };
    let groups = usize::try_from(call.int("groups", 1)?).unwrap_or(0);
    if groups == 0 || x.shape[1] != weight.shape[0] || !x.shape[1].is_multiple_of(groups) {
        let (channels, wanted) = (x.shape[1], &weight.shape);
        return Err(format!(
            "{channels} channels in {groups} groups do not fit a weight of shape {wanted:?}"
        ));
    }
    let geometry = Geometry::read(call, &weight.shape[2..], &x.shape[2..])?;
    let out = weight.shape[1]
        .checked_mul(groups)
        .ok_or("too many channels")?;
    let bias = call.optional_floats("bias")?;
    if let Some(bias) = bias.filter(|bias| bias.len() != out) {
        return Err(format!("a bias of {} for {out} channels", bias.len()));
    }
    if x.is_empty() || weight.is_empty() {
        return Err("an input or a weight without elements".into());
    }
    let mut full = vec![x.shape[0], out];
    for i in 0..spatial {
        let moved = (x.shape[2 + i] - 1).checked_mul(geometry.strides[i]);
        let all = moved.and_then(|moved| moved.checked_add(geometry.extent(i).ok()?));
        full.push(all.ok_or("its result is too large")?);
    }
    call.room(&full)?;
    let cut = Cut::read(call, &geometry, &x.shape, &full)?;
    call.room(&cut.shape)?;
    let values = match spatial {
        3 => transpose_3d(call, &geometry, groups, &full)?,
        _ => {
            let pads = vec![0; 2 * spatial];
            let window = Window {
                pads: &pads,
                strides: &geometry.strides,
                dilations: &geometry.dilations,
                groups,
            };
            let (shape, values) = call.engine.conv_transpose(
                View::new(&x.shape, call.floats("x")?),
                View::new(&weight.shape, call.floats("weight")?),
                &window,
            )?;
            if shape != full {
                return Err(format!("a result of shape {shape:?}, not {full:?}"));
            }
            values
        }
    };
    let mut values = cut.apply(values, &full);
    add_bias(&mut values, bias, &cut.shape);
    result(cut.shape, values)
}

fn add_bias(values: &mut [f32], bias: Option<&[f32]>, shape: &[usize]) {
    let Some(bias) = bias else {
        return;
    };
    let area: usize = shape[2..].iter().product();
    for (i, row) in values.chunks_mut(area.max(1)).enumerate() {
        let bias = bias[i % bias.len()];
        row.iter_mut().for_each(|value| *value += bias);
    }
}

/// Which part of the full result is wanted; it may reach beyond its end.
struct Cut {
    start: Vec<usize>,
    shape: Vec<usize>,
}

impl Cut {
    fn read(
        call: &Call<'_>,
        geometry: &Geometry,
        x: &[usize],
        full: &[usize],
    ) -> Result<Self, String> {
        let spatial = full.len() - 2;
        let pad_type = call.text("pad_type", "valid")?.to_lowercase();
        let wanted = call.ints("output_shape")?;
        let wanted = wanted
            .map(|shape| sizes(&shape, "output_shape"))
            .transpose()?;
        let wanted = match &wanted {
            Some(shape) if shape.len() == full.len() => Some(&shape[2..]),
            Some(shape) if shape.len() == spatial => Some(&shape[..]),
            Some(shape) => return Err(format!("an `output_shape` of {shape:?}")),
            None => None,
        };
        let (mut start, mut shape) = (vec![0; 2], full[..2].to_vec());
        for i in 0..spatial {
            let all = full[2 + i];
            let (before, size) = match pad_type.as_str() {
                "same" => {
                    let size = x[2 + i].checked_mul(geometry.strides[i]);
                    let size = size.ok_or("its result is too large")?;
                    let size = wanted.map_or(size, |wanted| wanted[i]);
                    (all.saturating_sub(size) / 2, size)
                }
                _ => {
                    let (before, after) = geometry.pads[i];
                    let size = all
                        .checked_sub(before)
                        .and_then(|rest| rest.checked_sub(after));
                    match (wanted, size) {
                        (Some(wanted), _) => (before, wanted[i]),
                        (None, Some(size)) => (before, size),
                        (None, None) => return Err("a padding of more than there is".into()),
                    }
                }
            };
            start.push(before);
            shape.push(size);
        }
        Ok(Self { start, shape })
    }

    fn apply(&self, values: Vec<f32>, full: &[usize]) -> Vec<f32> {
        if self.shape == full && self.start.iter().all(|&start| start == 0) {
            return values;
        }
        let there = |i: usize| full[i].saturating_sub(self.start[i]).min(self.shape[i]);
        let common: Vec<usize> = (0..full.len()).map(there).collect();
        let from = signed(&strides(full));
        let start = self
            .start
            .iter()
            .zip(&from)
            .map(|(&s, &step)| s as isize * step);
        let part = gather_view(&values, start.sum(), &common, &from);
        if common == self.shape {
            return part;
        }
        let mut out = vec![0.0; self.shape.iter().product()];
        let to = signed(&strides(&self.shape));
        scatter_view(&mut out, 0, &common, &to, &part);
        out
    }
}

/// The sum over the kernel's depth of transposed convolutions in two dimensions.
fn transpose_3d(
    call: &Call<'_>,
    geometry: &Geometry,
    groups: usize,
    full: &[usize],
) -> Result<Vec<f32>, String> {
    let (x, weight) = (call.tensor("x")?, call.tensor("weight")?);
    let (xs, weights) = (call.floats("x")?, call.floats("weight")?);
    let window = Window {
        pads: &[0; 4],
        strides: &geometry.strides[1..],
        dilations: &geometry.dilations[1..],
        groups,
    };
    let flat = |shape: &[usize]| [shape[0], shape[1], shape[3], shape[4]];
    let (x_shape, w_shape) = (flat(&x.shape), flat(&weight.shape));
    let area = full[3] * full[4];
    let mut out = vec![0.0; full.iter().product()];
    for depth in 0..x.shape[2] {
        let input = plane(x, xs, depth);
        for k in 0..weight.shape[2] {
            let kernel = plane(weight, weights, k);
            let (_, part) = call.engine.conv_transpose(
                View::new(&x_shape, &input),
                View::new(&w_shape, &kernel),
                &window,
            )?;
            let at = depth * geometry.strides[0] + k * geometry.dilations[0];
            for (i, row) in part.chunks(area).enumerate() {
                let to = (i * full[2] + at) * area;
                for (sum, part) in out[to..to + area].iter_mut().zip(row) {
                    *sum += part;
                }
            }
        }
    }
    Ok(out)
}
