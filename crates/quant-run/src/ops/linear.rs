//! Products of matrices.

use std::borrow::Cow;
use std::sync::OnceLock;

use quant_models::program::ElementType;

use super::Table;
use crate::call::{Call, result, wrap};
use crate::engine::{Packed, Rows, View, softmax_rows};
use crate::index::{broadcast, broadcast_strides, gather_view, signed};
use crate::tensor::Tensor;

pub(super) const TABLE: Table = &[
    ("einsum", einsum),
    ("linear", linear),
    ("matmul", matmul),
    ("scaled_dot_product_attention", attention),
];

fn linear(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let (x, weight) = (call.tensor("x")?, call.tensor("weight")?);
    let (Some((&inner, outer)), &[out, from]) = (x.shape.split_last(), &weight.shape[..]) else {
        let (a, b) = (&x.shape, &weight.shape);
        return Err(format!("an input of shape {a:?} and a weight of {b:?}"));
    };
    if inner != from {
        let (a, b) = (&x.shape, &weight.shape);
        return Err(format!("an input of shape {a:?} and a weight of {b:?}"));
    }
    let mut shape = outer.to_vec();
    shape.push(out);
    let elements = call.room(&shape)?;
    if let Some(bias) = call.optional("bias").filter(|bias| bias.len() != out) {
        return Err(format!("a bias of {} for {out} results", bias.len()));
    }
    if x.floats().is_none() && weight.floats().is_none() {
        return int_linear(call, shape);
    }
    let xs = as_floats(x)?;
    let bias = call.optional("bias").map(as_floats).transpose()?;
    let bias = bias.as_deref();
    if elements == 0 {
        return typed(call, shape, Vec::new());
    }
    let rows = [elements / out, inner];
    let packed = match call.packed {
        Some(cell) if cell.get().is_none() && inner > 0 => {
            let packed = Packed::new(weight, &as_floats(weight)?)?;
            Some(cell.get_or_init(|| packed))
        }
        cell => cell.and_then(OnceLock::get),
    };
    let values = match packed {
        Some(packed) => call
            .engine
            .linear(rows, &xs, Rows::Packed(packed), bias, out),
        None => {
            let weights = as_floats(weight)?;
            call.engine
                .linear(rows, &xs, Rows::Plain(&weights), bias, out)
        }
    };
    typed(call, shape, values?)
}

/// Elements as floats: since iOS17 one operand may be of integers.
fn as_floats(tensor: &Tensor) -> Result<Cow<'_, [f32]>, String> {
    match tensor.floats() {
        Some(floats) => Ok(Cow::Borrowed(floats)),
        None => tensor.to_floats().map(Cow::Owned),
    }
}

fn int_linear(call: &Call<'_>, shape: Vec<usize>) -> Result<Vec<Tensor>, String> {
    let (x, weight) = (call.tensor("x")?, call.tensor("weight")?);
    let (xs, weights) = (x.to_ints()?, weight.to_ints()?);
    let (out, inner) = (weight.shape[0], weight.shape[1]);
    let bias = call.ints("bias")?.unwrap_or_else(|| vec![0; out]);
    let rows = shape.iter().product::<usize>() / out.max(1);
    let mut values = Vec::with_capacity(rows * out);
    for row in 0..rows {
        let row = &xs[row * inner..(row + 1) * inner];
        for (o, &bias) in bias.iter().enumerate() {
            let column = &weights[o * inner..(o + 1) * inner];
            let products = row.iter().zip(column).map(|(&a, &b)| a.wrapping_mul(b));
            values.push(products.fold(bias, i32::wrapping_add));
        }
    }
    result(shape, values)
}

/// A shape with its last two dimensions exchanged, if `turned`.
fn turned(shape: &[usize], turned: bool) -> Vec<usize> {
    let mut shape = shape.to_vec();
    if let (true, [.., a, b]) = (turned, &mut shape[..]) {
        std::mem::swap(a, b);
    }
    shape
}

fn matmul(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let (x, y) = (call.tensor("x")?, call.tensor("y")?);
    let turn_x = call.bool("transpose_x", false)? && x.rank() > 1;
    let turn_y = call.bool("transpose_y", false)? && y.rank() > 1;
    let (mut a, mut b) = (turned(&x.shape, turn_x), turned(&y.shape, turn_y));
    let fail = || format!("shapes {:?} and {:?}", x.shape, y.shape);
    if a.is_empty() || b.is_empty() {
        return Err(fail());
    }
    let (vector_x, vector_y) = (a.len() == 1, b.len() == 1);
    if vector_x {
        a.insert(0, 1);
    }
    if vector_y {
        b.push(1);
    }
    let (i, j) = (a.len() - 2, b.len() - 2);
    if a[i + 1] != b[j] {
        return Err(fail());
    }
    let mut full = broadcast(&a[..i], &b[..j])?;
    full.extend([a[i], b[j + 1]]);
    let mut shape = full.clone();
    if vector_y {
        shape.pop();
    }
    if vector_x {
        shape.remove(shape.len() - if vector_y { 1 } else { 2 });
    }
    let elements = call.room(&full)?;
    if x.floats().is_none() && y.floats().is_none() {
        let (xs, ys) = (x.to_ints()?, y.to_ints()?);
        let element = call.element().unwrap_or(x.element);
        let values = naive(&a, &xs, turn_x, &b, &ys, turn_y, &full);
        let values: Vec<i32> = values.iter().map(|&value| wrap(value, element)).collect();
        return result(shape, values);
    }
    let (xs, ys) = (as_floats(x)?, as_floats(y)?);
    if elements == 0 || a[i + 1] == 0 {
        return result(shape, vec![0.0; elements]);
    }
    // The views that the engine turns have the shapes as they lie in memory.
    let (lie_x, lie_y) = (turned(&a, turn_x), turned(&b, turn_y));
    let values = call.engine.matmul(
        View {
            transposed: turn_x,
            ..View::new(&lie_x, &xs)
        },
        View {
            transposed: turn_y,
            ..View::new(&lie_y, &ys)
        },
    )?;
    typed(call, shape, values)
}

/// Floats as the type that the program declares: with one operand of integers, that of the first.
fn typed(call: &Call<'_>, shape: Vec<usize>, values: Vec<f32>) -> Result<Vec<Tensor>, String> {
    match call.element() {
        Some(ElementType::Int(_) | ElementType::Uint(_)) => {
            result(shape, values.iter().map(|&v| v as i32).collect::<Vec<_>>())
        }
        _ => result(shape, values),
    }
}

/// A product of integers.
fn naive(
    a: &[usize],
    xs: &[i32],
    turn_x: bool,
    b: &[usize],
    ys: &[i32],
    turn_y: bool,
    full: &[usize],
) -> Vec<i32> {
    let batch = &full[..full.len() - 2];
    let (rows, columns, inner) = (full[full.len() - 2], full[full.len() - 1], a[a.len() - 1]);
    let area = |shape: &[usize]| shape[shape.len() - 2] * shape[shape.len() - 1];
    let offsets = |shape: &[usize]| {
        let lead = &shape[..shape.len() - 2];
        let numbers: Vec<usize> = (0..lead.iter().product()).collect();
        gather_view(&numbers, 0, batch, &signed(&broadcast_strides(lead, batch)))
    };
    let mut out = Vec::with_capacity(full.iter().product());
    for (p, q) in offsets(a).into_iter().zip(offsets(b)) {
        let (xs, ys) = (&xs[p * area(a)..], &ys[q * area(b)..]);
        for i in 0..rows {
            for j in 0..columns {
                let products = (0..inner).map(|k| {
                    let x = xs[if turn_x { k * rows + i } else { i * inner + k }];
                    let y = ys[if turn_y {
                        j * inner + k
                    } else {
                        k * columns + j
                    }];
                    x.wrapping_mul(y)
                });
                out.push(products.fold(0, i32::wrapping_add));
            }
        }
    }
    out
}

fn einsum(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let equation: String = call.text("equation", "")?;
    let equation: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
    let values = call.list("values");
    let (terms, answer) = equation
        .split_once("->")
        .ok_or("an equation without `->`")?;
    let terms: Vec<&str> = terms.split(',').collect();
    if terms.len() != values.len() || equation.contains('.') || !equation.is_ascii() {
        return Err(format!("equation `{equation}` of {} tensors", values.len()));
    }
    // Dimensions of 1 stand for any size.
    let mut dims = std::collections::BTreeMap::<char, usize>::new();
    for (term, value) in terms.iter().zip(values) {
        if term.len() != value.rank() {
            let shape = &value.shape;
            return Err(format!("`{term}` for a tensor of shape {shape:?}"));
        }
        for (label, &dim) in term.chars().zip(&value.shape) {
            let known = dims.entry(label).or_insert(dim);
            match (*known, dim) {
                (a, b) if a == b || b == 1 => {}
                (1, b) => *known = b,
                (a, b) => return Err(format!("dimensions {a} and {b} of `{label}`")),
            }
        }
    }
    let size = |label: char| dims.get(&label).copied();
    let shape: Option<Vec<usize>> = answer.chars().map(size).collect();
    let shape = shape.ok_or_else(|| format!("equation `{equation}`"))?;
    call.room(&shape)?;
    let mut expanded = Vec::new();
    for (term, value) in terms.iter().zip(values) {
        let target: Vec<usize> = term.chars().filter_map(size).collect();
        call.room(&target)?;
        let floats = value.floats().ok_or("tensors that are no floats")?;
        let steps = signed(&broadcast_strides(&value.shape, &target));
        expanded.push((gather_view(floats, 0, &target, &steps), target));
    }
    if shape.contains(&0) || expanded.iter().any(|(_, target)| target.contains(&0)) {
        let elements = shape.iter().product();
        return result(shape, vec![0.0; elements]);
    }
    let views: Vec<View<'_>> = expanded
        .iter()
        .map(|(data, shape)| View::new(shape, data))
        .collect();
    // Results that one of the tensors alone has: the rows and columns of a product.
    let alone = |term: &&str| {
        let labels = term.chars().filter(|&label| answer.contains(label));
        let own = labels.filter(|&label| terms.iter().filter(|t| t.contains(label)).count() == 1);
        own.filter_map(size).product::<usize>()
    };
    let is_one_row = terms.iter().any(|term| alone(term) == 1);
    let (given, values) = call.engine.einsum(&views, &equation, is_one_row)?;
    if given != shape {
        return Err(format!("a result of shape {given:?}, not {shape:?}"));
    }
    result(shape, values)
}

fn attention(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let [query, key, value] = [
        call.tensor("query")?,
        call.tensor("key")?,
        call.tensor("value")?,
    ];
    let rank = query.rank();
    if rank < 2 || key.rank() != rank || value.rank() != rank {
        return Err("`query`, `key` and `value` of several ranks".into());
    }
    let lead = &query.shape[..rank - 2];
    let (l, e) = (query.shape[rank - 2], query.shape[rank - 1]);
    let (s, ev) = (key.shape[rank - 2], value.shape[rank - 1]);
    let fits = key.shape[..rank - 2] == *lead
        && value.shape[..rank - 2] == *lead
        && key.shape[rank - 1] == e
        && value.shape[rank - 2] == s;
    if !fits {
        let (q, k, v) = (&query.shape, &key.shape, &value.shape);
        return Err(format!("shapes {q:?}, {k:?} and {v:?} do not fit"));
    }
    let shape_of = |rows, columns| [lead, &[rows, columns]].concat();
    let (scores_shape, shape) = (shape_of(l, s), shape_of(l, ev));
    call.room(&scores_shape)?;
    let elements = call.room(&shape)?;
    if elements == 0 || s == 0 || e == 0 {
        return result(shape, vec![0.0; elements]);
    }
    let keys = View {
        transposed: true,
        ..View::new(&key.shape, call.floats("key")?)
    };
    let queries = View::new(&query.shape, call.floats("query")?);
    let mut scores = call.engine.matmul(queries, keys)?;
    let scale = 1.0 / (e as f32).sqrt();
    scores.iter_mut().for_each(|score| *score *= scale);
    if let Some(mask) = call.optional("attn_mask") {
        add_mask(&mut scores, mask, &scores_shape)?;
    }
    softmax_rows(&mut scores, s);
    let scores = View::new(&scores_shape, &scores);
    let values = View::new(&value.shape, call.floats("value")?);
    result(shape, call.engine.matmul(scores, values)?)
}

/// Adds a mask to scores of a shape; truth values say what is seen.
fn add_mask(scores: &mut [f32], mask: &Tensor, shape: &[usize]) -> Result<(), String> {
    if broadcast(&mask.shape, shape)? != shape {
        return Err(format!("a mask of shape {:?}", mask.shape));
    }
    let floats = match mask.bools() {
        Some(bools) => {
            let hides = |&seen: &bool| if seen { 0.0 } else { f32::NEG_INFINITY };
            bools.iter().map(hides).collect()
        }
        None => mask.to_floats()?,
    };
    let steps = signed(&broadcast_strides(&mask.shape, shape));
    let full = match mask.shape == shape {
        true => floats,
        false => gather_view(&floats, 0, shape, &steps),
    };
    scores
        .iter_mut()
        .zip(full)
        .for_each(|(score, mask)| *score += mask);
    Ok(())
}
