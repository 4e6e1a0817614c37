//! Convolutions of each channel with a kernel of its own, which are no products of matrices.
//!
//! A plane is copied into one with its padding, its columns in as many parts as the stride: then all
//! that a tap reads for neighbouring results lies side by side.

use rayon::prelude::*;
use rten_simd::ops::{BitOps, NumOps};
use rten_simd::{Isa, SimdOp};

/// Values after a padded plane that a vector may read beyond its end.
const SLACK: usize = 64;

/// Rows and columns of one channel.
pub(super) struct Shape {
    pub input: [usize; 2],
    pub output: [usize; 2],
    pub kernel: [usize; 2],
    pub strides: [usize; 2],
    pub dilations: [usize; 2],
    /// Before and after the rows, before and after the columns.
    pub pads: [usize; 4],
}

impl Shape {
    /// Columns of one part of a padded row.
    fn part(&self) -> Option<usize> {
        let columns = self.input[1].checked_add(self.pads[2])?;
        Some(columns.checked_add(self.pads[3])?.div_ceil(self.strides[1]))
    }

    /// Values of a padded plane; `None` where padding is most of it.
    pub fn padded(&self) -> Option<usize> {
        let rows = self.input[0].checked_add(self.pads[0])?;
        let rows = rows.checked_add(self.pads[1])?;
        let all = self
            .part()?
            .checked_mul(self.strides[1])?
            .checked_mul(rows)?;
        let most = self.input[0].saturating_mul(self.input[1]);
        (all <= most.saturating_mul(8).saturating_add(4096)).then_some(all)
    }

    /// Where each tap reads, from where the first one does.
    fn taps(&self, part: usize) -> Vec<usize> {
        let row = part * self.strides[1];
        let taps = (0..self.kernel[0]).flat_map(|y| (0..self.kernel[1]).map(move |x| (y, x)));
        taps.map(|(y, x)| {
            let column = x * self.dilations[1];
            let (nth, at) = (column % self.strides[1], column / self.strides[1]);
            y * self.dilations[0] * row + nth * part + at
        })
        .collect()
    }

    /// Puts a plane into the middle of its padded form.
    fn pad(&self, plane: &[f32], part: usize, padded: &mut [f32]) {
        let stride = self.strides[1];
        let rows = padded.chunks_exact_mut(part * stride).skip(self.pads[0]);
        for (row, to) in plane.chunks_exact(self.input[1]).zip(rows) {
            if stride == 1 {
                to[self.pads[2]..][..row.len()].copy_from_slice(row);
                continue;
            }
            for (first, column) in (self.pads[2]..).take(stride.min(row.len())).enumerate() {
                let at = column % stride * part + column / stride;
                let values = row[first..].iter().step_by(stride);
                to[at..]
                    .iter_mut()
                    .zip(values)
                    .for_each(|(to, &value)| *to = value);
            }
        }
    }
}

/// Convolves all channels of all planes; `planes` of them belong to one image.
pub(super) fn depthwise(
    x: &[f32],
    weights: &[f32],
    bias: Option<&[f32]>,
    planes: usize,
    shape: &Shape,
    padded: usize,
) -> Vec<f32> {
    let [inputs, outputs] = [shape.input, shape.output].map(|[rows, columns]| rows * columns);
    let area = shape.kernel[0] * shape.kernel[1];
    let part = padded / (shape.input[0] + shape.pads[0] + shape.pads[1]) / shape.strides[1];
    let taps = shape.taps(part);
    let mut out = vec![0.0; x.len() / inputs * outputs];
    let both = out
        .par_chunks_exact_mut(outputs)
        .zip(x.par_chunks_exact(inputs));
    both.enumerate().for_each_init(
        // Between the values the padding stays as it is.
        || vec![0.0; padded + SLACK],
        |buffer, (i, (out, plane))| {
            shape.pad(plane, part, buffer);
            let channel = i % planes;
            let plane = Plane {
                padded: buffer,
                taps: &taps,
                weights: &weights[channel * area..(channel + 1) * area],
                bias: bias.map_or(0.0, |bias| bias[channel]),
                columns: shape.output[1],
                step: part * shape.strides[1] * shape.strides[0],
                out,
            };
            plane.dispatch();
        },
    );
    out
}

/// One channel.
struct Plane<'a> {
    padded: &'a [f32],
    taps: &'a [usize],
    weights: &'a [f32],
    bias: f32,
    columns: usize,
    /// From a row of results to the next.
    step: usize,
    out: &'a mut [f32],
}

impl SimdOp for Plane<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        match self.taps.len() {
            9 => rows::<I, 9>(self, isa),
            25 => rows::<I, 25>(self, isa),
            _ => rows::<I, 0>(self, isa),
        }
    }
}

/// All rows; the number of taps is `TAPS`, or any for 0.
#[inline(always)]
fn rows<I: Isa, const TAPS: usize>(plane: Plane<'_>, isa: I) {
    let ops = isa.f32();
    let lanes = ops.len();
    let taps = if TAPS == 0 { plane.taps.len() } else { TAPS };
    let (offsets, weights) = (&plane.taps[..taps], &plane.weights[..taps]);
    let bias = ops.splat(plane.bias);
    let mut last = [0.0; SLACK];
    for (y, row) in plane.out.chunks_exact_mut(plane.columns).enumerate() {
        let from = &plane.padded[y * plane.step..];
        let mut x = 0;
        while x < row.len() {
            let from = &from[x..];
            let mut sum = bias;
            for i in 0..taps {
                sum = ops.mul_add(ops.load(&from[offsets[i]..]), ops.splat(weights[i]), sum);
            }
            if x + lanes <= row.len() {
                ops.store(sum, &mut row[x..]);
            } else {
                ops.store(sum, &mut last);
                let rest = row.len() - x;
                row[x..].copy_from_slice(&last[..rest]);
            }
            x += lanes;
        }
    }
}
