//! Pools of one to three dimensions.

use rayon::prelude::*;

use super::Table;
use super::conv::Geometry;
use crate::call::{Call, result, sizes};
use crate::tensor::Tensor;

pub(super) const TABLE: Table = &[
    ("avg_pool", |c| pool(c, Kind::Average)),
    ("l2_pool", |c| pool(c, Kind::L2)),
    ("max_pool", |c| pool(c, Kind::Max)),
];

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Average,
    L2,
    Max,
}

/// One dimension of a pool.
#[derive(Clone, Copy)]
struct Axis {
    input: usize,
    output: usize,
    kernel: usize,
    stride: usize,
    before: usize,
    after: usize,
}

impl Axis {
    /// The elements under the window of a result, and how many with the padding.
    fn window(&self, at: usize) -> (std::ops::Range<usize>, usize) {
        let start = at * self.stride;
        let end = (start + self.kernel).min(self.input + self.before + self.after);
        let inside = |i: usize| i.saturating_sub(self.before).min(self.input);
        (inside(start)..inside(end), end.saturating_sub(start))
    }

    const NONE: Self = Self {
        input: 1,
        output: 1,
        kernel: 1,
        stride: 1,
        before: 0,
        after: 0,
    };
}

fn pool(call: &mut Call<'_>, kind: Kind) -> Result<Vec<Tensor>, String> {
    let x = call.tensor("x")?;
    let values = call.floats("x")?;
    let spatial = x
        .rank()
        .checked_sub(2)
        .filter(|&rank| (1..=3).contains(&rank));
    let spatial = spatial.ok_or_else(|| format!("a tensor of rank {}", x.rank()))?;
    let kernel = call
        .ints("kernel_sizes")?
        .ok_or("its `kernel_sizes` is missing")?;
    let kernel = sizes(&kernel, "kernel_sizes")?;
    if kernel.len() != spatial {
        return Err(format!("a kernel of {kernel:?} for {spatial} dimensions"));
    }
    let geometry = Geometry::read(call, &kernel, &x.shape[2..])?;
    let ceil = call.bool("ceil_mode", false)?;
    let excludes = call.bool("exclude_padding_from_average", false)?;
    let mut axes = [Axis::NONE; 3];
    let mut shape = x.shape[..2].to_vec();
    for i in 0..spatial {
        let (before, after) = geometry.pads[i];
        let input = x.shape[2 + i];
        let stride = geometry.strides[i];
        let mut output = geometry.output(i, input)?;
        let rest = (input + before + after - kernel[i]) % stride;
        // A window that would begin in the padding after the end is left out.
        if ceil && rest != 0 && output * stride < input + before {
            output += 1;
        }
        shape.push(output);
        axes[3 - spatial + i] = Axis {
            input,
            output,
            kernel: kernel[i],
            stride,
            before,
            after,
        };
    }
    if call.room(&shape)? == 0 {
        return result(shape, Vec::<f32>::new());
    }
    let area = |f: fn(&Axis) -> usize| axes.iter().map(f).product::<usize>();
    let (inputs, outputs) = (area(|a| a.input), area(|a| a.output));
    if inputs == 0 {
        return Err("an input without elements".into());
    }
    let mut out = vec![0.0; shape.iter().product()];
    out.par_chunks_mut(outputs)
        .zip(values.par_chunks(inputs))
        .for_each(|(out, plane)| pool_plane(plane, out, &axes, kind, excludes));
    result(shape, out)
}

fn pool_plane(plane: &[f32], out: &mut [f32], axes: &[Axis; 3], kind: Kind, excludes: bool) {
    let [depth, rows, columns] = axes;
    let mut results = out.iter_mut();
    for d in 0..depth.output {
        let (ds, d_all) = depth.window(d);
        for r in 0..rows.output {
            let (rs, r_all) = rows.window(r);
            for c in 0..columns.output {
                let (cs, c_all) = columns.window(c);
                let lines = ds.clone().flat_map(|d| rs.clone().map(move |r| (d, r)));
                let lines = lines.map(|(d, r)| {
                    let at = (d * rows.input + r) * columns.input;
                    &plane[at + cs.start..at + cs.end]
                });
                let count = match excludes {
                    true => ds.len() * rs.len() * cs.len(),
                    false => d_all * r_all * c_all,
                };
                let value = one(lines, kind, count);
                if let Some(place) = results.next() {
                    *place = value;
                }
            }
        }
    }
}

fn one<'a>(lines: impl Iterator<Item = &'a [f32]>, kind: Kind, count: usize) -> f32 {
    match kind {
        Kind::Max => lines.flatten().fold(f32::NEG_INFINITY, |most, &x| {
            if x > most || x.is_nan() { x } else { most }
        }),
        Kind::Average => lines.flatten().sum::<f32>() / count as f32,
        Kind::L2 => lines.flatten().map(|x| x * x).sum::<f32>().sqrt(),
    }
}
