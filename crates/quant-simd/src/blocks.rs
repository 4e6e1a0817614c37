//! Blocks of consecutive values with a scale each, on the caller's thread.

use quant_core::{FloatType, Params, Scheme, TensorError};

use crate::biased::{self, Biased, StoredBiased};
use crate::kernels::blocks::BATCH;
use crate::kernels::range::AreScales;
use crate::param_layout::{Batches, ParamLayout, is_block_size};
use crate::param_source::BLOCKS;
use crate::param_source::LARGEST_PAIR;
use crate::params::{BlockRows, KernelParams};
use crate::slice::assert_storage;
use crate::{Backend, Element, argument, dialects, stream};

/// Scales that [`Backend::quantize_blocks`] holds in f32 where it stores others: as many blocks fill
/// whole bytes of codes, whatever their size.
const SCALES: usize = 2048;

impl Backend {
    /// Scale, zero point and codes of blocks of `block_size` consecutive values; the last may be
    /// shorter. `S` is the type that the scheme stores scales in. `zero_points` is empty where
    /// the scheme stores none; in a dialect that stores biases it holds these, as little-endian bytes
    /// of `S`. Codes are packed without gaps. Blocks of 32, 64, 128 and 256 are quantized many at a
    /// time where there is a kernel, others one by one.
    ///
    /// # Errors
    /// The first block that has no usable parameters; what was written by then is of no use.
    ///
    /// # Panics
    /// If `block_size` is 0, a buffer does not have the right length, or `S` is not the scheme's
    /// scale type for `F`.
    #[track_caller]
    // Long: the checks of its buffers, then batches and what they leave over.
    pub fn quantize_blocks<F: Element, S: Element>(
        self,
        values: &[F],
        block_size: usize,
        scheme: Scheme,
        codes: &mut [u8],
        scales: &mut [S],
        zero_points: &mut [u8],
    ) -> Result<(), TensorError> {
        assert_storage(scheme.dtype, values.len(), codes);
        assert_blocks(scheme, values.len(), block_size, scales, zero_points);
        assert_scale_type(scheme, F::TYPE, S::TYPE);
        if biased::serves(scheme, block_size) {
            let blocks = Biased {
                values,
                block_size,
                scheme,
                codes,
                scales,
                biases: zero_points,
                clipped: None,
                given: None,
            };
            return blocks.quantize(self);
        }
        if !dialects::has_kernels(scheme) {
            let buffers = (codes, scales, zero_points);
            return self.quantize_one_by_one(values, block_size, scheme, buffers);
        }
        let stream = stream::is_worthwhile(size_of_val(values), codes.len());
        let mut blocks = Batches {
            values,
            block_size,
            scheme,
            codes,
            scales: &mut [],
            zero_points,
            stream,
        };
        if S::TYPE == FloatType::F32 {
            blocks.scales = bytemuck::cast_slice_mut(scales);
            return self.quantize_some_blocks(blocks);
        }
        // Some blocks at a time, an even number: their codes start at whole bytes.
        let mut wide = [0.0; SCALES];
        let mut done = 0;
        for scales in scales.chunks_mut(SCALES) {
            let len = blocks.values.len().min(block_size.saturating_mul(SCALES));
            let (values, rest) = blocks.values.split_at(len);
            let (codes, rest_codes) = blocks.codes.split_at_mut(scheme.dtype.storage_len(len));
            let stored = scales.len().min(blocks.zero_points.len());
            let (zero_points, rest_zero_points) = blocks.zero_points.split_at_mut(stored);
            let wide = &mut wide[..scales.len()];
            self.quantize_some_blocks(Batches {
                values,
                codes,
                scales: wide,
                zero_points,
                ..blocks
            })
            .map_err(|error| TensorError {
                block: done + error.block,
                ..error
            })?;
            S::narrow_slice(self, wide, FloatType::F32, scales);
            done += scales.len();
            blocks = Batches {
                values: rest,
                codes: rest_codes,
                scales: &mut [],
                zero_points: rest_zero_points,
                ..blocks
            };
        }
        Ok(())
    }

    /// Blocks that no kernel serves.
    fn quantize_one_by_one<F: Element, S: Element>(
        self,
        values: &[F],
        block_size: usize,
        scheme: Scheme,
        (codes, scales, zero_points): (&mut [u8], &mut [S], &mut [u8]),
    ) -> Result<(), TensorError> {
        let size = scheme.offset().size(S::TYPE);
        for (block, scale) in scales.iter_mut().enumerate() {
            let start = block * block_size;
            let values = &values[start..values.len().min(start + block_size)];
            let params = scheme
                .params(&self.range(values), F::TYPE)
                .map_err(|source| TensorError { block, source })?;
            self.quantize_at(values, scheme, params, codes, start);
            *scale = S::from_f32(params.scale());
            params.store_offset(scheme.offset(), &mut zero_points[block * size..][..size]);
        }
        Ok(())
    }

    fn dequantize_one_by_one<S: Element, F: Element>(
        self,
        stored: StoredBlocks<'_, S>,
        values: &mut [F],
    ) -> Result<(), TensorError> {
        let scheme = stored.scheme;
        let size = scheme.offset().size(S::TYPE);
        for (block, values) in values.chunks_mut(stored.block_size).enumerate() {
            let offset = &stored.zero_points[block * size..][..size];
            let scale = stored.scales[block].to_f32();
            let params = Params::from_stored(scheme, scale, offset, S::TYPE)
                .map_err(|source| TensorError { block, source })?;
            let place = ParamLayout::stored(scheme, params);
            let start = block * stored.block_size;
            self.dequantize_at(stored.codes, scheme.dtype, place, S::TYPE, values, start);
        }
        Ok(())
    }

    /// The values of what [`Backend::quantize_blocks`] wrote.
    ///
    /// # Errors
    /// The first block whose scale or zero point cannot be.
    ///
    /// # Panics
    /// If `block_size` is 0 or a buffer does not have the right length.
    #[track_caller]
    // Long: the checks of its buffers, then one case per way in which blocks lie.
    pub fn dequantize_blocks<S: Element, F: Element>(
        self,
        codes: &[u8],
        block_size: usize,
        scheme: Scheme,
        scales: &[S],
        zero_points: &[u8],
        values: &mut [F],
    ) -> Result<(), TensorError> {
        assert_storage(scheme.dtype, values.len(), codes);
        assert_blocks(scheme, values.len(), block_size, scales, zero_points);
        if biased::serves(scheme, block_size) {
            let blocks = StoredBiased {
                codes,
                block_size,
                scheme,
                scales: bytemuck::cast_slice(scales),
                biases: zero_points,
            };
            return blocks.dequantize::<S, F>(self, values);
        }
        if !dialects::has_kernels(scheme) {
            let stored = StoredBlocks {
                codes,
                block_size,
                scheme,
                scales,
                zero_points,
            };
            return self.dequantize_one_by_one(stored, values);
        }
        let stream = stream::is_worthwhile(codes.len(), size_of_val(values));
        let mut start = 0;
        for scales in scales.chunks(BLOCKS) {
            let blocks = start / block_size;
            let len = (scales.len() * block_size).min(values.len() - start);
            let zero_points = match zero_points.is_empty() {
                true => zero_points,
                false => &zero_points[blocks..][..scales.len()],
            };
            // Whole bytes: as many blocks have an even number of codes.
            let codes = &codes[scheme.dtype.storage_len(start)..];
            let codes = &codes[..scheme.dtype.storage_len(len)];
            let values = &mut values[start..start + len];
            let stored = StoredBlocks {
                codes,
                block_size,
                scheme,
                scales,
                zero_points,
            };
            self.dequantize_some_blocks(stored, values, stream)
                .map_err(|error| TensorError {
                    block: blocks + error.block,
                    ..error
                })?;
            start += len;
        }
        Ok(())
    }
}

/// Some blocks as they are stored.
struct StoredBlocks<'a, S> {
    codes: &'a [u8],
    block_size: usize,
    scheme: Scheme,
    scales: &'a [S],
    zero_points: &'a [u8],
}

impl Backend {
    fn quantize_some_blocks<F: Element>(self, blocks: Batches<'_, F>) -> Result<(), TensorError> {
        let Batches {
            values,
            block_size,
            scheme,
            codes,
            scales,
            zero_points,
            stream,
        } = blocks;
        let mut done = 0;
        while done < scales.len() {
            let start = done * block_size;
            let stored = scheme.dtype.storage_len(start);
            if is_block_size(block_size) {
                let batches = F::quantize_batches(
                    self,
                    Batches {
                        values: &values[start..],
                        block_size,
                        scheme,
                        codes: &mut codes[stored..],
                        scales: &mut scales[done..],
                        zero_points: match zero_points.is_empty() {
                            true => &mut [],
                            false => &mut zero_points[done..],
                        },
                        stream,
                    },
                );
                done += batches * BATCH;
            }
            // A batch with a degenerate block, or what is left over.
            let end = (done + BATCH).min(scales.len());
            for (block, scale) in scales.iter_mut().enumerate().take(end).skip(done) {
                let elements = block * block_size..values.len().min((block + 1) * block_size);
                let (range, offset) = (self.range(&values[elements.clone()]), elements.start);
                let params = scheme
                    .params(&range, F::TYPE)
                    .map_err(|source| TensorError { block, source })?;
                self.quantize_at(&values[elements], scheme, params, codes, offset);
                *scale = params.scale();
                if let Some(zero_point) = zero_points.get_mut(block) {
                    *zero_point = params.zero_point() as u8;
                }
            }
            done = end;
        }
        Ok(())
    }

    // Long: one case per way in which blocks lie.
    fn dequantize_some_blocks<S: Element, F: Element>(
        self,
        blocks: StoredBlocks<'_, S>,
        values: &mut [F],
        stream: bool,
    ) -> Result<(), TensorError> {
        let StoredBlocks {
            codes,
            block_size,
            scheme,
            scales,
            zero_points,
        } = blocks;
        // Scales that are there already, and no zero points, are the usual case.
        let mut own_scales;
        let mut own_zero_points;
        let mut usable: &[f32; BLOCKS] = match scales.first_chunk::<BLOCKS>() {
            Some(scales) if S::TYPE == FloatType::F32 => bytemuck::cast_ref(scales),
            _ => {
                own_scales = [0.0; BLOCKS];
                let own = &mut own_scales[..scales.len()];
                match S::TYPE {
                    FloatType::F32 => own.copy_from_slice(bytemuck::cast_slice(scales)),
                    FloatType::F16 | FloatType::Bf16 => S::widen_slice(self, scales, own),
                }
                &own_scales
            }
        };
        let mut usable_zero_points = &[0; BLOCKS];
        // Almost always all is well, which takes a vector or two to see.
        let (mut low, mut high) = (0, 0);
        if !zero_points.is_empty() {
            own_zero_points = [0; BLOCKS];
            for (zero_point, &code) in own_zero_points.iter_mut().zip(zero_points) {
                *zero_point = scheme.dtype.value(code);
                low = low.min(*zero_point);
                high = high.max(*zero_point);
            }
            usable_zero_points = &own_zero_points;
        }
        let whole_vectors = &usable[..scales.len().next_multiple_of(LARGEST_PAIR)];
        let well = self.run(AreScales(whole_vectors))
            && low >= scheme.qmin().min(0)
            && high <= scheme.qmax();
        if !well {
            let mut sure = *usable;
            for (block, scale) in sure[..scales.len()].iter_mut().enumerate() {
                let params = Params::new(scheme, *scale, usable_zero_points[block], S::TYPE)
                    .map_err(|source| TensorError { block, source })?;
                *scale = params.scale();
            }
            own_scales = sure;
            usable = &own_scales;
        }
        if is_block_size(block_size) {
            let kernel_params = BlockRows::stored(usable, usable_zero_points);
            let place = ParamLayout::PerBlock(kernel_params, block_size, !zero_points.is_empty());
            self.dequantize_through(codes, scheme.dtype, place, S::TYPE, values, stream);
            return Ok(());
        }
        for (block, values) in values.chunks_mut(block_size).enumerate() {
            let own = KernelParams {
                floats: [usable[block]; 4],
                zero_point: usable_zero_points[block],
            };
            let offset = block * block_size;
            let place = ParamLayout::Uniform(own);
            self.dequantize_at(codes, scheme.dtype, place, S::TYPE, values, offset);
        }
        Ok(())
    }
}

#[track_caller]
fn assert_scale_type(scheme: Scheme, source: FloatType, got: FloatType) {
    let (dialect, wanted) = (scheme.dialect, scheme.dialect.scale_type(source));
    assert!(
        got == wanted,
        "scales of {got}, where {dialect} stores {wanted}"
    );
}

#[track_caller]
fn assert_blocks<S: Element>(
    scheme: Scheme,
    count: usize,
    block_size: usize,
    scales: &[S],
    zero_points: &[u8],
) {
    assert_ne!(block_size, 0, "a block size of 0");
    let blocks = count.div_ceil(block_size);
    argument::expect(argument::elements("scales", scales.len(), blocks));
    let stored = blocks * scheme.offset().size(S::TYPE);
    argument::expect(argument::offsets(zero_points.len(), stored, blocks));
}
