//! Padding.

use super::Table;
use crate::call::{Call, result, sizes};
use crate::index::{scatter_view, signed, split_at, strides};
use crate::tensor::{Tensor, Values};

pub(super) const TABLE: Table = &[("pad", pad)];

fn pad(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let pads = call.ints("pad")?.ok_or("its input `pad` is missing")?;
    let pads = sizes(&pads, "pad")?;
    let x = call.tensor("x")?;
    let padded = pads.len() / 2;
    let Some(first) = x
        .rank()
        .checked_sub(padded)
        .filter(|_| pads.len().is_multiple_of(2))
    else {
        return Err(format!("pads {pads:?} for a tensor of shape {:?}", x.shape));
    };
    let mut shape = x.shape.clone();
    for (i, pair) in pads.chunks_exact(2).enumerate() {
        let sum = shape[first + i].checked_add(pair[0]);
        let sum = sum.and_then(|sum| sum.checked_add(pair[1]));
        shape[first + i] = sum.ok_or("its result is too large")?;
    }
    call.room(&shape)?;
    let mode = call.text("mode", "constant")?;
    if mode == "constant" {
        let value = call.float("constant_val", 0.0)?;
        let before: Vec<usize> = pads.iter().step_by(2).copied().collect();
        let values = constant(x, &shape, &before, value)?;
        return result(shape, values);
    }
    let mut values = x.to_floats()?;
    let mut shape = x.shape.clone();
    for (i, pair) in pads.chunks_exact(2).enumerate() {
        let axis = first + i;
        let picks = mirrored(shape[axis], pair[0], pair[1], &mode)?;
        let (outer, dim, inner) = split_at(&shape, axis);
        let mut out = Vec::with_capacity(outer * picks.len() * inner);
        for o in 0..outer {
            for &pick in &picks {
                let from = (o * dim + pick) * inner;
                out.extend_from_slice(&values[from..from + inner]);
            }
        }
        shape[axis] = picks.len();
        values = out;
    }
    match x.floats() {
        Some(_) => result(shape, values),
        None => result(shape, values.iter().map(|&v| v as i32).collect::<Vec<_>>()),
    }
}

/// A tensor within one of `shape` that is filled with a value; `before` are the last axes' first pads.
fn constant(x: &Tensor, shape: &[usize], before: &[usize], value: f32) -> Result<Values, String> {
    let own = signed(&strides(shape));
    let first = shape.len() - before.len();
    let starts = before.iter().zip(&own[first..]);
    let start = starts.map(|(&pad, &step)| step * pad as isize).sum();
    let count = shape.iter().product();
    macro_rules! within {
        ($values:expr, $fill:expr) => {{
            let mut out = vec![$fill; count];
            scatter_view(&mut out, start, &x.shape, &own, $values);
            Ok(out.into())
        }};
    }
    match &x.values {
        Values::Float(values) => within!(values, value),
        Values::Int(values) => within!(values, value as i32),
        Values::Bool(values) => within!(values, value != 0.0),
        Values::Text(_) => Err("texts".into()),
    }
}

/// Which elements stand along a padded axis.
fn mirrored(dim: usize, before: usize, after: usize, mode: &str) -> Result<Vec<usize>, String> {
    let reflects = match mode {
        "reflect" => true,
        "replicate" => false,
        other => return Err(format!("mode `{other}`")),
    };
    if dim == 0 || (reflects && (before >= dim || after >= dim)) {
        return Err(format!(
            "a padding of {before} and {after} around {dim} elements"
        ));
    }
    let pick = |i: usize| match (i.checked_sub(before), reflects) {
        (None, true) => before - i,
        (None, false) => 0,
        (Some(i), _) if i < dim => i,
        (Some(i), true) => 2 * (dim - 1) - i,
        (Some(_), false) => dim - 1,
    };
    Ok((0..before + dim + after).map(pick).collect())
}
