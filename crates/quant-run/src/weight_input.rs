//! What goes into operations with constant weights.

use crate::plan::{Input, Plan, Slot, Source, Step};
use crate::tensor::Tensor;

/// The input of an operation whose weight is a constant.
#[derive(Clone, Copy, Debug)]
pub struct WeightInput<'a> {
    /// The weight's name in the program.
    pub weight: &'a str,
    /// The input's values, in row-major order.
    pub values: &'a [f32],
    /// How many input channels the weight has.
    pub channels: usize,
    /// Values of one channel that follow one another. Behind the last channel the first one begins
    /// again.
    pub inner: usize,
}

/// That of a `linear`, `matmul`, `conv` or `conv_transpose`; `None` of any other operation, and where no
/// argument, or every argument, is a constant.
pub(crate) fn weight_input<'a>(
    plan: &'a Plan,
    step: &Step,
    arguments: &'a [(&str, Vec<Tensor>)],
) -> Option<WeightInput<'a>> {
    let tensor = |name: &str| {
        let found = arguments.iter().find(|(key, _)| *key == name);
        found.and_then(|(_, values)| values.first())
    };
    let is_true = |name: &str| tensor(name).and_then(Tensor::bools) == Some(&[true]);
    let is_turned = |name: &str, of: &Tensor| is_true(name) && of.rank() > 1;
    let x = tensor("x")?;
    let from_last = |of: &Tensor, back: usize| of.rank().checked_sub(back);
    let (slot, input, axis, groups) = match step.kind.as_str() {
        "linear" => (constant(plan, step, "weight")?, x, from_last(x, 1)?, 1),
        "conv" => {
            let groups = tensor("groups").and_then(|it| it.to_ints().ok());
            let groups = groups.and_then(|it| usize::try_from(*it.first()?).ok());
            (constant(plan, step, "weight")?, x, 1, groups.unwrap_or(1))
        }
        "conv_transpose" => (constant(plan, step, "weight")?, x, 1, 1),
        "matmul" => {
            let y = tensor("y")?;
            match (constant(plan, step, "x"), constant(plan, step, "y")) {
                (None, Some(slot)) => {
                    let back = if is_turned("transpose_x", x) { 2 } else { 1 };
                    (slot, x, from_last(x, back)?, 1)
                }
                (Some(slot), None) => {
                    let back = match is_turned("transpose_y", y) || y.rank() == 1 {
                        true => 1,
                        false => 2,
                    };
                    (slot, y, from_last(y, back)?, 1)
                }
                _ => return None,
            }
        }
        _ => return None,
    };
    let channels = *input.shape().get(axis)?;
    Some(WeightInput {
        weight: plan.names.get(slot)?,
        values: input.floats()?,
        channels: channels.checked_div(groups)?,
        inner: input.shape()[axis + 1..].iter().product(),
    })
}

/// The place of an argument, if it is a constant.
pub(crate) fn constant(plan: &Plan, step: &Step, name: &str) -> Option<Slot> {
    let (_, inputs) = step.arguments.iter().find(|(key, _)| key == name)?;
    match inputs[..] {
        [Input::Slot(slot)] => match plan.sources[slot] {
            Source::Constant(..) | Source::Folded(..) => Some(slot),
            Source::Computed | Source::State(_) => None,
        },
        _ => None,
    }
}
