//! What goes into operations with constant weights, as rows of inputs.

use super::moments::ROWS;
use super::solve::WeightMatrix;
use crate::call::Call;
use crate::ops::Geometry;
use crate::plan::{Plan, Slot, Source, Step};
use crate::tensor::Tensor;
use crate::weight_input::constant;

/// The constant that an operation multiplies its input by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LayerWeight {
    pub slot: Slot,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Linear,
    Conv,
    /// `matmul` by a constant `y`.
    Right,
    /// `matmul` of a constant `x`.
    Left,
}

/// That of a `linear`, `conv` or `matmul` whose weight is no result of an operation.
pub(super) fn layer_weight(plan: &Plan, step: &Step) -> Option<LayerWeight> {
    // One that is folded has no codes of its own.
    let is_stored = |slot: &Slot| matches!(plan.sources[*slot], Source::Constant(..));
    let constant = |name: &str| constant(plan, step, name).filter(is_stored);
    let (slot, kind) = match step.kind.as_str() {
        "linear" => (constant("weight")?, Kind::Linear),
        "conv" => (constant("weight")?, Kind::Conv),
        "matmul" => match (constant("x"), constant("y")) {
            (None, Some(slot)) => (slot, Kind::Right),
            (Some(slot), None) => (slot, Kind::Left),
            _ => return None,
        },
        _ => return None,
    };
    Some(LayerWeight { slot, kind })
}

impl LayerWeight {
    /// The weight as a matrix.
    ///
    /// # Errors
    /// Why it is none.
    pub fn matrix(self, call: &Call<'_>) -> Result<WeightMatrix, String> {
        let name = match self.kind {
            Kind::Linear | Kind::Conv => "weight",
            Kind::Right => "y",
            Kind::Left => "x",
        };
        let shape = &call.tensor(name)?.shape;
        let turned = |name| call.bool(name, false);
        let (outputs, inputs, groups, inputs_first) = match (self.kind, &shape[..]) {
            (Kind::Linear, &[outputs, inputs]) => (outputs, inputs, 1, false),
            (Kind::Conv, &[outputs, ref rest @ ..]) if !rest.is_empty() => {
                let groups = usize::try_from(call.int("groups", 1)?).unwrap_or(0);
                (outputs, rest.iter().product(), groups, false)
            }
            (Kind::Right, &[a, b]) => match turned("transpose_y")? {
                true => (a, b, 1, false),
                false => (b, a, 1, true),
            },
            (Kind::Left, &[a, b]) => match turned("transpose_x")? {
                true => (b, a, 1, true),
                false => (a, b, 1, false),
            },
            _ => {
                return Err(format!(
                    "a {} by a weight of rank {}",
                    self.operation(),
                    shape.len()
                ));
            }
        };
        if outputs == 0 || inputs == 0 || groups == 0 || outputs % groups != 0 {
            return Err("a weight without elements".into());
        }
        Ok(WeightMatrix {
            outputs,
            inputs,
            groups,
            inputs_first,
        })
    }

    fn operation(self) -> &'static str {
        match self.kind {
            Kind::Linear => "linear",
            Kind::Conv => "conv",
            Kind::Right | Kind::Left => "matmul",
        }
    }

    /// Shows the inputs that a call multiplies by its weight: a group, and some rows.
    ///
    /// # Errors
    /// An input of another shape than the weight wants.
    pub fn rows(
        self,
        call: &Call<'_>,
        matrix: WeightMatrix,
        add: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<(), String> {
        let (name, rows_last) = match self.kind {
            Kind::Conv => return conv(call, matrix, add),
            Kind::Linear => ("x", false),
            Kind::Right => ("x", call.bool("transpose_x", false)?),
            Kind::Left => ("y", !call.bool("transpose_y", false)?),
        };
        let input = call.tensor(name)?;
        let values = input.to_floats()?;
        let n = matrix.inputs;
        // A vector is a row, whatever is turned.
        let rows_last = rows_last && input.rank() > 1;
        let inner = match input.shape[..] {
            [.., inputs, rows] if rows_last && inputs == n => rows,
            [.., inputs] if !rows_last && inputs == n => 1,
            _ => return Err(format!("an input of shape {:?}", input.shape)),
        };
        if !rows_last {
            values.chunks(ROWS * n).for_each(|rows| add(0, rows));
            return Ok(());
        }
        let mut rows = Vec::new();
        for matrix in values.chunks(n * inner.max(1)) {
            for row in 0..inner {
                rows.extend((0..n).map(|input| matrix[input * inner + row]));
                if rows.len() == ROWS * n {
                    add(0, &rows);
                    rows.clear();
                }
            }
        }
        add(0, &rows);
        Ok(())
    }
}

/// A shape of up to three dimensions as one of three.
fn three<T: Copy>(values: &[T], fill: T) -> [T; 3] {
    let mut found = [fill; 3];
    found[3 - values.len()..].copy_from_slice(values);
    found
}

/// The windows of a convolution: a row for each position.
fn conv(
    call: &Call<'_>,
    matrix: WeightMatrix,
    add: &mut dyn FnMut(usize, &[f32]),
) -> Result<(), String> {
    let (x, weight) = (call.tensor("x")?, call.tensor("weight")?);
    let values = x.to_floats()?;
    let spatial = x
        .rank()
        .checked_sub(2)
        .filter(|&rank| (1..=3).contains(&rank));
    let (Some(spatial), true) = (spatial, weight.rank() == x.rank()) else {
        return Err(format!("an input of shape {:?}", x.shape));
    };
    let geometry = Geometry::read(call, &weight.shape[2..], &x.shape[2..])?;
    let (channels, per_group) = (x.shape[1], weight.shape[1]);
    if per_group.checked_mul(matrix.groups) != Some(channels) {
        return Err(format!("an input of shape {:?}", x.shape));
    }
    let outputs = (0..spatial).map(|i| geometry.output(i, x.shape[2 + i]));
    let outputs = three(&outputs.collect::<Result<Vec<_>, _>>()?, 1);
    let windows = Windows {
        values: &values,
        channels: per_group,
        dims: three(&x.shape[2..], 1),
        kernel: three(&geometry.kernel, 1),
        strides: three(&geometry.strides, 1),
        dilations: three(&geometry.dilations, 1),
        pads: three(
            &geometry.pads.iter().map(|pad| pad.0).collect::<Vec<_>>(),
            0,
        ),
    };
    let area: usize = windows.dims.iter().product();
    let mut rows = Vec::with_capacity(ROWS * matrix.inputs);
    for image in 0..x.shape[0] {
        for group in 0..matrix.groups {
            let first = (image * channels + group * per_group) * area;
            for i in 0..outputs.iter().product() {
                let at = [
                    i / (outputs[1] * outputs[2]),
                    i / outputs[2] % outputs[1],
                    i % outputs[2],
                ];
                windows.push(first, at, &mut rows);
                if rows.len() == ROWS * matrix.inputs {
                    add(group, &rows);
                    rows.clear();
                }
            }
            add(group, &rows);
            rows.clear();
        }
    }
    Ok(())
}

/// How windows move over an image of three dimensions.
struct Windows<'v> {
    values: &'v [f32],
    channels: usize,
    dims: [usize; 3],
    kernel: [usize; 3],
    strides: [usize; 3],
    dilations: [usize; 3],
    pads: [usize; 3],
}

impl Windows<'_> {
    /// Adds the window of a position, channel by channel; `first` is the first channel's first value.
    fn push(&self, first: usize, at: [usize; 3], to: &mut Vec<f32>) {
        let area: usize = self.dims.iter().product();
        // Where a step along an axis leads to, if not beside the image.
        let place = |axis: usize, step: usize| {
            let place = at[axis] * self.strides[axis] + step * self.dilations[axis];
            let place = place.checked_sub(self.pads[axis])?;
            (place < self.dims[axis]).then_some(place)
        };
        for channel in 0..self.channels {
            let image = &self.values[first + channel * area..][..area];
            for depth in (0..self.kernel[0]).map(|step| place(0, step)) {
                for row in (0..self.kernel[1]).map(|step| place(1, step)) {
                    for column in (0..self.kernel[2]).map(|step| place(2, step)) {
                        to.push(match (depth, row, column) {
                            (Some(depth), Some(row), Some(column)) => {
                                image[(depth * self.dims[1] + row) * self.dims[2] + column]
                            }
                            _ => 0.0,
                        });
                    }
                }
            }
        }
    }
}

/// Bytes that the moments of a weight take while it is quantized.
pub(super) fn bytes_of_moments(matrix: WeightMatrix) -> usize {
    let one = matrix
        .inputs
        .saturating_mul(matrix.inputs)
        .saturating_mul(8);
    // The sums, and of some groups the moments in order, the factor, and what makes it.
    one.saturating_mul(matrix.groups + 3)
}

/// The values of a weight.
pub(super) fn floats(weight: &Tensor) -> Option<&[f32]> {
    weight
        .floats()
        .filter(|values| values.iter().all(|value| value.is_finite()))
}
