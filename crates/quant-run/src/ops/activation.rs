//! Activations.

use super::Table;
use super::unary::{all, each};
use crate::call::{Call, result};
use crate::engine;
use crate::index::{axis, permute, split_at};
use crate::tensor::Tensor;

pub(super) const TABLE: Table = &[
    ("clamped_relu", clamped_relu),
    ("elu", elu),
    ("gelu", gelu),
    ("leaky_relu", leaky_relu),
    ("linear_activation", |c| parametric(c, |x, a, b| a * x + b)),
    ("prelu", prelu),
    ("relu", |c| each(c, |x| if x < 0.0 { 0.0 } else { x })),
    ("relu6", |c| each(c, |x| x.clamp(0.0, 6.0))),
    ("scaled_tanh", |c| {
        parametric(c, |x, a, b| a * (b * x).tanh())
    }),
    ("sigmoid", |c| all(c, engine::sigmoid)),
    ("sigmoid_hard", |c| {
        parametric(c, |x, a, b| (a * x + b).clamp(0.0, 1.0))
    }),
    ("silu", |c| all(c, engine::silu)),
    ("softmax", softmax),
    ("softplus", |c| each(c, softplus)),
    ("softplus_parametric", softplus_parametric),
    ("softsign", |c| each(c, |x| x / (1.0 + x.abs()))),
    ("thresholded_relu", |c| {
        let alpha = c.float("alpha", 1.0)?;
        each(c, |x| if x < alpha { 0.0 } else { x })
    }),
];

fn parametric(
    call: &mut Call<'_>,
    f: impl Fn(f32, f32, f32) -> f32,
) -> Result<Vec<Tensor>, String> {
    let (a, b) = (call.float("alpha", 1.0)?, call.float("beta", 0.0)?);
    each(call, |x| f(x, a, b))
}

fn clamped_relu(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    parametric(call, |x, a, b| {
        let x = if x < 0.0 { a * x } else { x };
        if x > b { b } else { x }
    })
}

fn elu(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let alpha = call.float("alpha", 1.0)?;
    each(call, |x| if x < 0.0 { alpha * x.exp_m1() } else { x })
}

fn leaky_relu(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let alpha = call.float("alpha", 0.01)?;
    each(call, |x| if x < 0.0 { alpha * x } else { x })
}

fn softplus(x: f32) -> f32 {
    (-x.abs()).exp().ln_1p() + x.max(0.0)
}

fn gelu(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    match call.text("mode", "EXACT")?.as_str() {
        "EXACT" => all(call, engine::gelu),
        "TANH_APPROXIMATION" => all(call, engine::gelu_tanh),
        "SIGMOID_APPROXIMATION" => each(call, |x| x / (1.0 + (-1.702 * x).exp())),
        other => Err(format!("mode `{other}`")),
    }
}

/// A function of each element and its channel's parameters.
fn per_channel(
    call: &mut Call<'_>,
    names: [&str; 2],
    f: impl Fn(f32, f32, f32) -> f32,
) -> Result<Vec<Tensor>, String> {
    let [a, b] = names.map(|name| call.floats(name).map(<[f32]>::to_vec));
    let (a, b) = (a?, b?);
    let x = call.take("x")?;
    if x.rank() < 2 {
        return Err(format!("a tensor of rank {}", x.rank()));
    }
    let (_, channels, inner) = split_at(&x.shape, 1);
    for parameters in [&a, &b] {
        if parameters.len() != channels && parameters.len() != 1 {
            let have = parameters.len();
            return Err(format!("{have} parameters for {channels} channels"));
        }
    }
    let shape = x.shape.clone();
    let mut values = x.into_floats()?;
    let of = |parameters: &[f32], channel: usize| parameters[channel % parameters.len()];
    for (i, row) in values.chunks_mut(inner.max(1)).enumerate() {
        let channel = i % channels.max(1);
        let (a, b) = (of(&a, channel), of(&b, channel));
        row.iter_mut().for_each(|x| *x = f(*x, a, b));
    }
    result(shape, values)
}

fn prelu(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    per_channel(
        call,
        ["alpha", "alpha"],
        |x, a, _| if x < 0.0 { a * x } else { x },
    )
}

fn softplus_parametric(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    per_channel(call, ["alpha", "beta"], |x, a, b| a * softplus(b * x))
}

fn softmax(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let wanted = call.int("axis", -1)?;
    let x = call.take("x")?;
    call.room(&x.shape)?;
    let at = axis(wanted, x.rank())?;
    let shape = x.shape.clone();
    let last = shape.len() - 1;
    let mut values = x.into_floats()?;
    if at == last {
        engine::softmax_rows(&mut values, shape[last]);
        return result(shape, values);
    }
    // Along the last axis, and back.
    let mut order: Vec<usize> = (0..shape.len()).collect();
    order.swap(at, last);
    let swapped: Vec<usize> = order.iter().map(|&axis| shape[axis]).collect();
    let mut values = permute(&values, &shape, &order);
    engine::softmax_rows(&mut values, shape[at]);
    result(shape, permute(&values, &swapped, &order))
}
