//! Quantization into memory of its own, for callers without buffers.

use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};

use quant_core::{Blocks, ErrorStats, FloatType, Params, ParamsError, STATS_CHUNK, Scheme};

use crate::{Backend, Element, ProcessError, Sink, TensorQuantizer};

/// All values with one scale and zero point: their codes (4-bit codes packed), and these.
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

/// A quantized tensor. Buffers are row-major.
#[derive(Clone, Debug)]
pub struct QuantizedTensor {
    /// Scheme, type of the values, shape and blocks.
    pub quantizer: TensorQuantizer,
    /// Codes, packed where they have 4 bits.
    pub codes: Vec<u8>,
    /// Scales as little-endian bytes of [`TensorQuantizer::scale_type`].
    pub scales: Vec<u8>,
    /// Zero points; empty where the scheme stores none.
    pub zero_points: Vec<u8>,
    /// What was lost.
    pub stats: ErrorStats,
}

impl QuantizedTensor {
    /// The scales in f32, which is exact.
    pub fn scales(&self) -> Vec<f32> {
        crate::tensor::widen(&self.scales, self.quantizer.scale_type())
    }

    /// The values that the codes stand for, on the current rayon pool.
    ///
    /// # Errors
    /// A scale or zero point that cannot be, if a field was changed.
    ///
    /// # Panics
    /// If a buffer's length was changed.
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
        }
    }

    /// Quantizes a tensor on the current rayon pool.
    ///
    /// # Errors
    /// Non-finite values, or a block without usable parameters.
    ///
    /// # Panics
    /// If `values` does not have the geometry's size, or `F` is not the type it was made for.
    ///
    /// ```
    /// use quant_core::{Blocks, FloatType, Granularity, IntType, Mode, Scheme};
    /// use quant_simd::TensorQuantizer;
    ///
    /// let (weights, scheme) = ([0.5_f32, -1.27, 0.02, 1.0], Scheme::new(IntType::Int8, Mode::Symmetric));
    ///
    /// let blocks = Blocks::new(&[2, 2], &Granularity::PerChannel { axis: 0 })?;
    /// let tensor = TensorQuantizer::new(scheme, FloatType::F32, blocks).quantize_to_vec(&weights)?;
    /// let became: Vec<f32> = tensor.dequantize()?;
    ///
    /// assert_eq!(tensor.scales(), [2.54 / 254.0, 2.0 / 254.0]);
    /// assert_eq!(became[1], -1.27);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn quantize_to_vec<F: Element>(
        &self,
        values: &[F],
    ) -> Result<QuantizedTensor, ProcessError<Infallible>> {
        assert_eq!(F::TYPE, self.source, "the type that this was made for");
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
    codes: Shared<'a>,
    scales: Shared<'a>,
    zero_points: Shared<'a>,
}

impl<'a> Buffers<'a> {
    /// For a tensor with [`TensorQuantizer::codes_len`] bytes of codes (or, in dequantizing, so many
    /// of values as there are), [`TensorQuantizer::scales_len`] of scales and
    /// [`TensorQuantizer::zero_points_len`] of zero points. A part that has no place panics.
    pub fn new(codes: &'a mut [u8], scales: &'a mut [u8], zero_points: &'a mut [u8]) -> Self {
        Self {
            codes: shared(codes),
            scales: shared(scales),
            zero_points: shared(zero_points),
        }
    }
}

impl Sink for Buffers<'_> {
    type Error = Infallible;

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
