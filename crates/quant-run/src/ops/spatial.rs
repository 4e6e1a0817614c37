//! Elements that move between channels, batches and the plane.

use super::Table;
use crate::call::{Call, result, sizes};
use crate::index::{gather_view, permute, scatter_view, signed, strides};
use crate::tensor::{Tensor, map_values};

pub(super) const TABLE: Table = &[
    ("batch_to_space", batch_to_space),
    ("depth_to_space", |c| {
        to_space(c, "block_size", &[0, 3, 4, 1, 5, 2], true)
    }),
    ("pixel_shuffle", |c| {
        to_space(c, "upscale_factor", &[0, 1, 4, 2, 5, 3], false)
    }),
    ("pixel_unshuffle", |c| {
        from_space(c, "downscale_factor", &[0, 1, 3, 5, 2, 4])
    }),
    ("space_to_batch", space_to_batch),
    ("space_to_depth", |c| {
        from_space(c, "block_size", &[0, 3, 5, 1, 2, 4])
    }),
];

fn rank_4(x: &Tensor) -> Result<[usize; 4], String> {
    <[usize; 4]>::try_from(&x.shape[..]).map_err(|_| format!("a tensor of rank {}", x.rank()))
}

fn factor(call: &Call<'_>, name: &str) -> Result<usize, String> {
    let factor = usize::try_from(call.int(name, 1)?).ok();
    let factor = factor.filter(|&factor| factor > 0 && factor < 1 << 15);
    factor.ok_or_else(|| format!("its `{name}` is out of range"))
}

/// A tensor with six axes in another order, as one of `shape`.
fn moved(
    x: &Tensor,
    six: &[usize],
    order: &[usize],
    shape: Vec<usize>,
) -> Result<Vec<Tensor>, String> {
    result(shape, map_values!(&x.values, v => permute(v, six, order))?)
}

fn to_space(
    call: &mut Call<'_>,
    name: &str,
    order: &[usize],
    factor_first: bool,
) -> Result<Vec<Tensor>, String> {
    let f = factor(call, name)?;
    let x = call.tensor("x")?;
    let [n, c, h, w] = rank_4(x)?;
    if !c.is_multiple_of(f * f) {
        return Err(format!("{c} channels into blocks of {f} by {f}"));
    }
    call.room(&x.shape)?;
    let depth = c / (f * f);
    let six = match factor_first {
        true => [n, f, f, depth, h, w],
        false => [n, depth, f, f, h, w],
    };
    moved(x, &six, order, vec![n, depth, h * f, w * f])
}

fn from_space(call: &mut Call<'_>, name: &str, order: &[usize]) -> Result<Vec<Tensor>, String> {
    let f = factor(call, name)?;
    let x = call.tensor("x")?;
    let [n, c, h, w] = rank_4(x)?;
    if !h.is_multiple_of(f) || !w.is_multiple_of(f) {
        return Err(format!("{h} by {w} in blocks of {f} by {f}"));
    }
    call.room(&x.shape)?;
    let six = [n, c, h / f, f, w / f, f];
    let depth = c.checked_mul(f * f).ok_or("too many channels")?;
    moved(x, &six, order, vec![n, depth, h / f, w / f])
}

/// A block shape, and what is added or cut before and after rows and columns.
fn block_and_edges(call: &Call<'_>, edges: &str) -> Result<([usize; 2], [usize; 4]), String> {
    let missing = |name: &str| format!("its input `{name}` is missing");
    let block = call
        .ints("block_shape")?
        .ok_or_else(|| missing("block_shape"))?;
    let cut = call.ints(edges)?.ok_or_else(|| missing(edges))?;
    let block = <[usize; 2]>::try_from(sizes(&block, "block_shape")?);
    let cut = <[usize; 4]>::try_from(sizes(&cut, edges)?);
    match (block, cut) {
        (Ok(block), Ok(cut)) if !block.contains(&0) => Ok((block, cut)),
        _ => Err(format!("its `block_shape` or `{edges}` is wrong")),
    }
}

fn space_to_batch(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let ([p, q], [top, bottom, left, right]) = block_and_edges(call, "paddings")?;
    let x = call.tensor("x")?;
    let [n, c, h, w] = rank_4(x)?;
    let (high, wide) = (h + top + bottom, w + left + right);
    if !high.is_multiple_of(p) || !wide.is_multiple_of(q) {
        return Err(format!("{high} by {wide} in blocks of {p} by {q}"));
    }
    let padded = [n, c, high, wide];
    let count = call.room(&padded)?;
    let own = signed(&strides(&padded));
    let start = own[2] * top as isize + left as isize;
    let six = [n, c, high / p, p, wide / q, q];
    let shape = vec![n * p * q, c, high / p, wide / q];
    let values = map_values!(&x.values, v => {
        let mut full = vec![Default::default(); count];
        scatter_view(&mut full, start, &x.shape, &own, v);
        permute(&full, &six, &[3, 5, 0, 1, 2, 4])
    })?;
    result(shape, values)
}

fn batch_to_space(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let ([p, q], [top, bottom, left, right]) = block_and_edges(call, "crops")?;
    let x = call.tensor("x")?;
    let [n, c, h, w] = rank_4(x)?;
    let blocks = p.checked_mul(q).ok_or("blocks that are too large")?;
    let (high, wide) = (h.checked_mul(p), w.checked_mul(q));
    let (Some(high), Some(wide)) = (high, wide) else {
        return Err("its result is too large".into());
    };
    let rows = high
        .checked_sub(top)
        .and_then(|rows| rows.checked_sub(bottom));
    let columns = wide
        .checked_sub(left)
        .and_then(|columns| columns.checked_sub(right));
    let (Some(rows), Some(columns), true) = (rows, columns, n.is_multiple_of(blocks)) else {
        return Err(format!(
            "{n} batches in blocks of {p} by {q}, cut by more than there is"
        ));
    };
    call.room(&x.shape)?;
    let batches = n / blocks;
    let six = [p, q, batches, c, h, w];
    let shape = vec![batches, c, rows, columns];
    let own = signed(&strides(&[batches, c, high, wide]));
    let start = own[2] * top as isize + left as isize;
    let values = map_values!(&x.values, v => {
        let full = permute(v, &six, &[2, 3, 4, 0, 5, 1]);
        gather_view(&full, start, &shape, &own)
    })?;
    result(shape, values)
}
