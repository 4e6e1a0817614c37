//! Tensors of a safetensors model in the form that both formats share.

use quant_model::stored::{Parts, TensorView};
use quant_model::{Error, Job};

use crate::{Model, Tensor};

impl Model {
    pub(crate) fn stored(&self, job: &Job<'_>) -> Result<Vec<TensorView<'_>>, Error> {
        let tensors = self.tensors_for(job)?;
        Ok(tensors.into_iter().map(Tensor::into_stored).collect())
    }
}

impl<'a> Tensor<'a> {
    pub(crate) fn into_stored(self) -> TensorView<'a> {
        let (shape, float) = (self.shape().to_vec(), self.float_type());
        let dtype = match &self.quantized {
            Some(quantized) => quantized.record.dtype.clone(),
            None => self.entry.dtype.clone(),
        };
        TensorView {
            path: self.file.path(),
            key: self.name.into(),
            name: self.name.into(),
            dtype,
            shape,
            float,
            bytes: self.file.data(self.entry),
            quantized: self.quantized.map(|quantized| {
                let bytes = quantized.scales.len() + quantized.zero_points.len();
                let (scales, zero_points) = (quantized.scales, quantized.zero_points);
                Parts::new(quantized.quantizer, scales, zero_points, bytes)
            }),
            blocks: None,
            consumers: Vec::new(),
            kind: None,
            others: Vec::new(),
        }
    }
}
