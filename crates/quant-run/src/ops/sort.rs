//! Elements by their order.

use std::cmp::Ordering;

use super::Table;
use crate::call::{Call, result};
use crate::index::{axis, split_at};
use crate::tensor::{Tensor, Values, map_values};

pub(super) const TABLE: Table = &[("argsort", argsort), ("topk", topk)];

/// The order of each lane along an axis: `keep` indices of each, as a tensor lies in memory.
fn order(x: &Tensor, at: usize, keep: usize, ascending: bool) -> Result<Vec<i32>, String> {
    let (outer, dim, inner) = split_at(&x.shape, at);
    let compare = |a: usize, b: usize| -> Ordering {
        let order = match &x.values {
            Values::Float(v) => v[a].total_cmp(&v[b]).then(Ordering::Equal),
            Values::Int(v) => v[a].cmp(&v[b]),
            Values::Bool(v) => v[a].cmp(&v[b]),
            Values::Text(v) => v[a].cmp(&v[b]),
        };
        if ascending { order } else { order.reverse() }
    };
    let mut out = vec![0; outer * keep * inner];
    let mut lane: Vec<usize> = Vec::with_capacity(dim);
    for o in 0..outer {
        for i in 0..inner {
            let place = |k: usize| (o * dim + k) * inner + i;
            lane.clear();
            lane.extend(0..dim);
            // Equal ones stay in their order.
            lane.sort_by(|&a, &b| compare(place(a), place(b)));
            for (k, &index) in lane.iter().take(keep).enumerate() {
                out[(o * keep + k) * inner + i] = index as i32;
            }
        }
    }
    Ok(out)
}

fn argsort(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let x = call.tensor("x")?;
    let at = axis(call.int("axis", -1)?, x.rank())?;
    call.room(&x.shape)?;
    let found = order(x, at, x.shape[at], call.bool("ascending", false)?)?;
    result(x.shape.clone(), found)
}

fn topk(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let x = call.tensor("x")?;
    let at = axis(call.int("axis", -1)?, x.rank())?;
    let (outer, dim, inner) = split_at(&x.shape, at);
    let keep = match call.int("k", 1)? {
        -1 => dim,
        k => usize::try_from(k).map_err(|_| format!("the first {k}"))?,
    };
    if keep > dim {
        return Err(format!("the first {keep} of {dim} elements"));
    }
    let mut shape = x.shape.clone();
    shape[at] = keep;
    call.room(&shape)?;
    let found = order(x, at, keep, call.bool("ascending", false)?)?;
    let values = map_values!(&x.values, v => {
        let mut out = Vec::with_capacity(found.len());
        for o in 0..outer {
            for k in 0..keep {
                for i in 0..inner {
                    let index = found[(o * keep + k) * inner + i] as usize;
                    out.push(v[(o * dim + index) * inner + i]);
                }
            }
        }
        out
    })?;
    let mut results = result(shape.clone(), values)?;
    if call.bool("return_indices", true)? {
        results.extend(result(shape, found)?);
    }
    Ok(results)
}
