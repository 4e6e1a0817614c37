//! GPTQ (Frantar, Ashkboos, Hoefler and Alistarh, 2022): a layer's weights are quantized one input after
//! the other, and what each of them loses is made up for by those that follow, as the second moments of
//! the layer's inputs say.
//!
//! Figures are f64, and the same for any number of threads. They are no part of the promise of the same
//! bytes on every machine: products of matrices add up in an order that depends on the processor.

mod inputs;
mod layers;
mod linear;
mod moments;
mod solve;

use std::collections::BTreeMap;

use quant_models::GivenCodes;
use quant_models::quant_simd::TensorQuantizer;

pub use moments::{Moments, MomentsError};
pub(crate) use solve::rounded;
pub use solve::{Solved, WeightMatrix, solve, solve_while};

use crate::{Error, Model, Samples};

/// How codes are found.
///
/// ```
/// let options = quant_run::GptqOptions::default().with_by_size(true);
/// assert_eq!((options.damping, options.by_size), (0.01, true));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct GptqOptions {
    /// What is added to the diagonal of the inputs' second moments, as a part of its mean.
    pub damping: f64,
    /// Whether inputs are quantized in the order of their mean squares, the largest first.
    pub by_size: bool,
}

impl Default for GptqOptions {
    /// A damping of 0.01, in the order of the inputs.
    fn default() -> Self {
        Self {
            damping: 0.01,
            by_size: false,
        }
    }
}

impl GptqOptions {
    quant_models::quant_core::setters! {
        with_damping damping: f64,
        with_by_size by_size: bool,
    }
}

/// A layer that is quantized.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct GptqLayer {
    /// The name of its weight.
    pub name: String,
    /// The squared error of its outputs with damped moments: by rounding, and by these codes.
    pub loss: (f64, f64),
}

/// What [`gptq`] finds.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Gptq {
    /// Codes, for [`QuantizeOptions::codes`](quant_models::QuantizeOptions::codes).
    pub codes: GivenCodes,
    /// The layers that have codes, in the order of the program.
    pub layers: Vec<GptqLayer>,
    /// Weights that have none and are rounded, and why.
    pub left: Vec<(String, String)>,
}

/// Codes of a model's weights, layer by layer, for the scales and zero points that `wanted` says: those
/// that [`visit_quantized`](quant_models::visit_quantized) shows.
///
/// All samples pass through the model side by side, once. A layer's second moments are those of what the
/// layers before it give once they are quantized. Values of all samples are in memory at a time, as far
/// as an operation still needs them. Afterwards `model` has the quantized weights.
///
/// `go_on` is asked between operations and within long ones, `done` is told the bytes of each weight.
///
/// # Errors
/// What [`Model::run`] and [`Samples::read`] say; more memory than a run may take.
pub fn gptq(
    model: &mut Model,
    samples: &Samples,
    wanted: &BTreeMap<String, TensorQuantizer>,
    options: GptqOptions,
    go_on: &(dyn Fn() -> bool + Sync),
    done: &dyn Fn(u64),
) -> Result<Gptq, Error> {
    let mut work = layers::Work {
        model,
        wanted,
        options,
        go_on,
        done,
    };
    work.run(samples)
}
