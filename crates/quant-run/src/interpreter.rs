//! Runs a plan, operation by operation.

use std::cell::Cell;
use std::sync::{Arc, OnceLock};

use quant_models::program::{ElementType, Variable};

use crate::call::{Call, Kernel};
use crate::engine::{Engine, Packed};
use crate::memory::{Budget, Kept};
use crate::plan::{Action, Input, Plan, PlanBlock, Slot, Source, Step, WEIGHT};
use crate::tensor::{Tensor, Values, bytes_of, decode, decoded_bytes};
use crate::weight_input::weight_input;
use crate::{Error, RunOptions, Watch};

/// A constant of at most so many bytes is always kept.
const SMALL: usize = 1 << 16;

/// One run of a plan.
pub(crate) struct Interpreter<'p, 'w> {
    pub plan: &'p Plan,
    pub options: &'p RunOptions,
    pub engine: &'p Engine,
    pub budget: Budget,
    pub slots: Vec<Option<Tensor>>,
    pub states: &'p mut Vec<Tensor>,
    pub watch: &'w mut dyn Watch,
    pub iterations: u64,
    /// The weights that stay in memory.
    pub kept: &'p Kept,
    /// Bytes of constants that only the operation at hand holds.
    pub passing: Cell<usize>,
}

impl Interpreter<'_, '_> {
    /// Runs the function; its inputs are in their slots.
    pub fn run(&mut self) -> Result<Vec<Tensor>, Error> {
        let plan = self.plan;
        self.block(&plan.block)?;
        let outputs = plan.block.outputs.iter().zip(&plan.output_names);
        outputs
            .map(|(&slot, name)| {
                self.value(slot)
                    .map_err(|problem| Error::Program(format!("output `{name}`: {problem}")))
            })
            .collect()
    }

    fn block(&mut self, block: &PlanBlock) -> Result<(), Error> {
        for step in &block.steps {
            if !self.watch.go_on() {
                return Err(Error::Interrupted);
            }
            self.step(step)?;
        }
        Ok(())
    }

    /// Computes the results of a step.
    pub fn step(&mut self, step: &Step) -> Result<(), Error> {
        let failed = |problem: String| Error::Operation {
            name: step.name.clone(),
            kind: step.kind.clone(),
            problem,
        };
        let results = match step.action {
            Action::Compute(kernel) => {
                let results = self.compute(step, kernel);
                self.end_passing();
                results.map_err(failed)?
            }
            Action::Cond => self.cond(step)?,
            Action::While => self.while_loop(step)?,
            Action::ReadState => {
                vec![self.states[self.state(step, &["input"]).map_err(failed)?].clone()]
            }
            Action::WriteState => self.write_state(step).map_err(failed)?,
        };
        if results.len() != step.slots.len() {
            let (have, want) = (results.len(), step.slots.len());
            return Err(failed(format!(
                "{have} results where the program has {want}"
            )));
        }
        for ((result, variable), &slot) in results.into_iter().zip(&step.outputs).zip(&step.slots) {
            let is_left = self.options.float_activations && is_float_of_codes(&result, variable);
            let mut result = match is_left {
                true => result,
                false => declared(result, variable).map_err(failed)?,
            };
            if self.options.round_f16 {
                result.round_to_f16();
            }
            self.watch
                .value(&step.kind, &step.name, &variable.name, &result)?;
            self.set(slot, result);
        }
        for &slot in &step.last_uses {
            self.free(slot);
        }
        Ok(())
    }

    fn compute(&mut self, step: &Step, kernel: Kernel) -> Result<Vec<Tensor>, String> {
        let packed = self.packed(step)?;
        let arguments = self.arguments(step, true)?;
        if self.watch.wants_weight_inputs()
            && let Some(input) = weight_input(self.plan, step, &arguments)
        {
            self.watch.weight_input(input)?;
        }
        match self.left_in_float(step, &arguments) {
            Some(value) => Ok(vec![value]),
            None => kernel(&mut self.call(step, arguments, packed)),
        }
    }

    /// Where a step's weight is packed, or may be; it has room.
    fn packed<'s>(&self, step: &'s Step) -> Result<Option<&'s OnceLock<Packed>>, String> {
        let Some(cell) = &step.packed else {
            return Ok(None);
        };
        if cell.get().is_none() {
            let weight = step.arguments.iter().find(|(name, _)| name == WEIGHT);
            let slot = weight.and_then(|(_, inputs)| match inputs[..] {
                [Input::Slot(slot)] => Some(slot),
                _ => None,
            });
            let bytes = slot.map_or(usize::MAX, |slot| self.constant_bytes(slot));
            self.budget.check(bytes)?;
            if !self.kept.take(bytes) {
                return Ok(None);
            }
            self.budget.take(bytes);
        }
        Ok(Some(cell))
    }

    /// Bytes of a constant's elements.
    fn constant_bytes(&self, slot: Slot) -> usize {
        match &self.plan.sources[slot] {
            Source::Constant(_, constant) => decoded_bytes(constant),
            Source::Folded(_, step, nth) => {
                let kind = step
                    .outputs
                    .get(*nth)
                    .and_then(|output| output.tensor.as_ref());
                kind.map_or(usize::MAX, bytes_of)
            }
            _ => usize::MAX,
        }
    }

    /// What an operation that quantizes an activation was given, where it is to be left as it is.
    fn left_in_float(&self, step: &Step, arguments: &[(&str, Vec<Tensor>)]) -> Option<Tensor> {
        if !self.options.float_activations
            || !["quantize", "dequantize"].contains(&step.kind.as_str())
        {
            return None;
        }
        let (_, values) = arguments.iter().find(|(name, _)| *name == "input")?;
        // Codes that no operation has left alone are codes.
        values
            .first()
            .filter(|value| value.floats().is_some())
            .cloned()
    }

    pub fn call<'a>(
        &'a self,
        step: &'a Step,
        arguments: Vec<(&'a str, Vec<Tensor>)>,
        packed: Option<&'a OnceLock<Packed>>,
    ) -> Call<'a> {
        Call {
            arguments,
            outputs: &step.outputs,
            engine: self.engine,
            budget: &self.budget,
            packed,
        }
    }

    /// The arguments of a step; values that end with it are given away, if `moves`.
    pub fn arguments<'s>(
        &mut self,
        step: &'s Step,
        moves: bool,
    ) -> Result<Vec<(&'s str, Vec<Tensor>)>, String> {
        let mut found = Vec::with_capacity(step.arguments.len());
        for (name, inputs) in &step.arguments {
            let mut values = Vec::with_capacity(inputs.len());
            let packed = step.packed.as_ref().filter(|_| name == WEIGHT);
            for input in inputs {
                values.push(match (input, packed) {
                    (Input::Slot(slot), Some(cell)) => match cell.get() {
                        Some(packed) => packed.stand_in(),
                        // Its packed form is what stays.
                        None => self.once(*slot)?,
                    },
                    (Input::Slot(slot), None) => self.value(*slot)?,
                    (Input::Value(value), _) => value.clone(),
                });
            }
            found.push((name.as_str(), values));
        }
        if moves {
            // Arguments keep the values alive; the slots need not, so that they can change in place.
            for &slot in &step.last_uses {
                if !step.slots.contains(&slot) {
                    self.free(slot);
                }
            }
        }
        Ok(found)
    }

    /// The value in a place.
    pub fn value(&self, slot: Slot) -> Result<Tensor, String> {
        match &self.plan.sources[slot] {
            Source::Computed => self.slots[slot]
                .clone()
                .ok_or_else(|| "a value is used where it is not computed".into()),
            Source::Constant(cell, _) | Source::Folded(cell, ..) => {
                if let Some(tensor) = cell.get() {
                    return Ok(tensor.clone());
                }
                let tensor = self.decoded(slot)?;
                let (bytes, _) = tensor.values.extent();
                if bytes <= SMALL || self.kept.take(bytes) {
                    self.budget.take(bytes);
                    // Another thread may have been faster; then its value is as good.
                    let _ = cell.set(tensor.clone());
                } else {
                    self.hold(bytes);
                }
                Ok(tensor)
            }
            Source::State(_) => Err("a state is used without being read".into()),
        }
    }

    /// A constant that is not kept for another use.
    fn once(&self, slot: Slot) -> Result<Tensor, String> {
        match &self.plan.sources[slot] {
            Source::Constant(cell, _) | Source::Folded(cell, ..) if cell.get().is_none() => {
                let tensor = self.decoded(slot)?;
                self.hold(tensor.values.extent().0);
                Ok(tensor)
            }
            _ => self.value(slot),
        }
    }

    /// Counts bytes until the operation at hand is done.
    fn hold(&self, bytes: usize) {
        self.budget.take(bytes);
        self.passing.set(self.passing.get().saturating_add(bytes));
    }

    /// Gives up the constants that only the operation at hand held.
    pub fn end_passing(&self) {
        self.budget.give_back(self.passing.take());
    }

    fn decoded(&self, slot: Slot) -> Result<Tensor, String> {
        match &self.plan.sources[slot] {
            Source::Constant(_, constant) => {
                self.budget.check(decoded_bytes(constant))?;
                decode(constant)
            }
            Source::Folded(_, step, nth) => self.fold(step, *nth),
            _ => Err("no constant".into()),
        }
    }

    /// A result of an operation on constants.
    fn fold(&self, step: &Arc<Step>, nth: usize) -> Result<Tensor, String> {
        let Action::Compute(kernel) = step.action else {
            return Err("control flow on constants".into());
        };
        let mut arguments = Vec::with_capacity(step.arguments.len());
        for (name, inputs) in &step.arguments {
            let values = inputs.iter().map(|input| match input {
                Input::Slot(slot) => match self.plan.sources[*slot] {
                    Source::Computed => Err(format!("its `{name}` is no constant")),
                    _ => self.once(*slot),
                },
                Input::Value(value) => Ok(value.clone()),
            });
            arguments.push((name.as_str(), values.collect::<Result<Vec<_>, String>>()?));
        }
        let mut results = kernel(&mut self.call(step, arguments, None))?;
        if nth >= results.len() {
            return Err("too few results".into());
        }
        let mut result = declared(results.swap_remove(nth), &step.outputs[nth])?;
        if self.options.round_f16 {
            result.round_to_f16();
        }
        Ok(result)
    }

    fn set(&mut self, slot: Slot, value: Tensor) {
        self.free(slot);
        self.budget.add(&value);
        self.slots[slot] = Some(value);
    }

    fn free(&mut self, slot: Slot) {
        if let Some(value) = self.slots[slot].take() {
            self.budget.remove(&value);
        }
    }

    /// Gives an input to the function.
    pub fn give(&mut self, slot: Slot, value: Tensor) {
        self.set(slot, value);
    }

    fn cond(&mut self, step: &Step) -> Result<Vec<Tensor>, Error> {
        let failed = |problem: String| operation_error(step, problem);
        let arguments = self.arguments(step, false).map_err(failed)?;
        let pred = self.call(step, arguments, None).bool("pred", false);
        let [yes, no] = step.blocks.as_slice() else {
            return Err(failed("a condition without two blocks".into()));
        };
        let block = if pred.map_err(failed)? { yes } else { no };
        self.block(block)?;
        self.take_outputs(block).map_err(failed)
    }

    fn while_loop(&mut self, step: &Step) -> Result<Vec<Tensor>, Error> {
        let failed = |problem: String| operation_error(step, problem);
        let [condition, body] = step.blocks.as_slice() else {
            return Err(failed("a loop without two blocks".into()));
        };
        // What the body uses from outside must stay.
        let mut arguments = self.arguments(step, false).map_err(failed)?;
        let mut variables = match arguments.iter_mut().find(|(name, _)| *name == "loop_vars") {
            Some((_, values)) => std::mem::take(values),
            None => return Err(failed("its input `loop_vars` is missing".into())),
        };
        drop(arguments);
        loop {
            for block in [condition, body] {
                if block.inputs.len() != variables.len() {
                    return Err(failed("its blocks have other inputs than the loop".into()));
                }
            }
            for (&slot, value) in condition.inputs.iter().zip(&variables) {
                self.set(slot, value.clone());
            }
            self.block(condition)?;
            let goes_on = self.take_outputs(condition).map_err(failed)?;
            condition.inputs.iter().for_each(|&slot| self.free(slot));
            match goes_on.as_slice() {
                [one] if one.bools() == Some(&[true]) => {}
                [one] if one.bools() == Some(&[false]) => return Ok(variables),
                _ => return Err(failed("its condition is not one truth value".into())),
            }
            self.iterations += 1;
            if self.iterations > self.options.max_iterations {
                return Err(failed(format!(
                    "the loops of the model went round more than {} times; allow more iterations",
                    self.options.max_iterations
                )));
            }
            for (&slot, value) in body.inputs.iter().zip(std::mem::take(&mut variables)) {
                self.set(slot, value);
            }
            self.block(body)?;
            variables = self.take_outputs(body).map_err(failed)?;
            body.inputs.iter().for_each(|&slot| self.free(slot));
        }
    }

    /// The results of a block, and an end to its values.
    fn take_outputs(&mut self, block: &PlanBlock) -> Result<Vec<Tensor>, String> {
        let outputs = block.outputs.iter().map(|&slot| self.value(slot));
        let outputs = outputs.collect::<Result<Vec<_>, _>>()?;
        for step in &block.steps {
            step.slots.iter().for_each(|&slot| self.free(slot));
        }
        Ok(outputs)
    }

    /// The number of the state that is bound to one of the inputs named.
    fn state(&self, step: &Step, names: &[&str]) -> Result<usize, String> {
        let inputs = step.arguments.iter();
        let mut inputs = inputs.filter(|(name, _)| names.contains(&name.as_str()));
        match inputs.next().map(|(_, inputs)| inputs.as_slice()) {
            Some([Input::Slot(slot)]) => match self.plan.sources[*slot] {
                Source::State(nth) => Ok(nth),
                _ => Err("what it reads or writes is no state".into()),
            },
            _ => Err(format!("its input `{}` is missing", names[0])),
        }
    }

    fn write_state(&mut self, step: &Step) -> Result<Vec<Tensor>, String> {
        let nth = self.state(step, &["input", "state"])?;
        let inputs = step.arguments.iter();
        let mut inputs = inputs.filter(|(name, _)| ["data", "value"].contains(&name.as_str()));
        let value = match inputs.next().map(|(_, inputs)| inputs.as_slice()) {
            Some([Input::Slot(slot)]) => self.value(*slot)?,
            Some([Input::Value(value)]) => value.clone(),
            _ => return Err("its input `data` is missing".into()),
        };
        let old = &mut self.states[nth];
        if old.shape != value.shape {
            let (have, want) = (&value.shape, &old.shape);
            return Err(format!("a value of shape {have:?} for a state of {want:?}"));
        }
        self.budget.remove(old);
        self.budget.add(&value);
        *old = value.clone();
        Ok(match step.slots.is_empty() {
            true => Vec::new(),
            false => vec![value],
        })
    }
}

fn operation_error(step: &Step, problem: String) -> Error {
    Error::Operation {
        name: step.name.clone(),
        kind: step.kind.clone(),
        problem,
    }
}

/// Whether a value is still of floats, where the program says codes.
fn is_float_of_codes(value: &Tensor, variable: &Variable) -> bool {
    let kind = variable.tensor.as_ref().map(|kind| kind.element);
    let is_code = matches!(kind, Some(ElementType::Int(8) | ElementType::Uint(8)));
    is_code && value.floats().is_some()
}

/// A value with the type that the program declares for it.
fn declared(mut value: Tensor, variable: &Variable) -> Result<Tensor, String> {
    let Some(kind) = &variable.tensor else {
        return Ok(value);
    };
    use ElementType::{Bool, Float16, Float32, Float64, Int, String, Uint};
    let fits = matches!(
        (kind.element, &value.values),
        (Float16 | Float32 | Float64, Values::Float(_))
            | (Int(_) | Uint(_), Values::Int(_))
            | (Bool, Values::Bool(_))
            | (String, Values::Text(_))
    );
    if !fits {
        return Err(format!(
            "its result is {}, where the program says {}",
            value.element, kind.element
        ));
    }
    value.element = kind.element;
    Ok(value)
}
