//! The functions on slices, on the caller's thread.

use quant_core::{ErrorStats, IntType, Params, Range, STATS_CHUNK, Scheme, TensorError, reference};

use crate::{Backend, Element};

impl Backend {
    /// The range of `values`, and how many of them are NaN or infinite.
    pub fn range<F: Element>(self, values: &[F]) -> Range {
        reference::range(values)
    }

    /// Quantizes with given parameters and returns how many values were NaN or infinite. NaN
    /// becomes the zero point; infinities saturate. 4-bit codes are packed.
    ///
    /// # Panics
    /// If `codes` does not have [`IntType::storage_len`] bytes.
    pub fn quantize<F: Element>(
        self,
        values: &[F],
        scheme: Scheme,
        params: Params,
        codes: &mut [u8],
    ) -> u64 {
        let mut bytes = vec![0; values.len()];
        let bad = reference::quantize(values, scheme, params, &mut bytes);
        store(scheme.dtype, &bytes, codes);
        bad
    }

    /// [`Backend::quantize`], and what was lost by it, in one pass.
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
        self.quantize(values, scheme, params, codes);
        let mut became = vec![0.0; values.len()];
        self.dequantize(codes, scheme, params, &mut became);
        let mut stats = self.error_stats(values, &became);
        stats.saturated = reference::saturated(values, scheme, params);
        stats
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
        let bytes = load(scheme.dtype, codes, values.len());
        reference::dequantize(&bytes, scheme, params, values);
    }

    /// Quantizes and dequantizes, and returns how many values were NaN or infinite.
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
        let mut bytes = vec![0; values.len()];
        let bad = reference::quantize(values, scheme, params, &mut bytes);
        reference::dequantize(&bytes, scheme, params, became);
        bad
    }

    /// Scale, zero point and codes of blocks of `block_size` consecutive values; the last may be
    /// shorter. `S` is the type that the scheme stores scales in. `zero_points` is empty where
    /// the scheme stores none. 4-bit codes are packed without gaps.
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
        let mut bytes = vec![0; values.len()];
        let blocks = values.chunks(block_size).zip(bytes.chunks_mut(block_size));
        for (block, (values, bytes)) in blocks.enumerate() {
            let params = scheme
                .params(&reference::range(values), F::TYPE)
                .map_err(|source| TensorError { block, source })?;
            reference::quantize(values, scheme, params, bytes);
            scales[block] = S::from_f32(params.scale());
            if scheme.stores_zero_point() {
                zero_points[block] = params.zero_point() as u8;
            }
        }
        store(scheme.dtype, &bytes, codes);
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
        let bytes = load(scheme.dtype, codes, values.len());
        let blocks = bytes.chunks(block_size).zip(values.chunks_mut(block_size));
        for (block, (bytes, values)) in blocks.enumerate() {
            let zero_point = match zero_points.get(block) {
                Some(&code) => scheme.dtype.value(code),
                None => 0,
            };
            let params = Params::new(scheme, scales[block].to_f32(), zero_point, S::TYPE)
                .map_err(|source| TensorError { block, source })?;
            reference::dequantize(bytes, scheme, params, values);
        }
        Ok(())
    }

    /// Merges each column's range into `ranges`, for a row-major matrix of `ranges.len()` columns.
    ///
    /// # Panics
    /// If `values` is not a whole number of rows.
    pub fn column_ranges<F: Element>(self, values: &[F], ranges: &mut [Range]) {
        for row in values.chunks(ranges.len().max(1)) {
            for (value, range) in row.iter().zip(&mut *ranges) {
                *range = range.merge(reference::range(&[*value]));
            }
        }
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
        let mut bytes = vec![0; values.len()];
        let mut bad = 0;
        for (i, (value, byte)) in values.iter().zip(&mut bytes).enumerate() {
            let params = columns.params[i % columns.params.len()];
            bad += reference::quantize(
                &[*value],
                columns.scheme,
                params,
                std::slice::from_mut(byte),
            );
        }
        store(columns.scheme.dtype, &bytes, codes);
        bad
    }

    /// The values of what [`Backend::quantize_columns`] wrote.
    ///
    /// # Panics
    /// If `values` is not a whole number of rows, or `codes` does not have
    /// [`IntType::storage_len`] bytes.
    pub fn dequantize_columns<F: Element>(self, codes: &[u8], columns: &Columns, values: &mut [F]) {
        let bytes = load(columns.scheme.dtype, codes, values.len());
        for (i, (value, byte)) in values.iter_mut().zip(&bytes).enumerate() {
            let params = columns.params[i % columns.params.len()];
            reference::dequantize(
                &[*byte],
                columns.scheme,
                params,
                std::slice::from_mut(value),
            );
        }
    }

    /// Packs 4-bit codes, one per byte, into nibbles `offset` and following of `packed`, the low
    /// nibble of a byte first. Other nibbles are left as they are.
    ///
    /// # Panics
    /// If `packed` is too short.
    pub fn pack(self, codes: &[u8], packed: &mut [u8], offset: usize) {
        for (i, &code) in codes.iter().enumerate() {
            let (byte, shift) = ((offset + i) / 2, (offset + i) % 2 * 4);
            packed[byte] = packed[byte] & !(15 << shift) | (code & 15) << shift;
        }
    }

    /// Unpacks nibbles `offset` and following to one code per byte, sign-extended where `dtype`
    /// is signed.
    ///
    /// # Panics
    /// If `packed` is too short, or `dtype` has 8 bits.
    pub fn unpack(self, packed: &[u8], offset: usize, dtype: IntType, codes: &mut [u8]) {
        let mut all = vec![0; offset + codes.len()];
        reference::unpack(&packed[..all.len().div_ceil(2)], dtype, &mut all);
        codes.copy_from_slice(&all[offset..]);
    }

    /// The statistics of `values` against what they became; `saturated` is 0.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn error_stats<F: Element>(self, values: &[F], became: &[f32]) -> ErrorStats {
        assert_eq!(values.len(), became.len(), "what each value became");
        let chunks = values.chunks(STATS_CHUNK).zip(became.chunks(STATS_CHUNK));
        let stats = chunks.map(|(values, became)| {
            let values = values.iter().map(|value| value.to_f32());
            ErrorStats::of_chunk(values.zip(became.iter().copied()))
        });
        stats.fold(ErrorStats::default(), ErrorStats::then)
    }
}

/// The parameters of a matrix' columns, laid out for the kernels.
#[derive(Clone, Debug)]
pub struct Columns {
    scheme: Scheme,
    params: Vec<Params>,
}

impl Columns {
    /// Parameters per column, for values of type `source`.
    pub fn new(scheme: Scheme, source: quant_core::FloatType, params: &[Params]) -> Self {
        let _ = source;
        Self {
            scheme,
            params: params.to_vec(),
        }
    }
}

fn store(dtype: IntType, bytes: &[u8], codes: &mut [u8]) {
    match dtype.bits() {
        4 => reference::pack(bytes, codes),
        _ => codes.copy_from_slice(bytes),
    }
}

fn load(dtype: IntType, codes: &[u8], count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    match dtype.bits() {
        4 => reference::unpack(codes, dtype, &mut bytes),
        _ => bytes.copy_from_slice(codes),
    }
    bytes
}
