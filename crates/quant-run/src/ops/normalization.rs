//! Normalizations.

use rayon::prelude::*;

use super::Table;
use super::reduce::total;
use crate::call::{Call, result};
use crate::index::{axes, permute, split_at};
use crate::tensor::Tensor;

pub(super) const TABLE: Table = &[
    ("batch_norm", batch_norm),
    ("instance_norm", instance_norm),
    ("l2_norm", l2_norm),
    ("layer_norm", layer_norm),
    ("local_response_norm", local_response_norm),
];

/// A parameter per channel.
fn channels<'c>(call: &'c Call<'_>, name: &str, count: usize) -> Result<Option<&'c [f32]>, String> {
    let values = call.optional_floats(name)?;
    match values {
        Some(values) if values.len() != count => {
            let have = values.len();
            Err(format!("its `{name}` has {have} elements, not {count}"))
        }
        values => Ok(values),
    }
}

fn batch_norm(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let x = call.tensor("x")?;
    if x.rank() < 2 {
        return Err(format!("a tensor of rank {}", x.rank()));
    }
    let (_, count, inner) = split_at(&x.shape, 1);
    let epsilon = call.float("epsilon", 1e-5)?;
    let mean = channels(call, "mean", count)?.ok_or("its input `mean` is missing")?;
    let variance = channels(call, "variance", count)?.ok_or("its input `variance` is missing")?;
    let (gamma, beta) = (
        channels(call, "gamma", count)?,
        channels(call, "beta", count)?,
    );
    let terms: Vec<(f32, f32)> = (0..count)
        .map(|c| {
            let gamma = gamma.map_or(1.0, |gamma| gamma[c]);
            let scale = f64::from(gamma) / (f64::from(variance[c]) + f64::from(epsilon)).sqrt();
            let beta = beta.map_or(0.0, |beta| beta[c]);
            (
                scale as f32,
                (f64::from(beta) - f64::from(mean[c]) * scale) as f32,
            )
        })
        .collect();
    call.room(&x.shape)?;
    let x = call.take("x")?;
    let shape = x.shape.clone();
    let mut values = x.into_floats()?;
    for (i, row) in values.chunks_mut(inner.max(1)).enumerate() {
        let (scale, offset) = terms[i % count.max(1)];
        row.iter_mut().for_each(|x| *x = *x * scale + offset);
    }
    result(shape, values)
}

/// Mean, and one over the standard deviation.
fn moments(row: &[f32], epsilon: f32) -> (f64, f64) {
    let len = row.len() as f64;
    let mean = total(row, |x| x) / len;
    let variance = total(row, |x| (x - mean) * (x - mean)) / len;
    (mean, 1.0 / (variance + f64::from(epsilon)).sqrt())
}

fn instance_norm(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let x = call.tensor("x")?;
    if x.rank() < 3 {
        return Err(format!("a tensor of rank {}", x.rank()));
    }
    let (_, count, inner) = split_at(&x.shape, 1);
    let epsilon = call.float("epsilon", 1e-5)?;
    let owned = |values: Option<&[f32]>| values.map(<[f32]>::to_vec);
    let gamma = owned(channels(call, "gamma", count)?);
    let beta = owned(channels(call, "beta", count)?);
    call.room(&x.shape)?;
    let x = call.take("x")?;
    let shape = x.shape.clone();
    let mut values = x.into_floats()?;
    let rows = values.par_chunks_mut(inner.max(1)).enumerate();
    rows.for_each(|(i, row)| {
        let channel = i % count.max(1);
        let (mean, scale) = moments(row, epsilon);
        let gamma = gamma
            .as_ref()
            .map_or(1.0, |gamma| f64::from(gamma[channel]));
        let beta = beta.as_ref().map_or(0.0, |beta| f64::from(beta[channel]));
        for x in row {
            *x = ((f64::from(*x) - mean) * (scale * gamma) + beta) as f32;
        }
    });
    result(shape, values)
}

fn layer_norm(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let x = call.tensor("x")?;
    let rank = x.rank();
    let along = match call.ints("axes")? {
        Some(wanted) => axes(&wanted, rank)?,
        None => (0..rank).collect(),
    };
    let epsilon = call.float("epsilon", 1e-5)?;
    let row: usize = along.iter().map(|&axis| x.shape[axis]).product();
    let owned = |values: Option<&[f32]>| values.map(<[f32]>::to_vec);
    let gamma = owned(channels(call, "gamma", row)?);
    let beta = owned(channels(call, "beta", row)?);
    call.room(&x.shape)?;
    let x = call.take("x")?;
    let shape = x.shape.clone();
    let kept = (0..rank).filter(|axis| !along.contains(axis));
    let order: Vec<usize> = kept.chain(along.iter().copied()).collect();
    let values = x.into_floats()?;
    let in_order = order.is_sorted();
    let mut values = match in_order {
        true => values,
        false => permute(&values, &shape, &order),
    };
    let one = |values: &mut [f32]| {
        let (mean, scale) = moments(values, epsilon);
        let (mean, scale) = (mean as f32, scale as f32);
        match (&gamma, &beta) {
            (Some(gamma), Some(beta)) => {
                for ((x, g), b) in values.iter_mut().zip(gamma).zip(beta) {
                    *x = (*x - mean) * scale * g + b;
                }
            }
            _ => {
                for (i, x) in values.iter_mut().enumerate() {
                    let gamma = gamma.as_ref().map_or(1.0, |gamma| gamma[i]);
                    let beta = beta.as_ref().map_or(0.0, |beta| beta[i]);
                    *x = (*x - mean) * scale * gamma + beta;
                }
            }
        }
    };
    values.par_chunks_mut(row.max(1)).for_each(one);
    if in_order {
        return result(shape, values);
    }
    let permuted: Vec<usize> = order.iter().map(|&axis| shape[axis]).collect();
    let mut back = vec![0; rank];
    for (i, &axis) in order.iter().enumerate() {
        back[axis] = i;
    }
    result(shape, permute(&values, &permuted, &back))
}

fn l2_norm(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let epsilon = f64::from(call.float("epsilon", 1e-6)?);
    let x = call.take("x")?;
    let Some(first) = x.rank().checked_sub(3) else {
        return Err(format!("a tensor of rank {}", x.rank()));
    };
    call.room(&x.shape)?;
    let shape = x.shape.clone();
    let row: usize = shape[first..].iter().product();
    let mut values = x.into_floats()?;
    for row in values.chunks_mut(row.max(1)) {
        let norm = (total(row, |x| x * x) + epsilon).sqrt();
        row.iter_mut()
            .for_each(|x| *x = (f64::from(*x) / norm) as f32);
    }
    result(shape, values)
}

fn local_response_norm(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let size = call.int("size", 1)?;
    let size = usize::try_from(size).ok().filter(|&size| size > 0);
    let size = size.ok_or("a size below 1")?;
    let alpha = call.float("alpha", 1e-4)? / size as f32;
    let (beta, k) = (call.float("beta", 0.75)?, call.float("k", 1.0)?);
    let x = call.tensor("x")?;
    let values = call.floats("x")?;
    if x.rank() < 2 {
        return Err(format!("a tensor of rank {}", x.rank()));
    }
    call.room(&x.shape)?;
    let (outer, count, inner) = split_at(&x.shape, 1);
    let mut out = Vec::with_capacity(values.len());
    for n in 0..outer {
        let sample = &values[n * count * inner..(n + 1) * count * inner];
        for c in 0..count {
            let first = c.saturating_sub(size / 2);
            let last = c.saturating_add((size - 1) / 2).min(count - 1);
            for i in 0..inner {
                let squares = (first..=last).map(|c| sample[c * inner + i]);
                let sum: f32 = squares.map(|x| x * x).sum();
                out.push(sample[c * inner + i] / (k + alpha * sum).powf(beta));
            }
        }
    }
    result(x.shape.clone(), out)
}
