//! The functions on slices, on the caller's thread.

use quant_core::{ErrorStats, FloatType, IntType, Params, Range, STATS_CHUNK, Scheme, TensorError};

use crate::dispatch::{BLOCKS, Batches, Coding, Dispatch, Place, is_block_size};
use crate::kernels::blocks::BATCH;
use crate::kernels::error::ErrorSums;
use crate::kernels::pack::{Pack, Unpack};
use crate::kernels::range::AreScales;
use crate::terms::{BlockRows, Terms};
use crate::{Backend, Element, stream};

/// Elements that a function works on at a time where it needs room for them.
const PIECE: usize = 2048;

/// Scales that [`Backend::quantize_blocks`] holds in f32 where it stores others; an even number.
const SCALES: usize = 2048;

impl Backend {
    /// The range of `values`, and how many of them are NaN or infinite.
    ///
    /// ```
    /// let range = quant_simd::Backend::detect().range(&[0.5_f32, -2.0, f32::NAN]);
    /// assert_eq!((range.min, range.max, range.non_finite), (-2.0, 0.5, 1));
    /// ```
    pub fn range<F: Element>(self, values: &[F]) -> Range {
        F::find_range(self, values)
    }

    /// Quantizes with given parameters and returns how many values were NaN or infinite. NaN
    /// becomes the zero point; infinities saturate; where the scale is 0, every code is 0. 4-bit
    /// codes are packed, the first in the low nibble; an odd count leaves the last high nibble 0.
    ///
    /// # Panics
    /// If `codes` does not have [`IntType::storage_len`] bytes.
    ///
    /// ```
    /// use quant_core::{FloatType, IntType, Mode, Params, Scheme};
    /// use quant_simd::Backend;
    ///
    /// let scheme = Scheme::new(IntType::Int8, Mode::Symmetric);
    /// let params = Params::new(scheme, 0.5, 0, FloatType::F32)?;
    /// let mut codes = [0; 4];
    /// Backend::detect().quantize(&[1.0_f32, -0.75, 0.25, 1e9], scheme, params, &mut codes);
    /// assert_eq!(codes.map(|code| code as i8), [2, -2, 0, 127]);
    /// # Ok::<(), quant_core::ParamsError>(())
    /// ```
    pub fn quantize<F: Element>(
        self,
        values: &[F],
        scheme: Scheme,
        params: Params,
        codes: &mut [u8],
    ) -> u64 {
        assert_storage(scheme.dtype, values.len(), codes);
        self.quantize_at(values, scheme, params, codes, 0)
    }

    /// [`Backend::quantize`], and what was lost by it, in one pass over memory.
    ///
    /// # Panics
    /// If `codes` does not have [`IntType::storage_len`] bytes.
    pub fn quantize_with_stats<F: Element>(
        self,
        values: &[F],
        scheme: Scheme,
        params: Params,
        codes: &mut [u8],
    ) -> ErrorStats {
        assert_storage(scheme.dtype, values.len(), codes);
        let (coding, terms) = Coding::of::<F>(scheme, params);
        let packed = scheme.dtype.bits() == 4;
        let (mut unpacked, mut became) = ([0; PIECE], [0.0; PIECE]);
        let mut total = ErrorStats::default();
        let chunk_len = scheme.dtype.storage_len(STATS_CHUNK);
        let chunks = values.chunks(STATS_CHUNK).zip(codes.chunks_mut(chunk_len));
        for (values, codes) in chunks {
            let mut sums = ErrorSums::default();
            let mut clipped = 0;
            let piece_len = scheme.dtype.storage_len(PIECE);
            let pieces = values.chunks(PIECE).zip(codes.chunks_mut(piece_len));
            for (values, codes) in pieces {
                let became = &mut became[..values.len()];
                let bytes = match packed {
                    true => &mut unpacked[..values.len()],
                    false => &mut *codes,
                };
                let place = Place::Uniform(terms);
                clipped += F::encode(self, values, coding, place, bytes, became).clipped;
                if packed {
                    self.run(Pack {
                        codes: &unpacked[..values.len()],
                        packed: codes,
                    });
                }
                F::add_errors(self, values, became, &mut sums);
            }
            let mut stats = sums.stats();
            stats.saturated = clipped;
            total = total.then(stats);
        }
        total
    }

    /// `scale * (code - zero_point)`, rounded to the scale's type and from there to `F`. 4-bit
    /// codes are packed.
    ///
    /// # Panics
    /// If `codes` does not have [`IntType::storage_len`] bytes.
    pub fn dequantize<F: Element>(
        self,
        codes: &[u8],
        scheme: Scheme,
        params: Params,
        values: &mut [F],
    ) {
        assert_storage(scheme.dtype, values.len(), codes);
        let terms = Terms::stored(params);
        let place = Place::Uniform(terms);
        self.dequantize_at(codes, scheme.dtype, place, params.scale_type(), values, 0);
    }

    /// Quantizes and dequantizes in one pass, and returns how many values were NaN or infinite.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn fake_quantize<F: Element>(
        self,
        values: &[F],
        scheme: Scheme,
        params: Params,
        became: &mut [F],
    ) -> u64 {
        assert_eq!(values.len(), became.len(), "room for each value");
        let (coding, terms) = Coding::of::<F>(scheme, params);
        F::fake_quantize(self, values, coding, terms, became).non_finite
    }

    /// Scale, zero point and codes of blocks of `block_size` consecutive values; the last may be
    /// shorter. `S` is the type that the scheme stores scales in. `zero_points` is empty where
    /// the scheme stores none. 4-bit codes are packed without gaps. Blocks of 32, 64,
    /// 128 and 256 are quantized many at a time, others one by one.
    ///
    /// # Errors
    /// The first block that has no usable parameters; what was written by then is of no use.
    ///
    /// # Panics
    /// If `block_size` is 0, a buffer does not have the right length, or `S` is not the scheme's
    /// scale type for `F`.
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
        assert_eq!(
            S::TYPE,
            scheme.dialect.scale_type(F::TYPE),
            "the type of the scales"
        );
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

    /// The values of what [`Backend::quantize_blocks`] wrote.
    ///
    /// # Errors
    /// The first block whose scale or zero point cannot be.
    ///
    /// # Panics
    /// If `block_size` is 0 or a buffer does not have the right length.
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

    /// Packs 4-bit codes, one per byte, into nibbles `offset` and following of `packed`, the low
    /// nibble of a byte first. Other nibbles are left as they are.
    ///
    /// # Panics
    /// If `packed` is too short.
    ///
    /// ```
    /// let mut packed = [0x11, 0x11];
    /// quant_simd::Backend::detect().pack(&[7, 8], &mut packed, 1);
    /// assert_eq!(packed, [0x71, 0x18]);
    /// ```
    pub fn pack(self, codes: &[u8], packed: &mut [u8], offset: usize) {
        if codes.is_empty() {
            return;
        }
        let end = offset.checked_add(codes.len()).expect("a count of nibbles");
        let mut packed = &mut packed[offset / 2..end.div_ceil(2)];
        let mut codes = codes;
        if let (1, Some((&first, rest))) = (offset % 2, codes.split_first()) {
            packed[0] = packed[0] & 15 | first << 4;
            (codes, packed) = (rest, &mut packed[1..]);
        }
        if let (1, Some((&last, rest))) = (codes.len() % 2, codes.split_last()) {
            let end = packed.len() - 1;
            packed[end] = packed[end] & !15 | last & 15;
            (codes, packed) = (rest, &mut packed[..end]);
        }
        self.run(Pack { codes, packed });
    }

    /// Unpacks nibbles `offset` and following to one code per byte, sign-extended where `dtype`
    /// is signed.
    ///
    /// # Panics
    /// If `packed` is too short, or `dtype` has 8 bits.
    pub fn unpack(self, packed: &[u8], offset: usize, dtype: IntType, codes: &mut [u8]) {
        assert_eq!(dtype.bits(), 4, "only 4-bit codes are packed");
        if codes.is_empty() {
            return;
        }
        let end = offset.checked_add(codes.len()).expect("a count of nibbles");
        let mut packed = &packed[offset / 2..end.div_ceil(2)];
        let mut codes = codes;
        let signed = dtype.is_signed();
        if offset % 2 == 1 && !codes.is_empty() {
            let (first, rest) = codes.split_at_mut(1);
            first[0] = match signed {
                true => (packed[0] as i8 >> 4) as u8,
                false => packed[0] >> 4,
            };
            (codes, packed) = (rest, &packed[1..]);
        }
        self.run(Unpack {
            packed,
            codes,
            signed,
        });
    }

    /// The statistics of `values` against what they became; `saturated` is 0.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn error_stats<F: Element>(self, values: &[F], became: &[f32]) -> ErrorStats {
        assert_eq!(values.len(), became.len(), "what each value became");
        let mut total = ErrorStats::default();
        for (values, became) in values.chunks(STATS_CHUNK).zip(became.chunks(STATS_CHUNK)) {
            let mut sums = ErrorSums::default();
            F::add_errors(self, values, became, &mut sums);
            total = total.then(sums.stats());
        }
        total
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

/// What the public functions, and the tensor driver, are made of.
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
            // A batch with a block out of the ordinary, or what is left over.
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

    /// Quantizes into codes `offset` and following, which may start within a byte.
    fn quantize_at<F: Element>(
        self,
        values: &[F],
        scheme: Scheme,
        params: Params,
        codes: &mut [u8],
        offset: usize,
    ) -> u64 {
        let (coding, terms) = Coding::of::<F>(scheme, params);
        let place = Place::Uniform(terms);
        let (mut values, mut start) = (values, offset);
        let mut non_finite = 0;
        if scheme.dtype.bits() == 4 {
            if offset % 2 == 1 && !values.is_empty() {
                let (first, rest) = values.split_at(1);
                let mut code = [0];
                non_finite += F::quantize(self, first, coding, place, &mut code, false);
                codes[offset / 2] = codes[offset / 2] & 15 | code[0] << 4;
                (values, start) = (rest, offset + 1);
            }
            start /= 2;
        }
        let codes = &mut codes[start..start + scheme.dtype.storage_len(values.len())];
        let stream = stream::is_worthwhile(size_of_val(values), codes.len());
        non_finite + F::quantize(self, values, coding, place, codes, stream)
    }

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
                S::widen_slice(self, scales, &mut own_scales[..scales.len()]);
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
        let well =
            self.run(AreScales(usable)) && low >= scheme.qmin().min(0) && high <= scheme.qmax();
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
            let terms = BlockRows::stored(usable, usable_zero_points);
            let place = Place::PerBlock(terms, block_size, !zero_points.is_empty());
            self.dequantize_through(codes, scheme.dtype, place, S::TYPE, values, stream);
            return Ok(());
        }
        for (block, values) in values.chunks_mut(block_size).enumerate() {
            let own = Terms {
                floats: [usable[block]; 4],
                zero_point: usable_zero_points[block],
            };
            let offset = block * block_size;
            let place = Place::Uniform(own);
            self.dequantize_at(codes, scheme.dtype, place, S::TYPE, values, offset);
        }
        Ok(())
    }

    /// Dequantizes codes `offset` and following, which may start within a byte.
    pub(crate) fn dequantize_at<F: Element>(
        self,
        codes: &[u8],
        dtype: IntType,
        place: Place<'_>,
        scale_type: FloatType,
        values: &mut [F],
        offset: usize,
    ) {
        let (mut place, mut values, mut start) = (place, values, offset);
        if dtype.bits() == 4 {
            if offset % 2 == 1 && !values.is_empty() {
                let code = [codes[offset / 2] >> 4];
                let (first, rest) = values.split_at_mut(1);
                self.dequantize_through(&code, dtype, place, scale_type, first, false);
                (place, values, start) = (place.skip(1), rest, offset + 1);
            }
            start /= 2;
        }
        let codes = &codes[start..start + dtype.storage_len(values.len())];
        let stream = stream::is_worthwhile(codes.len(), size_of_val(values));
        self.dequantize_through(codes, dtype, place, scale_type, values, stream);
    }

    /// Dequantizes, rounding to the scale's type first where that is neither f32 nor `F`.
    pub(crate) fn dequantize_through<F: Element>(
        self,
        codes: &[u8],
        dtype: IntType,
        place: Place<'_>,
        scale_type: FloatType,
        values: &mut [F],
        stream: bool,
    ) {
        if scale_type == FloatType::F32 || scale_type == F::TYPE {
            F::dequantize(self, codes, dtype, place, values, stream);
            return;
        }
        let mut wide = [0.0; PIECE];
        for (i, values) in values.chunks_mut(PIECE).enumerate() {
            let codes = &codes[dtype.storage_len(i * PIECE)..];
            let codes = &codes[..dtype.storage_len(values.len())];
            let wide = &mut wide[..values.len()];
            let place = place.skip(i * PIECE);
            f32::dequantize(self, codes, dtype, place, wide, false);
            F::narrow_slice(self, wide, scale_type, values);
        }
    }
}

pub(crate) fn assert_storage(dtype: IntType, count: usize, codes: &[u8]) {
    assert_eq!(codes.len(), dtype.storage_len(count), "room for each code");
}

fn assert_blocks<S>(
    scheme: Scheme,
    count: usize,
    block_size: usize,
    scales: &[S],
    zero_points: &[u8],
) {
    assert_ne!(block_size, 0, "a block size");
    let blocks = count.div_ceil(block_size);
    assert_eq!(scales.len(), blocks, "one scale per block");
    let stored = if scheme.stores_zero_point() {
        blocks
    } else {
        0
    };
    assert_eq!(
        zero_points.len(),
        stored,
        "a zero point per block, if stored"
    );
}
