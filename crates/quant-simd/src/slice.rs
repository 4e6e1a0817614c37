//! The functions on slices, on the caller's thread.

use std::marker::PhantomData;

use quant_core::{ErrorStats, FloatType, IntType, Params, Range, STATS_CHUNK, Scheme, TensorError};

use crate::kernels::blocks::{BATCH, QuantizeBlocks};
use crate::kernels::columns::{BoundColumns, ROWS};
use crate::kernels::dequantize::Dequantize;
use crate::kernels::encode::{Encode, Encoded};
use crate::kernels::error::{AddErrors, ErrorSums};
use crate::kernels::pack::{Pack, Unpack};
use crate::kernels::quantize::Quantize;
use crate::kernels::range::FindRange;
use crate::kernels::widen::Widen;
use crate::kernels::{Bytes, Packed};
use crate::terms::{
    CodeRange, Divide, Division, Exact, Half, PerBlock, PerElement, SCALE, Source, TermRows,
    TermTable, Terms, Uniform,
};
use crate::{Backend, Element, stream};

/// Elements that a function works on at a time where it needs room for them.
const PIECE: usize = 2048;

/// Scales that are checked at a time, an even number.
const SCALES: usize = 256;

/// Evaluates an expression with `$Q` the type that divides so.
macro_rules! by_division {
    ($division:expr, $Q:ident => $body:expr) => {
        match $division {
            Division::Exact => {
                type $Q = Exact;
                $body
            }
            Division::Half => {
                type $Q = Half;
                $body
            }
            Division::Divide => {
                type $Q = Divide;
                $body
            }
        }
    };
}

/// Evaluates an expression with `$C` the way codes of the type lie in memory.
macro_rules! by_form {
    ($dtype:expr, $C:ident => $body:expr) => {
        match $dtype.bits() {
            4 => {
                type $C = Packed;
                $body
            }
            _ => {
                type $C = Bytes;
                $body
            }
        }
    };
}

impl Backend {
    /// The range of `values`, and how many of them are NaN or infinite.
    ///
    /// ```
    /// let range = quant_simd::Backend::detect().range(&[0.5_f32, -2.0, f32::NAN]);
    /// assert_eq!((range.min, range.max, range.non_finite), (-2.0, 0.5, 1));
    /// ```
    pub fn range<F: Element>(self, values: &[F]) -> Range {
        self.run(FindRange(values))
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
        let (terms, division) = Terms::of(scheme, F::TYPE, params);
        self.quantize_from(values, scheme, Uniform(terms), division, codes)
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
        let (terms, division) = Terms::of(scheme, F::TYPE, params);
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
                let source = Uniform(terms);
                let scale_type = params.scale_type();
                let encoded =
                    self.encode(values, scheme, source, division, scale_type, bytes, became);
                clipped += encoded.clipped;
                if packed {
                    self.run(Pack {
                        codes: &unpacked[..values.len()],
                        packed: codes,
                    });
                }
                self.add_errors(values, became, &mut sums);
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
        let terms = stored_terms(params);
        self.dequantize_from(
            codes,
            scheme.dtype,
            Uniform(terms),
            params.scale_type(),
            values,
        );
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
        let (terms, division) = Terms::of(scheme, F::TYPE, params);
        let encoded = by_division!(division, Q => self.run(Encode::<_, _, _, Q, false> {
            values,
            codes: &mut [],
            became,
            source: Uniform(terms),
            range: CodeRange::of(scheme),
            arithmetic: scheme.dialect.arithmetic(F::TYPE),
            scale_type: params.scale_type(),
            way: PhantomData,
        }));
        encoded.non_finite
    }

    /// Scale, zero point and codes of blocks of `block_size` consecutive values; the last may be
    /// shorter. `S` is the type that the scheme stores scales in. `zero_points` is empty where
    /// the scheme stores none. 4-bit codes are packed without gaps. Blocks of 32, 64 and 128 are
    /// the fast ones.
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
        let batch = BATCH * block_size;
        let mut start = 0;
        while start < values.len() {
            let done = start / block_size;
            let zero_points = match zero_points.is_empty() {
                true => &mut [],
                false => &mut zero_points[done..],
            };
            // A batch starts at a whole byte: 32 blocks have an even number of codes.
            let codes = &mut codes[scheme.dtype.storage_len(start)..];
            let (values, scales) = (&values[start..], &mut scales[done..]);
            let batches =
                self.quantize_batches(values, block_size, scheme, codes, scales, zero_points);
            start += batches * batch;
            if batches * batch < values.len() {
                // One batch with a block out of the ordinary, or what is left.
                let rest = batches * batch..values.len().min((batches + 1) * batch);
                start += rest.len();
                let stored = scheme.dtype.storage_len(rest.start)..;
                let stored = &mut codes[stored][..scheme.dtype.storage_len(rest.len())];
                let blocks = rest.start / block_size..rest.end.div_ceil(block_size);
                self.quantize_each_block(
                    &values[rest],
                    block_size,
                    scheme,
                    stored,
                    &mut scales[blocks.clone()],
                    match zero_points.is_empty() {
                        true => &mut [],
                        false => &mut zero_points[blocks.clone()],
                    },
                )
                .map_err(|error| TensorError {
                    block: done + blocks.start + error.block,
                    ..error
                })?;
            }
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
        let mut start = 0;
        for scales in scales.chunks(SCALES) {
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
            self.dequantize_some_blocks(codes, block_size, scheme, scales, zero_points, values)
                .map_err(|error| TensorError {
                    block: blocks + error.block,
                    ..error
                })?;
            start += len;
        }
        Ok(())
    }

    /// Merges each column's range into `ranges`, for a row-major matrix of `ranges.len()` columns.
    ///
    /// # Panics
    /// If `values` is not a whole number of rows.
    pub fn column_ranges<F: Element>(self, values: &[F], ranges: &mut [Range]) {
        let count = ranges.len();
        assert!(
            values.is_empty() || values.len().is_multiple_of(count.max(1)),
            "whole rows"
        );
        if values.is_empty() {
            return;
        }
        let mut bounds = ColumnBounds::new(count);
        bounds.widen(self, values, 0);
        bounds.merge_into(ranges);
    }

    /// Quantizes a row-major matrix whose columns have parameters of their own, and returns how
    /// many values were NaN or infinite. 4-bit codes are packed without gaps between rows.
    ///
    /// # Panics
    /// If `values` is not a whole number of rows, or `codes` does not have
    /// [`IntType::storage_len`] bytes.
    pub fn quantize_columns<F: Element>(
        self,
        values: &[F],
        columns: &Columns,
        codes: &mut [u8],
    ) -> u64 {
        assert_storage(columns.scheme.dtype, values.len(), codes);
        columns.assert_rows(values.len());
        assert_eq!(
            F::TYPE,
            columns.source,
            "the type that the columns were made for"
        );
        let step = columns.width();
        let codes_step = columns.scheme.dtype.storage_len(step);
        let rows = values.chunks(step).zip(codes.chunks_mut(codes_step));
        let stream = stream::is_worthwhile(
            size_of_val(values),
            columns.scheme.dtype.storage_len(values.len()),
        );
        let mut non_finite = 0;
        for (values, codes) in rows {
            let source = PerElement(columns.terms.rows());
            let division = columns.terms.division();
            non_finite +=
                self.quantize_streaming(values, columns.scheme, source, division, codes, stream);
        }
        non_finite
    }

    /// The values of what [`Backend::quantize_columns`] wrote.
    ///
    /// # Panics
    /// If `values` is not a whole number of rows, or `codes` does not have
    /// [`IntType::storage_len`] bytes.
    pub fn dequantize_columns<F: Element>(self, codes: &[u8], columns: &Columns, values: &mut [F]) {
        let dtype = columns.scheme.dtype;
        assert_storage(dtype, values.len(), codes);
        columns.assert_rows(values.len());
        let step = columns.width();
        let rows = values
            .chunks_mut(step)
            .zip(codes.chunks(dtype.storage_len(step)));
        for (values, codes) in rows {
            let source = PerElement(columns.stored.rows());
            self.dequantize_from(codes, dtype, source, columns.scale_type, values);
        }
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
            self.add_errors(values, became, &mut sums);
            total = total.then(sums.stats());
        }
        total
    }
}

/// What the public functions, and the tensor driver, are made of.
impl Backend {
    /// Codes of values whose terms come from `source`, packed where they have 4 bits.
    pub(crate) fn quantize_from<F: Element, S: Source>(
        self,
        values: &[F],
        scheme: Scheme,
        source: S,
        division: Division,
        codes: &mut [u8],
    ) -> u64 {
        let stream = stream::is_worthwhile(size_of_val(values), codes.len());
        self.quantize_streaming(values, scheme, source, division, codes, stream)
    }

    fn quantize_streaming<F: Element, S: Source>(
        self,
        values: &[F],
        scheme: Scheme,
        source: S,
        division: Division,
        codes: &mut [u8],
        stream: bool,
    ) -> u64 {
        by_division!(division, Q => by_form!(scheme.dtype, C => {
            self.run(Quantize::<_, _, Q, C> {
                values,
                codes,
                source,
                range: CodeRange::of(scheme),
                arithmetic: scheme.dialect.arithmetic(F::TYPE),
                stream,
                way: PhantomData,
            })
        }))
    }

    /// Codes, one per byte, and what the values became.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn encode<F: Element, S: Source>(
        self,
        values: &[F],
        scheme: Scheme,
        source: S,
        division: Division,
        scale_type: FloatType,
        codes: &mut [u8],
        became: &mut [f32],
    ) -> Encoded {
        by_division!(division, Q => self.run(Encode::<_, _, _, Q, true> {
            values,
            codes,
            became,
            source,
            range: CodeRange::of(scheme),
            arithmetic: scheme.dialect.arithmetic(F::TYPE),
            scale_type,
            way: PhantomData,
        }))
    }

    /// Adds to the sums of a chunk.
    pub(crate) fn add_errors<F: Element>(self, values: &[F], became: &[f32], sums: &mut ErrorSums) {
        self.run(AddErrors {
            values,
            became,
            sums,
        });
    }

    /// Values of codes whose stored terms come from `source`.
    pub(crate) fn dequantize_from<F: Element, S: Source>(
        self,
        codes: &[u8],
        dtype: IntType,
        source: S,
        scale_type: FloatType,
        values: &mut [F],
    ) {
        let stream = stream::is_worthwhile(codes.len(), size_of_val(values));
        self.dequantize_streaming(codes, dtype, source, scale_type, values, stream);
    }

    fn dequantize_streaming<F: Element, S: Source>(
        self,
        codes: &[u8],
        dtype: IntType,
        source: S,
        scale_type: FloatType,
        values: &mut [F],
        stream: bool,
    ) {
        let rounds = scale_type != FloatType::F32 && scale_type != F::TYPE;
        macro_rules! run {
            ($C:ty, $signed:literal, $rounds:literal) => {
                self.run(Dequantize::<_, _, $C, $signed, $rounds> {
                    codes,
                    values,
                    source,
                    stream,
                    scale_type,
                    form: PhantomData,
                })
            };
        }
        match (dtype, rounds) {
            (IntType::Int8, false) => run!(Bytes, true, false),
            (IntType::Int8, true) => run!(Bytes, true, true),
            (IntType::Uint8, false) => run!(Bytes, false, false),
            (IntType::Uint8, true) => run!(Bytes, false, true),
            (IntType::Int4, false) => run!(Packed, true, false),
            (IntType::Int4, true) => run!(Packed, true, true),
            (IntType::Uint4, false) => run!(Packed, false, false),
            (IntType::Uint4, true) => run!(Packed, false, true),
        }
    }

    /// Whole batches of blocks, up to one with a block out of the ordinary; how many.
    fn quantize_batches<F: Element, S: Element>(
        self,
        values: &[F],
        block_size: usize,
        scheme: Scheme,
        codes: &mut [u8],
        scales: &mut [S],
        zero_points: &mut [u8],
    ) -> usize {
        let stream = stream::is_worthwhile(size_of_val(values), codes.len());
        let half = scheme.dialect.arithmetic(F::TYPE) == FloatType::F16;
        let division = match half {
            true => Division::Half,
            false => Division::Exact,
        };
        macro_rules! run {
            ($Q:ty, $C:ty, $block:literal) => {
                self.run(QuantizeBlocks::<_, _, $Q, $C, $block> {
                    values,
                    codes,
                    scales,
                    zero_points,
                    scheme,
                    stream,
                    way: PhantomData,
                })
            };
        }
        if !self.has_reciprocal() {
            return 0;
        }
        by_division!(division, Q => by_form!(scheme.dtype, C => match block_size {
            32 => run!(Q, C, 32),
            64 => run!(Q, C, 64),
            128 => run!(Q, C, 128),
            _ => 0,
        }))
    }

    /// Blocks of any size, one by one.
    fn quantize_each_block<F: Element, S: Element>(
        self,
        values: &[F],
        block_size: usize,
        scheme: Scheme,
        codes: &mut [u8],
        scales: &mut [S],
        zero_points: &mut [u8],
    ) -> Result<(), TensorError> {
        for (block, values) in values.chunks(block_size).enumerate() {
            let params = scheme
                .params(&self.range(values), F::TYPE)
                .map_err(|source| TensorError { block, source })?;
            self.quantize_at(values, scheme, params, codes, block * block_size);
            scales[block] = S::from_f32(params.scale());
            if let Some(zero_point) = zero_points.get_mut(block) {
                *zero_point = params.zero_point() as u8;
            }
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
    ) {
        let (terms, division) = Terms::of(scheme, F::TYPE, params);
        let source = Uniform(terms);
        let mut values = values;
        let mut start = offset;
        if scheme.dtype.bits() == 4 {
            if let (1, Some((first, rest))) = (offset % 2, values.split_first()) {
                let mut code = [0];
                let first = core::slice::from_ref(first);
                self.quantize_from(first, scheme, source, division, &mut code);
                codes[offset / 2] = codes[offset / 2] & 15 | code[0] << 4;
                (values, start) = (rest, offset + 1);
            }
            start /= 2;
        }
        let end = start + scheme.dtype.storage_len(values.len());
        self.quantize_from(values, scheme, source, division, &mut codes[start..end]);
    }

    fn dequantize_some_blocks<S: Element, F: Element>(
        self,
        codes: &[u8],
        block_size: usize,
        scheme: Scheme,
        scales: &[S],
        zero_points: &[u8],
        values: &mut [F],
    ) -> Result<(), TensorError> {
        let mut wide = [0.0; SCALES];
        let mut stored = [0; SCALES];
        let (wide, stored) = (&mut wide[..scales.len()], &mut stored[..scales.len()]);
        self.run(Widen {
            from: scales,
            to: wide,
        });
        for (stored, &code) in stored.iter_mut().zip(zero_points) {
            *stored = scheme.dtype.value(code);
        }
        for (block, (scale, &zero_point)) in wide.iter_mut().zip(&*stored).enumerate() {
            let params = Params::new(scheme, *scale, zero_point, S::TYPE)
                .map_err(|source| TensorError { block, source })?;
            *scale = params.scale();
        }
        let mut rows: [&[f32]; 4] = [&[]; 4];
        rows[SCALE] = wide;
        let rows = TermRows {
            floats: rows,
            zero_points: stored,
        };
        let stream = stream::is_worthwhile(codes.len(), size_of_val(values));
        let dtype = scheme.dtype;
        macro_rules! run {
            ($block:literal) => {
                self.dequantize_streaming(
                    codes,
                    dtype,
                    PerBlock::<$block>(rows),
                    S::TYPE,
                    values,
                    stream,
                )
            };
        }
        match block_size {
            32 => run!(32),
            64 => run!(64),
            128 => run!(128),
            _ => {
                for (block, values) in values.chunks_mut(block_size).enumerate() {
                    let mut floats = [0.0; 4];
                    floats[SCALE] = rows.floats[SCALE][block];
                    let terms = Terms {
                        floats,
                        zero_point: rows.zero_points[block],
                    };
                    self.dequantize_at(codes, dtype, terms, S::TYPE, values, block * block_size);
                }
            }
        }
        Ok(())
    }

    /// Dequantizes codes `offset` and following, which may start within a byte.
    fn dequantize_at<F: Element>(
        self,
        codes: &[u8],
        dtype: IntType,
        terms: Terms,
        scale_type: FloatType,
        values: &mut [F],
        offset: usize,
    ) {
        let mut values = values;
        let mut start = offset;
        if dtype.bits() == 4 {
            if offset % 2 == 1 && !values.is_empty() {
                let code = [codes[offset / 2] >> 4];
                let (first, rest) = values.split_at_mut(1);
                self.dequantize_from(&code, dtype, Uniform(terms), scale_type, first);
                (values, start) = (rest, offset + 1);
            }
            start /= 2;
        }
        let codes = &codes[start..start + dtype.storage_len(values.len())];
        self.dequantize_from(codes, dtype, Uniform(terms), scale_type, values);
    }
}

/// The parameters of a matrix' columns, laid out for the kernels.
#[derive(Clone, Debug)]
pub struct Columns {
    scheme: Scheme,
    source: FloatType,
    scale_type: FloatType,
    count: usize,
    repeats: usize,
    terms: TermTable,
    stored: TermTable,
}

impl Columns {
    /// Parameters per column, for values of type `source`.
    ///
    /// # Panics
    /// If the scales are not all of one type.
    pub fn new(scheme: Scheme, source: FloatType, params: &[Params]) -> Self {
        let scale_type = params.first().map_or(FloatType::F32, Params::scale_type);
        let count = params.len();
        let repeats = repeats(count);
        let (mut terms, mut stored) = (TermTable::default(), TermTable::default());
        for _ in 0..repeats {
            for &column in params {
                assert_eq!(column.scale_type(), scale_type, "scales of one type");
                let (own, division) = Terms::of(scheme, source, column);
                terms.push(own, division, 1);
                stored.push(stored_terms(column), division, 1);
            }
        }
        terms.push(Terms::default(), terms.division(), LARGEST_GROUP);
        stored.push(Terms::default(), stored.division(), LARGEST_GROUP);
        Self {
            scheme,
            source,
            scale_type,
            count,
            repeats,
            terms,
            stored,
        }
    }

    fn width(&self) -> usize {
        (self.count * self.repeats).max(1)
    }

    fn assert_rows(&self, len: usize) {
        assert!(
            len == 0 || len.is_multiple_of(self.count.max(1)) && self.count > 0,
            "whole rows"
        );
    }
}

/// Elements of the largest instruction set's group.
const LARGEST_GROUP: usize = 64;

/// Rows that are treated as one: narrow ones together fill vectors, and an even number of columns
/// keeps packed codes at whole bytes.
fn repeats(columns: usize) -> usize {
    let repeats = 512_usize.div_ceil(columns.max(1));
    match columns % 2 {
        1 => repeats.next_multiple_of(2),
        _ => repeats,
    }
}

/// Ranges of columns, as they grow.
pub(crate) struct ColumnBounds {
    count: usize,
    min: Vec<f32>,
    max: Vec<f32>,
    non_finite: Vec<u64>,
}

impl ColumnBounds {
    pub(crate) fn new(count: usize) -> Self {
        let width = count * repeats(count);
        Self {
            count,
            min: vec![f32::INFINITY; width],
            max: vec![f32::NEG_INFINITY; width],
            non_finite: vec![0; count],
        }
    }

    /// Adds elements that follow one another, from column `first` on.
    pub(crate) fn widen<F: Element>(&mut self, backend: Backend, values: &[F], first: usize) {
        let width = self.min.len();
        let (head, rows) = values.split_at(((width - first) % width).min(values.len()));
        self.widen_rows(backend, [head; ROWS], first);
        let mut whole = rows.chunks_exact(width * ROWS);
        for rows in &mut whole {
            let (a, b) = rows.split_at(2 * width);
            let ((a, b), (c, d)) = (a.split_at(width), b.split_at(width));
            self.widen_rows(backend, [a, b, c, d], 0);
        }
        for row in whole.remainder().chunks(width) {
            self.widen_rows(backend, [row; ROWS], 0);
        }
    }

    fn widen_rows<F: Element>(&mut self, backend: Backend, rows: [&[F]; ROWS], first: usize) {
        let columns = first..first + rows[0].len();
        let finite = backend.run(BoundColumns {
            rows,
            min: &mut self.min[columns.clone()],
            max: &mut self.max[columns],
        });
        if !finite {
            for (r, row) in rows.iter().enumerate() {
                if rows[..r].iter().any(|other| core::ptr::eq(*other, *row)) {
                    continue;
                }
                for (i, value) in row.iter().enumerate() {
                    let finite = value.to_f32().is_finite();
                    self.non_finite[(first + i) % self.count] += u64::from(!finite);
                }
            }
        }
    }

    pub(crate) fn merge_into(&self, ranges: &mut [Range]) {
        for (i, (&min, &max)) in self.min.iter().zip(&self.max).enumerate() {
            let range = &mut ranges[i % self.count];
            *range = range.merge(Range {
                min,
                max,
                non_finite: 0,
            });
        }
        for (range, non_finite) in ranges.iter_mut().zip(&self.non_finite) {
            range.non_finite += non_finite;
        }
    }
}

/// Terms for codes as they are stored: the scale, and the zero point as it is.
pub(crate) fn stored_terms(params: Params) -> Terms {
    let mut floats = [0.0; 4];
    floats[SCALE] = params.scale();
    Terms {
        floats,
        zero_point: params.zero_point(),
    }
}

fn assert_storage(dtype: IntType, count: usize, codes: &[u8]) {
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
