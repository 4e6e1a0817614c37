//! Shapes, strides and the movement of elements.

/// Strides of a dense row-major tensor.
pub(crate) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1_usize; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i].saturating_mul(shape[i]);
    }
    strides
}

/// The shape that two shapes broadcast to.
pub(crate) fn broadcast(a: &[usize], b: &[usize]) -> Result<Vec<usize>, String> {
    let rank = a.len().max(b.len());
    let dim = |shape: &[usize], i: usize| match (i + shape.len()).checked_sub(rank) {
        Some(own) => shape[own],
        None => 1,
    };
    (0..rank)
        .map(|i| match (dim(a, i), dim(b, i)) {
            (x, y) if x == y => Ok(x),
            (1, y) => Ok(y),
            (x, 1) => Ok(x),
            _ => Err(format!("shapes {a:?} and {b:?} do not broadcast")),
        })
        .collect()
}

/// Strides of a tensor of `shape` seen as one of `target`: 0 where it repeats.
pub(crate) fn broadcast_strides(shape: &[usize], target: &[usize]) -> Vec<usize> {
    let own = strides(shape);
    let lead = target.len() - shape.len();
    (0..target.len())
        .map(|i| match i.checked_sub(lead) {
            Some(i) if shape[i] != 1 => own[i],
            _ => 0,
        })
        .collect()
}

/// An axis counted from the front; negative ones count from the end.
pub(crate) fn axis(axis: i32, rank: usize) -> Result<usize, String> {
    let from_front = i64::from(axis) + if axis < 0 { rank as i64 } else { 0 };
    match usize::try_from(from_front) {
        Ok(axis) if axis < rank => Ok(axis),
        _ => Err(format!("axis {axis} of a tensor of rank {rank}")),
    }
}

/// The same for several axes, each once, in order.
pub(crate) fn axes(axes: &[i32], rank: usize) -> Result<Vec<usize>, String> {
    let mut found = axes
        .iter()
        .map(|&one| axis(one, rank))
        .collect::<Result<Vec<_>, _>>()?;
    found.sort_unstable();
    match found.windows(2).any(|pair| pair[0] == pair[1]) {
        true => Err(format!("axes {axes:?} name an axis twice")),
        false => Ok(found),
    }
}

/// Elements before an axis, along it, and after it.
pub(crate) fn split_at(shape: &[usize], axis: usize) -> (usize, usize, usize) {
    let outer = shape[..axis].iter().product();
    let inner = shape[axis + 1..].iter().product();
    (outer, shape[axis], inner)
}

/// Visits the first element of each row (the last dimension) of a view of `shape`: the offsets of it
/// by each of the strides.
pub(crate) fn each_row<const N: usize>(
    shape: &[usize],
    start: [isize; N],
    strides: [&[isize]; N],
    mut visit: impl FnMut([isize; N]),
) {
    let outer = &shape[..shape.len().saturating_sub(1)];
    if shape.contains(&0) {
        return;
    }
    let mut at = vec![0_usize; outer.len()];
    let mut offsets = start;
    loop {
        visit(offsets);
        let mut axis = outer.len();
        loop {
            let Some(next) = axis.checked_sub(1) else {
                return;
            };
            axis = next;
            at[axis] += 1;
            for (offset, strides) in offsets.iter_mut().zip(strides) {
                *offset += strides[axis];
            }
            if at[axis] < outer[axis] {
                break;
            }
            at[axis] = 0;
            for (offset, strides) in offsets.iter_mut().zip(strides) {
                *offset -= strides[axis] * outer[axis] as isize;
            }
        }
    }
}

/// Strides as signed numbers.
pub(crate) fn signed(strides: &[usize]) -> Vec<isize> {
    strides.iter().map(|&stride| stride as isize).collect()
}

/// Copies a view of `source` into a dense tensor.
pub(crate) fn gather_view<T: Copy>(
    source: &[T],
    start: isize,
    shape: &[usize],
    strides: &[isize],
) -> Vec<T> {
    let (shape, strides) = merged(shape, strides);
    let mut out = Vec::with_capacity(shape.iter().product());
    let row = shape.last().copied().unwrap_or(1);
    let step = strides.last().copied().unwrap_or(1);
    each_row(&shape, [start], [&strides], |[at]| match step {
        1 => out.extend_from_slice(&source[at as usize..at as usize + row]),
        0 => out.extend(std::iter::repeat_n(source[at as usize], row)),
        _ => out.extend((0..row).map(|i| source[(at + i as isize * step) as usize])),
    });
    out
}

/// Copies a dense tensor into a view of `target`.
pub(crate) fn scatter_view<T: Copy>(
    target: &mut [T],
    start: isize,
    shape: &[usize],
    strides: &[isize],
    source: &[T],
) {
    let (shape, strides) = merged(shape, strides);
    let row = shape.last().copied().unwrap_or(1);
    let step = strides.last().copied().unwrap_or(1);
    let mut done = 0;
    each_row(&shape, [start], [&strides], |[at]| {
        let from = &source[done..done + row];
        match step {
            1 => target[at as usize..at as usize + row].copy_from_slice(from),
            _ => {
                for (i, &value) in from.iter().enumerate() {
                    target[(at + i as isize * step) as usize] = value;
                }
            }
        }
        done += row;
    });
}

/// The same view with fewer dimensions: neighbours that lie one after the other become one.
fn merged(shape: &[usize], strides: &[isize]) -> (Vec<usize>, Vec<isize>) {
    let (mut dims, mut steps): (Vec<usize>, Vec<isize>) = (Vec::new(), Vec::new());
    for (&dim, &stride) in shape.iter().zip(strides) {
        if dim == 1 {
            continue;
        }
        match (dims.last_mut(), steps.last_mut()) {
            (Some(last), Some(step)) if *step == stride * dim as isize => {
                *last *= dim;
                *step = stride;
            }
            _ => {
                dims.push(dim);
                steps.push(stride);
            }
        }
    }
    (dims, steps)
}

/// A tensor with its axes in another order.
pub(crate) fn permute<T: Copy>(source: &[T], shape: &[usize], order: &[usize]) -> Vec<T> {
    let own = strides(shape);
    let dims: Vec<usize> = order.iter().map(|&axis| shape[axis]).collect();
    let steps: Vec<isize> = order.iter().map(|&axis| own[axis] as isize).collect();
    gather_view(source, 0, &dims, &steps)
}
