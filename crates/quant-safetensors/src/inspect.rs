//! Tensors of a safetensors model in the form that both formats share.

use std::collections::HashMap;

use quant_model::stored::{Parts, TensorView};
use quant_model::{Error, Job};

use crate::{Model, Tensor};

impl Model {
    pub(crate) fn stored(&self, job: &Job<'_>) -> Result<Vec<TensorView<'_>>, Error> {
        let foreign = self.foreign(job)?;
        // What the model says of a tensor says more than its name.
        let unread = foreign.iter().chain(self.unread());
        let unread = unread.map(|one| (one.name.as_str(), &one.problem));
        let unread: HashMap<&str, &String> = unread.collect();
        let tensors = self.tensors_for(job)?.into_iter().map(|tensor| {
            let problem = unread.get(tensor.name);
            let kind = problem.map(|problem| format!("quantized, and not read: {problem}"));
            TensorView {
                kind,
                ..tensor.into_stored()
            }
        });
        Ok(tensors.collect())
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
                let bytes = quantized.bytes_beside;
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
