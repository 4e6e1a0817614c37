//! Reductions.

use super::Table;
use crate::call::{Call, result, wrap};
use crate::index::{axes, axis, permute};
use crate::tensor::{Tensor, Values, map_values};

pub(super) const TABLE: Table = &[
    ("reduce_argmax", |c| arg(c, |a, b| a > b, |a, b| a > b)),
    ("reduce_argmin", |c| arg(c, |a, b| a < b, |a, b| a < b)),
    ("reduce_l1_norm", |c| {
        reduce(
            c,
            |row| total(row, |x| x.abs()) as f32,
            |row| sum(row, i32::wrapping_abs),
        )
    }),
    ("reduce_l2_norm", |c| {
        reduce(
            c,
            |row| total(row, |x| x * x).sqrt() as f32,
            |row| f64::from(sum(row, |x| x.wrapping_mul(x))).sqrt() as i32,
        )
    }),
    ("reduce_log_sum", |c| {
        reduce(
            c,
            |row| total(row, |x| x).ln() as f32,
            |row| f64::from(sum(row, |x| x)).ln() as i32,
        )
    }),
    ("reduce_log_sum_exp", |c| {
        reduce(c, log_sum_exp, |row| {
            let floats: Vec<f32> = row.iter().map(|&x| x as f32).collect();
            log_sum_exp(&floats) as i32
        })
    }),
    ("reduce_max", |c| {
        reduce(
            c,
            |row| row.iter().copied().fold(f32::NEG_INFINITY, greater),
            |row| row.iter().copied().max().unwrap_or(i32::MIN),
        )
    }),
    ("reduce_mean", |c| {
        reduce(
            c,
            |row| (total(row, |x| x) / row.len() as f64) as f32,
            |row| {
                let sum: i64 = row.iter().map(|&x| i64::from(x)).sum();
                (sum / row.len().max(1) as i64) as i32
            },
        )
    }),
    ("reduce_min", |c| {
        reduce(
            c,
            |row| -row.iter().map(|&x| -x).fold(f32::NEG_INFINITY, greater),
            |row| row.iter().copied().min().unwrap_or(i32::MAX),
        )
    }),
    ("reduce_prod", |c| {
        reduce(
            c,
            |row| row.iter().map(|&x| f64::from(x)).product::<f64>() as f32,
            |row| row.iter().fold(1_i32, |all, &x| all.wrapping_mul(x)),
        )
    }),
    ("reduce_sum", |c| {
        reduce(c, |row| total(row, |x| x) as f32, |row| sum(row, |x| x))
    }),
    ("reduce_sum_square", |c| {
        reduce(
            c,
            |row| total(row, |x| x * x) as f32,
            |row| sum(row, |x| x.wrapping_mul(x)),
        )
    }),
];

/// The greater one; NaN is the greatest.
fn greater(a: f32, b: f32) -> f32 {
    match a > b || a.is_nan() {
        true => a,
        false => b,
    }
}

/// A sum in f64, in an order that does not depend on anything but the length.
pub(crate) fn total(row: &[f32], f: impl Fn(f64) -> f64) -> f64 {
    let (chunks, rest) = row.as_chunks::<4>();
    let mut sums = [0.0_f64; 4];
    for chunk in chunks {
        for (sum, &x) in sums.iter_mut().zip(chunk) {
            *sum += f(f64::from(x));
        }
    }
    let rest: f64 = rest.iter().map(|&x| f(f64::from(x))).sum();
    (sums[0] + sums[1]) + (sums[2] + sums[3]) + rest
}

fn sum(row: &[i32], f: impl Fn(i32) -> i32) -> i32 {
    row.iter().fold(0_i32, |all, &x| all.wrapping_add(f(x)))
}

fn log_sum_exp(row: &[f32]) -> f32 {
    let most = row.iter().copied().fold(f32::NEG_INFINITY, greater);
    if most.is_infinite() {
        return most;
    }
    let most = f64::from(most);
    (total(row, |x| (x - most).exp()).ln() + most) as f32
}

/// The rows that become one element each, and the shape of the result.
fn rows(x: &Tensor, reduced: &[usize], keep: bool) -> Result<(Values, usize, Vec<usize>), String> {
    let rank = x.rank();
    let kept: Vec<usize> = (0..rank).filter(|i| !reduced.contains(i)).collect();
    let row = reduced.iter().map(|&i| x.shape[i]).product();
    let shape = match keep {
        true => (0..rank)
            .map(|i| if reduced.contains(&i) { 1 } else { x.shape[i] })
            .collect(),
        false => kept.iter().map(|&i| x.shape[i]).collect(),
    };
    let order: Vec<usize> = kept.iter().chain(reduced).copied().collect();
    let values = match order.is_sorted() {
        true => x.values.clone(),
        false => map_values!(&x.values, v => permute(v, &x.shape, &order))?,
    };
    Ok((values, row, shape))
}

fn reduce(
    call: &mut Call<'_>,
    float: impl Fn(&[f32]) -> f32,
    int: impl Fn(&[i32]) -> i32,
) -> Result<Vec<Tensor>, String> {
    let x = call.tensor("x")?;
    let reduced = match call.ints("axes")? {
        Some(wanted) => axes(&wanted, x.rank())?,
        None => (0..x.rank()).collect(),
    };
    let keep = call.bool("keep_dims", false)?;
    call.room(&x.shape)?;
    let (values, row, shape) = rows(x, &reduced, keep)?;
    let count = call.room(&shape)?;
    match values {
        Values::Float(values) => result(shape, each_row(&values, row, count, float)),
        Values::Int(values) => {
            let element = call.element().unwrap_or(x.element);
            let int = |row: &[i32]| wrap(int(row), element);
            result(shape, each_row(&values, row, count, int))
        }
        _ => Err(format!("{} cannot be reduced", x.element)),
    }
}

fn each_row<T, U>(values: &[T], row: usize, count: usize, f: impl Fn(&[T]) -> U) -> Vec<U> {
    match row {
        0 => (0..count).map(|_| f(&[])).collect(),
        _ => values.chunks_exact(row).map(f).collect(),
    }
}

fn arg(
    call: &mut Call<'_>,
    float: impl Fn(f32, f32) -> bool,
    int: impl Fn(i32, i32) -> bool,
) -> Result<Vec<Tensor>, String> {
    let x = call.tensor("x")?;
    let at = axis(call.int("axis", -1)?, x.rank())?;
    if x.shape[at] == 0 {
        return Err("an axis without elements".into());
    }
    call.room(&x.shape)?;
    let (values, row, shape) = rows(x, &[at], call.bool("keep_dims", false)?)?;
    let count = call.room(&shape)?;
    let found = match &values {
        Values::Float(values) => each_row(values, row, count, |row| first(row, &float)),
        Values::Int(values) => each_row(values, row, count, |row| first(row, &int)),
        _ => return Err(format!("{} cannot be compared", x.element)),
    };
    result(shape, found)
}

/// The first element that no other one beats.
fn first<T: Copy>(row: &[T], beats: impl Fn(T, T) -> bool) -> i32 {
    let mut best = 0;
    for i in 1..row.len() {
        if beats(row[i], row[best]) {
            best = i;
        }
    }
    best as i32
}
