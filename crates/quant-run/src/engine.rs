//! The heavy arithmetic, by rten. Nothing else calls it, so that it can be exchanged: its functions
//! may become private, and `rten-gemm` with our own convolutions over it would take their place.
//!
//! Callers have checked the shapes; rten checks them again and returns errors.
//!
//! rten cuts the product of one row by the number of threads, and rounds differently where it cuts: a
//! product of one row is the other way round here, or on one thread, so that results do not depend on
//! threads.

mod depthwise;

use std::sync::OnceLock;

use rten::BufferPool;
use rten::ops::{self, Padding};
use rten_gemm::{BiasVector, GemmExecutor, GemmInputA, GemmInputB, GemmOptions, PackedBMatrix};
use rten_simd::{SimdOp, SimdUnaryOp};
use rten_tensor::prelude::*;
use rten_tensor::{NdTensorView, TensorView};
use rten_vecmath as vecmath;

use crate::tensor::Tensor;

/// Buffers that results and temporaries come from.
#[derive(Default)]
pub(crate) struct Engine {
    pool: BufferPool,
    one_thread: OnceLock<Option<rayon::ThreadPool>>,
}

/// A dense matrix or a stack of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    pub shape: &'a [usize],
    pub data: &'a [f32],
    /// The last two axes change places.
    pub transposed: bool,
}

impl<'a> View<'a> {
    pub fn new(shape: &'a [usize], data: &'a [f32]) -> Self {
        Self {
            shape,
            data,
            transposed: false,
        }
    }

    fn tensor(&self) -> TensorView<'a> {
        let mut view = TensorView::from_data(self.shape, self.data);
        let rank = self.shape.len();
        if self.transposed && rank >= 2 {
            view.move_axis(rank - 1, rank - 2);
        }
        view
    }
}

/// A weight in the order in which products of matrices read it.
pub(crate) struct Packed {
    matrix: PackedBMatrix<f32>,
    /// The weight's type and shape, without its elements.
    stand_in: Tensor,
}

impl std::fmt::Debug for Packed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Packed").field(&self.stand_in.shape).finish()
    }
}

impl Packed {
    /// A weight of a row for each result.
    pub fn new(weight: &Tensor, values: &[f32]) -> Result<Self, String> {
        let &[out, inner] = &weight.shape[..] else {
            return Err(format!("a weight of shape {:?}", weight.shape));
        };
        let rows = NdTensorView::from_data([out, inner], values);
        Ok(Self {
            matrix: GemmExecutor::<f32>::default().prepack_b(rows.transposed()),
            stand_in: Tensor {
                shape: weight.shape.clone(),
                element: weight.element,
                values: Vec::<f32>::new().into(),
            },
        })
    }

    pub fn stand_in(&self) -> Tensor {
        self.stand_in.clone()
    }
}

/// The weight of a product.
pub(crate) enum Rows<'a> {
    /// As many values for each result.
    Plain(&'a [f32]),
    Packed(&'a Packed),
}

/// A convolution, but for its tensors.
#[derive(Clone, Debug)]
pub(crate) struct Window<'a> {
    /// Before all axes, then after all axes.
    pub pads: &'a [usize],
    pub strides: &'a [usize],
    pub dilations: &'a [usize],
    pub groups: usize,
}

impl Engine {
    /// A convolution of one or two dimensions.
    pub fn conv(
        &self,
        x: View<'_>,
        weight: View<'_>,
        bias: Option<&[f32]>,
        window: &Window<'_>,
    ) -> Result<Vec<f32>, String> {
        if let Some(out) = depthwise_conv(&x, &weight, bias, window) {
            return Ok(out);
        }
        if let Some(out) = one_result(&x, &weight, bias, window) {
            return out;
        }
        let bias = bias.map(|bias| NdTensorView::from_data([bias.len()], bias));
        let out = ops::conv::<f32, f32, f32>(
            &self.pool,
            x.tensor(),
            weight.tensor(),
            bias,
            Padding::Fixed(window.pads.into()),
            window.groups,
            window.strides,
            window.dilations,
        );
        Ok(out.map_err(|error| error.to_string())?.into_data())
    }

    /// A transposed convolution of one or two dimensions.
    pub fn conv_transpose(
        &self,
        x: View<'_>,
        weight: View<'_>,
        window: &Window<'_>,
    ) -> Result<(Vec<usize>, Vec<f32>), String> {
        let convolve = || {
            let out = ops::conv_transpose(
                &self.pool,
                x.tensor(),
                weight.tensor(),
                None,
                Padding::Fixed(window.pads.into()),
                window.groups,
                window.strides,
                window.dilations,
                None,
            );
            out.map_err(|error| error.to_string())
        };
        let is_one_row = weight.shape[1..].iter().all(|&dim| dim == 1);
        let out = self.uncut(is_one_row, convolve)?;
        Ok((out.shape().to_vec(), out.into_data()))
    }

    /// Rows times the rows of a weight, plus a bias: `out` results for each.
    pub fn linear(
        &self,
        [rows, inner]: [usize; 2],
        x: &[f32],
        weight: Rows<'_>,
        bias: Option<&[f32]>,
        out: usize,
    ) -> Result<Vec<f32>, String> {
        let mut values = vec![0.0; rows * out];
        let gemm = GemmExecutor::<f32>::default();
        let done = match weight {
            Rows::Plain(weight) if rows == 1 => {
                let (a, b) = ([out, inner], [inner, 1]);
                let a = GemmInputA::Unpacked(NdTensorView::from_data(a, weight));
                let b = GemmInputB::Unpacked(NdTensorView::from_data(b, x));
                gemm.gemm(&mut values, a, b, with_bias(bias.map(BiasVector::Column)))
            }
            weight => {
                let a = GemmInputA::Unpacked(NdTensorView::from_data([rows, inner], x));
                let b = match weight {
                    Rows::Plain(weight) => {
                        let view = NdTensorView::from_data([out, inner], weight);
                        GemmInputB::Unpacked(view.transposed())
                    }
                    Rows::Packed(packed) => GemmInputB::Packed(&packed.matrix),
                };
                gemm.gemm(&mut values, a, b, with_bias(bias.map(BiasVector::Row)))
            }
        };
        done.map_err(|error| error.to_string())?;
        Ok(values)
    }

    /// Products of matrices, stacks of which broadcast.
    pub fn matmul(&self, x: View<'_>, y: View<'_>) -> Result<Vec<f32>, String> {
        let (mut x, mut y) = (x.tensor(), y.tensor());
        let (i, j) = (x.ndim().saturating_sub(2), y.ndim().saturating_sub(2));
        if x.ndim() >= 2 && y.ndim() >= 2 && x.size(i) == 1 {
            x.move_axis(i + 1, i);
            y.move_axis(j + 1, j);
            std::mem::swap(&mut x, &mut y);
        }
        let out = ops::matmul::<f32, f32, f32>(&self.pool, x, y, None);
        Ok(out.map_err(|error| error.to_string())?.into_data())
    }

    /// Does work that may be a product of one row on one thread, so that it is not cut.
    fn uncut<T: Send>(&self, is_one_row: bool, work: impl FnOnce() -> T + Send) -> T {
        let pool = || rayon::ThreadPoolBuilder::new().num_threads(1).build().ok();
        match is_one_row {
            true => match self.one_thread.get_or_init(pool) {
                Some(pool) => pool.install(work),
                None => work(),
            },
            false => work(),
        }
    }

    /// The sum of products that an equation names.
    pub fn einsum(
        &self,
        inputs: &[View<'_>],
        equation: &str,
        is_one_row: bool,
    ) -> Result<(Vec<usize>, Vec<f32>), String> {
        let views: Vec<_> = inputs.iter().map(View::tensor).collect();
        let sum = || ops::einsum(&self.pool, &views, equation).map_err(|error| error.to_string());
        let out = self.uncut(is_one_row, sum)?;
        Ok((out.shape().to_vec(), out.into_data()))
    }
}

fn with_bias(bias: Option<BiasVector<'_, f32>>) -> GemmOptions<'_, f32, f32, f32> {
    GemmOptions {
        bias,
        ..GemmOptions::default()
    }
}

/// A convolution of one channel of results, where each is a sum over the input's channels: with the
/// pixels as rows of the product.
fn one_result(
    x: &View<'_>,
    weight: &View<'_>,
    bias: Option<&[f32]>,
    window: &Window<'_>,
) -> Option<Result<Vec<f32>, String>> {
    let is_point = weight.shape[2..].iter().all(|&size| size == 1)
        && window.strides.iter().all(|&stride| stride == 1)
        && window.pads.iter().all(|&pad| pad == 0);
    if !is_point || weight.shape[0] != 1 || window.groups != 1 {
        return None;
    }
    let (channels, area) = (x.shape[1], x.shape[2..].iter().product::<usize>());
    let mut out = vec![bias.map_or(0.0, |bias| bias[0]); x.shape[0] * area];
    let kernel = NdTensorView::from_data([channels, 1], weight.data);
    let images = x.data.chunks_exact(channels * area);
    for (out, image) in out.chunks_exact_mut(area).zip(images) {
        let pixels = NdTensorView::from_data([channels, area], image).transposed();
        let (a, b) = (GemmInputA::Unpacked(pixels), GemmInputB::Unpacked(kernel));
        let options = GemmOptions {
            beta: 1.0,
            ..GemmOptions::default()
        };
        let done = GemmExecutor::<f32>::default().gemm(out, a, b, options);
        if let Err(error) = done {
            return Some(Err(error.to_string()));
        }
    }
    Some(Ok(out))
}

/// The same by a kernel of ours, where each channel has one kernel of its own.
fn depthwise_conv(
    x: &View<'_>,
    weight: &View<'_>,
    bias: Option<&[f32]>,
    window: &Window<'_>,
) -> Option<Vec<f32>> {
    let channels = x.shape[1];
    if window.groups != channels || weight.shape[0] != channels || weight.shape[1] != 1 {
        return None;
    }
    // One dimension is a plane of one row.
    let two = |values: &[usize], row: usize| match *values {
        [columns] => Some([row, columns]),
        [rows, columns] => Some([rows, columns]),
        _ => None,
    };
    let pads = match *window.pads {
        [before, after] => [0, 0, before, after],
        [top, left, bottom, right] => [top, bottom, left, right],
        _ => return None,
    };
    let input = two(&x.shape[2..], 1)?;
    let kernel = two(&weight.shape[2..], 1)?;
    let (strides, dilations) = (two(window.strides, 1)?, two(window.dilations, 1)?);
    let results = |i: usize| -> Option<usize> {
        let padded = input[i] + pads[2 * i] + pads[2 * i + 1];
        Some(padded.checked_sub((kernel[i] - 1) * dilations[i] + 1)? / strides[i] + 1)
    };
    let shape = depthwise::Shape {
        input,
        output: [results(0)?, results(1)?],
        kernel,
        strides,
        dilations,
        pads,
    };
    let padded = shape.padded()?;
    Some(depthwise::depthwise(
        x.data,
        weight.data,
        bias,
        channels,
        &shape,
        padded,
    ))
}

/// Softmax of each row, in place.
pub(crate) fn softmax_rows(data: &mut [f32], row: usize) {
    if row > 0 {
        for row in data.chunks_exact_mut(row) {
            vecmath::Softmax::new_mut(row).dispatch();
        }
    }
}

/// Functions of each element, in place.
pub(crate) fn exp(data: &mut [f32]) {
    vecmath::Exp {}.map_mut(data);
}

pub(crate) fn tanh(data: &mut [f32]) {
    vecmath::Tanh {}.map_mut(data);
}

pub(crate) fn sigmoid(data: &mut [f32]) {
    vecmath::Sigmoid {}.map_mut(data);
}

pub(crate) fn silu(data: &mut [f32]) {
    vecmath::Silu {}.map_mut(data);
}

pub(crate) fn erf(data: &mut [f32]) {
    vecmath::Erf {}.map_mut(data);
}

pub(crate) fn gelu(data: &mut [f32]) {
    vecmath::Gelu {}.map_mut(data);
}

pub(crate) fn gelu_tanh(data: &mut [f32]) {
    vecmath::ApproxGelu {}.map_mut(data);
}
