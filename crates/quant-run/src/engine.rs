//! The heavy arithmetic, by rten. Nothing else calls it, so that it can be exchanged: its functions
//! may become private, and `rten-gemm` with our own convolutions over it would take their place.
//!
//! Callers have checked the shapes; rten checks them again and returns errors.

use rten::BufferPool;
use rten::ops::{self, Padding};
use rten_simd::{SimdOp, SimdUnaryOp};
use rten_tensor::prelude::*;
use rten_tensor::{NdTensorView, TensorView};
use rten_vecmath as vecmath;

/// Buffers that results and temporaries come from.
#[derive(Default)]
pub(crate) struct Engine {
    pool: BufferPool,
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
        let out = out.map_err(|error| error.to_string())?;
        Ok((out.shape().to_vec(), out.into_data()))
    }

    /// Products of matrices, stacks of which broadcast.
    pub fn matmul(&self, x: View<'_>, y: View<'_>) -> Result<Vec<f32>, String> {
        let out = ops::matmul::<f32, f32, f32>(&self.pool, x.tensor(), y.tensor(), None);
        Ok(out.map_err(|error| error.to_string())?.into_data())
    }

    /// The sum of products that an equation names.
    pub fn einsum(
        &self,
        inputs: &[View<'_>],
        equation: &str,
    ) -> Result<(Vec<usize>, Vec<f32>), String> {
        let views: Vec<_> = inputs.iter().map(View::tensor).collect();
        let out = ops::einsum(&self.pool, &views, equation).map_err(|error| error.to_string())?;
        Ok((out.shape().to_vec(), out.into_data()))
    }
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
