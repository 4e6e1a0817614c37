//! Other shapes of the same elements, and elements in another order.

use super::Table;
use crate::call::{Call, result};
use crate::index::{
    axes, axis, broadcast_strides, gather_view, permute, signed, split_at, strides,
};
use crate::tensor::{Tensor, count, map_values};

pub(super) const TABLE: Table = &[
    ("expand_dims", expand_dims),
    ("flatten2d", flatten2d),
    ("reshape", reshape),
    ("reshape_like", reshape_like),
    ("reverse", reverse),
    ("reverse_sequence", reverse_sequence),
    ("shape", shape),
    ("squeeze", squeeze),
    ("tile", tile),
    ("transpose", transpose),
];

fn expand_dims(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let new = call.ints("axes")?.ok_or("its input `axes` is missing")?;
    let x = call.take("x")?;
    let new = axes(&new, x.rank() + new.len())?;
    let mut shape = x.shape.clone();
    new.iter().for_each(|&axis| shape.insert(axis, 1));
    Ok(vec![x.reshaped(shape)])
}

fn squeeze(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let wanted = call.ints("axes")?;
    let x = call.take("x")?;
    let gone = match wanted {
        Some(wanted) => axes(&wanted, x.rank())?,
        None => (0..x.rank()).filter(|&i| x.shape[i] == 1).collect(),
    };
    if let Some(&axis) = gone.iter().find(|&&axis| x.shape[axis] != 1) {
        return Err(format!("axis {axis} of shape {:?} is not 1", x.shape));
    }
    let kept = (0..x.rank()).filter(|axis| !gone.contains(axis));
    let shape = kept.map(|axis| x.shape[axis]).collect();
    Ok(vec![x.reshaped(shape)])
}

fn flatten2d(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let wanted = call.int("axis", 1)?;
    let x = call.take("x")?;
    let at = match wanted {
        at if at < 0 => axis(at, x.rank())?,
        at => at as usize,
    };
    if at > x.rank() {
        return Err(format!("axis {at} of a tensor of rank {}", x.rank()));
    }
    let shape = vec![
        x.shape[..at].iter().product(),
        x.shape[at..].iter().product(),
    ];
    Ok(vec![x.reshaped(shape)])
}

fn reshape(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let wanted = call.ints("shape")?.ok_or("its input `shape` is missing")?;
    let x = call.take("x")?;
    let fail = || format!("shape {:?} cannot become {wanted:?}", x.shape);
    let mut dims = Vec::with_capacity(wanted.len());
    let mut open = None;
    for (i, &dim) in wanted.iter().enumerate() {
        dims.push(match dim {
            // The dimension as far from the last one; beyond the first one there are only 1s. Without
            // elements and of another rank, it is an empty dimension.
            0 if wanted.len() == x.rank() || !x.is_empty() => {
                let own = x.rank().checked_sub(wanted.len() - i);
                own.map_or(1, |own| x.shape[own])
            }
            -1 if open.is_none() => {
                open = Some(i);
                1
            }
            dim => usize::try_from(dim).map_err(|_| fail())?,
        });
    }
    if let Some(i) = open {
        let others = count(&dims).filter(|&others| others > 0).ok_or_else(fail)?;
        dims[i] = x.len() / others;
    }
    if count(&dims) != Some(x.len()) {
        return Err(fail());
    }
    Ok(vec![x.reshaped(dims)])
}

fn reshape_like(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let lists = ["begins", "ends", "end_masks"].map(|name| {
        let values = call.list(name).iter().map(Tensor::to_ints);
        values
            .collect::<Result<Vec<_>, _>>()
            .map(|values| values.concat())
    });
    let [begins, ends, masks] = lists;
    let (begins, ends, masks) = (begins?, ends?, masks?);
    let mut dims = Vec::new();
    for (i, reference) in call.list("ref_tensors").iter().enumerate() {
        let rank = reference.rank();
        let at = |list: &[i32]| {
            let value = list.get(i).copied().ok_or("too few `begins` or `ends`")?;
            let from_front = if value < 0 {
                value + rank as i32
            } else {
                value
            };
            Ok::<usize, String>(from_front.clamp(0, rank as i32) as usize)
        };
        let begin = at(&begins)?;
        let end = match masks.get(i) {
            Some(&mask) if mask != 0 => rank,
            _ => at(&ends)?,
        };
        dims.extend_from_slice(reference.shape.get(begin..end).unwrap_or(&[]));
    }
    let x = call.take("x")?;
    if count(&dims) != Some(x.len()) {
        return Err(format!("shape {:?} cannot become {dims:?}", x.shape));
    }
    Ok(vec![x.reshaped(dims)])
}

fn shape(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let dims = call.tensor("x")?.shape.iter();
    let dims: Result<Vec<i32>, _> = dims.map(|&dim| i32::try_from(dim)).collect();
    let dims = dims.map_err(|_| "a dimension that int32 cannot hold")?;
    result(vec![dims.len()], dims)
}

fn transpose(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let perm = call.ints("perm")?.ok_or("its input `perm` is missing")?;
    let x = call.tensor("x")?;
    let order = perm.iter().map(|&one| axis(one, x.rank()));
    let order = order.collect::<Result<Vec<_>, _>>()?;
    if axes(&perm, x.rank())?.len() != x.rank() {
        return Err(format!("order {perm:?} of {} axes", x.rank()));
    }
    call.room(&x.shape)?;
    let dims: Vec<usize> = order.iter().map(|&axis| x.shape[axis]).collect();
    // Where only dimensions of 1 move, the elements stay.
    let long: Vec<usize> = order
        .iter()
        .copied()
        .filter(|&axis| x.shape[axis] != 1)
        .collect();
    if long.is_sorted() {
        return Ok(vec![call.take("x")?.reshaped(dims)]);
    }
    result(
        dims,
        map_values!(&x.values, v => permute(v, &x.shape, &order))?,
    )
}

fn reverse(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let x = call.tensor("x")?;
    let turned = match call.ints("axes")? {
        Some(wanted) => axes(&wanted, x.rank())?,
        None => (0..x.rank()).collect(),
    };
    call.room(&x.shape)?;
    if x.is_empty() {
        return Ok(vec![call.take("x")?]);
    }
    let mut steps = signed(&strides(&x.shape));
    let mut start = 0;
    for axis in turned {
        start += steps[axis] * (x.shape[axis] as isize - 1);
        steps[axis] = -steps[axis];
    }
    let values = map_values!(&x.values, v => gather_view(v, start, &x.shape, &steps))?;
    result(x.shape.clone(), values)
}

fn reverse_sequence(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let x = call.tensor("x")?;
    let sequence = axis(call.int("seq_axis", 0)?, x.rank())?;
    let batch = axis(call.int("batch_axis", 0)?, x.rank())?;
    let lengths = call
        .ints("lengths")?
        .ok_or("its input `lengths` is missing")?;
    if sequence == batch || lengths.len() != x.shape[batch] {
        let have = lengths.len();
        return Err(format!(
            "{have} lengths for a tensor of shape {:?}",
            x.shape
        ));
    }
    let len = x.shape[sequence];
    let lengths = crate::call::sizes(&lengths, "lengths")?;
    if let Some(long) = lengths.iter().find(|&&length| length > len) {
        return Err(format!("a length of {long} in a sequence of {len}"));
    }
    call.room(&x.shape)?;
    let (_, _, inner) = split_at(&x.shape, sequence);
    let (_, batches, within) = split_at(&x.shape, batch);
    let from = |at: usize| {
        let (i, b) = (at / inner % len, at / within % batches);
        match i < lengths[b] {
            true => at - i * inner + (lengths[b] - 1 - i) * inner,
            false => at,
        }
    };
    let values =
        map_values!(&x.values, v => (0..v.len()).map(|at| v[from(at)]).collect::<Vec<_>>())?;
    result(x.shape.clone(), values)
}

fn tile(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let x = call.tensor("x")?;
    let reps = call.ints("reps")?.ok_or("its input `reps` is missing")?;
    let reps = crate::call::sizes(&reps, "reps")?;
    if reps.len() != x.rank() {
        return Err(format!("{reps:?} repetitions of shape {:?}", x.shape));
    }
    let dims = x
        .shape
        .iter()
        .zip(&reps)
        .map(|(&dim, &rep)| dim.checked_mul(rep));
    let dims: Option<Vec<usize>> = dims.collect();
    let dims = dims.ok_or("its result is too large")?;
    call.room(&dims)?;
    // Each axis as two: repetitions, and the elements.
    let inner = x.shape.iter().flat_map(|&dim| [1, dim]).collect::<Vec<_>>();
    let full: Vec<usize> = reps
        .iter()
        .zip(&x.shape)
        .flat_map(|(&rep, &dim)| [rep, dim])
        .collect();
    let steps = signed(&broadcast_strides(&inner, &full));
    result(
        dims,
        map_values!(&x.values, v => gather_view(v, 0, &full, &steps))?,
    )
}
