//! Small models.

use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::TensorView;

/// A tensor's name, type, shape and bytes.
pub type Tensor = (&'static str, Dtype, Vec<usize>, Vec<u8>);

pub fn f32(name: &'static str, shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    let value = |i: usize| ((i * 7919) % 1009) as f32 / 500.0 - 1.0;
    let bytes = (0..count).flat_map(|i| value(i).to_le_bytes());
    (name, Dtype::F32, shape.to_vec(), bytes.collect())
}

/// A tensor of a type whose values do not matter.
pub fn bytes(name: &'static str, dtype: Dtype, shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    let len = count * dtype.bitsize() / 8;
    (
        name,
        dtype,
        shape.to_vec(),
        (0..len).map(|i| (i % 61) as u8).collect(),
    )
}

pub fn write(path: &Path, tensors: &[Tensor]) {
    let views = tensors.iter().map(|(name, dtype, shape, data)| {
        (*name, TensorView::new(*dtype, shape.clone(), data).unwrap())
    });
    let bytes = safetensors::serialize(views, None).unwrap();
    std::fs::write(path, bytes).unwrap();
}
