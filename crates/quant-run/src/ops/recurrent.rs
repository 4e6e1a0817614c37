//! Recurrent networks.

use super::Table;
use crate::call::Call;
use crate::engine::View;
use crate::tensor::Tensor;

pub(super) const TABLE: Table = &[("gru", gru), ("lstm", lstm), ("rnn", rnn)];

/// An activation by its name.
fn activation(name: &str) -> Result<fn(f32) -> f32, String> {
    Ok(match name {
        "sigmoid" => |x| 1.0 / (1.0 + (-x).exp()),
        "relu" => |x| if x < 0.0 { 0.0 } else { x },
        "linear" => |x| x,
        // With both of its parameters 1.
        "tanh" | "scaled_tanh" => f32::tanh,
        "sigmoid_hard" | "hard_sigmoid" => |x| (0.2 * x + 0.5).clamp(0.0, 1.0),
        other => return Err(format!("the activation `{other}`")),
    })
}

/// A layer that goes one way over a sequence.
struct Layer<'a> {
    /// Sequence, batch, input size, hidden size.
    sizes: [usize; 4],
    gates: usize,
    /// The products of inputs and weights, with the bias: a row per step and batch.
    projected: Vec<f32>,
    hidden: View<'a>,
    /// Whether the steps go from the last to the first.
    reverse: bool,
}

impl<'a> Layer<'a> {
    fn new(
        call: &'a Call<'_>,
        gates: usize,
        suffix: &str,
        bias: &str,
        reverse: bool,
    ) -> Result<Self, String> {
        let x = call.tensor("x")?;
        let weight = call.tensor(&format!("weight_ih{suffix}"))?;
        let hidden = call.tensor(&format!("weight_hh{suffix}"))?;
        let fail = || {
            let (a, b, c) = (&x.shape, &weight.shape, &hidden.shape);
            format!("an input of shape {a:?}, weights of {b:?} and {c:?}")
        };
        let (&[steps, batch, input], &[rows, columns], &[gated, size]) =
            (&x.shape[..], &weight.shape[..], &hidden.shape[..])
        else {
            return Err(fail());
        };
        if columns != input || rows != gated || size.checked_mul(gates) != Some(gated) {
            return Err(fail());
        }
        let shape = [steps * batch, rows];
        let count = call.room(&shape)?;
        if count == 0 || input == 0 {
            return Err(fail());
        }
        let rows_of_x = [steps * batch, input];
        let turned = View {
            transposed: true,
            ..View::new(&weight.shape, call.floats(&format!("weight_ih{suffix}"))?)
        };
        let mut projected = call
            .engine
            .matmul(View::new(&rows_of_x, call.floats("x")?), turned)?;
        if let Some(bias) = call.optional_floats(bias)? {
            if bias.len() != rows {
                return Err(format!("a bias of {} for {rows}", bias.len()));
            }
            for row in projected.chunks_exact_mut(rows) {
                row.iter_mut()
                    .zip(bias)
                    .for_each(|(value, bias)| *value += bias);
            }
        }
        let hidden = call.floats(&format!("weight_hh{suffix}"))?;
        Ok(Self {
            sizes: [steps, batch, input, size],
            gates,
            projected,
            hidden: View {
                transposed: true,
                ..View::new(&call.tensor(&format!("weight_hh{suffix}"))?.shape, hidden)
            },
            reverse,
        })
    }

    /// The order in which the steps go.
    fn steps(&self) -> impl Iterator<Item = usize> {
        let (steps, reverse) = (self.sizes[0], self.reverse);
        (0..steps).map(move |i| if reverse { steps - 1 - i } else { i })
    }

    /// What the input adds to the gates at a step.
    fn projected(&self, step: usize) -> &[f32] {
        let [_, batch, _, size] = self.sizes;
        let row = batch * self.gates * size;
        &self.projected[step * row..(step + 1) * row]
    }

    /// Products of a hidden state and the hidden weights.
    fn recur(&self, call: &Call<'_>, state: &[f32]) -> Result<Vec<f32>, String> {
        let [_, batch, _, size] = self.sizes;
        call.engine
            .matmul(View::new(&[batch, size], state), self.hidden)
    }
}

/// A state at the beginning, as `[batch, directions * size]`; one direction of it.
fn initial(
    call: &Call<'_>,
    name: &str,
    [batch, size]: [usize; 2],
    direction: usize,
    directions: usize,
) -> Result<Vec<f32>, String> {
    let tensor = call.tensor(name)?;
    let values = call.floats(name)?;
    if tensor.shape != [batch, directions * size] {
        let shape = &tensor.shape;
        return Err(format!(
            "its `{name}` has shape {shape:?}, not [{batch}, {}]",
            directions * size
        ));
    }
    let rows = values.chunks_exact(directions * size);
    let rows = rows.flat_map(|row| &row[direction * size..(direction + 1) * size]);
    Ok(rows.copied().collect())
}

/// Sequence outputs of one or two directions, side by side; or of the last step only.
fn outputs(
    call: &Call<'_>,
    sequences: &[Vec<Vec<f32>>],
    [batch, size]: [usize; 2],
) -> Result<Vec<Tensor>, String> {
    let whole = call.bool("output_sequence", false)?;
    let directions = sequences.len();
    let steps = sequences[0].len();
    let first = if whole { 0 } else { steps - 1 };
    let mut values = Vec::new();
    for step in first..steps {
        for b in 0..batch {
            for (direction, sequence) in sequences.iter().enumerate() {
                // Both directions of a pair in the order of time; one alone as it went.
                let at = match direction == 1 && whole {
                    true => steps - 1 - step,
                    false => step,
                };
                values.extend_from_slice(&sequence[at][b * size..(b + 1) * size]);
            }
        }
    }
    let shape = vec![steps - first, batch, directions * size];
    Ok(vec![Tensor::new(shape, values)])
}

/// States at the end, side by side.
fn last(states: &[Vec<f32>], [batch, size]: [usize; 2]) -> Tensor {
    let mut values = Vec::with_capacity(states.len() * batch * size);
    for b in 0..batch {
        for state in states {
            values.extend_from_slice(&state[b * size..(b + 1) * size]);
        }
    }
    Tensor::new(vec![batch, states.len() * size], values)
}

fn is_reverse(call: &Call<'_>) -> Result<bool, String> {
    match call.text("direction", "forward")?.as_str() {
        "forward" => Ok(false),
        "reverse" => Ok(true),
        other => Err(format!("direction `{other}`")),
    }
}

fn rnn(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let f = activation(&call.text("activation", "tanh")?)?;
    let layer = Layer::new(call, 1, "", "bias", is_reverse(call)?)?;
    let [_, batch, _, size] = layer.sizes;
    let mut h = initial(call, "initial_h", [batch, size], 0, 1)?;
    let mut sequence = Vec::new();
    for step in layer.steps() {
        let recurrent = layer.recur(call, &h)?;
        let sums = layer.projected(step).iter().zip(&recurrent);
        h = sums.map(|(a, b)| f(a + b)).collect();
        sequence.push(h.clone());
    }
    let mut results = outputs(call, &[sequence], [batch, size])?;
    results.push(last(&[h], [batch, size]));
    Ok(results)
}

/// What a GRU adds to the products of the hidden state, if the input's do not have it already.
fn hidden_bias(call: &Call<'_>, input_bias: &str, len: usize) -> Result<Vec<f32>, String> {
    let bias = match input_bias {
        "bias" => None,
        _ => call.optional_floats("bias")?,
    };
    match bias {
        Some(bias) if bias.len() != len => Err(format!("a bias of {} for {len}", bias.len())),
        Some(bias) => Ok(bias.to_vec()),
        None => Ok(vec![0.0; len]),
    }
}

fn gru(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let inner = activation(&call.text("recurrent_activation", "sigmoid")?)?;
    let outer = activation(&call.text("activation", "tanh")?)?;
    let after = call.bool("reset_after", false)?;
    // Without an input bias of its own, `bias` belongs to the sum.
    let input_bias = match call.optional("input_bias") {
        Some(_) => "input_bias",
        None if after => "none",
        None => "bias",
    };
    let layer = Layer::new(call, 3, "", input_bias, is_reverse(call)?)?;
    let [_, batch, _, size] = layer.sizes;
    let hidden_bias = hidden_bias(call, input_bias, 3 * size)?;
    let mut h = initial(call, "initial_h", [batch, size], 0, 1)?;
    let mut sequence = Vec::new();
    for step in layer.steps() {
        let projected = layer.projected(step);
        let recurrent = layer.recur(call, &h)?;
        // Gates stand as reset, output, update.
        let gate = |gate: usize, b: usize, i: usize| {
            let at = b * 3 * size + gate * size + i;
            (projected[at], recurrent[at] + hidden_bias[gate * size + i])
        };
        let reset = |b: usize, i: usize| {
            let (x, h) = gate(0, b, i);
            inner(x + h)
        };
        let places = || (0..batch).flat_map(|b| (0..size).map(move |i| (b, i)));
        let candidate: Vec<f32> = match after {
            true => places()
                .map(|(b, i)| {
                    let (x, h) = gate(1, b, i);
                    outer(x + reset(b, i) * h)
                })
                .collect(),
            false => {
                let reset_h = places().map(|(b, i)| reset(b, i) * h[b * size + i]);
                let product = layer.recur(call, &reset_h.collect::<Vec<_>>())?;
                places()
                    .map(|(b, i)| {
                        let at = b * 3 * size + size + i;
                        outer(projected[at] + product[at] + hidden_bias[size + i])
                    })
                    .collect()
            }
        };
        let next = places().zip(&candidate).map(|((b, i), &o)| {
            let (x, hidden) = gate(2, b, i);
            let z = inner(x + hidden);
            (1.0 - z) * o + z * h[b * size + i]
        });
        h = next.collect();
        sequence.push(h.clone());
    }
    let mut results = outputs(call, &[sequence], [batch, size])?;
    results.push(last(&[h], [batch, size]));
    Ok(results)
}

/// One direction of an LSTM: all hidden states, and the last cell.
type Direction = (Vec<Vec<f32>>, Vec<f32>);

fn lstm(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let direction = call.text("direction", "forward")?;
    let ways: &[(&str, bool)] = match direction.as_str() {
        "forward" => &[("", false)],
        "reverse" => &[("", true)],
        "bidirectional" => &[("", false), ("_back", true)],
        other => return Err(format!("direction `{other}`")),
    };
    let (mut sequences, mut hidden, mut cells) = (Vec::new(), Vec::new(), Vec::new());
    let mut extent = [0, 0];
    for (i, &(suffix, reverse)) in ways.iter().enumerate() {
        let layer = Layer::new(call, 4, suffix, &format!("bias{suffix}"), reverse)?;
        let [_, batch, _, size] = layer.sizes;
        extent = [batch, size];
        let (sequence, cell) = lstm_direction(call, &layer, suffix, i, ways.len())?;
        hidden.push(sequence.last().cloned().unwrap_or_default());
        sequences.push(sequence);
        cells.push(cell);
    }
    let mut results = outputs(call, &sequences, extent)?;
    results.push(last(&hidden, extent));
    results.push(last(&cells, extent));
    Ok(results)
}

fn lstm_direction(
    call: &Call<'_>,
    layer: &Layer<'_>,
    suffix: &str,
    direction: usize,
    directions: usize,
) -> Result<Direction, String> {
    let inner = activation(&call.text("recurrent_activation", "sigmoid")?)?;
    let cell_act = activation(&call.text("cell_activation", "tanh")?)?;
    let outer = activation(&call.text("activation", "tanh")?)?;
    let clip = match call.optional("clip") {
        Some(_) => call.float("clip", 0.0)?.abs(),
        None => f32::INFINITY,
    };
    let [_, batch, _, size] = layer.sizes;
    let peephole = call.optional_floats(&format!("peephole{suffix}"))?;
    if let Some(peephole) = peephole.filter(|peephole| peephole.len() != 3 * size) {
        return Err(format!("a peephole of {} for {}", peephole.len(), 3 * size));
    }
    let peek = |gate: usize, i: usize| peephole.map_or(0.0, |weights| weights[gate * size + i]);
    let mut h = initial(call, "initial_h", [batch, size], direction, directions)?;
    let mut c = initial(call, "initial_c", [batch, size], direction, directions)?;
    let mut sequence = Vec::new();
    for step in layer.steps() {
        let projected = layer.projected(step);
        let recurrent = layer.recur(call, &h)?;
        for b in 0..batch {
            for i in 0..size {
                // Gates stand as input, forget, output, cell.
                let sum = |gate: usize| {
                    let at = b * 4 * size + gate * size + i;
                    projected[at] + recurrent[at]
                };
                let at = b * size + i;
                let old = c[at];
                let input = inner(sum(0) + peek(0, i) * old);
                let forget = inner(sum(1) + peek(1, i) * old);
                let cell = (forget * old + input * cell_act(sum(3))).clamp(-clip, clip);
                let output = inner(sum(2) + peek(2, i) * cell);
                c[at] = cell;
                h[at] = output * outer(cell);
            }
        }
        sequence.push(h.clone());
    }
    Ok((sequence, c))
}
