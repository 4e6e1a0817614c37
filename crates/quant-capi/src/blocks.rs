//! Functions on blocks of consecutive values.

use std::ffi::c_void;
use std::mem::MaybeUninit;

use quant_core::{FloatType, Params, Scheme};
use quant_simd::Element;

use crate::buffers::{Input, Output, call, expect, expect_apart, with_float};
use crate::info::backend;
use crate::slices::{clear_behind, decode, encode, find_range};
use crate::types::known;
use crate::{QuantFloat, QuantScheme, QuantStatus};

/// Scales, zero points and codes of blocks of `block_size` consecutive values, of which the last
/// may be shorter. There are `count / block_size` blocks, rounded up; as many scales, of type
/// `dtype` (f32 with `QUANT_DIALECT_F32`, `QUANT_DIALECT_TORCH` and, but for values of f16,
/// `QUANT_DIALECT_COREMLTOOLS_ACTIVATIONS`); as many zero points, one per byte, in the type of the codes, or none where the scheme stores none
/// (see `QuantScheme`); with `QUANT_DIALECT_MLX` biases in their place, of type `dtype`. All sizes
/// are in bytes. Codes are packed without gaps between blocks. Blocks of 32, 64, 128 and 256 are the
/// fastest; where values or scales are not aligned, blocks are done one by one.
///
/// Status: `NULL_POINTER`, `INVALID_LENGTH`, `INVALID_CODES_SIZE`, `INVALID_SCALES_SIZE`,
/// `INVALID_ZERO_POINTS_SIZE`, `OVERLAP`, `UNKNOWN_VALUE`, `INVALID_BLOCKS`, `NON_FINITE`,
/// `OUT_OF_RANGE`.
// SAFETY: the name is this library's own; what callers promise stands at the head of quant.h.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quant_quantize_blocks(
    dtype: MaybeUninit<QuantFloat>,
    values: *const c_void,
    count: usize,
    block_size: usize,
    scheme: QuantScheme,
    codes: *mut u8,
    codes_size: usize,
    scales: *mut c_void,
    scales_size: usize,
    zero_points: *mut u8,
    zero_points_size: usize,
) -> QuantStatus {
    call(|| {
        let (source, scheme) = (known(dtype)?, Scheme::try_from(scheme)?);
        let lengths = (codes_size, scales_size, zero_points_size);
        let scale_type = scheme.dialect.scale_type(source);
        check(scheme, count, block_size, scale_type, lengths)?;
        // SAFETY: the caller's promise.
        let (mut codes, mut zero_points) = unsafe {
            (
                Output::<u8>::new(codes.cast(), codes_size)?,
                Output::<u8>::new(zero_points.cast(), zero_points_size)?,
            )
        };
        with_float!(source, F => with_float!(scale_type, S => {
            // SAFETY: the caller's promise.
            let (values, mut scales) = unsafe {
                (Input::<F>::new(values, count)?, Output::<S>::new(scales, scales_size / size_of::<S>())?)
            };
            let outputs = [codes.region(), scales.region(), zero_points.region()];
            expect_apart(&outputs, &[values.region()])?;
            let (codes, zero_points) = (codes.bytes(), zero_points.bytes());
            quantize(&values, block_size, scheme, codes, &mut scales, zero_points)
        }))
    })
}

/// The values of what `quant_quantize_blocks` wrote.
///
/// Status: `NULL_POINTER`, `INVALID_LENGTH`, `INVALID_CODES_SIZE`, `INVALID_SCALES_SIZE`,
/// `INVALID_ZERO_POINTS_SIZE`, `OVERLAP`, `UNKNOWN_VALUE`, `INVALID_BLOCKS`, `INVALID_PARAMS`.
// SAFETY: the name is this library's own; what callers promise stands at the head of quant.h.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quant_dequantize_blocks(
    dtype: MaybeUninit<QuantFloat>,
    codes: *const u8,
    codes_size: usize,
    block_size: usize,
    scheme: QuantScheme,
    scales: *const c_void,
    scales_size: usize,
    zero_points: *const u8,
    zero_points_size: usize,
    values: *mut c_void,
    count: usize,
) -> QuantStatus {
    call(|| {
        let (source, scheme) = (known(dtype)?, Scheme::try_from(scheme)?);
        let lengths = (codes_size, scales_size, zero_points_size);
        let scale_type = scheme.dialect.scale_type(source);
        check(scheme, count, block_size, scale_type, lengths)?;
        // SAFETY: the caller's promise.
        let (codes, zero_points) = unsafe {
            (
                Input::<u8>::new(codes.cast(), codes_size)?,
                Input::<u8>::new(zero_points.cast(), zero_points_size)?,
            )
        };
        with_float!(source, F => with_float!(scale_type, S => {
            // SAFETY: the caller's promise.
            let (scales, mut values) = unsafe {
                (Input::<S>::new(scales, scales_size / size_of::<S>())?, Output::<F>::new(values, count)?)
            };
            let inputs = [codes.region(), scales.region(), zero_points.region()];
            expect_apart(&[values.region()], &inputs)?;
            let (codes, zero_points) = (codes.bytes(), zero_points.bytes());
            dequantize(codes, block_size, scheme, &scales, zero_points, &mut values)
        }))
    })
}

/// Whether codes, scales and zero points have the sizes of such blocks.
fn check(
    scheme: Scheme,
    count: usize,
    block_size: usize,
    scale_type: FloatType,
    (codes, scales, zero_points): (usize, usize, usize),
) -> Result<(), QuantStatus> {
    if block_size == 0 {
        return Err(QuantStatus::InvalidBlocks);
    }
    let blocks = count.div_ceil(block_size);
    let stored = blocks.checked_mul(scheme.offset().size(scale_type));
    let stored = stored.ok_or(QuantStatus::InvalidLength)?;
    let bytes = blocks.checked_mul(scale_type.size());
    let bytes = bytes.ok_or(QuantStatus::InvalidLength)?;
    let codes_size = scheme.dtype.storage_len(count);
    expect(codes, codes_size, QuantStatus::InvalidCodesSize)?;
    expect(scales, bytes, QuantStatus::InvalidScalesSize)?;
    expect(zero_points, stored, QuantStatus::InvalidZeroPointsSize)
}

fn quantize<F: Element, S: Element>(
    values: &Input<F>,
    block_size: usize,
    scheme: Scheme,
    codes: &mut [u8],
    scales: &mut Output<S>,
    zero_points: &mut [u8],
) -> Result<(), QuantStatus> {
    let backend = backend();
    if let (Some(values), Some(scales)) = (values.slice(), scales.slice()) {
        return backend
            .quantize_blocks(values, block_size, scheme, codes, scales, zero_points)
            .map_err(|error| error.source.into());
    }
    for block in 0..scales.len() {
        let start = block * block_size;
        let values = values.part(start, block_size.min(values.len() - start));
        let params = scheme.params(&find_range(&values), F::TYPE)?;
        encode(&values, scheme, params, codes, start);
        scales.write(block, &[S::from_f32(params.scale())]);
        let size = scheme.offset().size(S::TYPE);
        params.store_offset(scheme.offset(), &mut zero_points[block * size..][..size]);
    }
    clear_behind(codes, scheme.dtype, values.len());
    Ok(())
}

fn dequantize<F: Element, S: Element>(
    codes: &[u8],
    block_size: usize,
    scheme: Scheme,
    scales: &Input<S>,
    zero_points: &[u8],
    values: &mut Output<F>,
) -> Result<(), QuantStatus> {
    let backend = backend();
    if let (Some(scales), Some(values)) = (scales.slice(), values.slice()) {
        return backend
            .dequantize_blocks(codes, block_size, scheme, scales, zero_points, values)
            .map_err(|error| error.source.into());
    }
    for block in 0..scales.len() {
        let mut scale = [S::default()];
        scales.read(block, &mut scale);
        let size = scheme.offset().size(S::TYPE);
        let offset = &zero_points[block * size..][..size];
        let params = Params::from_stored(scheme, scale[0].to_f32(), offset, S::TYPE)?;
        let start = block * block_size;
        let mut values = values.part(start, block_size.min(values.len() - start));
        decode(codes, start, scheme, params, &mut values);
    }
    Ok(())
}
