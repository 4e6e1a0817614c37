//! Quantization of activations.

use quant_models::program::ElementType;

use super::Table;
use super::cast::named;
use crate::call::{Call, result};
use crate::index::{axis, split_at};
use crate::tensor::Tensor;

pub(super) const TABLE: Table = &[("dequantize", dequantize), ("quantize", quantize)];

/// A scale and a zero point per element of an axis; elements after that axis.
struct Parameters {
    scales: Vec<f32>,
    zeros: Vec<f32>,
    inner: usize,
}

impl Parameters {
    fn read(call: &Call<'_>, x: &Tensor) -> Result<Self, String> {
        let scales = call.tensor("scale")?.to_floats()?;
        let zeros = match call.optional("zero_point") {
            Some(zeros) => zeros.to_floats()?,
            None => vec![0.0; scales.len()],
        };
        let (count, inner) = match call.tensor("scale")?.rank() {
            0 => (1, x.len().max(1)),
            _ => {
                let at = axis(call.int("axis", 0)?, x.rank())?;
                let (_, count, inner) = split_at(&x.shape, at);
                (count, inner.max(1))
            }
        };
        let fits = |len: usize| len == count || len == 1;
        if !fits(scales.len()) || !fits(zeros.len()) {
            let (a, b) = (scales.len(), zeros.len());
            return Err(format!(
                "{a} scales and {b} zero points for {count} channels"
            ));
        }
        Ok(Self {
            scales,
            zeros,
            inner,
        })
    }

    fn each(&self, values: &mut [f32], f: impl Fn(f32, f32, f32) -> f32) {
        for (i, row) in values.chunks_mut(self.inner).enumerate() {
            let scale = self.scales[i % self.scales.len()];
            let zero = self.zeros[i % self.zeros.len()];
            row.iter_mut()
                .for_each(|value| *value = f(*value, scale, zero));
        }
    }
}

fn quantize(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let x = call.tensor("input")?;
    let parameters = Parameters::read(call, x)?;
    let (low, high) = match named(&call.text("output_dtype", "int8")?)? {
        ElementType::Int(8) => (-128.0, 127.0),
        ElementType::Uint(8) => (0.0, 255.0),
        other => return Err(format!("codes of {other}")),
    };
    call.room(&x.shape)?;
    let shape = x.shape.clone();
    let mut values = call.take("input")?.into_floats()?;
    parameters.each(&mut values, |value, scale, zero| {
        ((value / scale).round_ties_even() + zero).clamp(low, high)
    });
    let codes: Vec<i32> = values.iter().map(|&value| value as i32).collect();
    result(shape, codes)
}

fn dequantize(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let x = call.tensor("input")?;
    let parameters = Parameters::read(call, x)?;
    call.room(&x.shape)?;
    let mut values = x.to_floats()?;
    parameters.each(&mut values, |value, scale, zero| scale * (value - zero));
    result(x.shape.clone(), values)
}
