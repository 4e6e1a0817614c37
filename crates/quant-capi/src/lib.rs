//! quant-simd's functions on slices, for C.
//!
//! Every function gives a [`QuantStatus`]; none unwinds, none keeps state, none starts a thread.
//! f16 values are passed by their bits. Lengths count elements of the type that is pointed to.
//!
//! # Safety
//! Pointers point to as many elements as the length beside them says, initialized, outputs too,
//! and no output overlaps with anything else. A null pointer is allowed where the length is 0.

mod buffers;
mod types;

use buffers::{call, expect, input, output, put};
use half::f16;
use quant_core::{Float, Scheme};
use quant_simd::{Backend, Element};

pub use types::{QuantParams, QuantRange, QuantScheme, QuantStatus};

/// The range of values; NaN takes no part in it.
///
/// # Safety
/// The crate's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quant_range_f32(
    values: *const f32,
    count: usize,
    range: *mut QuantRange,
) -> QuantStatus {
    // SAFETY: the caller's promise.
    call(|| unsafe { self::range(values, count, range) })
}

/// Scale and zero point for the range of values.
///
/// # Safety
/// The crate's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quant_find_params_f32(
    values: *const f32,
    count: usize,
    scheme: QuantScheme,
    params: *mut QuantParams,
) -> QuantStatus {
    // SAFETY: the caller's promise.
    call(|| unsafe { find_params(values, count, scheme, params) })
}

/// Codes of values. NaN becomes the zero point, infinities saturate; 4-bit codes are packed, the
/// first in the low nibble.
///
/// # Safety
/// The crate's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quant_quantize_f32(
    values: *const f32,
    count: usize,
    scheme: QuantScheme,
    params: QuantParams,
    codes: *mut u8,
    codes_length: usize,
) -> QuantStatus {
    // SAFETY: the caller's promise.
    call(|| unsafe { quantize((values, count), scheme, params, (codes, codes_length)) })
}

/// The values that codes stand for.
///
/// # Safety
/// The crate's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quant_dequantize_f32(
    codes: *const u8,
    codes_length: usize,
    scheme: QuantScheme,
    params: QuantParams,
    values: *mut f32,
    count: usize,
) -> QuantStatus {
    // SAFETY: the caller's promise.
    call(|| unsafe { dequantize((codes, codes_length), scheme, params, (values, count)) })
}

/// Scale, zero point and codes of blocks of consecutive values; the last may be shorter. Symmetric
/// signed schemes store no zero points.
///
/// # Safety
/// The crate's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quant_quantize_blocks_f32(
    values: *const f32,
    count: usize,
    block_size: usize,
    scheme: QuantScheme,
    codes: *mut u8,
    codes_length: usize,
    scales: *mut f32,
    scales_length: usize,
    zero_points: *mut u8,
    zero_points_length: usize,
) -> QuantStatus {
    let values = (values, count);
    let (codes, scales) = ((codes, codes_length), (scales, scales_length));
    let zero_points = (zero_points, zero_points_length);
    // SAFETY: the caller's promise.
    call(|| unsafe { quantize_blocks(values, block_size, scheme, codes, scales, zero_points) })
}

/// The values of what [`quant_quantize_blocks_f32`] wrote.
///
/// # Safety
/// The crate's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quant_dequantize_blocks_f32(
    codes: *const u8,
    codes_length: usize,
    block_size: usize,
    scheme: QuantScheme,
    scales: *const f32,
    scales_length: usize,
    zero_points: *const u8,
    zero_points_length: usize,
    values: *mut f32,
    count: usize,
) -> QuantStatus {
    let values = (values, count);
    let (codes, scales) = ((codes, codes_length), (scales, scales_length));
    let zero_points = (zero_points, zero_points_length);
    // SAFETY: the caller's promise.
    call(|| unsafe { dequantize_blocks(codes, block_size, scheme, scales, zero_points, values) })
}

/// [`quant_range_f32`], for f16.
///
/// # Safety
/// The crate's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quant_range_f16(
    values: *const f16,
    count: usize,
    range: *mut QuantRange,
) -> QuantStatus {
    // SAFETY: the caller's promise.
    call(|| unsafe { self::range(values, count, range) })
}

/// [`quant_find_params_f32`], for f16.
///
/// # Safety
/// The crate's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quant_find_params_f16(
    values: *const f16,
    count: usize,
    scheme: QuantScheme,
    params: *mut QuantParams,
) -> QuantStatus {
    // SAFETY: the caller's promise.
    call(|| unsafe { find_params(values, count, scheme, params) })
}

/// [`quant_quantize_f32`], for f16.
///
/// # Safety
/// The crate's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quant_quantize_f16(
    values: *const f16,
    count: usize,
    scheme: QuantScheme,
    params: QuantParams,
    codes: *mut u8,
    codes_length: usize,
) -> QuantStatus {
    // SAFETY: the caller's promise.
    call(|| unsafe { quantize((values, count), scheme, params, (codes, codes_length)) })
}

/// [`quant_dequantize_f32`], for f16.
///
/// # Safety
/// The crate's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quant_dequantize_f16(
    codes: *const u8,
    codes_length: usize,
    scheme: QuantScheme,
    params: QuantParams,
    values: *mut f16,
    count: usize,
) -> QuantStatus {
    // SAFETY: the caller's promise.
    call(|| unsafe { dequantize((codes, codes_length), scheme, params, (values, count)) })
}

/// [`quant_quantize_blocks_f32`], for f16.
/// Scales are f16 too: the scheme's dialect must be coremltools.
///
/// # Safety
/// The crate's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quant_quantize_blocks_f16(
    values: *const f16,
    count: usize,
    block_size: usize,
    scheme: QuantScheme,
    codes: *mut u8,
    codes_length: usize,
    scales: *mut f16,
    scales_length: usize,
    zero_points: *mut u8,
    zero_points_length: usize,
) -> QuantStatus {
    let values = (values, count);
    let (codes, scales) = ((codes, codes_length), (scales, scales_length));
    let zero_points = (zero_points, zero_points_length);
    // SAFETY: the caller's promise.
    call(|| unsafe { quantize_blocks(values, block_size, scheme, codes, scales, zero_points) })
}

/// [`quant_dequantize_blocks_f32`], for f16.
///
/// # Safety
/// The crate's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quant_dequantize_blocks_f16(
    codes: *const u8,
    codes_length: usize,
    block_size: usize,
    scheme: QuantScheme,
    scales: *const f16,
    scales_length: usize,
    zero_points: *const u8,
    zero_points_length: usize,
    values: *mut f16,
    count: usize,
) -> QuantStatus {
    let values = (values, count);
    let (codes, scales) = ((codes, codes_length), (scales, scales_length));
    let zero_points = (zero_points, zero_points_length);
    // SAFETY: the caller's promise.
    call(|| unsafe { dequantize_blocks(codes, block_size, scheme, scales, zero_points, values) })
}

/// See [`quant_range_f32`].
///
/// # Safety
/// The crate's.
unsafe fn range<F: Element>(
    values: *const F,
    count: usize,
    found: *mut QuantRange,
) -> Result<(), QuantStatus> {
    // SAFETY: the caller's promise.
    unsafe {
        let values = input(values, count)?;
        put(found, Backend::detect().range(values).into())
    }
}

/// See [`quant_find_params_f32`].
///
/// # Safety
/// The crate's.
unsafe fn find_params<F: Element>(
    values: *const F,
    count: usize,
    scheme: QuantScheme,
    params: *mut QuantParams,
) -> Result<(), QuantStatus> {
    // SAFETY: the caller's promise.
    unsafe {
        let range = Backend::detect().range(input(values, count)?);
        let found = Scheme::try_from(scheme)?.params(&range, F::TYPE)?;
        put(params, QuantParams::of(found))
    }
}

/// See [`quant_quantize_f32`].
///
/// # Safety
/// The crate's.
unsafe fn quantize<F: Element>(
    values: (*const F, usize),
    scheme: QuantScheme,
    params: QuantParams,
    codes: (*mut u8, usize),
) -> Result<(), QuantStatus> {
    let scheme = Scheme::try_from(scheme)?;
    let params = params.check(scheme, F::TYPE)?;
    expect(codes.1, scheme.dtype.storage_len(values.1))?;
    // SAFETY: the caller's promise.
    let (values, codes) = unsafe { (input(values.0, values.1)?, output(codes.0, codes.1)?) };
    Backend::detect().quantize(values, scheme, params, codes);
    Ok(())
}

/// See [`quant_dequantize_f32`].
///
/// # Safety
/// The crate's.
unsafe fn dequantize<F: Element>(
    codes: (*const u8, usize),
    scheme: QuantScheme,
    params: QuantParams,
    values: (*mut F, usize),
) -> Result<(), QuantStatus> {
    let scheme = Scheme::try_from(scheme)?;
    let params = params.check(scheme, F::TYPE)?;
    expect(codes.1, scheme.dtype.storage_len(values.1))?;
    // SAFETY: the caller's promise.
    let (codes, values) = unsafe { (input(codes.0, codes.1)?, output(values.0, values.1)?) };
    Backend::detect().dequantize(codes, scheme, params, values);
    Ok(())
}

/// The scheme of blocks whose buffers have the right lengths.
fn blocks<F: Float>(
    count: usize,
    block_size: usize,
    scheme: QuantScheme,
    codes: usize,
    scales: usize,
    zero_points: usize,
) -> Result<Scheme, QuantStatus> {
    let scheme = Scheme::try_from(scheme)?;
    if block_size == 0 || scheme.dialect.scale_type(F::TYPE) != F::TYPE {
        return Err(QuantStatus::InvalidScheme);
    }
    let blocks = count.div_ceil(block_size);
    expect(codes, scheme.dtype.storage_len(count))?;
    expect(scales, blocks)?;
    let stored = if scheme.stores_zero_point() {
        blocks
    } else {
        0
    };
    expect(zero_points, stored)?;
    Ok(scheme)
}

/// See [`quant_quantize_blocks_f32`].
///
/// # Safety
/// The crate's.
unsafe fn quantize_blocks<F: Element>(
    values: (*const F, usize),
    block_size: usize,
    scheme: QuantScheme,
    codes: (*mut u8, usize),
    scales: (*mut F, usize),
    zero_points: (*mut u8, usize),
) -> Result<(), QuantStatus> {
    let lengths = (codes.1, scales.1, zero_points.1);
    let scheme = blocks::<F>(
        values.1, block_size, scheme, lengths.0, lengths.1, lengths.2,
    )?;
    // SAFETY: the caller's promise.
    let (values, codes, scales, zero_points) = unsafe {
        (
            input(values.0, values.1)?,
            output(codes.0, codes.1)?,
            output(scales.0, scales.1)?,
            output(zero_points.0, zero_points.1)?,
        )
    };
    let backend = Backend::detect();
    let done = backend.quantize_blocks(values, block_size, scheme, codes, scales, zero_points);
    done.map_err(|error| error.source.into())
}

/// See [`quant_dequantize_blocks_f32`].
///
/// # Safety
/// The crate's.
unsafe fn dequantize_blocks<F: Element>(
    codes: (*const u8, usize),
    block_size: usize,
    scheme: QuantScheme,
    scales: (*const F, usize),
    zero_points: (*const u8, usize),
    values: (*mut F, usize),
) -> Result<(), QuantStatus> {
    let lengths = (codes.1, scales.1, zero_points.1);
    let scheme = blocks::<F>(
        values.1, block_size, scheme, lengths.0, lengths.1, lengths.2,
    )?;
    // SAFETY: the caller's promise.
    let (codes, scales, zero_points, values) = unsafe {
        (
            input(codes.0, codes.1)?,
            input(scales.0, scales.1)?,
            input(zero_points.0, zero_points.1)?,
            output(values.0, values.1)?,
        )
    };
    let backend = Backend::detect();
    let done = backend.dequantize_blocks(codes, block_size, scheme, scales, zero_points, values);
    done.map_err(|error| error.source.into())
}
