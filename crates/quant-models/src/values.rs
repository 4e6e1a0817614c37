//! What is said of values that cannot be quantized.

use quant_core::{Dialect, FloatType, Scheme};
use quant_simd::TensorQuantizer;

/// What to do about values too large or small. `wide` says whether the format can hold what the
/// wide dialect makes.
pub(crate) fn advice(quantizer: &TensorQuantizer, name: &str, wide: bool) -> String {
    let other = Scheme {
        dialect: Dialect::F32,
        ..quantizer.scheme
    };
    let exclude = format!(
        "leave the tensor in float with --exclude '^{}$'",
        regex::escape(name)
    );
    match quantizer.source != FloatType::F32 && other != quantizer.scheme {
        true if wide => "use --dialect wide".into(),
        true => exclude,
        false => format!("--dialect wide does not help here, {exclude}"),
    }
}

/// The index per axis of a row-major position.
pub(crate) fn position(mut flat: usize, shape: &[usize]) -> Vec<usize> {
    let mut position: Vec<usize> = shape
        .iter()
        .rev()
        .map(|&dim| {
            let index = flat % dim.max(1);
            flat /= dim.max(1);
            index
        })
        .collect();
    position.reverse();
    position
}
