//! Parts of tensors, by where they begin and end.

use super::Table;
use crate::call::{Call, result};
use crate::index::{axis, gather_view, scatter_view, signed, strides};
use crate::tensor::{Tensor, Values, map_values};

pub(super) const TABLE: Table = &[
    ("slice_by_index", slice_by_index),
    ("slice_by_size", slice_by_size),
    ("slice_update", slice_update),
    ("sliding_windows", sliding_windows),
];

/// A part of a tensor: where it starts, its shape with every axis, and its strides.
struct Part {
    start: isize,
    shape: Vec<usize>,
    steps: Vec<isize>,
    /// The shape without the axes that are squeezed.
    squeezed: Vec<usize>,
}

impl Part {
    /// Reads `begin`, `end`, `stride` and the masks.
    fn read(call: &Call<'_>, x: &Tensor) -> Result<Self, String> {
        let rank = x.rank();
        let list = |name: &str, default: i32| match call.ints(name)? {
            Some(values) if values.len() == rank => Ok(values),
            Some(values) if values.is_empty() => Ok(vec![default; rank]),
            Some(values) => Err(format!(
                "its input `{name}` has {} values for a tensor of rank {rank}",
                values.len()
            )),
            None => Ok(vec![default; rank]),
        };
        let (begin, end, stride) = (list("begin", 0)?, list("end", 0)?, list("stride", 1)?);
        let begin_mask = list("begin_mask", 0)?;
        let end_mask = list("end_mask", 0)?;
        let squeeze = list("squeeze_mask", 0)?;
        let own = signed(&strides(&x.shape));
        let mut part = Self {
            start: 0,
            shape: Vec::with_capacity(rank),
            steps: Vec::with_capacity(rank),
            squeezed: Vec::new(),
        };
        for i in 0..rank {
            let dim = x.shape[i] as i64;
            if squeeze[i] != 0 {
                let at = match begin_mask[i] {
                    0 => axis(begin[i], x.shape[i])
                        .map_err(|_| format!("index {} of {dim} elements", begin[i]))?,
                    _ => 0,
                };
                part.start += own[i] * at as isize;
                part.shape.push(1);
                part.steps.push(own[i]);
                continue;
            }
            let stride = i64::from(stride[i]);
            if stride == 0 {
                return Err("a stride of 0".into());
            }
            let given = |mask: i32, value: i32| (mask == 0).then_some(i64::from(value));
            let begin = given(begin_mask[i], begin[i]);
            let end = given(end_mask[i], end[i]);
            let (first, len) = python_slice(begin, end, stride, dim);
            part.start += if len > 0 { own[i] * first as isize } else { 0 };
            part.shape.push(len);
            part.squeezed.push(len);
            part.steps.push(own[i] * stride as isize);
        }
        Ok(part)
    }
}

/// The first element of a slice as Python has it, and the number of elements.
fn python_slice(begin: Option<i64>, end: Option<i64>, stride: i64, dim: i64) -> (i64, usize) {
    let (low, high) = if stride > 0 { (0, dim) } else { (-1, dim - 1) };
    let place = |value: i64| (if value < 0 { value + dim } else { value }).clamp(low, high);
    let first = begin.map_or(if stride > 0 { low } else { high }, place);
    let last = end.map_or(if stride > 0 { high } else { low }, place);
    let span = if stride > 0 {
        last - first
    } else {
        first - last
    };
    let steps = (span.max(0) + stride.abs() - 1) / stride.abs();
    (first, steps as usize)
}

fn slice_by_index(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let x = call.tensor("x")?;
    let part = Part::read(call, x)?;
    call.room(&part.shape)?;
    if part.shape == x.shape && part.steps.iter().all(|&step| step >= 0) && part.start == 0 {
        return Ok(vec![call.take("x")?.reshaped(part.squeezed)]);
    }
    let values = map_values!(&x.values, v => gather_view(v, part.start, &part.shape, &part.steps))?;
    result(part.squeezed, values)
}

fn slice_by_size(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let x = call.tensor("x")?;
    let begin = call.ints("begin")?.ok_or("its input `begin` is missing")?;
    let size = call.ints("size")?.ok_or("its input `size` is missing")?;
    if begin.len() != x.rank() || size.len() != x.rank() {
        return Err(format!(
            "a part of {begin:?} and {size:?} of shape {:?}",
            x.shape
        ));
    }
    let own = signed(&strides(&x.shape));
    let (mut start, mut shape) = (0, Vec::new());
    for (i, &dim) in x.shape.iter().enumerate() {
        let fail = || format!("{} elements from {} on, of {dim}", size[i], begin[i]);
        let first = match begin[i] {
            first if first < 0 => axis(first, dim).map_err(|_| fail())?,
            first => first as usize,
        };
        let rest = dim.checked_sub(first).ok_or_else(fail)?;
        let len = match size[i] {
            -1 => rest,
            len => usize::try_from(len).map_err(|_| fail())?,
        };
        if len > rest {
            return Err(fail());
        }
        start += if len > 0 { own[i] * first as isize } else { 0 };
        shape.push(len);
    }
    call.room(&shape)?;
    let values = map_values!(&x.values, v => gather_view(v, start, &shape, &own))?;
    result(shape, values)
}

fn slice_update(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let part = Part::read(call, call.tensor("x")?)?;
    call.room(&call.tensor("x")?.shape)?;
    let update = call.take("update")?;
    if update.len() != part.shape.iter().product::<usize>() {
        let (have, want) = (&update.shape, &part.squeezed);
        return Err(format!(
            "an update of shape {have:?} for a part of {want:?}"
        ));
    }
    let x = call.take("x")?;
    let shape = x.shape.clone();
    macro_rules! put {
        ($x:expr, $update:expr) => {{
            let mut out = std::sync::Arc::try_unwrap($x).unwrap_or_else(|v| v.to_vec());
            scatter_view(&mut out, part.start, &part.shape, &part.steps, $update);
            Values::from(out)
        }};
    }
    let values = match (x.values, &update.values) {
        (Values::Float(x), Values::Float(update)) => put!(x, update),
        (Values::Int(x), Values::Int(update)) => put!(x, update),
        (Values::Bool(x), Values::Bool(update)) => put!(x, update),
        _ => return Err("an update of another type".into()),
    };
    result(shape, values)
}

fn sliding_windows(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let x = call.tensor("x")?;
    let at = axis(call.int("axis", 0)?, x.rank())?;
    let size = usize::try_from(call.int("size", 1)?).map_err(|_| "a negative size")?;
    let stride = usize::try_from(call.int("stride", 1)?).unwrap_or(0);
    let rest = x.shape[at].checked_sub(size);
    let (Some(rest), true) = (rest, stride > 0) else {
        return Err(format!("windows of {size} in {} elements", x.shape[at]));
    };
    let mut shape = x.shape.clone();
    shape[at] = rest / stride + 1;
    shape.insert(at + 1, size);
    call.room(&shape)?;
    let mut steps = signed(&strides(&x.shape));
    steps.insert(at, steps[at].saturating_mul(stride as isize));
    let values = map_values!(&x.values, v => gather_view(v, 0, &shape, &steps))?;
    result(shape, values)
}
