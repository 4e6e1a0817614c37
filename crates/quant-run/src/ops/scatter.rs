//! Elements put where indices say.

use std::sync::Arc;

use super::Table;
use super::gather::{along, positions, rows};
use crate::call::{Call, result};
use crate::index::{axis, split_at};
use crate::tensor::{Tensor, Values};

pub(super) const TABLE: Table = &[
    ("scatter", scatter),
    ("scatter_along_axis", scatter_along_axis),
    ("scatter_nd", scatter_nd),
];

/// What happens where an element is put.
#[derive(Clone, Copy)]
enum Mode {
    Update,
    Add,
    Sub,
    Mul,
    Div,
    Max,
    Min,
}

impl Mode {
    fn read(call: &Call<'_>) -> Result<Self, String> {
        Ok(match call.text("mode", "add")?.as_str() {
            "update" => Self::Update,
            "add" => Self::Add,
            "sub" => Self::Sub,
            "mul" => Self::Mul,
            "div" => Self::Div,
            "max" => Self::Max,
            "min" => Self::Min,
            other => return Err(format!("mode `{other}`")),
        })
    }

    fn float(self, old: f32, new: f32) -> f32 {
        match self {
            Self::Update => new,
            Self::Add => old + new,
            Self::Sub => old - new,
            Self::Mul => old * new,
            Self::Div => old / new,
            Self::Max => old.max(new),
            Self::Min => old.min(new),
        }
    }

    fn int(self, old: i32, new: i32) -> i32 {
        match self {
            Self::Update => new,
            Self::Add => old.wrapping_add(new),
            Self::Sub => old.wrapping_sub(new),
            Self::Mul => old.wrapping_mul(new),
            Self::Div => old.checked_div(new).unwrap_or(0),
            Self::Max => old.max(new),
            Self::Min => old.min(new),
        }
    }
}

/// Puts pieces of `inner` elements each to where `places` say.
fn put(call: &mut Call<'_>, places: &[usize], inner: usize) -> Result<Vec<Tensor>, String> {
    let mode = Mode::read(call)?;
    let updates = call.take("updates")?;
    if places.len().checked_mul(inner) != Some(updates.len()) {
        let shape = &updates.shape;
        return Err(format!(
            "updates of shape {shape:?} at {} places",
            places.len()
        ));
    }
    call.room(&call.tensor("data")?.shape)?;
    let data = call.take("data")?;
    let shape = data.shape.clone();
    macro_rules! update {
        ($data:expr, $updates:expr, $f:expr) => {{
            let mut out = Arc::try_unwrap($data).unwrap_or_else(|v| v.to_vec());
            for (&at, piece) in places.iter().zip($updates.chunks(inner.max(1))) {
                for (old, &new) in out[at..at + inner].iter_mut().zip(piece) {
                    *old = $f(*old, new);
                }
            }
            Values::from(out)
        }};
    }
    let values = match (data.values, &updates.values) {
        (Values::Float(data), Values::Float(new)) => update!(data, new, |a, b| mode.float(a, b)),
        (Values::Int(data), Values::Int(new)) => update!(data, new, |a, b| mode.int(a, b)),
        (Values::Bool(data), Values::Bool(new)) => {
            update!(data, new, |a, b| mode.int(i32::from(a), i32::from(b)) != 0)
        }
        _ => return Err("updates of another type".into()),
    };
    result(shape, values)
}

fn scatter(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let (data, indices) = (call.tensor("data")?, call.tensor("indices")?);
    let at = axis(call.int("axis", 0)?, data.rank())?;
    let (outer, dim, inner) = split_at(&data.shape, at);
    let picks = positions(&indices.to_ints()?, dim)?;
    let wanted = [&data.shape[..at], &indices.shape[..], &data.shape[at + 1..]].concat();
    let updates = call.tensor("updates")?;
    if updates.shape != wanted {
        return Err(format!(
            "updates of shape {:?}, not {wanted:?}",
            updates.shape
        ));
    }
    let places = (0..outer).flat_map(|o| picks.iter().map(move |&pick| (o * dim + pick) * inner));
    let places: Vec<usize> = places.collect();
    put(call, &places, inner)
}

fn scatter_along_axis(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let (data, indices) = (call.tensor("data")?, call.tensor("indices")?);
    let at = axis(call.int("axis", 0)?, data.rank())?;
    if call.tensor("updates")?.shape != indices.shape {
        let (a, b) = (&call.tensor("updates")?.shape, &indices.shape);
        return Err(format!("updates of shape {a:?} at indices of {b:?}"));
    }
    let places = along(&data.shape, indices, at)?;
    put(call, &places, 1)
}

fn scatter_nd(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let (data, indices) = (call.tensor("data")?, call.tensor("indices")?);
    let (places, inner) = rows(&data.shape, indices, 0)?;
    put(call, &places, inner)
}
