//! Quantization into memory of its own, for callers without buffers.

use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};

use quant_core::{
    Blocks, ErrorStats, FloatType, GeometryError, Granularity, IntType, Params, ParamsError,
    STATS_CHUNK, Scheme,
};

use crate::{ArgumentError, Backend, Element, ProcessError, Sink, TensorQuantizer, argument};

/// All values with one scale and zero point: their codes, and these. Codes of fewer than 8 bits are
/// packed as [`Packing`](quant_core::Packing) says; [`as_i8`] shows those of int8 as integers.
///
/// # Errors
/// Values without usable parameters.
///
/// ```
/// use quant_core::{IntType, Mode, Scheme};
///
/// let weights = [0.5_f32, -1.27, 0.02, 1.0];
/// let (codes, params) = quant_simd::quantize(&weights, Scheme::new(IntType::Uint8, Mode::Affine))?;
/// assert_eq!(codes, [199, 0, 145, 255]);
/// assert_eq!(params.zero_point(), 143);
/// # Ok::<(), quant_core::ParamsError>(())
/// ```
pub fn quantize<F: Element>(
    values: &[F],
    scheme: Scheme,
) -> Result<(Vec<u8>, Params), ParamsError> {
    let backend = Backend::detect();
    let params = scheme.params(&backend.range(values), F::TYPE)?;
    let mut codes = vec![0; scheme.dtype.storage_len(values.len())];
    backend.quantize(values, scheme, params, &mut codes);
    Ok((codes, params))
}

/// The `count` values of what [`quantize`] made.
///
/// # Errors
/// Codes of another length than so many values have.
///
/// ```
/// use quant_simd::{IntType, Mode, Scheme, dequantize, quantize};
///
/// let scheme = Scheme::new(IntType::Int8, Mode::Symmetric);
/// let (codes, params) = quantize(&[0.5_f32, -1.27, 0.02, 1.0], scheme)?;
/// let values: Vec<f32> = dequantize(&codes, scheme, params, 4)?;
/// assert_eq!(values, [0.5, -1.27, 0.02, 1.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn dequantize<F: Element>(
    codes: &[u8],
    scheme: Scheme,
    params: Params,
    count: usize,
) -> Result<Vec<F>, ArgumentError> {
    argument::codes(codes.len(), count, scheme.dtype)?;
    let mut values = vec![F::zeroed(); count];
    Backend::detect().dequantize(codes, scheme, params, &mut values);
    Ok(values)
}

/// Codes of [`IntType::Int8`] as integers, without a copy.
///
/// ```
/// assert_eq!(quant_simd::as_i8(&[1, 255]), [1, -1]);
/// ```
pub fn as_i8(codes: &[u8]) -> &[i8] {
    bytemuck::cast_slice(codes)
}

/// Quantizes a whole tensor, row-major, on the current rayon pool.
///
/// # Errors
/// A granularity that does not fit the shape, another number of values than it has; values that are
/// not finite, or have no usable parameters.
///
/// ```
/// use quant_simd::{Granularity, IntType, Mode, Scheme, quantize_tensor};
///
/// let weights: Vec<f32> = (0..64 * 128).map(|i| (i as f32).sin()).collect();
/// let scheme = Scheme::new(IntType::Int8, Mode::Symmetric);
/// let rows = Granularity::PerChannel { axis: 0 };
/// let tensor = quantize_tensor(&weights, &[64, 128], scheme, &rows)?;
///
/// assert!(tensor.stats.sqnr_db() > 40.0);
/// let codes: &[i8] = tensor.int8_codes().expect("codes of int8");
/// assert_eq!((codes.len(), tensor.scales_f32().len()), (8192, 64));
/// let restored: Vec<f32> = tensor.dequantize()?;
/// assert!((restored[1] - weights[1]).abs() < 0.005);
///
/// let error = quantize_tensor(&weights, &[64, 127], scheme, &rows).unwrap_err();
/// assert_eq!(error.to_string(), "values: 8192 elements instead of 8128");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn quantize_tensor<F: Element>(
    values: &[F],
    shape: &[usize],
    scheme: Scheme,
    granularity: &Granularity,
) -> Result<QuantizedTensor, QuantizeError> {
    let blocks = Blocks::new(shape, granularity)?;
    let quantizer = TensorQuantizer::new(scheme, F::TYPE, blocks);
    Ok(quantizer.quantize_to_vec(values)?)
}

/// Why a tensor was not quantized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QuantizeError {
    /// The granularity does not fit the shape.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    /// The values do not fit the shape, or cannot be quantized.
    #[error(transparent)]
    Values(#[from] ProcessError<Infallible>),
}

/// A quantized tensor. Buffers are row-major.
// Exhaustive: callers make one of parts that they stored.
#[derive(Clone, Debug)]
pub struct QuantizedTensor {
    /// Scheme, type of the values, shape and blocks.
    pub quantizer: TensorQuantizer,
    /// Codes, packed where they have fewer than 8 bits.
    pub codes: Vec<u8>,
    /// Scales as little-endian bytes of [`TensorQuantizer::scale_type`].
    pub scales: Vec<u8>,
    /// Zero points; empty where the scheme stores none.
    pub zero_points: Vec<u8>,
    /// The error of the quantization.
    pub stats: ErrorStats,
}

impl QuantizedTensor {
    /// The codes of [`IntType::Int8`]; nothing for other types, for which see
    /// [`unpacked`](Self::unpacked).
    pub fn int8_codes(&self) -> Option<&[i8]> {
        (self.quantizer.scheme.dtype == IntType::Int8).then(|| as_i8(&self.codes))
    }

    /// The codes as numbers, whatever their type.
    ///
    /// # Errors
    /// Codes of another length than the shape's, if the field was changed.
    ///
    /// ```
    /// use quant_simd::{Granularity, IntType, Mode, Scheme, quantize_tensor};
    /// let scheme = Scheme::new(IntType::Int4, Mode::Symmetric);
    /// let tensor = quantize_tensor(&[-7.0_f32, 3.0, 1.0], &[3], scheme, &Granularity::PerTensor)?;
    /// assert_eq!(tensor.unpacked()?, [-7, 3, 1]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn unpacked(&self) -> Result<Vec<i16>, ArgumentError> {
        let (dtype, count) = (
            self.quantizer.scheme.dtype,
            self.quantizer.blocks.element_count(),
        );
        argument::codes(self.codes.len(), count, dtype)?;
        let mut codes = vec![0; count];
        let backend = self.quantizer.backend;
        backend.unpack(&self.codes, 0, dtype, &mut codes);
        let number = |code| dtype.value(code) as i16;
        Ok(codes.into_iter().map(number).collect())
    }

    /// The scales in f32, which is exact.
    pub fn scales_f32(&self) -> Vec<f32> {
        crate::tensor::widen(&self.scales, self.quantizer.scale_type())
    }

    /// The values that the codes stand for, on the current rayon pool.
    ///
    /// # Errors
    /// A scale or zero point that cannot be, or a buffer of another length, if a field was changed.
    pub fn dequantize<F: Element>(&self) -> Result<Vec<F>, ProcessError<Infallible>> {
        let mut values = vec![F::zeroed(); self.quantizer.blocks.element_count()];
        let sink = Buffers::new(bytemuck::cast_slice_mut(&mut values), &mut [], &mut []);
        let (codes, scales) = (&self.codes, &self.scales);
        self.quantizer
            .dequantize(codes, scales, &self.zero_points, F::TYPE, &sink)?;
        Ok(values)
    }
}

impl TensorQuantizer {
    /// With the kernels that [`Backend::detect`] finds.
    pub fn new(scheme: Scheme, source: FloatType, blocks: Blocks) -> Self {
        Self {
            backend: Backend::detect(),
            scheme,
            source,
            blocks,
            search: quant_core::Search::None,
            importance: None,
        }
    }

    /// The same with other kernels. The bytes do not depend on them.
    #[must_use]
    pub fn with_backend(self, backend: Backend) -> Self {
        Self { backend, ..self }
    }

    /// Quantizes a tensor on the current rayon pool.
    ///
    /// # Errors
    /// Another number of values than the shape has, or another type than this was made for. Non-finite
    /// values, or a block without usable parameters.
    ///
    /// ```
    /// use quant_core::{Blocks, FloatType, Granularity, IntType, Mode, Scheme};
    /// use quant_simd::TensorQuantizer;
    ///
    /// let (weights, scheme) = ([0.5_f32, -1.27, 0.02, 1.0], Scheme::new(IntType::Int8, Mode::Symmetric));
    ///
    /// let blocks = Blocks::new(&[2, 2], &Granularity::PerChannel { axis: 0 })?;
    /// let tensor = TensorQuantizer::new(scheme, FloatType::F32, blocks).quantize_to_vec(&weights)?;
    /// let restored: Vec<f32> = tensor.dequantize()?;
    ///
    /// assert_eq!(tensor.scales_f32(), [2.54 / 254.0, 2.0 / 254.0]);
    /// assert_eq!(restored[1], -1.27);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn quantize_to_vec<F: Element>(
        &self,
        values: &[F],
    ) -> Result<QuantizedTensor, ProcessError<Infallible>> {
        argument::float(F::TYPE, self.source)?;
        argument::elements("values", values.len(), self.blocks.element_count())?;
        let (mut codes, mut scales) = (vec![0; self.codes_len()], vec![0; self.scales_len()]);
        let mut zero_points = vec![0; self.zero_points_len()];
        let sink = Buffers::new(&mut codes, &mut scales, &mut zero_points);
        let stats = self.quantize(bytemuck::cast_slice(values), &sink)?;
        drop(sink);
        Ok(QuantizedTensor {
            quantizer: self.clone(),
            codes,
            scales,
            zero_points,
            stats,
        })
    }
}

/// A buffer in parts, so that threads seldom wait for one another.
type Shared<'a> = Vec<Mutex<&'a mut [u8]>>;

fn shared(buffer: &mut [u8]) -> Shared<'_> {
    buffer.chunks_mut(STATS_CHUNK).map(Mutex::new).collect()
}

fn put(buffer: &Shared<'_>, mut offset: usize, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let part = &buffer[offset / STATS_CHUNK];
        let mut part = part.lock().unwrap_or_else(PoisonError::into_inner);
        let part = &mut part[offset % STATS_CHUNK..];
        let count = part.len().min(bytes.len());
        part[..count].copy_from_slice(&bytes[..count]);
        (offset, bytes) = (offset + count, &bytes[count..]);
    }
}

/// The caller's buffers, for the parts of a tensor.
///
/// ```
/// use quant_core::{Blocks, FloatType, Granularity, IntType, Mode, Scheme};
/// use quant_simd::{Buffers, TensorQuantizer};
///
/// let values: Vec<u8> = [0.5_f32, -1.27, 0.02, 1.0].map(f32::to_le_bytes).concat();
/// let blocks = Blocks::new(&[2, 2], &Granularity::PerChannel { axis: 0 })?;
/// let scheme = Scheme::new(IntType::Int8, Mode::Symmetric);
/// let quantizer = TensorQuantizer::new(scheme, FloatType::F32, blocks);
///
/// let (mut codes, mut scales) = ([0; 4], [0; 8]);
/// quantizer.quantize_unmeasured(&values, &Buffers::new(&mut codes, &mut scales, &mut []))?;
/// assert_eq!(codes.map(|code| code as i8), [50, -127, 3, 127]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Buffers<'a> {
    lengths: [usize; 3],
    codes: Shared<'a>,
    scales: Shared<'a>,
    zero_points: Shared<'a>,
}

impl<'a> Buffers<'a> {
    /// For a tensor with [`TensorQuantizer::codes_len`] bytes of codes (or, in dequantizing, so many
    /// of values as there are), [`TensorQuantizer::scales_len`] of scales and
    /// [`TensorQuantizer::zero_points_len`] of zero points; with another length nothing is done, and the
    /// error says so.
    pub fn new(codes: &'a mut [u8], scales: &'a mut [u8], zero_points: &'a mut [u8]) -> Self {
        Self {
            lengths: [codes.len(), scales.len(), zero_points.len()],
            codes: shared(codes),
            scales: shared(scales),
            zero_points: shared(zero_points),
        }
    }
}

impl Sink for Buffers<'_> {
    type Error = Infallible;

    fn expect(&self, codes: usize, scales: usize, zero_points: usize) -> Result<(), ArgumentError> {
        let names = ["codes or values", "scales", "zero points"];
        let expected = [codes, scales, zero_points];
        for ((buffer, got), expected) in names.into_iter().zip(self.lengths).zip(expected) {
            argument::room(buffer, got, expected)?;
        }
        Ok(())
    }

    fn codes(&self, offset: usize, bytes: &[u8]) -> Result<(), Infallible> {
        put(&self.codes, offset, bytes);
        Ok(())
    }

    fn scales(&self, offset: usize, bytes: &[u8]) -> Result<(), Infallible> {
        put(&self.scales, offset, bytes);
        Ok(())
    }

    fn zero_points(&self, offset: usize, bytes: &[u8]) -> Result<(), Infallible> {
        put(&self.zero_points, offset, bytes);
        Ok(())
    }
}
