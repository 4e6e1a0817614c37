//! The program made ready: names as numbers, operations as functions, and where values end.

use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;

use quant_models::program::{Argument, Block, Constant, Function, Operation, Variable};

use crate::Error;
use crate::call::Kernel;
use crate::engine::Packed;
use crate::ops;
use crate::tensor::{Tensor, decode};

/// The argument that may be packed.
pub(crate) const WEIGHT: &str = "weight";

/// A place for a value.
pub(crate) type Slot = usize;

/// A function, ready to run.
#[derive(Debug)]
pub(crate) struct Plan {
    pub inputs: Vec<(Slot, Variable)>,
    pub states: Vec<Variable>,
    pub block: PlanBlock,
    pub output_names: Vec<String>,
    /// Where the value of each slot comes from.
    pub sources: Vec<Source>,
    /// The name of each slot.
    pub names: Vec<String>,
}

#[derive(Debug)]
pub(crate) enum Source {
    /// An input, or what an operation computes.
    Computed,
    /// A constant, decoded when it is first needed.
    Constant(OnceLock<Tensor>, Box<Constant>),
    /// A result of an operation on constants, likewise.
    Folded(OnceLock<Tensor>, std::sync::Arc<Step>, usize),
    /// The nth state.
    State(usize),
}

#[derive(Debug)]
pub(crate) struct PlanBlock {
    pub inputs: Vec<Slot>,
    pub outputs: Vec<Slot>,
    pub steps: Vec<Step>,
}

#[derive(Debug)]
pub(crate) struct Step {
    pub kind: String,
    pub name: String,
    pub action: Action,
    pub arguments: Vec<(String, Vec<Input>)>,
    pub outputs: Vec<Variable>,
    pub slots: Vec<Slot>,
    pub blocks: Vec<PlanBlock>,
    /// Values that nobody needs afterwards.
    pub last_uses: Vec<Slot>,
    /// Of an operation whose weight is a constant of its own: the packed weight, once there is one.
    pub packed: Option<OnceLock<Packed>>,
}

#[derive(Clone, Copy)]
pub(crate) enum Action {
    Compute(Kernel),
    Cond,
    While,
    ReadState,
    WriteState,
}

impl std::fmt::Debug for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Compute(_) => "Compute",
            Self::Cond => "Cond",
            Self::While => "While",
            Self::ReadState => "ReadState",
            Self::WriteState => "WriteState",
        })
    }
}

#[derive(Debug)]
pub(crate) enum Input {
    Slot(Slot),
    Value(Tensor),
}

/// Operations that only have meaning for whoever shows the model's answer.
fn action(kind: &str) -> Option<Action> {
    Some(match kind {
        "cond" => Action::Cond,
        "while_loop" => Action::While,
        "read_state" => Action::ReadState,
        "write_state" | "coreml_update_state" => Action::WriteState,
        _ => Action::Compute(ops::find(kind)?),
    })
}

/// Kinds that nothing here computes, with their counts.
pub(crate) fn unsupported(function: &Function) -> Vec<(String, usize)> {
    fn visit(block: &Block, found: &mut BTreeMap<String, usize>) {
        for operation in &block.operations {
            if operation.kind != "const" && action(&operation.kind).is_none() {
                *found.entry(operation.kind.clone()).or_default() += 1;
            }
            operation
                .blocks
                .iter()
                .for_each(|block| visit(block, found));
        }
    }
    let mut found = BTreeMap::new();
    visit(&function.block, &mut found);
    found.into_iter().collect()
}

impl Plan {
    /// Makes a function ready.
    pub fn new(function: &Function) -> Result<Self, Error> {
        let unsupported = unsupported(function);
        if !unsupported.is_empty() {
            return Err(Error::Unsupported(unsupported));
        }
        let mut builder = Builder::default();
        builder.scopes.push(HashMap::new());
        let (mut inputs, mut states) = (Vec::new(), Vec::new());
        for input in &function.inputs {
            match input.is_state {
                true => {
                    builder.define(&input.name, Source::State(states.len()));
                    states.push(input.clone());
                }
                false => {
                    inputs.push((builder.define(&input.name, Source::Computed), input.clone()))
                }
            }
        }
        let block = builder.block(&function.block);
        let mut block = block.map_err(Error::Program)?;
        mark_last_uses(
            &mut block,
            &inputs.iter().map(|(slot, _)| *slot).collect::<Vec<_>>(),
        );
        let mut counts = HashMap::new();
        count_uses(&block, &mut counts);
        allow_packing(&mut block, &builder.sources, &counts);
        Ok(Self {
            inputs,
            states,
            block,
            output_names: function.block.outputs.clone(),
            sources: builder.sources,
            names: builder.names,
        })
    }
}

#[derive(Default)]
struct Builder {
    scopes: Vec<HashMap<String, Slot>>,
    sources: Vec<Source>,
    names: Vec<String>,
}

impl Builder {
    fn define(&mut self, name: &str, source: Source) -> Slot {
        let slot = self.sources.len();
        self.sources.push(source);
        self.names.push(name.into());
        if let Some(scope) = self.scopes.last_mut() {
            scope.insert(name.into(), slot);
        }
        slot
    }

    fn find(&self, name: &str) -> Result<Slot, String> {
        let mut outwards = self.scopes.iter().rev();
        let found = outwards.find_map(|scope| scope.get(name).copied());
        found.ok_or_else(|| format!("`{name}` is used before it is computed"))
    }

    fn block(&mut self, block: &Block) -> Result<PlanBlock, String> {
        self.scopes.push(HashMap::new());
        let inputs = block.inputs.iter();
        let inputs = inputs
            .map(|input| self.define(&input.name, Source::Computed))
            .collect();
        let mut steps = Vec::new();
        for operation in &block.operations {
            let context = |problem| format!("operation `{}`: {problem}", operation.name);
            if operation.kind == "const" {
                self.constant(operation).map_err(context)?;
                continue;
            }
            let step = self.step(operation).map_err(context)?;
            match operation.kind.starts_with("constexpr_") {
                true => self.fold(step),
                false => steps.push(step),
            }
        }
        let outputs = block.outputs.iter().map(|name| self.find(name));
        let outputs = outputs.collect::<Result<_, _>>()?;
        self.scopes.pop();
        Ok(PlanBlock {
            inputs,
            outputs,
            steps,
        })
    }

    fn constant(&mut self, operation: &Operation) -> Result<(), String> {
        let value = operation.attributes.iter().find(|(key, _)| key == "val");
        let bound = operation.inputs.iter().find(|(key, _)| key == "val");
        let value = match (value, bound.map(|(_, bound)| bound.as_slice())) {
            (Some((_, value)), _) | (None, Some([Argument::Value(value)])) => value,
            _ => return Err("a constant without a value".into()),
        };
        let [output] = operation.outputs.as_slice() else {
            return Err("a constant without a name".into());
        };
        let source = Source::Constant(OnceLock::new(), Box::new(value.clone()));
        self.define(&output.name, source);
        Ok(())
    }

    fn step(&mut self, operation: &Operation) -> Result<Step, String> {
        let mut arguments = Vec::with_capacity(operation.inputs.len());
        let is_constexpr = operation.kind.starts_with("constexpr_");
        for (name, bound) in &operation.inputs {
            let bound = bound.iter().map(|argument| match argument {
                Argument::Name(name) => self.find(name).map(Input::Slot),
                Argument::Value(value) => decode(value).map(Input::Value),
            });
            arguments.push((name.clone(), bound.collect::<Result<Vec<_>, _>>()?));
        }
        for (name, value) in &operation.attributes {
            // Until iOS18 the parameters of constexpr operations are attributes.
            if is_constexpr && name != "name" && !arguments.iter().any(|(other, _)| other == name) {
                arguments.push((name.clone(), vec![Input::Value(decode(value)?)]));
            }
        }
        let blocks = operation.blocks.iter();
        let blocks = blocks
            .map(|block| self.block(block))
            .collect::<Result<_, _>>()?;
        let slots = match is_constexpr {
            true => Vec::new(),
            false => {
                let outputs = operation.outputs.iter();
                outputs
                    .map(|output| self.define(&output.name, Source::Computed))
                    .collect()
            }
        };
        Ok(Step {
            kind: operation.kind.clone(),
            name: operation.name.clone(),
            action: action(&operation.kind).ok_or("an unknown operation")?,
            arguments,
            outputs: operation.outputs.clone(),
            slots,
            blocks,
            last_uses: Vec::new(),
            packed: None,
        })
    }

    /// The results of an operation on constants, which need no place in the order.
    fn fold(&mut self, step: Step) {
        let step = std::sync::Arc::new(step);
        for (i, output) in step.outputs.iter().enumerate() {
            let source = Source::Folded(OnceLock::new(), std::sync::Arc::clone(&step), i);
            self.define(&output.name, source);
        }
    }
}

/// Notes with each step which values of its block end there; `given` are the block's parameters.
/// A block within a step uses what it uses from outside as long as the step goes on.
fn mark_last_uses(block: &mut PlanBlock, given: &[Slot]) {
    let mut last: HashMap<Slot, usize> = HashMap::new();
    for (i, step) in block.steps.iter().enumerate() {
        // What nobody uses ends where it is made.
        for &slot in &step.slots {
            last.insert(slot, i);
        }
        for slot in uses(step) {
            if let Some(at) = last.get_mut(&slot) {
                *at = i;
            } else if given.contains(&slot) {
                last.insert(slot, i);
            }
        }
    }
    for slot in &block.outputs {
        last.remove(slot);
    }
    for (slot, i) in last {
        block.steps[i].last_uses.push(slot);
    }
    for step in &mut block.steps {
        step.last_uses.sort_unstable();
        for inner in &mut step.blocks {
            let given = inner.inputs.clone();
            mark_last_uses(inner, &given);
        }
    }
}

/// How often each slot is read.
fn count_uses(block: &PlanBlock, counts: &mut HashMap<Slot, usize>) {
    for &slot in &block.outputs {
        *counts.entry(slot).or_default() += 1;
    }
    for step in &block.steps {
        let inputs = step.arguments.iter().flat_map(|(_, inputs)| inputs);
        for input in inputs {
            if let Input::Slot(slot) = input {
                *counts.entry(*slot).or_default() += 1;
            }
        }
        step.blocks
            .iter()
            .for_each(|block| count_uses(block, counts));
    }
}

/// Marks the operations whose weight may be kept packed, since nothing else needs it.
fn allow_packing(block: &mut PlanBlock, sources: &[Source], counts: &HashMap<Slot, usize>) {
    for step in &mut block.steps {
        for inner in &mut step.blocks {
            allow_packing(inner, sources, counts);
        }
        let weight = step.arguments.iter().find(|(name, _)| name == WEIGHT);
        if let ("linear", Some((_, inputs))) = (&*step.kind, weight)
            && let [Input::Slot(slot)] = inputs[..]
            && matches!(sources[slot], Source::Constant(..) | Source::Folded(..))
            && counts.get(&slot) == Some(&1)
        {
            step.packed = Some(OnceLock::new());
        }
    }
}

/// All slots that a step reads, the blocks within it too.
fn uses(step: &Step) -> Vec<Slot> {
    let mut found = Vec::new();
    for (_, inputs) in &step.arguments {
        found.extend(inputs.iter().filter_map(|input| match input {
            Input::Slot(slot) => Some(*slot),
            Input::Value(_) => None,
        }));
    }
    for block in &step.blocks {
        found.extend(&block.outputs);
        found.extend(block.steps.iter().flat_map(uses));
    }
    found
}
