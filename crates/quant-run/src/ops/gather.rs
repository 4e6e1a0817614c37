//! Elements picked by their indices.

use super::Table;
use crate::call::{Call, result};
use crate::index::{axis, split_at};
use crate::tensor::{Tensor, map_values};

pub(super) const TABLE: Table = &[
    ("gather", gather),
    ("gather_along_axis", gather_along_axis),
    ("gather_nd", gather_nd),
];

/// Indices as positions; negative ones count from the end.
pub(super) fn positions(indices: &[i32], dim: usize) -> Result<Vec<usize>, String> {
    let place = |&index: &i32| {
        let from_front = i64::from(index) + if index < 0 { dim as i64 } else { 0 };
        usize::try_from(from_front).ok().filter(|&at| at < dim)
    };
    let wrong = |index: &i32| format!("index {index} of {dim} elements");
    indices
        .iter()
        .map(|index| place(index).ok_or_else(|| wrong(index)))
        .collect()
}

fn batch_dims(call: &Call<'_>, most: usize) -> Result<usize, String> {
    let count = call.int("batch_dims", 0)?;
    let count = usize::try_from(count).ok().filter(|&count| count <= most);
    count.ok_or_else(|| format!("`batch_dims` of more than {most} dimensions"))
}

fn gather(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let (x, indices) = (call.tensor("x")?, call.tensor("indices")?);
    let at = axis(call.int("axis", 0)?, x.rank())?;
    let batch = batch_dims(call, indices.rank().min(at))?;
    if x.shape[..batch] != indices.shape[..batch] {
        let (a, b) = (&x.shape, &indices.shape);
        return Err(format!(
            "shapes {a:?} and {b:?} with {batch} batch dimensions"
        ));
    }
    let mut shape = x.shape[..at].to_vec();
    shape.extend_from_slice(&indices.shape[batch..]);
    shape.extend_from_slice(&x.shape[at + 1..]);
    call.room(&shape)?;
    let (_, dim, inner) = split_at(&x.shape, at);
    let picks = positions(&indices.to_ints()?, dim)?;
    let batches: usize = x.shape[..batch].iter().product();
    let middle: usize = x.shape[batch..at].iter().product();
    let each = picks.len() / batches.max(1);
    let values = map_values!(&x.values, v => {
        let mut out = Vec::with_capacity(shape.iter().product());
        for b in 0..batches {
            for m in 0..middle {
                let base = (b * middle + m) * dim;
                for &pick in &picks[b * each..(b + 1) * each] {
                    let from = (base + pick) * inner;
                    out.extend_from_slice(&v[from..from + inner]);
                }
            }
        }
        out
    })?;
    result(shape, values)
}

/// Where each element of `indices` leads along an axis of a tensor of `shape`.
pub(super) fn along(shape: &[usize], indices: &Tensor, at: usize) -> Result<Vec<usize>, String> {
    let fits = indices.rank() == shape.len()
        && (0..shape.len()).all(|i| i == at || indices.shape[i] <= shape[i]);
    if !fits {
        let other = &indices.shape;
        return Err(format!("shapes {shape:?} and {other:?} along axis {at}"));
    }
    let picks = positions(&indices.to_ints()?, shape[at])?;
    let own = crate::index::strides(shape);
    let mut counter = vec![0_usize; shape.len()];
    let mut found = Vec::with_capacity(picks.len());
    for pick in picks {
        let place = |i: usize| own[i] * if i == at { pick } else { counter[i] };
        found.push((0..shape.len()).map(place).sum());
        for i in (0..shape.len()).rev() {
            counter[i] += 1;
            if counter[i] < indices.shape[i] {
                break;
            }
            counter[i] = 0;
        }
    }
    Ok(found)
}

fn gather_along_axis(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let (x, indices) = (call.tensor("x")?, call.tensor("indices")?);
    let at = axis(call.int("axis", 0)?, x.rank())?;
    call.room(&indices.shape)?;
    let places = along(&x.shape, indices, at)?;
    let values = map_values!(&x.values, v => places.iter().map(|&at| v[at]).collect::<Vec<_>>())?;
    result(indices.shape.clone(), values)
}

/// Where each row of `indices` leads in a tensor of `shape`: the first of `inner` elements.
pub(super) fn rows(
    shape: &[usize],
    indices: &Tensor,
    batch: usize,
) -> Result<(Vec<usize>, usize), String> {
    let fail = || format!("indices of shape {:?} into shape {shape:?}", indices.shape);
    let (&depth, lead) = indices.shape.split_last().ok_or_else(fail)?;
    if batch > lead.len() || batch + depth > shape.len() || lead[..batch] != shape[..batch] {
        return Err(fail());
    }
    let inner: usize = shape[batch + depth..].iter().product();
    let batches: usize = shape[..batch].iter().product();
    let per_batch: usize = shape[batch..batch + depth].iter().product();
    let count: usize = lead.iter().product();
    let each = (count / batches.max(1)).max(1);
    let picks = indices.to_ints()?;
    let mut found = Vec::with_capacity(count);
    for row in 0..count {
        let mut at = 0;
        for (i, pick) in picks[row * depth..(row + 1) * depth].iter().enumerate() {
            let dim = shape[batch + i];
            at = at * dim + positions(std::slice::from_ref(pick), dim)?[0];
        }
        found.push((row / each * per_batch + at) * inner);
    }
    Ok((found, inner))
}

fn gather_nd(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let (x, indices) = (call.tensor("x")?, call.tensor("indices")?);
    let batch = batch_dims(call, x.rank())?;
    let (rows, inner) = rows(&x.shape, indices, batch)?;
    let depth = indices.shape[indices.rank() - 1];
    let mut shape = indices.shape[..indices.rank() - 1].to_vec();
    shape.extend_from_slice(&x.shape[batch + depth..]);
    call.room(&shape)?;
    let values = map_values!(&x.values, v => {
        let mut out = Vec::with_capacity(rows.len() * inner);
        rows.iter().for_each(|&at| out.extend_from_slice(&v[at..at + inner]));
        out
    })?;
    result(shape, values)
}
