//! Operations on two tensors, element by element, that broadcast; and `select`.

use super::Table;
use crate::call::{Call, result, wrap};
use crate::index::{broadcast, broadcast_strides, each_row, signed};
use crate::tensor::{Tensor, Values};

pub(super) const TABLE: Table = &[
    ("add", |c| arithmetic(c, |x, y| x + y, i32::wrapping_add)),
    ("sub", |c| arithmetic(c, |x, y| x - y, i32::wrapping_sub)),
    ("mul", |c| arithmetic(c, |x, y| x * y, i32::wrapping_mul)),
    ("real_div", |c| arithmetic(c, |x, y| x / y, divide)),
    ("floor_div", |c| {
        arithmetic(c, |x, y| (x / y).floor(), floor_divide)
    }),
    ("mod", |c| arithmetic(c, float_modulo, modulo)),
    ("pow", |c| arithmetic(c, f32::powf, power)),
    ("maximum", |c| arithmetic(c, maximum, i32::max)),
    ("minimum", |c| arithmetic(c, minimum, i32::min)),
    ("equal", |c| compare(c, |x, y| x == y, |x, y| x == y)),
    ("not_equal", |c| compare(c, |x, y| x != y, |x, y| x != y)),
    ("greater", |c| compare(c, |x, y| x > y, |x, y| x > y)),
    ("greater_equal", |c| {
        compare(c, |x, y| x >= y, |x, y| x >= y)
    }),
    ("less", |c| compare(c, |x, y| x < y, |x, y| x < y)),
    ("less_equal", |c| compare(c, |x, y| x <= y, |x, y| x <= y)),
    ("logical_and", |c| logic(c, |x, y| x && y)),
    ("logical_or", |c| logic(c, |x, y| x || y)),
    ("logical_xor", |c| logic(c, |x, y| x != y)),
    ("select", select),
];

/// NaN from either side stays, as in NumPy.
fn maximum(x: f32, y: f32) -> f32 {
    match x > y || x.is_nan() {
        true => x,
        false => y,
    }
}

fn minimum(x: f32, y: f32) -> f32 {
    match x < y || x.is_nan() {
        true => x,
        false => y,
    }
}

fn divide(x: i32, y: i32) -> i32 {
    x.checked_div(y).unwrap_or(0)
}

fn floor_divide(x: i32, y: i32) -> i32 {
    let Some(quotient) = x.checked_div(y) else {
        return 0;
    };
    match x.wrapping_rem(y) != 0 && (x < 0) != (y < 0) {
        true => quotient - 1,
        false => quotient,
    }
}

fn modulo(x: i32, y: i32) -> i32 {
    let Some(rest) = x.checked_rem(y) else {
        return 0;
    };
    match rest != 0 && (rest < 0) != (y < 0) {
        true => rest + y,
        false => rest,
    }
}

fn float_modulo(x: f32, y: f32) -> f32 {
    let rest = x % y;
    match rest != 0.0 && (rest < 0.0) != (y < 0.0) {
        true => rest + y,
        false => rest,
    }
}

fn power(x: i32, y: i32) -> i32 {
    match (u32::try_from(y), x) {
        (Ok(y), _) => x.wrapping_pow(y),
        (Err(_), 1) => 1,
        (Err(_), -1) => [1, -1][(y & 1) as usize],
        (Err(_), _) => 0,
    }
}

fn arithmetic(
    call: &mut Call<'_>,
    float: impl Fn(f32, f32) -> f32 + Copy,
    int: impl Fn(i32, i32) -> i32 + Copy,
) -> Result<Vec<Tensor>, String> {
    let shape = broadcast(&call.tensor("x")?.shape, &call.tensor("y")?.shape)?;
    let element = call.element();
    if call.tensor("x")?.floats().is_some() && call.tensor("y")?.floats().is_some() {
        if call.tensor("x")?.shape == shape {
            return in_place(call, float);
        }
        call.room(&shape)?;
        let (x, y) = (call.tensor("x")?, call.tensor("y")?);
        let values = zip(x, call.floats("x")?, y, call.floats("y")?, &shape, float);
        return result(shape, values);
    }
    let (x, y) = (call.tensor("x")?, call.tensor("y")?);
    if x.floats().is_some() != y.floats().is_some() {
        return Err(format!("{} and {}", x.element, y.element));
    }
    call.room(&shape)?;
    let int = |a, b| wrap(int(a, b), element.unwrap_or(x.element));
    result(
        shape.clone(),
        zip(x, &x.to_ints()?, y, &y.to_ints()?, &shape, int),
    )
}

/// The first operand's memory takes the result, where nobody else needs it.
fn in_place(
    call: &mut Call<'_>,
    f: impl Fn(f32, f32) -> f32 + Copy,
) -> Result<Vec<Tensor>, String> {
    call.room(&call.tensor("x")?.shape)?;
    let x = call.take("x")?;
    let y = call.take("y")?;
    let shape = x.shape.clone();
    let mut values = x.into_floats()?;
    let other = y.floats().unwrap_or_default();
    match (other, y.shape == shape) {
        (&[y], _) => values.iter_mut().for_each(|x| *x = f(*x, y)),
        (_, true) => {
            for (x, &y) in values.iter_mut().zip(other) {
                *x = f(*x, y);
            }
        }
        _ => {
            let steps = signed(&broadcast_strides(&y.shape, &shape));
            let row = shape.last().copied().unwrap_or(1);
            let step = steps.last().copied().unwrap_or(0) as usize;
            let mut done = 0;
            each_row(&shape, [0], [&steps], |[at]| {
                let xs = &mut values[done..done + row];
                match step {
                    0 => {
                        let y = other[at as usize];
                        xs.iter_mut().for_each(|x| *x = f(*x, y));
                    }
                    _ => {
                        for (x, &y) in xs.iter_mut().zip(&other[at as usize..]) {
                            *x = f(*x, y);
                        }
                    }
                }
                done += row;
            });
        }
    }
    result(shape, values)
}

/// A function of two tensors that broadcast to `shape`.
fn zip<T: Copy, U>(
    x: &Tensor,
    xs: &[T],
    y: &Tensor,
    ys: &[T],
    shape: &[usize],
    f: impl Fn(T, T) -> U,
) -> Vec<U> {
    if x.shape == y.shape {
        return xs.iter().zip(ys).map(|(&x, &y)| f(x, y)).collect();
    }
    let mut out = Vec::with_capacity(shape.iter().product());
    let (a, b) = (
        signed(&broadcast_strides(&x.shape, shape)),
        signed(&broadcast_strides(&y.shape, shape)),
    );
    let row = shape.last().copied().unwrap_or(1);
    let step = |steps: &[isize]| steps.last().copied().unwrap_or(0) as usize;
    let (p, q) = (step(&a), step(&b));
    each_row(shape, [0, 0], [&a, &b], |[i, j]| {
        let (i, j) = (i as usize, j as usize);
        out.extend((0..row).map(|k| f(xs[i + k * p], ys[j + k * q])));
    });
    out
}

fn compare(
    call: &mut Call<'_>,
    float: impl Fn(f32, f32) -> bool,
    int: impl Fn(i32, i32) -> bool,
) -> Result<Vec<Tensor>, String> {
    let (x, y) = (call.tensor("x")?, call.tensor("y")?);
    let shape = broadcast(&x.shape, &y.shape)?;
    call.room(&shape)?;
    let values = match (x.floats(), y.floats()) {
        (Some(xs), Some(ys)) => zip(x, xs, y, ys, &shape, float),
        (None, None) => zip(x, &x.to_ints()?, y, &y.to_ints()?, &shape, int),
        _ => return Err(format!("{} and {}", x.element, y.element)),
    };
    result(shape, values)
}

fn logic(call: &mut Call<'_>, f: impl Fn(bool, bool) -> bool) -> Result<Vec<Tensor>, String> {
    let (x, y) = (call.tensor("x")?, call.tensor("y")?);
    let shape = broadcast(&x.shape, &y.shape)?;
    call.room(&shape)?;
    let (xs, ys) = (truths(x)?, truths(y)?);
    result(shape.clone(), zip(x, &xs, y, &ys, &shape, f))
}

/// Elements as truth values.
pub(super) fn truths(tensor: &Tensor) -> Result<Vec<bool>, String> {
    match tensor.bools() {
        Some(values) => Ok(values.to_vec()),
        None => Ok(tensor
            .to_floats()?
            .iter()
            .map(|&value| value != 0.0)
            .collect()),
    }
}

fn select(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let (cond, a, b) = (call.tensor("cond")?, call.tensor("a")?, call.tensor("b")?);
    let shape = broadcast(&broadcast(&cond.shape, &a.shape)?, &b.shape)?;
    call.room(&shape)?;
    let conds = truths(cond)?;
    let values: Values = match (&a.values, &b.values) {
        (Values::Float(x), Values::Float(y)) => choose(cond, &conds, a, x, b, y, &shape).into(),
        (Values::Int(x), Values::Int(y)) => choose(cond, &conds, a, x, b, y, &shape).into(),
        (Values::Bool(x), Values::Bool(y)) => choose(cond, &conds, a, x, b, y, &shape).into(),
        _ => return Err(format!("`a` is {}, `b` is {}", a.element, b.element)),
    };
    result(shape, values)
}

fn choose<T: Copy>(
    cond: &Tensor,
    conds: &[bool],
    a: &Tensor,
    x: &[T],
    b: &Tensor,
    y: &[T],
    shape: &[usize],
) -> Vec<T> {
    let mut out = Vec::with_capacity(shape.iter().product());
    let [c, i, j] = [cond, a, b].map(|tensor| signed(&broadcast_strides(&tensor.shape, shape)));
    let row = shape.last().copied().unwrap_or(1);
    let [p, q, r] = [&c, &i, &j].map(|steps| steps.last().copied().unwrap_or(0) as usize);
    each_row(shape, [0, 0, 0], [&c, &i, &j], |at| {
        let [l, m, n] = at.map(|offset| offset as usize);
        out.extend((0..row).map(|k| match conds[l + k * p] {
            true => x[m + k * q],
            false => y[n + k * r],
        }));
    });
    out
}
