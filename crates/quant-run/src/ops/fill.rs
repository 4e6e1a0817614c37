//! Tensors made from little, and what depends on where an element stands.

use super::Table;
use crate::call::{Call, result, sizes};
use crate::index::{axis, split_at};
use crate::tensor::{Tensor, Values, map_values};

pub(super) const TABLE: Table = &[
    ("band_part", band_part),
    ("cumsum", cumsum),
    ("fill", fill),
    ("fill_like", fill_like),
    ("non_zero", non_zero),
    ("one_hot", one_hot),
    ("range_1d", range_1d),
];

fn filled(call: &Call<'_>, shape: Vec<usize>) -> Result<Vec<Tensor>, String> {
    let count = call.room(&shape)?;
    let Some(value) = call.optional("value") else {
        return result(shape, vec![0.0; count]);
    };
    if value.len() != 1 {
        return Err("a `value` that is not one".into());
    }
    result(shape, map_values!(&value.values, v => vec![v[0]; count])?)
}

fn fill(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let shape = call.ints("shape")?.ok_or("its input `shape` is missing")?;
    filled(call, sizes(&shape, "shape")?)
}

fn fill_like(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    filled(call, call.tensor("ref_tensor")?.shape.clone())
}

fn range_1d(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let [start, end, step] = [
        call.tensor("start")?,
        call.tensor("end")?,
        call.tensor("step")?,
    ];
    let ints = [start, end, step]
        .iter()
        .all(|tensor| tensor.ints().is_some());
    if ints {
        let one = |name| call.int(name, 0).map(i64::from);
        let (start, end, step) = (one("start")?, one("end")?, one("step")?);
        if step == 0 {
            return Err("a step of 0".into());
        }
        let span = if step > 0 { end - start } else { start - end };
        let len = (span.max(0) + step.abs() - 1) / step.abs();
        let count = call.room(&[len as usize])?;
        let values = (0..count as i64).map(|i| (start + i * step) as i32);
        return result(vec![count], values.collect::<Vec<_>>());
    }
    let one = |name| call.float(name, 0.0).map(f64::from);
    let (start, end, step) = (one("start")?, one("end")?, one("step")?);
    let len = ((end - start) / step).ceil();
    if !len.is_finite() {
        return Err(format!("from {start} to {end} by {step}"));
    }
    let count = call.room(&[len.max(0.0) as usize])?;
    let values = (0..count).map(|i| (start + i as f64 * step) as f32);
    result(vec![count], values.collect::<Vec<_>>())
}

fn one_hot(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let indices = call.tensor("indices")?;
    let size = call.int("one_hot_vector_size", 0)?;
    let size = usize::try_from(size).map_err(|_| "a negative `one_hot_vector_size`")?;
    let at = axis(call.int("axis", -1)?, indices.rank() + 1)?;
    let mut shape = indices.shape.clone();
    let inner: usize = shape[at..].iter().product();
    shape.insert(at, size);
    let count = call.room(&shape)?;
    let picks = indices.to_ints()?;
    let hot = |place: usize| {
        let (outer, class) = (place / inner / size, place / inner % size);
        picks[outer * inner + place % inner] == class as i32
    };
    macro_rules! make {
        ($on:expr, $off:expr) => {
            (0..count)
                .map(|place| if hot(place) { $on } else { $off })
                .collect::<Vec<_>>()
        };
    }
    let on = call.optional("on_value");
    let values: Values = match on.map(|on| &on.values) {
        Some(Values::Float(_)) => {
            let (on, off) = (call.float("on_value", 1.0)?, call.float("off_value", 0.0)?);
            make!(on, off).into()
        }
        Some(Values::Bool(_)) => {
            let (on, off) = (call.bool("on_value", true)?, call.bool("off_value", false)?);
            make!(on, off).into()
        }
        _ => {
            let (on, off) = (call.int("on_value", 1)?, call.int("off_value", 0)?);
            make!(on, off).into()
        }
    };
    result(shape, values)
}

fn band_part(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let (lower, upper) = (call.int("lower", -1)?, call.int("upper", -1)?);
    let x = call.tensor("x")?;
    let &[.., rows, columns] = &x.shape[..] else {
        return Err(format!("a tensor of rank {}", x.rank()));
    };
    call.room(&x.shape)?;
    let keeps = |place: usize| {
        let (m, n) = ((place / columns % rows) as i64, (place % columns) as i64);
        (lower < 0 || m - n <= lower.into()) && (upper < 0 || n - m <= upper.into())
    };
    let values = map_values!(&x.values, v => {
        let kept = v.iter().enumerate();
        kept.map(|(i, &value)| if keeps(i) { value } else { Default::default() }).collect::<Vec<_>>()
    })?;
    result(x.shape.clone(), values)
}

fn cumsum(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let exclusive = call.bool("exclusive", false)?;
    let reverse = call.bool("reverse", false)?;
    let x = call.tensor("x")?;
    let at = axis(call.int("axis", 0)?, x.rank())?;
    call.room(&x.shape)?;
    let (outer, dim, inner) = split_at(&x.shape, at);
    macro_rules! sums {
        ($values:expr, $zero:expr, $add:expr, $narrow:expr) => {{
            let mut out = $values.to_vec();
            for (o, i) in (0..outer).flat_map(|o| (0..inner).map(move |i| (o, i))) {
                let mut sum = $zero;
                for k in 0..dim {
                    let k = if reverse { dim - 1 - k } else { k };
                    let place = (o * dim + k) * inner + i;
                    let before = sum;
                    sum = $add(sum, $values[place]);
                    out[place] = $narrow(if exclusive { before } else { sum });
                }
            }
            Values::from(out)
        }};
    }
    let values = match &x.values {
        Values::Float(v) => sums!(v, 0.0_f64, |a: f64, b: f32| a + f64::from(b), |a| a as f32),
        Values::Int(v) => sums!(v, 0_i32, |a: i32, b: i32| a.wrapping_add(b), |a| a),
        _ => return Err(format!("{} cannot be summed", x.element)),
    };
    result(x.shape.clone(), values)
}

fn non_zero(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let x = call.tensor("x")?;
    let truths = super::binary::truths(x)?;
    let found: Vec<usize> = (0..truths.len()).filter(|&i| truths[i]).collect();
    let shape = vec![found.len(), x.rank()];
    call.room(&shape)?;
    let own = crate::index::strides(&x.shape);
    let index = |at: usize| (0..x.rank()).map(move |i| (at, i));
    let values = found.into_iter().flat_map(index);
    let values = values.map(|(at, i)| (at / own[i] % x.shape[i]) as i32);
    result(shape, values.collect::<Vec<_>>())
}
