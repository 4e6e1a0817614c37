//! Convolutions of one to three dimensions.

use super::Table;
use crate::call::{Call, result};
use crate::engine::{View, Window};
use crate::index::{gather_view, signed, strides};
use crate::tensor::Tensor;

pub(super) const TABLE: Table = &[("conv", conv)];

/// How a window moves over the spatial dimensions: of `conv`, `conv_transpose` and pools.
pub(crate) struct Geometry {
    /// Before and after each dimension.
    pub pads: Vec<(usize, usize)>,
    pub strides: Vec<usize>,
    pub dilations: Vec<usize>,
    pub kernel: Vec<usize>,
}

impl Geometry {
    /// Reads strides, dilations and the kind of padding; `kernel` and `input` are spatial shapes.
    pub fn read(call: &Call<'_>, kernel: &[usize], input: &[usize]) -> Result<Self, String> {
        let rank = kernel.len();
        let strides = call.sizes("strides", vec![1; rank])?;
        let dilations = call.sizes("dilations", vec![1; rank])?;
        if strides.contains(&0) || dilations.contains(&0) || kernel.contains(&0) {
            return Err("a kernel size, stride or dilation of 0".into());
        }
        let mut geometry = Self {
            pads: vec![(0, 0); rank],
            strides,
            dilations,
            kernel: kernel.to_vec(),
        };
        match call.text("pad_type", "valid")?.to_lowercase().as_str() {
            "valid" => {}
            "custom" => {
                let pads = call.sizes("pad", vec![0; 2 * rank])?;
                geometry.pads = pads
                    .chunks_exact(2)
                    .map(|pair| (pair[0], pair[1]))
                    .collect();
            }
            "same" => {
                for (i, &input) in input.iter().enumerate() {
                    let all = geometry.same(i, input)?;
                    geometry.pads[i] = (all / 2, all - all / 2);
                }
            }
            "same_lower" => {
                for (i, &input) in input.iter().enumerate() {
                    let all = geometry.same(i, input)?;
                    geometry.pads[i] = (all - all / 2, all / 2);
                }
            }
            other => return Err(format!("pad_type `{other}`")),
        }
        Ok(geometry)
    }

    /// The kernel's extent along a dimension.
    pub fn extent(&self, i: usize) -> Result<usize, String> {
        let gaps = (self.kernel[i] - 1).checked_mul(self.dilations[i]);
        let extent = gaps.and_then(|gaps| gaps.checked_add(1));
        extent.ok_or_else(|| "a kernel that is too large".into())
    }

    /// Padding that keeps `ceil(input / stride)` results.
    fn same(&self, i: usize, input: usize) -> Result<usize, String> {
        let stride = self.strides[i];
        let covered = (input.div_ceil(stride).saturating_sub(1)).checked_mul(stride);
        let covered = covered.and_then(|covered| covered.checked_add(self.extent(i).ok()?));
        let covered = covered.ok_or("a kernel that is too large")?;
        Ok(covered.saturating_sub(input))
    }

    /// Results along a dimension.
    pub fn output(&self, i: usize, input: usize) -> Result<usize, String> {
        let (before, after) = self.pads[i];
        let padded = before
            .checked_add(after)
            .and_then(|pad| pad.checked_add(input));
        let padded = padded.ok_or("a padding that is too large")?;
        match padded.checked_sub(self.extent(i)?) {
            Some(rest) => Ok(rest / self.strides[i] + 1),
            None => {
                let extent = self.extent(i)?;
                Err(format!("a kernel of {extent} over an input of {padded}"))
            }
        }
    }
}

fn conv(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let (x, weight) = (call.tensor("x")?, call.tensor("weight")?);
    let spatial = x
        .rank()
        .checked_sub(2)
        .filter(|&rank| (1..=3).contains(&rank));
    let (Some(spatial), true) = (spatial, weight.rank() == x.rank()) else {
        let (a, b) = (&x.shape, &weight.shape);
        return Err(format!("an input of shape {a:?} and a weight of {b:?}"));
    };
    let geometry = Geometry::read(call, &weight.shape[2..], &x.shape[2..])?;
    let groups = call.int("groups", 1)?;
    let groups = usize::try_from(groups).ok().filter(|&groups| groups > 0);
    let groups = groups.ok_or("a number of groups below 1")?;
    let (channels, out) = (x.shape[1], weight.shape[0]);
    if weight.shape[1].checked_mul(groups) != Some(channels) || !out.is_multiple_of(groups) {
        let wanted = &weight.shape;
        return Err(format!(
            "{channels} channels in {groups} groups do not fit a weight of shape {wanted:?}"
        ));
    }
    let bias = call.optional_floats("bias")?;
    if let Some(bias) = bias.filter(|bias| bias.len() != out) {
        return Err(format!("a bias of {} for {out} channels", bias.len()));
    }
    let mut shape = vec![x.shape[0], out];
    for i in 0..spatial {
        shape.push(geometry.output(i, x.shape[2 + i])?);
    }
    if call.room(&shape)? == 0 {
        return result(shape, Vec::<f32>::new());
    }
    let (xs, weights) = (call.floats("x")?, call.floats("weight")?);
    if channels == 0 || xs.is_empty() {
        return Err("an input without elements".into());
    }
    let values = match spatial {
        3 => conv_3d(call, &geometry, groups, &shape)?,
        _ => {
            let pads: Vec<usize> = before_then_after(&geometry.pads);
            let window = Window {
                pads: &pads,
                strides: &geometry.strides,
                dilations: &geometry.dilations,
                groups,
            };
            call.engine.conv(
                View::new(&x.shape, xs),
                View::new(&weight.shape, weights),
                bias,
                &window,
            )?
        }
    };
    result(shape, values)
}

fn before_then_after(pads: &[(usize, usize)]) -> Vec<usize> {
    let before = pads.iter().map(|pad| pad.0);
    before.chain(pads.iter().map(|pad| pad.1)).collect()
}

/// The planes at one depth of a tensor of rank 5.
pub(super) fn plane(x: &Tensor, values: &[f32], depth: usize) -> Vec<f32> {
    let own = signed(&strides(&x.shape));
    let shape = [x.shape[0], x.shape[1], x.shape[3], x.shape[4]];
    let steps = [own[0], own[1], own[3], own[4]];
    gather_view(values, own[2] * depth as isize, &shape, &steps)
}

/// The sum over the kernel's depth of convolutions in two dimensions.
fn conv_3d(
    call: &Call<'_>,
    geometry: &Geometry,
    groups: usize,
    shape: &[usize],
) -> Result<Vec<f32>, String> {
    let (x, weight) = (call.tensor("x")?, call.tensor("weight")?);
    let (xs, weights) = (call.floats("x")?, call.floats("weight")?);
    let bias = call.optional_floats("bias")?;
    let pads = before_then_after(&geometry.pads[1..]);
    let window = Window {
        pads: &pads,
        strides: &geometry.strides[1..],
        dilations: &geometry.dilations[1..],
        groups,
    };
    let kernels: Vec<_> = (0..weight.shape[2])
        .map(|depth| plane(weight, weights, depth))
        .collect();
    let flat = |shape: &[usize]| [shape[0], shape[1], shape[3], shape[4]];
    let (x_shape, w_shape) = (flat(&x.shape), flat(&weight.shape));
    let area = shape[3] * shape[4];
    let mut out = vec![0.0; shape.iter().product()];
    for depth in 0..shape[2] {
        let mut sum = vec![0.0; shape[0] * shape[1] * area];
        if let Some(bias) = bias {
            for (i, row) in sum.chunks_mut(area).enumerate() {
                row.fill(bias[i % bias.len()]);
            }
        }
        for (k, kernel) in kernels.iter().enumerate() {
            let at = depth * geometry.strides[0] + k * geometry.dilations[0];
            let at = at.checked_sub(geometry.pads[0].0);
            let Some(at) = at.filter(|&at| at < x.shape[2]) else {
                continue;
            };
            let input = plane(x, xs, at);
            let part = call.engine.conv(
                View::new(&x_shape, &input),
                View::new(&w_shape, kernel),
                None,
                &window,
            )?;
            sum.iter_mut()
                .zip(part)
                .for_each(|(sum, part)| *sum += part);
        }
        for (i, row) in sum.chunks(area).enumerate() {
            let to = (i * shape[2] + depth) * area;
            out[to..to + area].copy_from_slice(row);
        }
    }
    Ok(out)
}
