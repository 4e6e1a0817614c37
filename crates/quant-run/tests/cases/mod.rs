//! One captured case: run it, compare.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use quant_models::program::{Block, ElementType, Program};
use quant_run::{Error, Model, Quiet, RunOptions, Tensor, read_npy};

/// What came of a case.
pub enum Outcome {
    Passed,
    /// Other values than those that the test expects.
    Wrong(String),
    /// Operations that are not known, by name.
    Refused(String),
    /// Any other error.
    Failed(String),
    /// Without a reference: random operations, or outputs that were not kept.
    Skipped,
}

impl Outcome {
    pub fn name(&self) -> &'static str {
        ["passed", "wrong", "refused", "failed", "skipped"][self.place()]
    }

    pub fn place(&self) -> usize {
        match self {
            Self::Passed => 0,
            Self::Wrong(_) => 1,
            Self::Refused(_) => 2,
            Self::Failed(_) => 3,
            Self::Skipped => 4,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wrong(text) | Self::Refused(text) | Self::Failed(text) => f.write_str(text),
            Self::Passed | Self::Skipped => Ok(()),
        }
    }
}

/// The kinds of operations in a package, but for constants.
pub fn kinds(package: &Path) -> BTreeSet<String> {
    fn visit(block: &Block, found: &mut BTreeSet<String>) {
        for operation in &block.operations {
            found.insert(operation.kind.clone());
            operation
                .blocks
                .iter()
                .for_each(|block| visit(block, found));
        }
    }
    let mut found = BTreeSet::new();
    if let Ok(program) = Program::open(package) {
        for function in &program.functions {
            visit(&function.block, &mut found);
        }
    }
    found.remove("const");
    found
}

fn array(folder: &Path, prefix: &str, name: &str) -> Option<Result<Tensor, String>> {
    let bytes = std::fs::read(folder.join(format!("{prefix}_{name}.npy"))).ok()?;
    Some(read_npy(&bytes))
}

/// Runs a case.
pub fn run(package: &Path) -> Outcome {
    if kinds(package)
        .iter()
        .any(|kind| kind.starts_with("random_"))
    {
        return Outcome::Skipped;
    }
    let folder: PathBuf = package.with_extension("io");
    let model = match Model::open(package, RunOptions::default()) {
        Ok(model) => model,
        Err(error @ Error::Unsupported(_)) => return Outcome::Refused(error.to_string()),
        Err(error) => return Outcome::Failed(error.to_string()),
    };
    match compare(&model, &folder) {
        Ok(outcome) => outcome,
        Err(problem) => Outcome::Failed(problem),
    }
}

fn compare(model: &Model, folder: &Path) -> Result<Outcome, String> {
    let mut inputs = Vec::new();
    let mut half = false;
    for input in model.inputs() {
        let Some(value) = array(folder, "in", &input.name) else {
            return Ok(Outcome::Skipped);
        };
        half |= input.element == ElementType::Float16;
        inputs.push((input.name.as_str(), value?));
    }
    let mut states = model.states().map_err(|error| error.to_string())?;
    let outputs = model.run(&inputs, &mut states, &mut Quiet);
    let outputs = outputs.map_err(|error| error.to_string())?;
    let half = half || has_half(model.path());
    let mut seen = false;
    for (name, value) in &outputs {
        let Some(expected) = array(folder, "out", name) else {
            continue;
        };
        seen = true;
        if let Some(problem) = difference(value, &expected?, half) {
            return Ok(Outcome::Wrong(format!("`{name}`: {problem}")));
        }
    }
    Ok(if seen {
        Outcome::Passed
    } else {
        Outcome::Skipped
    })
}

/// Whether anything is computed in float16.
fn has_half(package: &Path) -> bool {
    fn in_block(block: &Block) -> bool {
        block.operations.iter().any(|operation| {
            let half = operation.outputs.iter().any(|output| {
                let element = output.tensor.as_ref().map(|tensor| tensor.element);
                element == Some(ElementType::Float16)
            });
            half || operation.blocks.iter().any(in_block)
        })
    }
    Program::open(package).is_ok_and(|program| program.functions.iter().any(|f| in_block(&f.block)))
}

/// How a value differs from what is expected, if it does: by more than 1e-4 of the greatest value in
/// f32, 1e-2 in f16.
fn difference(value: &Tensor, expected: &Tensor, half: bool) -> Option<String> {
    let floats = |tensor: &Tensor| -> Vec<f32> {
        match (tensor.floats(), tensor.ints(), tensor.bools()) {
            (Some(floats), ..) => floats.to_vec(),
            (_, Some(ints), _) => ints.iter().map(|&value| value as f32).collect(),
            (.., Some(bools)) => bools
                .iter()
                .map(|&value| f32::from(u8::from(value)))
                .collect(),
            _ => Vec::new(),
        }
    };
    let (have, want) = (floats(value), floats(expected));
    let squeezed =
        |shape: &[usize]| -> Vec<usize> { shape.iter().copied().filter(|&dim| dim != 1).collect() };
    // Some tests expect a scalar where the program has one element.
    if have.len() != want.len() || squeezed(value.shape()) != squeezed(expected.shape()) {
        let (a, b) = (value.shape(), expected.shape());
        return Some(format!("shape {a:?}, not {b:?}"));
    }
    let finite = want.iter().filter(|value| value.is_finite());
    let greatest = finite.fold(0.0_f32, |most, value| most.max(value.abs()));
    let limit = if half { 1e-2 } else { 1e-4 } * greatest.max(1e-3);
    let wrong = |(&a, &b): (&f32, &f32)| match (a.is_finite(), b.is_finite()) {
        (true, true) => (a - b).abs() > limit,
        // What overflows in f16 does not in f32.
        (true, false) => !half,
        _ => !(a == b || (a.is_nan() && b.is_nan())),
    };
    let at = have.iter().zip(&want).position(wrong)?;
    let count = have.iter().zip(&want).filter(|pair| wrong(*pair)).count();
    let (a, b, shape) = (have[at], want[at], value.shape());
    Some(format!(
        "{count} of {} wrong, first {a} not {b} at {at} of {shape:?}",
        have.len()
    ))
}
