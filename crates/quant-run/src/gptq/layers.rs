//! Samples that pass through a model side by side, operation by operation: a layer is quantized when
//! all samples have come to it, and what they get from it is that of the quantized layer.

use std::collections::{BTreeMap, HashSet};

use quant_models::GivenCodes;
use quant_models::quant_simd::TensorQuantizer;

use super::inputs::{LayerWeight, bytes_of_moments, floats, layer_weight};
use super::moments::Moments;
use super::solve::{Solved, WeightMatrix, solve_while};
use super::{Gptq, GptqLayer, GptqOptions};
use crate::interpreter::Interpreter;
use crate::memory::shown;
use crate::model::{Lane, Model};
use crate::plan::Step;
use crate::tensor::Tensor;
use crate::{Error, Quiet, Samples};

pub(super) struct Work<'w> {
    pub model: &'w mut Model,
    pub wanted: &'w BTreeMap<String, TensorQuantizer>,
    pub options: GptqOptions,
    pub go_on: &'w (dyn Fn() -> bool + Sync),
    /// Is told the bytes of each weight that is done.
    pub done: &'w dyn Fn(u64),
}

impl Work<'_> {
    pub fn run(&mut self, samples: &Samples) -> Result<Gptq, Error> {
        let mut lanes = Vec::new();
        while let Some(sample) = samples.read(lanes.len(), self.model.inputs())? {
            let given = sample.iter();
            let given: Vec<_> = given
                .map(|(name, it)| (name.as_str(), it.clone()))
                .collect();
            let lane = self
                .model
                .states()
                .and_then(|states| self.model.lane(&given, states));
            lanes.push(lane.map_err(|error| Error::at_sample(&samples.name(lanes.len()), error))?);
        }
        let mut found = Gptq {
            codes: GivenCodes::new("gptq"),
            layers: Vec::new(),
            left: Vec::new(),
        };
        let mut seen = HashSet::new();
        for index in 0..self.model.plan.block.steps.len() {
            if !(self.go_on)() {
                return Err(Error::Interrupted);
            }
            self.quantize(index, &mut lanes, &mut seen, &mut found)?;
            let mut bytes = self.model.kept.bytes();
            for (number, lane) in lanes.iter_mut().enumerate() {
                let done = self.model.resume(lane, &mut Quiet, |interpreter| {
                    interpreter.step(&interpreter.plan.block.steps[index])
                });
                done.map_err(|error| Error::at_sample(&samples.name(number), error))?;
                bytes = bytes.saturating_add(lane.bytes());
            }
            let most = self.model.options.memory;
            if bytes > most {
                return Err(Error::Value(format!(
                    "{} samples side by side take {} of values and weights, more than the {} that a run may take; give fewer samples, or allow more memory",
                    lanes.len(),
                    shown(bytes),
                    shown(most)
                )));
            }
        }
        for name in self.wanted.keys() {
            if !seen.contains(name) {
                let reason =
                    "no linear, conv or matmul outside of loops and branches multiplies by it";
                found.left.push((name.clone(), reason.into()));
            }
        }
        Ok(found)
    }

    /// Quantizes the weight of a step, if it has one that is to be quantized.
    fn quantize(
        &mut self,
        index: usize,
        lanes: &mut [Lane],
        seen: &mut HashSet<String>,
        found: &mut Gptq,
    ) -> Result<(), Error> {
        let plan = &self.model.plan;
        let Some(weight) = layer_weight(plan, &plan.block.steps[index]) else {
            return Ok(());
        };
        let own = &plan.names[weight.slot];
        let qualified = format!("{}/{own}", self.model.function());
        let names = [own, &qualified];
        let entry = names
            .iter()
            .find_map(|name| self.wanted.get_key_value(*name));
        let Some((name, quantizer)) = entry else {
            return Ok(());
        };
        if !seen.insert(name.clone()) {
            return Ok(());
        }
        match self.solved(index, weight, quantizer, lanes)? {
            Ok((tensor, solved)) => {
                (self.done)(tensor.len() as u64 * quantizer.source.size() as u64);
                found.layers.push(GptqLayer {
                    name: name.clone(),
                    loss: solved.loss,
                });
                found.codes.insert(name.clone(), solved.codes);
                self.model.replace(weight.slot, tensor);
            }
            Err(reason) => found.left.push((name.clone(), reason)),
        }
        Ok(())
    }

    /// A weight as its codes say, and these; or why it is rounded.
    fn solved(
        &self,
        index: usize,
        weight: LayerWeight,
        quantizer: &TensorQuantizer,
        lanes: &mut [Lane],
    ) -> Result<Result<(Tensor, Solved), String>, Error> {
        let mut sums: Option<(WeightMatrix, Moments)> = None;
        for lane in lanes.iter_mut() {
            if !(self.go_on)() {
                return Err(Error::Interrupted);
            }
            let added = self.model.resume(lane, &mut Quiet, |interpreter| {
                self.add(interpreter, index, weight, &mut sums)
            });
            if let Err(reason) = added {
                return Ok(Err(reason));
            }
        }
        let (Some((matrix, moments)), Some(lane)) = (sums, lanes.first_mut()) else {
            return Ok(Err("no samples".into()));
        };
        if moments.is_zero() {
            return Ok(Err("all of its inputs are 0 in the samples".into()));
        }
        let value = self.model.resume(lane, &mut Quiet, |interpreter| {
            let value = interpreter.value(weight.slot);
            interpreter.end_passing();
            value
        });
        let value = value.map_err(Error::Value)?;
        let Some(values) = floats(&value) else {
            return Ok(Err("its values are not all finite".into()));
        };
        let (options, go_on) = (self.options, self.go_on);
        let solved = match solve_while(quantizer, values, matrix, &moments, options, go_on) {
            Ok(Some(solved)) => solved,
            Ok(None) => return Err(Error::Interrupted),
            Err(reason) => return Ok(Err(reason)),
        };
        let tensor = Tensor::new(value.shape.clone(), solved.restored.clone());
        Ok(Ok((tensor.with_element(value.element), solved)))
    }

    /// Adds what one sample has for a layer.
    fn add(
        &self,
        interpreter: &mut Interpreter<'_, '_>,
        index: usize,
        weight: LayerWeight,
        sums: &mut Option<(WeightMatrix, Moments)>,
    ) -> Result<(), String> {
        let step: &Step = &interpreter.plan.block.steps[index];
        let arguments = interpreter.arguments(step, false)?;
        let call = interpreter.call(step, arguments, None);
        if sums.is_none() {
            let matrix = weight.matrix(&call)?;
            let (bytes, most) = (bytes_of_moments(matrix), self.model.options.memory / 2);
            if bytes > most {
                let inputs = matrix.inputs;
                return Err(format!(
                    "the moments of its {inputs} inputs take {}, more than half of the memory that a run may take",
                    shown(bytes)
                ));
            }
            *sums = Some((matrix, Moments::new(matrix.groups, matrix.inputs)));
        }
        let (matrix, moments) = sums.as_mut().expect("set above");
        weight.rows(&call, *matrix, &mut |group, rows| {
            // Who is ended asks again before the sums are used.
            if (self.go_on)() {
                moments.add(group, rows);
            }
        })?;
        drop(call);
        interpreter.end_passing();
        Ok(())
    }
}
