//! Tensors in ndarray's arrays.

use std::convert::Infallible;

use ndarray::{ArrayBase, ArrayD, Data, Dimension};
use quant_core::{Granularity, Scheme};

use crate::{Element, ProcessError, QuantizeError, QuantizedTensor, quantize_tensor};

impl QuantizedTensor {
    /// Quantizes an array or a view. One that is not in row-major order is copied first.
    ///
    /// # Errors
    /// A granularity that does not fit the shape; values that are not finite, or have no usable
    /// parameters.
    ///
    /// ```
    /// use ndarray::{arr2, s};
    /// use quant_core::{Granularity, IntType, Mode, Scheme};
    /// use quant_simd::QuantizedTensor;
    ///
    /// let weights = arr2(&[[0.5_f32, -1.27, 9.0], [0.25, 1.0, 9.0]]);
    /// let scheme = Scheme::new(IntType::Int8, Mode::Symmetric);
    /// let columns = Granularity::PerChannel { axis: 1 };
    /// let tensor = QuantizedTensor::from_array(&weights.slice(s![.., ..2]), scheme, &columns)?;
    /// assert_eq!(tensor.scales_f32(), [1.0 / 254.0, 2.54 / 254.0]);
    /// assert_eq!(tensor.to_array::<f32>()?[[0, 1]], -1.27);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn from_array<F, S, D>(
        array: &ArrayBase<S, D>,
        scheme: Scheme,
        granularity: &Granularity,
    ) -> Result<Self, QuantizeError>
    where
        F: Element,
        S: Data<Elem = F>,
        D: Dimension,
    {
        let ordered = array.as_standard_layout();
        let values = ordered.as_slice().expect("row-major order");
        quantize_tensor(values, array.shape(), scheme, granularity)
    }

    /// [`QuantizedTensor::dequantize`], in the tensor's shape.
    ///
    /// # Errors
    /// As `dequantize`.
    pub fn to_array<F: Element>(&self) -> Result<ArrayD<F>, ProcessError<Infallible>> {
        let shape = self.quantizer.blocks.shape();
        let array = ArrayD::from_shape_vec(shape, self.dequantize()?);
        Ok(array.expect("as many values as the shape has"))
    }
}
