//! Operations on one tensor, element by element.

use super::Table;
use crate::call::{Call, result, wrap};
use crate::engine;
use crate::tensor::{Tensor, Values};

pub(super) const TABLE: Table = &[
    ("abs", |c| both(c, f32::abs, i32::wrapping_abs)),
    ("acos", |c| each(c, f32::acos)),
    ("acosh", |c| each(c, f32::acosh)),
    ("asin", |c| each(c, f32::asin)),
    ("asinh", |c| each(c, f32::asinh)),
    ("atan", |c| each(c, f32::atan)),
    ("atanh", |c| each(c, atanh)),
    ("ceil", |c| each(c, f32::ceil)),
    ("clip", clip),
    ("cos", |c| each(c, f32::cos)),
    ("cosh", |c| each(c, f32::cosh)),
    ("erf", |c| all(c, engine::erf)),
    ("exp", |c| all(c, engine::exp)),
    ("exp2", |c| both(c, f32::exp2, |x| (x as f32).exp2() as i32)),
    ("floor", |c| each(c, f32::floor)),
    ("identity", |c| Ok(vec![c.take("x")?])),
    ("inverse", |c| with_epsilon(c, 1e-4, |x| 1.0 / x)),
    ("log", |c| with_epsilon(c, 1e-45, f32::ln)),
    ("logical_not", logical_not),
    ("round", |c| each(c, f32::round_ties_even)),
    ("rsqrt", |c| with_epsilon(c, 1e-12, |x| 1.0 / x.sqrt())),
    ("sign", |c| both(c, sign, i32::signum)),
    ("sin", |c| each(c, f32::sin)),
    ("sinh", |c| each(c, f32::sinh)),
    ("sqrt", |c| each(c, f32::sqrt)),
    ("square", |c| both(c, |x| x * x, |x| x.wrapping_mul(x))),
    ("tan", |c| each(c, f32::tan)),
    ("tanh", |c| all(c, engine::tanh)),
    ("threshold", threshold),
];

/// A function of a whole slice, in place.
pub(super) fn all(call: &mut Call<'_>, f: impl Fn(&mut [f32])) -> Result<Vec<Tensor>, String> {
    let x = call.take("x")?;
    let shape = x.shape.clone();
    call.room(&shape)?;
    let mut values = x.into_floats()?;
    f(&mut values);
    result(shape, values)
}

/// A function of each element.
pub(super) fn each(call: &mut Call<'_>, f: impl Fn(f32) -> f32) -> Result<Vec<Tensor>, String> {
    all(call, |values| {
        values.iter_mut().for_each(|value| *value = f(*value))
    })
}

fn both(
    call: &mut Call<'_>,
    float: impl Fn(f32) -> f32,
    int: impl Fn(i32) -> i32,
) -> Result<Vec<Tensor>, String> {
    let x = call.tensor("x")?;
    let element = call.element().unwrap_or(x.element);
    match &x.values {
        Values::Float(_) => each(call, float),
        _ => {
            let values: Vec<i32> = x
                .to_ints()?
                .iter()
                .map(|&x| wrap(int(x), element))
                .collect();
            result(x.shape.clone(), values)
        }
    }
}

/// libm's loses digits near zero.
fn atanh(x: f32) -> f32 {
    f64::from(x).atanh() as f32
}

/// Zero, not one, for zero.
fn sign(x: f32) -> f32 {
    match x == 0.0 || x.is_nan() {
        true => x,
        false => x.signum(),
    }
}

fn with_epsilon(
    call: &mut Call<'_>,
    default: f32,
    f: impl Fn(f32) -> f32,
) -> Result<Vec<Tensor>, String> {
    let epsilon = call.float("epsilon", default)?;
    each(call, |x| f(x + epsilon))
}

fn clip(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let low = call.float("alpha", f32::NEG_INFINITY)?;
    let high = call.float("beta", f32::INFINITY)?;
    each(call, |x| match x {
        x if x < low => low.min(high),
        x if x > high => high,
        x => x,
    })
}

fn threshold(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let alpha = call.float("alpha", 0.0)?;
    each(call, |x| if x < alpha { alpha } else { x })
}

fn logical_not(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let x = call.tensor("x")?;
    let values: Vec<bool> = super::binary::truths(x)?.iter().map(|&x| !x).collect();
    result(x.shape.clone(), values)
}
