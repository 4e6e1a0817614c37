//! A package that is ready to run.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use quant_models::program::{ElementType, Feature, FeatureKind, Program, TensorType, Variable};

use crate::engine::Engine;
use crate::interpreter::Interpreter;
use crate::memory::{Budget, Kept};
use crate::plan::{Action, Input, Plan, PlanBlock, Slot, Source};
use crate::tensor::{Values, count, decode};
use crate::{Error, Quiet, RunOptions, Tensor, Watch};

/// What a model wants.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ModelInput {
    /// Its name.
    pub name: String,
    /// Its type in the program.
    pub element: ElementType,
    /// Its dimensions; `None` where the program leaves one open.
    pub dims: Vec<Option<usize>>,
    /// What the package's description says of it: images, for example.
    pub kind: FeatureKind,
}

/// The states of a model between runs.
#[derive(Clone, Debug)]
pub struct States(pub(crate) Vec<Tensor>);

/// A run between two operations.
pub(crate) struct Lane {
    slots: Vec<Option<Tensor>>,
    states: States,
    budget: Budget,
    iterations: u64,
}

impl Lane {
    /// Bytes of the values that are alive.
    pub fn bytes(&self) -> usize {
        self.budget.live()
    }
}

/// A package that is ready to run.
pub struct Model {
    path: PathBuf,
    function: String,
    pub(crate) plan: Plan,
    inputs: Vec<ModelInput>,
    pub(crate) options: RunOptions,
    engine: Engine,
    pub(crate) kept: Kept,
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model")
            .field("path", &self.path)
            .field("inputs", &self.inputs)
            .finish_non_exhaustive()
    }
}

impl Model {
    /// Reads the package at `path` and makes its program ready.
    ///
    /// # Errors
    /// A package that cannot be read; a function that it does not have;
    /// [`Error::Unsupported`] with every kind of operation that is not known here.
    pub fn open(path: &Path, options: RunOptions) -> Result<Self, Error> {
        let program = Program::open(path)?;
        let name = options.function.as_deref();
        let Some(function) = program.function(name) else {
            let names: Vec<_> = program.functions.iter().map(|f| f.name.as_str()).collect();
            return Err(Error::Value(format!(
                "{}: no function `{}`; it has {}",
                path.display(),
                name.unwrap_or(&program.default_function),
                names.join(", ")
            )));
        };
        let plan = Plan::new(function)?;
        let inputs = plan.inputs.iter();
        let inputs = inputs
            .map(|(_, variable)| model_input(variable, &program.inputs))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            path: path.to_owned(),
            function: function.name.clone(),
            inputs,
            kept: Kept::new(match options.single_pass && !has_loops(&plan.block) {
                true => 0,
                false => options.keep_weights.min(options.memory / 2),
            }),
            plan,
            options,
            engine: Engine::default(),
        })
    }

    /// The package.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The function that runs.
    pub fn function(&self) -> &str {
        &self.function
    }

    /// What the model wants, in its order.
    pub fn inputs(&self) -> &[ModelInput] {
        &self.inputs
    }

    /// The names of what the model gives.
    pub fn outputs(&self) -> &[String] {
        &self.plan.output_names
    }

    /// How many operations quantize activations.
    pub fn quantized_activations(&self) -> usize {
        fn count(block: &crate::plan::PlanBlock) -> usize {
            let steps = block.steps.iter();
            let of = |step: &crate::plan::Step| {
                usize::from(step.kind == "quantize") + step.blocks.iter().map(count).sum::<usize>()
            };
            steps.map(of).sum()
        }
        count(&self.plan.block)
    }

    /// The names of all values that operations compute, and of the inputs.
    pub(crate) fn value_names(&self) -> std::collections::HashSet<String> {
        fn visit(block: &crate::plan::PlanBlock, found: &mut std::collections::HashSet<String>) {
            for step in &block.steps {
                found.extend(step.outputs.iter().map(|output| output.name.clone()));
                step.blocks.iter().for_each(|block| visit(block, found));
            }
        }
        let inputs = self.inputs.iter().map(|input| input.name.clone());
        let mut found = inputs.collect();
        visit(&self.plan.block, &mut found);
        found
    }

    /// The states as they are at the beginning: zeros.
    ///
    /// # Errors
    /// States of unknown shape, or that take more memory than a run may.
    pub fn states(&self) -> Result<States, Error> {
        let budget = Budget::new(self.options.memory);
        let zeros = |variable: &Variable| {
            let problem = |problem: &str| Error::Input {
                name: variable.name.clone(),
                problem: problem.into(),
            };
            let kind = variable.tensor.as_ref();
            let kind = kind.ok_or_else(|| problem("a state that is no tensor"))?;
            let shape: Option<Vec<usize>> = kind.dims.iter().copied().collect();
            let shape = shape.ok_or_else(|| problem("a state of unknown shape"))?;
            let elements = count(&shape).ok_or_else(|| problem("its shape overflows"))?;
            let fits = budget.check(elements.saturating_mul(4));
            fits.map_err(|message| problem(&message))?;
            let values: Values = match kind.element {
                ElementType::Int(_) | ElementType::Uint(_) => vec![0; elements].into(),
                ElementType::Bool => vec![false; elements].into(),
                ElementType::String => return Err(problem("a state of texts")),
                _ => vec![0.0; elements].into(),
            };
            let tensor = Tensor::new(shape, values).with_element(kind.element);
            budget.add(&tensor);
            Ok(tensor)
        };
        let states = self.plan.states.iter().map(zeros);
        Ok(States(states.collect::<Result<_, Error>>()?))
    }

    /// Computes the outputs, in the model's order.
    ///
    /// # Errors
    /// An input that is missing, unknown or of another shape; an operation that cannot be computed;
    /// too much memory or too many iterations; what `watch` says.
    pub fn run(
        &self,
        inputs: &[(&str, Tensor)],
        states: &mut States,
        watch: &mut dyn Watch,
    ) -> Result<Vec<(String, Tensor)>, Error> {
        let mut interpreter = self.begun(inputs, &mut states.0, watch)?;
        let outputs = interpreter.run()?;
        let names = self.plan.output_names.iter().cloned();
        Ok(names.zip(outputs).collect())
    }

    /// A run that has its inputs.
    fn begun<'r, 'w>(
        &'r self,
        inputs: &[(&str, Tensor)],
        states: &'r mut Vec<Tensor>,
        watch: &'w mut dyn Watch,
    ) -> Result<Interpreter<'r, 'w>, Error> {
        for (i, (name, _)) in inputs.iter().enumerate() {
            let known = self.inputs.iter().any(|input| input.name == *name);
            if !known || inputs[..i].iter().any(|(other, _)| other == name) {
                let names: Vec<_> = self.inputs.iter().map(|input| &*input.name).collect();
                let problem = match known {
                    true => "given twice".into(),
                    false => format!("the model has no such input; it has {}", names.join(", ")),
                };
                let name = (*name).into();
                return Err(Error::Input { name, problem });
            }
        }
        if states.len() != self.plan.states.len() {
            return Err(Error::Value("states of another model".into()));
        }
        let mut interpreter = Interpreter {
            plan: &self.plan,
            options: &self.options,
            engine: &self.engine,
            budget: Budget::new(self.options.memory),
            slots: vec![None; self.plan.sources.len()],
            states,
            watch,
            iterations: 0,
            kept: &self.kept,
            passing: Cell::new(0),
        };
        interpreter.budget.take(self.kept.bytes());
        for state in interpreter.states.iter() {
            interpreter.budget.add(state);
        }
        for ((slot, variable), wanted) in self.plan.inputs.iter().zip(&self.inputs) {
            let given = inputs.iter().find(|(name, _)| *name == wanted.name);
            let fail = |problem: String| Error::Input {
                name: wanted.name.clone(),
                problem,
            };
            let (_, value) = given.ok_or_else(|| fail("missing".into()))?;
            let mut value = fit(value, wanted).map_err(fail)?;
            if self.options.round_f16 {
                value.round_to_f16();
            }
            interpreter
                .watch
                .value("input", &variable.name, &variable.name, &value)?;
            interpreter.give(*slot, value);
        }
        Ok(interpreter)
    }

    /// The place of a constant of the program that is not compressed.
    pub(crate) fn constant(&self, name: &str) -> Option<Slot> {
        let own = |other: &String| {
            let rest = name.strip_suffix(other.as_str());
            rest.is_some_and(|rest| {
                rest.is_empty() || rest.strip_suffix('/') == Some(self.function())
            })
        };
        let mut sources = self.plan.sources.iter().zip(&self.plan.names);
        sources.position(|(source, other)| matches!(source, Source::Constant(..)) && own(other))
    }

    /// The value of a constant.
    pub(crate) fn constant_value(&self, slot: Slot) -> Result<Tensor, Error> {
        match &self.plan.sources[slot] {
            Source::Constant(cell, constant) => match cell.get() {
                Some(tensor) => Ok(tensor.clone()),
                None => decode(constant).map_err(Error::Value),
            },
            _ => Err(Error::Value("no constant".into())),
        }
    }

    /// Gives a constant another value of the same shape.
    pub(crate) fn replace(&mut self, slot: Slot, tensor: Tensor) {
        fn unpack(block: &mut PlanBlock, slot: Slot) {
            for step in &mut block.steps {
                step.blocks.iter_mut().for_each(|block| unpack(block, slot));
                let mut inputs = step.arguments.iter().flat_map(|(_, inputs)| inputs);
                if inputs.any(|input| matches!(input, Input::Slot(other) if *other == slot))
                    && let Some(packed) = &mut step.packed
                {
                    *packed = OnceLock::new();
                }
            }
        }
        if let Source::Constant(cell, _) = &mut self.plan.sources[slot] {
            *cell = OnceLock::from(tensor);
        }
        unpack(&mut self.plan.block, slot);
    }

    /// A run with these inputs before its first operation.
    pub(crate) fn lane(
        &self,
        inputs: &[(&str, Tensor)],
        mut states: States,
    ) -> Result<Lane, Error> {
        let mut quiet = Quiet;
        let interpreter = self.begun(inputs, &mut states.0, &mut quiet)?;
        // Weights that are kept belong to no lane.
        interpreter.budget.give_back(self.kept.bytes());
        let (slots, budget) = (interpreter.slots, interpreter.budget);
        Ok(Lane {
            slots,
            states,
            budget,
            iterations: 0,
        })
    }

    /// Goes on with a run for as long as `work` takes.
    pub(crate) fn resume<T>(
        &self,
        lane: &mut Lane,
        watch: &mut dyn Watch,
        work: impl FnOnce(&mut Interpreter<'_, '_>) -> T,
    ) -> T {
        let mut interpreter = Interpreter {
            plan: &self.plan,
            options: &self.options,
            engine: &self.engine,
            budget: std::mem::replace(&mut lane.budget, Budget::new(0)),
            slots: std::mem::take(&mut lane.slots),
            states: &mut lane.states.0,
            watch,
            iterations: lane.iterations,
            kept: &self.kept,
            passing: Cell::new(0),
        };
        let done = work(&mut interpreter);
        lane.iterations = interpreter.iterations;
        lane.slots = std::mem::take(&mut interpreter.slots);
        lane.budget = std::mem::replace(&mut interpreter.budget, Budget::new(0));
        done
    }
}

fn has_loops(block: &PlanBlock) -> bool {
    let mut steps = block.steps.iter();
    steps.any(|step| matches!(step.action, Action::While) || step.blocks.iter().any(has_loops))
}

fn model_input(variable: &Variable, features: &[Feature]) -> Result<ModelInput, Error> {
    let Some(TensorType { element, dims }) = variable.tensor.clone() else {
        return Err(Error::Input {
            name: variable.name.clone(),
            problem: "no tensor; quant runs models whose inputs are tensors or images".into(),
        });
    };
    let mut features = features.iter();
    let feature = features.find(|feature| feature.name == variable.name);
    Ok(ModelInput {
        name: variable.name.clone(),
        element,
        dims,
        kind: feature.map_or(FeatureKind::Other, |feature| feature.kind.clone()),
    })
}

/// A value as the model wants it.
fn fit(value: &Tensor, wanted: &ModelInput) -> Result<Tensor, String> {
    let same = value.shape.len() == wanted.dims.len()
        && (value.shape.iter().zip(&wanted.dims))
            .all(|(&have, want)| want.is_none_or(|w| w == have));
    if !same {
        let dims = wanted.dims.iter().map(|dim| match dim {
            Some(dim) => dim.to_string(),
            None => "any".into(),
        });
        let dims: Vec<_> = dims.collect();
        let have = &value.shape;
        return Err(format!(
            "shape {have:?}, where the model needs [{}]",
            dims.join(", ")
        ));
    }
    let values = match wanted.element {
        ElementType::Int(_) | ElementType::Uint(_) => match &value.values {
            Values::Float(floats) => {
                let whole = floats
                    .iter()
                    .all(|v| v.fract() == 0.0 && v.abs() < 2_147_483_648.0);
                if !whole {
                    return Err(
                        "floats that are no whole numbers, where the model needs integers".into(),
                    );
                }
                value.to_ints()?.into()
            }
            Values::Int(_) => value.values.clone(),
            _ => value.to_ints()?.into(),
        },
        ElementType::Bool => match &value.values {
            Values::Bool(_) => value.values.clone(),
            _ => value
                .to_ints()?
                .iter()
                .map(|&v| v != 0)
                .collect::<Vec<_>>()
                .into(),
        },
        ElementType::Float16 | ElementType::Float32 | ElementType::Float64 => match &value.values {
            Values::Float(_) => value.values.clone(),
            _ => value.to_floats()?.into(),
        },
        other => return Err(format!("the model needs {other}, which quant cannot give")),
    };
    Ok(Tensor::new(value.shape.clone(), values).with_element(wanted.element))
}

/// Every kind of operation that can be computed, in alphabetical order.
///
/// ```
/// assert!(quant_run::operations().contains(&"conv"));
/// ```
pub fn operations() -> Vec<&'static str> {
    crate::ops::all()
}
