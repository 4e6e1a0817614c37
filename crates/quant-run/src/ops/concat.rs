//! Tensors put together and taken apart.

use super::Table;
use crate::call::{Call, result, sizes};
use crate::index::{axis, split_at};
use crate::tensor::{Tensor, Values, map_values};

pub(super) const TABLE: Table = &[("concat", concat), ("stack", stack), ("split", split)];

fn concat(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let values = call.list("values");
    let first = values.first().ok_or("nothing to put together")?;
    let interleave = call.bool("interleave", false)?;
    if first.rank() == 0 {
        if let Some(other) = values.iter().find(|value| value.rank() != 0) {
            return Err(format!("a single value and a tensor of {:?}", other.shape));
        }
        let shape = vec![values.len()];
        return joined(values, shape, 1);
    }
    let at = axis(call.int("axis", 0)?, first.rank())?;
    let mut shape = first.shape.clone();
    shape[at] = 0;
    for value in values {
        let same = value.rank() == first.rank()
            && (0..value.rank()).all(|i| i == at || value.shape[i] == first.shape[i])
            && (!interleave || value.shape == first.shape);
        if !same {
            let (a, b) = (&first.shape, &value.shape);
            return Err(format!("shapes {a:?} and {b:?} along axis {at}"));
        }
        let sum = shape[at].checked_add(value.shape[at]);
        shape[at] = sum.ok_or("its result is too long")?;
    }
    call.room(&shape)?;
    let (outer, along, _) = split_at(&first.shape, at);
    match interleave {
        true => joined(values, shape, outer * along),
        false => joined(values, shape, outer),
    }
}

/// Pieces of each value by turns: `rounds` of them.
fn joined(values: &[Tensor], shape: Vec<usize>, rounds: usize) -> Result<Vec<Tensor>, String> {
    macro_rules! join {
        ($read:ident) => {{
            let slices = values.iter().map(|value| value.$read());
            let slices = slices.collect::<Option<Vec<_>>>();
            let slices = slices.ok_or("tensors of several types")?;
            let mut out = Vec::with_capacity(slices.iter().map(|slice| slice.len()).sum());
            for round in 0..rounds {
                for slice in &slices {
                    let piece = slice.len() / rounds;
                    out.extend_from_slice(&slice[round * piece..(round + 1) * piece]);
                }
            }
            Values::from(out)
        }};
    }
    let out = match values[0].values {
        Values::Float(_) => join!(floats),
        Values::Int(_) => join!(ints),
        Values::Bool(_) => join!(bools),
        Values::Text(_) => return Err("texts".into()),
    };
    result(shape, out)
}

fn stack(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let values = call.list("values");
    let first = values.first().ok_or("nothing to put together")?;
    if let Some(other) = values.iter().find(|value| value.shape != first.shape) {
        return Err(format!("shapes {:?} and {:?}", first.shape, other.shape));
    }
    let at = axis(call.int("axis", 0)?, first.rank() + 1)?;
    let mut shape = first.shape.clone();
    let rounds = shape[..at].iter().product();
    shape.insert(at, values.len());
    call.room(&shape)?;
    joined(values, shape, rounds)
}

fn split(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let x = call.tensor("x")?;
    let at = axis(call.int("axis", 0)?, x.rank())?;
    let (outer, along, inner) = split_at(&x.shape, at);
    let pieces = match (call.ints("split_sizes")?, call.ints("num_splits")?) {
        (Some(pieces), _) => sizes(&pieces, "split_sizes")?,
        (None, Some(count)) => {
            let count = sizes(&count, "num_splits")?.first().copied().unwrap_or(0);
            if count == 0 || !along.is_multiple_of(count) {
                return Err(format!("{along} elements in {count} parts"));
            }
            vec![along / count; count]
        }
        (None, None) => return Err("neither `split_sizes` nor `num_splits`".into()),
    };
    if pieces
        .iter()
        .try_fold(0_usize, |sum, &piece| sum.checked_add(piece))
        != Some(along)
    {
        return Err(format!("{along} elements in parts of {pieces:?}"));
    }
    call.room(&x.shape)?;
    let mut start = 0;
    let mut results = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let mut shape = x.shape.clone();
        shape[at] = piece;
        let values = map_values!(&x.values, v => {
            let mut out = Vec::with_capacity(outer * piece * inner);
            for i in 0..outer {
                let from = (i * along + start) * inner;
                out.extend_from_slice(&v[from..from + piece * inner]);
            }
            out
        })?;
        results.push(Tensor::new(shape, values));
        start += piece;
    }
    Ok(results)
}
