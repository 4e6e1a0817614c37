//! Blocks with a scale and a bias each, many at a time.

use quant_core::{FloatType, Packing, Params, ParamsError, Scheme, TensorError, reference};

use crate::dialects::mlx::{BATCH, LARGEST, ToDequantize, ToQuantize};
use crate::param_layout::{ParamLayout, is_block_size};
use crate::{Backend, Element, dialects, stream};

/// Blocks that are done at a time.
const SPAN: usize = 8 * BATCH;

/// Blocks and what becomes of them. Of the last block values may lack.
pub(crate) struct Biased<'a, F, S> {
    pub values: &'a [F],
    pub block_size: usize,
    pub scheme: Scheme,
    /// Packed.
    pub codes: &'a mut [u8],
    pub scales: &'a mut [S],
    /// As bytes of `S`.
    pub biases: &'a mut [u8],
    /// Where values whose code is clipped are counted, if that is wanted.
    pub clipped: Option<&'a mut u64>,
    /// Scales and biases that were searched, as values are quantized with them.
    pub given: Option<[&'a [f32]; 2]>,
}

/// Whether many of these blocks are done at a time.
pub(crate) fn serves(scheme: Scheme, block_size: usize) -> bool {
    dialects::has_bias_formula(scheme) && is_block_size(block_size) && block_size <= LARGEST
}

impl<F: Element, S: Element> Biased<'_, F, S> {
    /// Finds scales and biases, and quantizes with them.
    ///
    /// # Errors
    /// The first block without usable parameters.
    pub fn quantize(mut self, backend: Backend) -> Result<(), TensorError> {
        let far = stream::is_beyond_cache(size_of_val(self.values));
        let most = match self.scheme.dtype.packing() {
            Packing::Bytes | Packing::Nibbles => SPAN,
            // Those take room of their own.
            Packing::Bits(_) => BATCH,
        };
        let mut bytes = [0; BATCH * LARGEST];
        let mut start = 0;
        while start < self.scales.len() {
            let left = (self.values.len() / self.block_size).saturating_sub(start);
            let done = match left {
                BATCH.. => {
                    let blocks = left.min(most) / BATCH * BATCH;
                    self.batches(backend, start, blocks, far, &mut bytes)
                }
                _ => self.part_of_a_batch(backend, start, left),
            };
            start += done;
            if done == 0 {
                let end = self.scales.len().min(start + BATCH);
                for block in start..end {
                    self.block(backend, block)?;
                }
                start = end;
            }
        }
        Ok(())
    }

    /// Whole batches; gives the number of blocks done. `bytes` is room for codes that are packed later.
    fn batches(
        &mut self,
        backend: Backend,
        start: usize,
        blocks: usize,
        far: bool,
        bytes: &mut [u8; BATCH * LARGEST],
    ) -> usize {
        let (dtype, size) = (self.scheme.dtype, self.block_size);
        let values = &self.values[start * size..][..blocks * size];
        let mut wide = [[0.0; SPAN]; 2];
        let [scales, biases] = &mut wide;
        let given = self.take_given(start, &mut scales[..blocks], &mut biases[..blocks]);
        let codes = match dtype.packing() {
            Packing::Bytes | Packing::Nibbles => {
                &mut self.codes[dtype.storage_len(start * size)..]
                    [..dtype.storage_len(blocks * size)]
            }
            Packing::Bits(_) => &mut bytes[..blocks * size],
        };
        let batches = ToQuantize {
            values,
            codes,
            scales,
            biases,
            dtype,
            block_size: size,
            clipped: self.clipped.as_deref_mut(),
            far,
            given,
        };
        let done = F::quantize_mlx(backend, batches) * BATCH;
        if let Packing::Bits(_) = dtype.packing() {
            backend.pack(&bytes[..done * size], dtype, self.codes, start * size);
        }
        self.store(backend, start, &scales[..done], &biases[..done]);
        done
    }

    /// Some blocks beside zeros, which fill a batch; gives the number of blocks done.
    fn part_of_a_batch(&mut self, backend: Backend, start: usize, blocks: usize) -> usize {
        let (dtype, size) = (self.scheme.dtype, self.block_size);
        let count = blocks * size;
        if count == 0 {
            return 0;
        }
        let mut values = [F::zeroed(); BATCH * LARGEST];
        values[..count].copy_from_slice(&self.values[start * size..][..count]);
        let mut codes = [0; BATCH * LARGEST];
        // Ones for blocks that there are not, so that they divide.
        let [mut scales, mut biases] = [[1.0; BATCH], [0.0; BATCH]];
        let given = self.take_given(start, &mut scales[..blocks], &mut biases[..blocks]);
        let batch = ToQuantize {
            values: &values[..BATCH * size],
            codes: &mut codes,
            scales: &mut scales,
            biases: &mut biases,
            dtype,
            block_size: size,
            clipped: self.clipped.as_deref_mut(),
            far: false,
            given,
        };
        if F::quantize_mlx(backend, batch) == 0 {
            return 0;
        }
        match dtype.packing() {
            Packing::Bytes | Packing::Nibbles => {
                let len = dtype.storage_len(count);
                self.codes[dtype.storage_len(start * size)..][..len].copy_from_slice(&codes[..len]);
            }
            Packing::Bits(_) => backend.pack(&codes[..count], dtype, self.codes, start * size),
        }
        self.store(backend, start, &scales[..blocks], &biases[..blocks]);
        blocks
    }

    /// The scales and biases of some blocks, if they are given.
    fn take_given(&self, start: usize, scales: &mut [f32], biases: &mut [f32]) -> bool {
        let Some([all_scales, all_biases]) = self.given else {
            return false;
        };
        scales.copy_from_slice(&all_scales[start..][..scales.len()]);
        biases.copy_from_slice(&all_biases[start..][..biases.len()]);
        true
    }

    /// Rounds scales and biases to the type that they are stored in.
    fn store(&mut self, backend: Backend, start: usize, scales: &[f32], biases: &[f32]) {
        let to = &mut self.scales[start..][..scales.len()];
        S::narrow_slice(backend, scales, FloatType::F32, to);
        let mut narrow = [S::zeroed(); SPAN];
        let narrow = &mut narrow[..biases.len()];
        S::narrow_slice(backend, biases, FloatType::F32, narrow);
        let bytes: &[u8] = bytemuck::cast_slice(narrow);
        self.biases[start * size_of::<S>()..][..bytes.len()].copy_from_slice(bytes);
    }

    /// One block, by the reference.
    fn block(&mut self, backend: Backend, block: usize) -> Result<(), TensorError> {
        let start = block * self.block_size;
        let values = &self.values[start..self.values.len().min(start + self.block_size)];
        // Those that their type cannot hold are the plain ones.
        let given = self.given.and_then(|[scales, biases]| {
            Params::with_bias(scales[block], biases[block], F::TYPE).ok()
        });
        let found = match given {
            Some(params) => Ok(params),
            None => self.scheme.params(&backend.range(values), F::TYPE),
        };
        let params = found.map_err(|source| TensorError { block, source })?;
        backend.quantize_at(values, self.scheme, params, self.codes, start);
        if let Some(clipped) = &mut self.clipped {
            **clipped += reference::saturated(values, self.scheme, params);
        }
        self.scales[block] = S::from_f32(params.scale());
        let to = &mut self.biases[block * size_of::<S>()..][..size_of::<S>()];
        params.store_offset(self.scheme.offset(), to);
        Ok(())
    }
}

/// Quantized blocks. Of the last one codes may lack.
#[derive(Clone, Copy)]
pub(crate) struct StoredBiased<'a> {
    pub codes: &'a [u8],
    pub block_size: usize,
    pub scheme: Scheme,
    /// As bytes of the type of the scales.
    pub scales: &'a [u8],
    pub biases: &'a [u8],
}

impl StoredBiased<'_> {
    /// The values of the codes.
    ///
    /// # Errors
    /// The first block whose scale or bias is not finite.
    pub fn dequantize<S: Element, F: Element>(
        self,
        backend: Backend,
        values: &mut [F],
    ) -> Result<(), TensorError> {
        let (dtype, size) = (self.scheme.dtype, self.block_size);
        let mut narrow = [[S::zeroed(); BATCH]; 2];
        let mut wide = [[0.0; BATCH]; 2];
        let mut bytes = [0; BATCH * LARGEST];
        for (i, values) in values.chunks_mut(BATCH * size).enumerate() {
            let start = i * BATCH;
            let blocks = values.len().div_ceil(size);
            for (part, from) in [self.scales, self.biases].into_iter().enumerate() {
                let from = &from[start * size_of::<S>()..][..blocks * size_of::<S>()];
                bytemuck::cast_slice_mut(&mut narrow[part][..blocks]).copy_from_slice(from);
                S::widen_slice(backend, &narrow[part][..blocks], &mut wide[part][..blocks]);
            }
            let [scales, biases] = &wide;
            expect_finite(&scales[..blocks], start, ParamsError::InvalidScale)?;
            expect_finite(&biases[..blocks], start, ParamsError::InvalidBias)?;
            let codes = match dtype.packing() {
                Packing::Bytes | Packing::Nibbles => {
                    let from = dtype.storage_len(start * size);
                    &self.codes[from..][..dtype.storage_len(values.len())]
                }
                Packing::Bits(_) => {
                    let bytes = &mut bytes[..values.len()];
                    backend.unpack(self.codes, start * size, dtype, bytes);
                    bytes
                }
            };
            // What the kernel does at a time may be two blocks.
            let whole = values.len() / (2 * size) * (2 * size);
            let (values, rest) = values.split_at_mut(whole);
            let blocks = ToDequantize {
                codes,
                values,
                scales,
                biases,
                through: S::TYPE,
                block_size: size,
            };
            F::dequantize_mlx(backend, blocks, dtype);
            for (j, rest) in rest.chunks_mut(size).enumerate() {
                let block = whole / size + j;
                let found = Params::with_bias(scales[block], biases[block], S::TYPE);
                let params = found.map_err(|source| TensorError {
                    block: start + block,
                    source,
                })?;
                let place = ParamLayout::stored(self.scheme, params);
                let at = (start + block) * size;
                backend.dequantize_at(self.codes, dtype, place, S::TYPE, rest, at);
            }
        }
        Ok(())
    }
}

fn expect_finite(floats: &[f32], start: usize, source: ParamsError) -> Result<(), TensorError> {
    match floats.iter().position(|float| !float.is_finite()) {
        Some(i) => Err(TensorError {
            block: start + i,
            source,
        }),
        None => Ok(()),
    }
}
