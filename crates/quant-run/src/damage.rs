//! What quantized weights do to a model's outputs.

use quant_models::quant_simd::TensorQuantizer;

use crate::gptq::rounded;
use crate::plan::Slot;
use crate::tensor::Tensor;
use crate::{Error, Model, Quiet, Samples, Watch};

/// A model, its samples, and what it answers as it is: what [`of`](Self::of) compares with.
pub struct Damage<'m> {
    model: &'m mut Model,
    samples: Vec<Vec<(String, Tensor)>>,
    /// Per sample and output.
    answers: Vec<Vec<Vec<f32>>>,
    go_on: &'m (dyn Fn() -> bool + Sync),
}

impl std::fmt::Debug for Damage<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Damage");
        shown.field("model", &self.model);
        shown
            .field("samples", &self.samples.len())
            .finish_non_exhaustive()
    }
}

/// Asks whether the run is to go on.
struct Going<'g>(&'g (dyn Fn() -> bool + Sync));

impl Watch for Going<'_> {
    fn value(
        &mut self,
        kind: &str,
        operation: &str,
        name: &str,
        value: &Tensor,
    ) -> Result<(), Error> {
        Quiet.value(kind, operation, name, value)
    }

    fn go_on(&mut self) -> bool {
        (self.0)()
    }
}

impl<'m> Damage<'m> {
    /// Runs all samples once; they stay in memory, as the answers do.
    ///
    /// # Errors
    /// What [`Model::run`] and [`Samples::read`] say; outputs that are not numbers.
    pub fn new(
        model: &'m mut Model,
        samples: &Samples,
        go_on: &'m (dyn Fn() -> bool + Sync),
    ) -> Result<Self, Error> {
        let mut damage = Self {
            model,
            samples: Vec::new(),
            answers: Vec::new(),
            go_on,
        };
        while let Some(sample) = samples.read(damage.samples.len(), damage.model.inputs())? {
            let index = damage.samples.len();
            let answers = damage.answers(&sample);
            let answers = answers.map_err(|error| Error::at_sample(&samples.name(index), error))?;
            damage.answers.push(answers);
            damage.samples.push(sample);
        }
        Ok(damage)
    }

    fn answers(&self, sample: &[(String, Tensor)]) -> Result<Vec<Vec<f32>>, Error> {
        let given: Vec<_> = sample
            .iter()
            .map(|(name, it)| (name.as_str(), it.clone()))
            .collect();
        let mut states = self.model.states()?;
        let outputs = self
            .model
            .run(&given, &mut states, &mut Going(self.go_on))?;
        let outputs = outputs.iter().map(|(_, output)| output.to_floats());
        outputs.collect::<Result<_, _>>().map_err(Error::Value)
    }

    /// The squared error of the outputs by their squares, the mean of all outputs, where these weights
    /// alone are quantized so, with at most so many samples; `None` if the function has none of them. It is
    /// infinite where an output is not finite any more.
    ///
    /// # Errors
    /// As [`new`](Self::new); a weight that cannot be quantized.
    pub fn of(
        &mut self,
        weights: &[(&str, &TensorQuantizer)],
        samples: usize,
    ) -> Result<Option<f64>, Error> {
        let mut replaced = Vec::new();
        let all = weights.iter().try_for_each(|&(weight, quantizer)| {
            if let Some((slot, before, restored)) = self.restored(weight, quantizer)? {
                self.model.replace(slot, restored);
                replaced.push((slot, before));
            }
            Ok(())
        });
        let error = match (all, replaced.is_empty()) {
            (Err(error), _) => Err(error),
            (Ok(()), true) => Ok(None),
            (Ok(()), false) => self.error(samples).map(Some),
        };
        for (slot, before) in replaced {
            self.model.replace(slot, before);
        }
        error
    }

    /// Where a weight stands, as it is, and as its codes restore it.
    fn restored(
        &self,
        weight: &str,
        quantizer: &TensorQuantizer,
    ) -> Result<Option<(Slot, Tensor, Tensor)>, Error> {
        let Some(slot) = self.model.constant(weight) else {
            return Ok(None);
        };
        let value = self.model.constant_value(slot)?;
        let Some(values) = value.floats() else {
            return Ok(None);
        };
        let small = rounded(quantizer, values).and_then(|small| {
            let restored = small.dequantize::<f32>();
            restored.map_err(|error| error.to_string())
        });
        let restored = small.map_err(|problem| Error::Value(format!("`{weight}`: {problem}")))?;
        let restored = Tensor::new(value.shape.clone(), restored).with_element(value.element);
        Ok(Some((slot, value, restored)))
    }

    fn error(&self, samples: usize) -> Result<f64, Error> {
        let mut sums: Vec<(f64, f64)> = Vec::new();
        let samples = self.samples.iter().zip(&self.answers).take(samples);
        for (sample, answers) in samples {
            for (output, (now, before)) in self.answers(sample)?.iter().zip(answers).enumerate() {
                if sums.len() <= output {
                    sums.push((0.0, 0.0));
                }
                let (noise, signal) = &mut sums[output];
                for (&now, &before) in now.iter().zip(before) {
                    let (now, before) = (f64::from(now), f64::from(before));
                    // What is infinite in both does not differ.
                    if now != before {
                        *noise += (now - before) * (now - before);
                    }
                    *signal += before * before;
                }
            }
        }
        let errors = sums.iter().map(|&(noise, signal)| match noise == 0.0 {
            true => 0.0,
            false => noise / signal,
        });
        let mean = errors.sum::<f64>() / sums.len().max(1) as f64;
        Ok(if mean.is_nan() { f64::INFINITY } else { mean })
    }
}
