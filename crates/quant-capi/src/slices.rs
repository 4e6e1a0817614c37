//! Functions on slices.

use std::ffi::c_void;
use std::mem::MaybeUninit;

use quant_core::{
    ErrorStats, Float, FloatType, IntType, Packing, Params, STATS_CHUNK, Scheme, ValueRange,
};
use quant_simd::Element;

use crate::buffers::{
    Input, Output, PIECE, call, expect, expect_apart, put, put_if_wanted, with_float,
};
use crate::info::backend;
use crate::types::known;
use crate::{
    QuantCode, QuantErrorStats, QuantFloat, QuantParams, QuantRange, QuantScheme, QuantStatus,
};

/// The range of `count` values.
///
/// Status: `NULL_POINTER`, `INVALID_LENGTH`, `UNKNOWN_VALUE`.
// SAFETY: the name is this library's own; what callers promise stands at the head of quant.h.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quant_range(
    dtype: MaybeUninit<QuantFloat>,
    values: *const c_void,
    count: usize,
    range: *mut QuantRange,
) -> QuantStatus {
    call(|| {
        let found = with_float!(known(dtype)?, F => {
            // SAFETY: the caller's promise.
            let values = unsafe { Input::<F>::new(values, count) }?;
            find_range(&values)
        });
        // SAFETY: the caller's promise.
        unsafe { put(range, found.into()) }
    })
}

/// Scale and zero point for values of type `dtype` with this range. An empty range is that of
/// zeros; zeros have the scale 0.
///
/// Status: `NULL_POINTER`, `UNKNOWN_VALUE`, `INVALID_PARAMS` (bounds in the wrong order),
/// `NON_FINITE`, `OUT_OF_RANGE`.
// SAFETY: the name is this library's own; what callers promise stands at the head of quant.h.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quant_params_from_range(
    dtype: MaybeUninit<QuantFloat>,
    range: QuantRange,
    scheme: QuantScheme,
    params: *mut QuantParams,
) -> QuantStatus {
    call(|| {
        let (source, scheme) = (known(dtype)?, Scheme::try_from(scheme)?);
        let range = ValueRange::from(range);
        let is_empty = (range.min, range.max) == (ValueRange::EMPTY.min, ValueRange::EMPTY.max);
        if !is_empty {
            if !(range.min.is_finite() && range.max.is_finite()) {
                return Err(QuantStatus::NonFinite);
            }
            if range.min > range.max {
                return Err(QuantStatus::InvalidParams);
            }
        }
        let found = scheme.params(&range, source)?;
        // SAFETY: the caller's promise.
        unsafe { put(params, QuantParams::from_params(found)) }
    })
}

/// The bytes that `count` codes take, packed where they have fewer than 8 bits.
///
/// Status: `NULL_POINTER`, `UNKNOWN_VALUE`.
// SAFETY: the name is this library's own; what callers promise stands at the head of quant.h.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quant_codes_size(
    dtype: MaybeUninit<QuantCode>,
    count: usize,
    size: *mut usize,
) -> QuantStatus {
    // SAFETY: the caller's promise.
    call(|| unsafe { put(size, known(dtype)?.storage_len(count)) })
}

/// Quantizes `count` values with given parameters into `codes_size` bytes (`quant_codes_size`).
/// NaN becomes the zero point; infinities saturate; with the scale 0 every code is 0. How many
/// values are NaN or infinite goes to `non_finite`, unless that is null.
///
/// Status: `NULL_POINTER`, `INVALID_LENGTH`, `INVALID_CODES_SIZE`, `OVERLAP`, `UNKNOWN_VALUE`,
/// `INVALID_PARAMS`.
// SAFETY: the name is this library's own; what callers promise stands at the head of quant.h.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quant_quantize(
    dtype: MaybeUninit<QuantFloat>,
    values: *const c_void,
    count: usize,
    scheme: QuantScheme,
    params: QuantParams,
    codes: *mut u8,
    codes_size: usize,
    non_finite: *mut u64,
) -> QuantStatus {
    call(|| {
        let (source, scheme) = (known(dtype)?, Scheme::try_from(scheme)?);
        let params = params.check(scheme, source)?;
        expect(
            codes_size,
            scheme.dtype.storage_len(count),
            QuantStatus::InvalidCodesSize,
        )?;
        // SAFETY: the caller's promise.
        let mut codes = unsafe { Output::<u8>::new(codes.cast(), codes_size) }?;
        let found = with_float!(source, F => {
            // SAFETY: the caller's promise.
            let values = unsafe { Input::<F>::new(values, count) }?;
            expect_apart(&[codes.region()], &[values.region()])?;
            encode(&values, scheme, params, codes.bytes(), 0)
        });
        // SAFETY: the caller's promise.
        unsafe { put_if_wanted(non_finite, found) };
        Ok(())
    })
}

/// The `count` values that codes stand for: `scale * (code - zero_point)`, rounded to the type of
/// the scale and from there to `dtype`.
///
/// Status: `NULL_POINTER`, `INVALID_LENGTH`, `INVALID_CODES_SIZE`, `OVERLAP`, `UNKNOWN_VALUE`,
/// `INVALID_PARAMS`.
// SAFETY: the name is this library's own; what callers promise stands at the head of quant.h.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quant_dequantize(
    dtype: MaybeUninit<QuantFloat>,
    codes: *const u8,
    codes_size: usize,
    scheme: QuantScheme,
    params: QuantParams,
    values: *mut c_void,
    count: usize,
) -> QuantStatus {
    call(|| {
        let (source, scheme) = (known(dtype)?, Scheme::try_from(scheme)?);
        let params = params.check(scheme, source)?;
        expect(
            codes_size,
            scheme.dtype.storage_len(count),
            QuantStatus::InvalidCodesSize,
        )?;
        // SAFETY: the caller's promise.
        let codes = unsafe { Input::<u8>::new(codes.cast(), codes_size) }?;
        with_float!(source, F => {
            // SAFETY: the caller's promise.
            let mut values = unsafe { Output::<F>::new(values, count) }?;
            expect_apart(&[values.region()], &[codes.region()])?;
            decode(codes.bytes(), 0, scheme, params, &mut values);
        });
        Ok(())
    })
}

/// Quantizes and dequantizes `count` values in one pass: `dequantized` is what `quant_dequantize` makes
/// of what `quant_quantize` does. `dequantized` may be `values`, but not overlap with it otherwise. How
/// many values are NaN or infinite goes to `non_finite`, unless that is null.
///
/// Status: `NULL_POINTER`, `INVALID_LENGTH`, `OVERLAP`, `UNKNOWN_VALUE`, `INVALID_PARAMS`.
// SAFETY: the name is this library's own; what callers promise stands at the head of quant.h.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quant_fake_quantize(
    dtype: MaybeUninit<QuantFloat>,
    values: *const c_void,
    count: usize,
    scheme: QuantScheme,
    params: QuantParams,
    dequantized: *mut c_void,
    non_finite: *mut u64,
) -> QuantStatus {
    call(|| {
        let (source, scheme) = (known(dtype)?, Scheme::try_from(scheme)?);
        let params = params.check(scheme, source)?;
        let found = with_float!(source, F => {
            // SAFETY: the caller's promise.
            let (values, dequantized) = unsafe {
                (Input::<F>::new(values, count)?, Output::<F>::new(dequantized, count)?)
            };
            fake(&values, scheme, params, dequantized)?
        });
        // SAFETY: the caller's promise.
        unsafe { put_if_wanted(non_finite, found) };
        Ok(())
    })
}

/// The error of `count` values of type `dtype` against their dequantized ones, of type `dequantized_dtype`. Fast
/// where `dequantized` is f32 and both are aligned.
///
/// Status: `NULL_POINTER`, `INVALID_LENGTH`, `UNKNOWN_VALUE`.
// SAFETY: the name is this library's own; what callers promise stands at the head of quant.h.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quant_error_stats(
    dtype: MaybeUninit<QuantFloat>,
    values: *const c_void,
    dequantized_dtype: MaybeUninit<QuantFloat>,
    dequantized: *const c_void,
    count: usize,
    stats: *mut QuantErrorStats,
) -> QuantStatus {
    call(|| {
        let (source, target) = (known(dtype)?, known(dequantized_dtype)?);
        let found = with_float!(source, F => with_float!(target, T => {
            // SAFETY: the caller's promise.
            let (values, dequantized) = unsafe {
                (Input::<F>::new(values, count)?, Input::<T>::new(dequantized, count)?)
            };
            error_stats(&values, &dequantized)
        }));
        // SAFETY: the caller's promise.
        unsafe { put(stats, found.into()) }
    })
}

/// Packs `count` 4-bit codes, one per byte, of which the high bits are ignored, into half as many
/// bytes, rounded up. The last high nibble after an odd number of codes becomes 0.
///
/// Status: `NULL_POINTER`, `INVALID_LENGTH`, `INVALID_CODES_SIZE`, `OVERLAP`.
// SAFETY: the name is this library's own; what callers promise stands at the head of quant.h.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quant_pack4(
    codes: *const u8,
    count: usize,
    packed: *mut u8,
    packed_size: usize,
) -> QuantStatus {
    call(|| {
        expect(
            packed_size,
            count.div_ceil(2),
            QuantStatus::InvalidCodesSize,
        )?;
        // SAFETY: the caller's promise.
        let (codes, mut packed) = unsafe {
            (
                Input::<u8>::new(codes.cast(), count)?,
                Output::<u8>::new(packed.cast(), packed_size)?,
            )
        };
        expect_apart(&[packed.region()], &[codes.region()])?;
        backend().pack(codes.bytes(), IntType::Uint4, packed.bytes(), 0);
        clear_behind(packed.bytes(), IntType::Uint4, count);
        Ok(())
    })
}

/// Unpacks `count` 4-bit codes to one per byte, with the sign where `dtype` is signed.
///
/// Status: `NULL_POINTER`, `INVALID_LENGTH`, `INVALID_CODES_SIZE`, `OVERLAP`, `UNKNOWN_VALUE`; also
/// for a type of other than 4 bits.
// SAFETY: the name is this library's own; what callers promise stands at the head of quant.h.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quant_unpack4(
    dtype: MaybeUninit<QuantCode>,
    packed: *const u8,
    packed_size: usize,
    codes: *mut u8,
    count: usize,
) -> QuantStatus {
    call(|| {
        let dtype = known(dtype)?;
        if dtype.packing() != Packing::Nibbles {
            return Err(QuantStatus::UnknownValue);
        }
        expect(
            packed_size,
            count.div_ceil(2),
            QuantStatus::InvalidCodesSize,
        )?;
        // SAFETY: the caller's promise.
        let (packed, mut codes) = unsafe {
            (
                Input::<u8>::new(packed.cast(), packed_size)?,
                Output::<u8>::new(codes.cast(), count)?,
            )
        };
        expect_apart(&[codes.region()], &[packed.region()])?;
        backend().unpack(packed.bytes(), 0, dtype, codes.bytes());
        Ok(())
    })
}

pub fn find_range<F: Element>(values: &Input<F>) -> ValueRange {
    let mut range = ValueRange::EMPTY;
    values.pieces(|_, values| range = range.merge(backend().range(values)));
    range
}

/// Quantizes into codes `offset` and following, which may start within a byte; the rest of that
/// byte stays.
pub fn encode<F: Element>(
    values: &Input<F>,
    scheme: Scheme,
    params: Params,
    codes: &mut [u8],
    offset: usize,
) -> u64 {
    let (backend, dtype) = (backend(), scheme.dtype);
    let mut non_finite = 0;
    values.pieces(|start, values| {
        if is_byte(dtype, offset) {
            let codes = &mut codes[dtype.storage_len(offset + start)..];
            let codes = &mut codes[..dtype.storage_len(values.len())];
            non_finite += backend.quantize(values, scheme, params, codes);
            return;
        }
        let (mut packed, mut unpacked) = ([0; PIECE], [0; PIECE]);
        for (i, values) in values.chunks(PIECE).enumerate() {
            let packed = &mut packed[..dtype.storage_len(values.len())];
            let unpacked = &mut unpacked[..values.len()];
            non_finite += backend.quantize(values, scheme, params, packed);
            backend.unpack(packed, 0, dtype, unpacked);
            backend.pack(unpacked, dtype, codes, offset + start + i * PIECE);
        }
    });
    non_finite
}

/// The values of codes `offset` and following, which may start within a byte.
pub fn decode<F: Element>(
    codes: &[u8],
    offset: usize,
    scheme: Scheme,
    params: Params,
    values: &mut Output<F>,
) {
    let (backend, dtype) = (backend(), scheme.dtype);
    values.pieces(|start, values| {
        if is_byte(dtype, offset) {
            let codes = &codes[dtype.storage_len(offset + start)..];
            let codes = &codes[..dtype.storage_len(values.len())];
            backend.dequantize(codes, scheme, params, values);
            return;
        }
        let (mut packed, mut unpacked) = ([0; PIECE], [0; PIECE]);
        for (i, values) in values.chunks_mut(PIECE).enumerate() {
            let packed = &mut packed[..dtype.storage_len(values.len())];
            let unpacked = &mut unpacked[..values.len()];
            backend.unpack(codes, offset + start + i * PIECE, dtype, unpacked);
            backend.pack(unpacked, dtype, packed, 0);
            clear_behind(packed, dtype, values.len());
            backend.dequantize(packed, scheme, params, values);
        }
    });
}

/// Whether code `offset` starts a byte.
fn is_byte(dtype: IntType, offset: usize) -> bool {
    offset.is_multiple_of(dtype.packing().unit())
}

/// Behind the last code there are zeros.
pub fn clear_behind(packed: &mut [u8], dtype: IntType, count: usize) {
    let used = count % 8 * dtype.bits() as usize % 8;
    if let (1.., Some(last)) = (used, packed.last_mut()) {
        *last &= (1 << used) - 1;
    }
}

fn fake<F: Element>(
    values: &Input<F>,
    scheme: Scheme,
    params: Params,
    mut dequantized: Output<F>,
) -> Result<u64, QuantStatus> {
    let backend = backend();
    let in_place = values.region() == dequantized.region();
    if !in_place {
        expect_apart(&[dequantized.region()], &[values.region()])?;
        if let (Some(values), Some(dequantized)) = (values.slice(), dequantized.slice()) {
            return Ok(backend.fake_quantize(values, scheme, params, dequantized));
        }
    }
    let (mut from, mut to) = ([F::default(); PIECE], [F::default(); PIECE]);
    let mut non_finite = 0;
    for start in (0..values.len()).step_by(PIECE) {
        let count = PIECE.min(values.len() - start);
        let (from, to) = (&mut from[..count], &mut to[..count]);
        values.read(start, from);
        non_finite += backend.fake_quantize(from, scheme, params, to);
        dequantized.write(start, to);
    }
    Ok(non_finite)
}

fn error_stats<F: Element, T: Element>(values: &Input<F>, dequantized: &Input<T>) -> ErrorStats {
    if let (FloatType::F32, Some(values), Some(dequantized)) =
        (T::TYPE, values.slice(), dequantized.slice())
    {
        return backend().error_stats(values, bytemuck::cast_slice(dequantized));
    }
    let count = values.len();
    let mut total = ErrorStats::default();
    for start in (0..count).step_by(STATS_CHUNK) {
        let chunk = start..count.min(start + STATS_CHUNK);
        total = total.then(ErrorStats::of_chunk(chunk.map(|i| {
            let (mut value, mut dequantized_value) = (F::default(), T::default());
            values.read(i, std::slice::from_mut(&mut value));
            dequantized.read(i, std::slice::from_mut(&mut dequantized_value));
            (Float::to_f32(value), Float::to_f32(dequantized_value))
        })));
    }
    total
}
