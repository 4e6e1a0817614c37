//! A net with one hidden layer, whose weights and activations may be quantized as it is trained.

use quant_core::observer::{Averaging, MovingAverage};
use quant_core::{ActivationRule, FloatType, IntType, Mode, Params, Scheme};
use quant_simd::Backend;

use crate::fake_quantize;

/// Hidden neurons.
const HIDDEN: usize = 16;
/// Inputs: two coordinates and 1.
pub const INPUTS: usize = 3;

/// Weights: 4 bits, one scale per layer.
const WEIGHTS: Scheme = Scheme::new(IntType::Int4, Mode::Symmetric);
/// Activations: 8 bits, of what ReLU leaves.
const ACTIVATIONS: Scheme = Scheme::new(IntType::Uint8, Mode::Affine);

/// The net, and the range that its hidden activations have on average.
#[derive(Clone)]
pub struct Net {
    hidden: Vec<f32>,
    output: Vec<f32>,
    range: MovingAverage,
}

/// What a batch made of the net.
struct Pass {
    hidden: Vec<f32>,
    output: Vec<f32>,
    before_relu: Vec<f32>,
    activations: Vec<f32>,
    quantized: Vec<f32>,
    logits: Vec<f32>,
}

/// Examples: [`INPUTS`] numbers each, and whether it is one of the class.
pub struct Batch {
    pub inputs: Vec<f32>,
    pub labels: Vec<bool>,
}

impl Net {
    /// With weights that look random.
    pub fn new(mut random: impl FnMut() -> f32) -> Self {
        Self {
            hidden: (0..HIDDEN * INPUTS).map(|_| 2.0 * random()).collect(),
            output: (0..HIDDEN).map(|_| random()).collect(),
            range: MovingAverage::new(Averaging::TORCH).expect("torch's constant"),
        }
    }

    fn weight_params(weights: &[f32]) -> Params {
        let range = Backend::detect().range(weights);
        let params = WEIGHTS.params(&range, FloatType::F32);
        params.expect("finite weights")
    }

    fn activation_params(&self) -> Params {
        let range = self.range.range().expect("a batch was observed");
        let (dtype, mode) = (ACTIVATIONS.dtype, ACTIVATIONS.mode);
        let params = ActivationRule::Torch.params(&range, dtype, mode, FloatType::F32);
        params.expect("finite activations")
    }

    /// The net's outputs; weights and activations quantized and back, or as they are.
    fn pass(&self, inputs: &[f32], quantized: bool) -> Pass {
        let weights = |weights: &[f32]| {
            let mut dequantized = weights.to_vec();
            if quantized {
                let params = Self::weight_params(weights);
                fake_quantize::forward(weights, WEIGHTS, params, &mut dequantized);
            }
            dequantized
        };
        let (hidden, output) = (weights(&self.hidden), weights(&self.output));
        let rows = inputs.chunks_exact(INPUTS);
        let before_relu: Vec<f32> = rows
            .flat_map(|row| hidden.chunks_exact(INPUTS).map(|neuron| dot(row, neuron)))
            .collect();
        let activations: Vec<f32> = before_relu.iter().map(|value| value.max(0.0)).collect();
        let mut dequantized = activations.clone();
        if quantized {
            let params = self.activation_params();
            fake_quantize::forward(&activations, ACTIVATIONS, params, &mut dequantized);
        }
        let logits = dequantized
            .chunks_exact(HIDDEN)
            .map(|row| dot(row, &output))
            .collect();
        Pass {
            hidden,
            output,
            before_relu,
            activations,
            quantized: dequantized,
            logits,
        }
    }

    /// Lets the observer of the activations see a batch.
    pub fn observe(&mut self, batch: &Batch) {
        let activations = self.pass(&batch.inputs, false).activations;
        self.range
            .observe_found(&Backend::detect().min_max(&activations));
        self.range.end_sample();
    }

    /// One step of gradient descent on the mean of `ln(1 + exp(-y * logit))`. Quantization in the
    /// pass counts in the gradients as [`fake_quantize::backward`] says.
    pub fn step(&mut self, batch: &Batch, rate: f32, quantized: bool) {
        let pass = self.pass(&batch.inputs, quantized);
        let count = batch.labels.len() as f32;
        let mut of_output = vec![0.0; HIDDEN];
        let mut of_activations = vec![0.0; pass.activations.len()];
        for (i, (&logit, &label)) in pass.logits.iter().zip(&batch.labels).enumerate() {
            let of_logit = (1.0 / (1.0 + (-logit).exp()) - f32::from(label)) / count;
            let row = i * HIDDEN..(i + 1) * HIDDEN;
            add_scaled(&pass.quantized[row.clone()], of_logit, &mut of_output);
            add_scaled(&pass.output, of_logit, &mut of_activations[row]);
        }
        if quantized {
            let params = self.activation_params();
            fake_quantize::backward(&pass.activations, ACTIVATIONS, params, &mut of_activations);
        }
        let mut of_hidden = vec![0.0; pass.hidden.len()];
        for (i, row) in batch.inputs.chunks_exact(INPUTS).enumerate() {
            for neuron in 0..HIDDEN {
                if pass.before_relu[i * HIDDEN + neuron] > 0.0 {
                    let weights = neuron * INPUTS..(neuron + 1) * INPUTS;
                    let gradient = of_activations[i * HIDDEN + neuron];
                    add_scaled(row, gradient, &mut of_hidden[weights]);
                }
            }
        }
        for (weights, mut gradient) in
            [(&mut self.hidden, of_hidden), (&mut self.output, of_output)]
        {
            if quantized {
                let params = Self::weight_params(weights);
                fake_quantize::backward(weights, WEIGHTS, params, &mut gradient);
            }
            add_scaled(&gradient, -rate, weights);
        }
    }

    /// How many examples of a hundred are on the right side.
    pub fn accuracy(&self, batch: &Batch, quantized: bool) -> f64 {
        let logits = self.pass(&batch.inputs, quantized).logits;
        let right = logits.iter().zip(&batch.labels);
        let right = right.filter(|&(&logit, &label)| (logit > 0.0) == label);
        100.0 * right.count() as f64 / batch.labels.len() as f64
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add_scaled(from: &[f32], factor: f32, to: &mut [f32]) {
    for (from, to) in from.iter().zip(to) {
        *to += factor * from;
    }
}
