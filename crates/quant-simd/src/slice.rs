//! The functions on slices, on the caller's thread.

use quant_core::{
    ErrorStats, FloatType, IntType, Mode, Packing, Params, STATS_CHUNK, Scheme, ValueRange,
    reference,
};

use crate::dispatch::Dispatch;
use crate::kernels::error::ErrorSums;
use crate::measured::Measured;
use crate::pack::clear_behind;
use crate::param_layout::{EncodeSpec, ParamLayout};
use crate::{Backend, Element, argument, stream};

/// Elements that a function works on at a time where it needs room for them: as many fill whole
/// bytes of codes.
const PIECE: usize = 2048;

impl Backend {
    /// The range of `values`, and how many of them are NaN or infinite.
    ///
    /// ```
    /// let range = quant_simd::Backend::detect().range(&[0.5_f32, -2.0, f32::NAN]);
    /// assert_eq!((range.min, range.max, range.non_finite), (-2.0, 0.5, 1));
    /// ```
    pub fn range<F: Element>(self, values: &[F]) -> ValueRange {
        F::find_range(self, values)
    }

    /// Quantizes with given parameters and returns how many values were NaN or infinite. NaN
    /// becomes the zero point; infinities saturate; where the scale is 0, every code is 0. Codes are
    /// packed as [`Packing`] says.
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
    #[track_caller]
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
    #[track_caller]
    pub fn quantize_with_stats<F: Element>(
        self,
        values: &[F],
        scheme: Scheme,
        params: Params,
        codes: &mut [u8],
    ) -> ErrorStats {
        assert_storage(scheme.dtype, values.len(), codes);
        let (spec, place) = EncodeSpec::new::<F>(scheme, params);
        let mut total = ErrorStats::default();
        let chunk_len = scheme.dtype.storage_len(STATS_CHUNK);
        let chunks = values.chunks(STATS_CHUNK).zip(codes.chunks_mut(chunk_len));
        for (values, codes) in chunks {
            let mut measured = Measured::default();
            if scheme.dtype.packing().is_packed() {
                let mut unpacked = [0; PIECE];
                let piece_len = scheme.dtype.storage_len(PIECE);
                for (values, codes) in values.chunks(PIECE).zip(codes.chunks_mut(piece_len)) {
                    let unpacked = &mut unpacked[..values.len()];
                    self.encode_measured(values, spec, place, unpacked, &mut measured);
                    self.pack_all(unpacked, scheme.dtype, codes);
                }
            } else {
                self.encode_measured(values, spec, place, codes, &mut measured);
            }
            total = total.then(measured.stats());
        }
        total
    }

    /// `scale * (code - zero_point)`, rounded to the scale's type and from there to `F`. Codes are
    /// packed as [`Packing`] says.
    ///
    /// # Panics
    /// If `codes` does not have [`IntType::storage_len`] bytes.
    #[track_caller]
    pub fn dequantize<F: Element>(
        self,
        codes: &[u8],
        scheme: Scheme,
        params: Params,
        values: &mut [F],
    ) {
        assert_storage(scheme.dtype, values.len(), codes);
        let place = ParamLayout::stored(scheme, params);
        self.dequantize_at(codes, scheme.dtype, place, params.scale_type(), values, 0);
    }

    /// Quantizes and dequantizes in one pass, and returns how many values were NaN or infinite.
    ///
    /// # Panics
    /// If the lengths differ.
    #[track_caller]
    pub fn fake_quantize<F: Element>(
        self,
        values: &[F],
        scheme: Scheme,
        params: Params,
        dequantized: &mut [F],
    ) -> u64 {
        argument::expect(argument::elements(
            "dequantized values",
            dequantized.len(),
            values.len(),
        ));
        let (spec, place) = EncodeSpec::new::<F>(scheme, params);
        match place {
            ParamLayout::Uniform(kernel_params) => {
                F::fake_quantize(self, values, spec, kernel_params, dequantized).non_finite
            }
            ParamLayout::Reference(..) | ParamLayout::PerBlock(..) | ParamLayout::PerElement(_) => {
                let (mut codes, mut non_finite) = ([0; PIECE], 0);
                for (values, dequantized) in values.chunks(PIECE).zip(dequantized.chunks_mut(PIECE))
                {
                    let codes = &mut codes[..values.len()];
                    non_finite += reference::quantize(values, scheme, params, codes);
                    reference::dequantize(codes, scheme, params, dequantized);
                }
                non_finite
            }
        }
    }

    /// The statistics of `values` against their dequantized values; `saturated` is 0.
    ///
    /// # Panics
    /// If the lengths differ.
    #[track_caller]
    pub fn error_stats<F: Element>(self, values: &[F], dequantized: &[f32]) -> ErrorStats {
        argument::expect(argument::elements(
            "dequantized values",
            dequantized.len(),
            values.len(),
        ));
        let mut total = ErrorStats::default();
        for (values, dequantized) in values
            .chunks(STATS_CHUNK)
            .zip(dequantized.chunks(STATS_CHUNK))
        {
            let mut sums = ErrorSums::default();
            F::add_errors(self, values, dequantized, &mut sums);
            total = total.then(sums.stats());
        }
        total
    }
}

/// What the public functions, and the tensor driver, are made of.
impl Backend {
    /// Quantizes into codes `offset` and following, which may start within a byte. The bits behind
    /// them, to the end of their last byte, become 0.
    #[inline]
    pub(crate) fn quantize_at<F: Element>(
        self,
        values: &[F],
        scheme: Scheme,
        params: Params,
        codes: &mut [u8],
        offset: usize,
    ) -> u64 {
        let (spec, place) = EncodeSpec::new::<F>(scheme, params);
        if let ParamLayout::Reference(..) = place {
            return self.quantize_pieces(values, spec, place, codes, offset);
        }
        let (mut values, mut start) = (values, offset);
        let mut non_finite = 0;
        match scheme.dtype.packing() {
            Packing::Bytes => {}
            Packing::Nibbles => {
                if offset % 2 == 1 && !values.is_empty() {
                    let (first, rest) = values.split_at(1);
                    let mut code = [0];
                    non_finite += F::quantize(self, first, spec, place, &mut code, false);
                    codes[offset / 2] = codes[offset / 2] & 15 | code[0] << 4;
                    (values, start) = (rest, offset + 1);
                }
                start /= 2;
            }
            Packing::Bits(_) => return self.quantize_pieces(values, spec, place, codes, offset),
        }
        let codes = &mut codes[start..start + scheme.dtype.storage_len(values.len())];
        let stream = stream::is_worthwhile(size_of_val(values), codes.len());
        non_finite + F::quantize(self, values, spec, place, codes, stream)
    }

    /// Codes, one per byte, of a part of a chunk; all but the last one are whole runs.
    fn encode_measured<F: Element>(
        self,
        values: &[F],
        spec: EncodeSpec,
        place: ParamLayout<'_>,
        codes: &mut [u8],
        measured: &mut Measured,
    ) {
        #[inline(never)]
        fn by_values<F: Element>(
            backend: Backend,
            values: &[F],
            (spec, place): (EncodeSpec, ParamLayout<'_>),
            codes: &mut [u8],
            measured: &mut Measured,
        ) {
            let mut dequantized = [0.0; PIECE];
            let pieces = values.chunks(PIECE).zip(codes.chunks_mut(PIECE));
            for (i, (values, codes)) in pieces.enumerate() {
                let place = place.skip(i * PIECE);
                measured.by_values(backend, values, spec, place, codes, &mut dequantized);
            }
        }
        let mut at = 0;
        while at < values.len() {
            at += measured.runs(self, &values[at..], spec, place.skip(at), &mut codes[at..]);
            let pieces = Ord::max(measured.take_left_out(), 1);
            let end = Ord::min(
                at.saturating_add(pieces.saturating_mul(PIECE)),
                values.len(),
            );
            if at == end {
                break;
            }
            let params = (spec, place.skip(at));
            by_values(
                self,
                &values[at..end],
                params,
                &mut codes[at..end],
                measured,
            );
            at = end;
        }
    }

    /// Quantizes values that fill `codes`. Not for [`ParamLayout::PerBlock`].
    pub(crate) fn quantize_stored<F: Element>(
        self,
        values: &[F],
        spec: EncodeSpec,
        place: ParamLayout<'_>,
        codes: &mut [u8],
    ) -> u64 {
        match spec.scheme.dtype.packing() {
            Packing::Bytes | Packing::Nibbles => {
                let stream = stream::is_worthwhile(size_of_val(values), codes.len());
                F::quantize(self, values, spec, place, codes, stream)
            }
            Packing::Bits(_) => self.quantize_pieces(values, spec, place, codes, 0),
        }
    }

    /// Quantizes to bytes, and packs these, a piece at a time.
    #[inline(never)]
    fn quantize_pieces<F: Element>(
        self,
        values: &[F],
        spec: EncodeSpec,
        place: ParamLayout<'_>,
        codes: &mut [u8],
        offset: usize,
    ) -> u64 {
        let dtype = spec.scheme.dtype;
        let mut bytes = [0; PIECE];
        let (mut done, mut non_finite) = (0, 0);
        while done < values.len() {
            // Rows begin again at the first column's parameters.
            let (column, left) = match place {
                ParamLayout::PerElement(kernel_params) => (
                    done % kernel_params.len,
                    kernel_params.len - done % kernel_params.len,
                ),
                ParamLayout::Uniform(_)
                | ParamLayout::PerBlock(..)
                | ParamLayout::Reference(..) => (0, PIECE),
            };
            let count = left.min(PIECE).min(values.len() - done);
            let (piece, bytes) = (&values[done..done + count], &mut bytes[..count]);
            non_finite += F::quantize_bytes(self, piece, spec, place.skip(column), bytes);
            self.pack(bytes, dtype, codes, offset + done);
            done += count;
        }
        if !values.is_empty() {
            clear_behind(codes, dtype, offset + done);
        }
        non_finite
    }

    /// Dequantizes codes `offset` and following, which may start within a byte.
    #[inline]
    pub(crate) fn dequantize_at<F: Element>(
        self,
        codes: &[u8],
        dtype: IntType,
        place: ParamLayout<'_>,
        scale_type: FloatType,
        values: &mut [F],
        offset: usize,
    ) {
        if let ParamLayout::Reference(..) = place {
            return self.dequantize_pieces(codes, dtype, place, scale_type, values, offset);
        }
        let (mut place, mut values, mut start) = (place, values, offset);
        match dtype.packing() {
            Packing::Bytes => {}
            Packing::Nibbles => {
                if offset % 2 == 1 && !values.is_empty() {
                    let code = [codes[offset / 2] >> 4];
                    let (first, rest) = values.split_at_mut(1);
                    self.dequantize_formed(&code, dtype, place, scale_type, first, false);
                    (place, values, start) = (place.skip(1), rest, offset + 1);
                }
                start /= 2;
            }
            Packing::Bits(_) => {
                return self.dequantize_pieces(codes, dtype, place, scale_type, values, offset);
            }
        }
        let codes = &codes[start..start + dtype.storage_len(values.len())];
        let stream = stream::is_worthwhile(codes.len(), size_of_val(values));
        self.dequantize_formed(codes, dtype, place, scale_type, values, stream);
    }

    /// Dequantizes, rounding to the scale's type first where that is neither f32 nor `F`.
    pub(crate) fn dequantize_through<F: Element>(
        self,
        codes: &[u8],
        dtype: IntType,
        place: ParamLayout<'_>,
        scale_type: FloatType,
        values: &mut [F],
        stream: bool,
    ) {
        match dtype.packing() {
            Packing::Bytes | Packing::Nibbles => {
                self.dequantize_formed(codes, dtype, place, scale_type, values, stream);
            }
            Packing::Bits(_) => {
                self.dequantize_pieces(codes, dtype, place, scale_type, values, 0);
            }
        }
    }

    /// Unpacks to bytes, and dequantizes these, a piece at a time.
    #[inline(never)]
    fn dequantize_pieces<F: Element>(
        self,
        codes: &[u8],
        dtype: IntType,
        place: ParamLayout<'_>,
        scale_type: FloatType,
        values: &mut [F],
        offset: usize,
    ) {
        let mut bytes = [0; PIECE];
        for (i, values) in values.chunks_mut(PIECE).enumerate() {
            let bytes = &mut bytes[..values.len()];
            self.unpack(codes, offset + i * PIECE, dtype, bytes);
            let place = place.skip(i * PIECE);
            if let ParamLayout::Reference(params, dialect) = place {
                let scheme = Scheme::new(dtype, Mode::Affine).with_dialect(dialect);
                reference::dequantize(bytes, scheme, params, values);
                continue;
            }
            self.dequantize_formed(bytes, dtype, place, scale_type, values, false);
        }
    }

    /// Codes of [`Packing::Bits`] are given one per byte.
    #[inline]
    fn dequantize_formed<F: Element>(
        self,
        codes: &[u8],
        dtype: IntType,
        place: ParamLayout<'_>,
        scale_type: FloatType,
        values: &mut [F],
        stream: bool,
    ) {
        if scale_type == FloatType::F32 || scale_type == F::TYPE {
            F::dequantize(self, codes, dtype, place, values, stream);
            return;
        }
        self.dequantize_twice(codes, dtype, place, scale_type, values);
    }

    /// [`dequantize_formed`](Self::dequantize_formed) by way of f32, a piece at a time.
    #[inline(never)]
    fn dequantize_twice<F: Element>(
        self,
        codes: &[u8],
        dtype: IntType,
        place: ParamLayout<'_>,
        scale_type: FloatType,
        values: &mut [F],
    ) {
        let formed_len = |count: usize| match dtype.packing() {
            Packing::Bytes | Packing::Bits(_) => count,
            Packing::Nibbles => count.div_ceil(2),
        };
        let mut wide = [0.0; PIECE];
        for (i, values) in values.chunks_mut(PIECE).enumerate() {
            let codes = &codes[formed_len(i * PIECE)..][..formed_len(values.len())];
            let wide = &mut wide[..values.len()];
            let place = place.skip(i * PIECE);
            f32::dequantize(self, codes, dtype, place, wide, false);
            F::narrow_slice(self, wide, scale_type, values);
        }
    }
}

#[track_caller]
#[inline]
pub(crate) fn assert_storage(dtype: IntType, count: usize, codes: &[u8]) {
    argument::expect(argument::codes(codes.len(), count, dtype));
}
