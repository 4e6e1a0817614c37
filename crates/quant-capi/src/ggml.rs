//! Blocks of ggml.

use std::ffi::c_void;
use std::mem::MaybeUninit;

use quant_core::{GgmlType, TensorError};

use crate::buffers::{Input, Output, call, expect, expect_apart, put, with_float};
use crate::info::backend;
use crate::types::known;
use crate::{QuantFloat, QuantGgml, QuantStatus};

/// How many bytes `count` values take in blocks of ggml.
///
/// Status: `NULL_POINTER`, `INVALID_LENGTH`, `UNKNOWN_VALUE`, `INVALID_BLOCKS` where `count` is no
/// multiple of 32.
// SAFETY: the name is this library's own; what callers promise stands at the head of quant.h.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quant_ggml_size(
    block_type: MaybeUninit<QuantGgml>,
    count: usize,
    size: *mut usize,
) -> QuantStatus {
    call(|| {
        let bytes = block_bytes(known(block_type)?, count)?;
        // SAFETY: the caller's promise.
        unsafe { put(size, bytes) }
    })
}

/// Quantizes to blocks of ggml, with the bytes of ggml's reference quantizer. `count` is a multiple
/// of 32, and `blocks_size` what `quant_ggml_size` says.
///
/// Status: `NULL_POINTER`, `INVALID_LENGTH`, `INVALID_CODES_SIZE`, `OVERLAP`, `UNKNOWN_VALUE`,
/// `INVALID_BLOCKS`, `NON_FINITE`; `OUT_OF_RANGE` where f16 cannot hold a scale or minimum.
// SAFETY: the name is this library's own; what callers promise stands at the head of quant.h.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quant_ggml_quantize(
    dtype: MaybeUninit<QuantFloat>,
    values: *const c_void,
    count: usize,
    block_type: MaybeUninit<QuantGgml>,
    blocks: *mut u8,
    blocks_size: usize,
) -> QuantStatus {
    call(|| {
        let (source, block_type) = (known(dtype)?, known(block_type)?);
        let size = block_bytes(block_type, count)?;
        expect(blocks_size, size, QuantStatus::InvalidCodesSize)?;
        // SAFETY: the caller's promise.
        let mut blocks = unsafe { Output::<u8>::new(blocks.cast(), blocks_size)? };
        with_float!(source, F => {
            // SAFETY: the caller's promise.
            let values = unsafe { Input::<F>::new(values, count)? };
            expect_apart(&[blocks.region()], &[values.region()])?;
            let blocks = blocks.bytes();
            let mut done = Ok(());
            values.pieces(|start, values| {
                let blocks = &mut blocks[bytes_before(block_type, start)..];
                let blocks = &mut blocks[..bytes_before(block_type, values.len())];
                done = done.and_then(|()| backend().quantize_ggml(values, block_type, blocks));
            });
            done.map_err(|error: TensorError| error.source.into())
        })
    })
}

/// The values of blocks of ggml. `count` is a multiple of 32, and `blocks_size` what
/// `quant_ggml_size` says.
///
/// Status: `NULL_POINTER`, `INVALID_LENGTH`, `INVALID_CODES_SIZE`, `OVERLAP`, `UNKNOWN_VALUE`,
/// `INVALID_BLOCKS`; `INVALID_PARAMS` where a scale or minimum is not finite.
// SAFETY: the name is this library's own; what callers promise stands at the head of quant.h.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quant_ggml_dequantize(
    dtype: MaybeUninit<QuantFloat>,
    blocks: *const u8,
    blocks_size: usize,
    block_type: MaybeUninit<QuantGgml>,
    values: *mut c_void,
    count: usize,
) -> QuantStatus {
    call(|| {
        let (source, block_type) = (known(dtype)?, known(block_type)?);
        let size = block_bytes(block_type, count)?;
        expect(blocks_size, size, QuantStatus::InvalidCodesSize)?;
        // SAFETY: the caller's promise.
        let blocks = unsafe { Input::<u8>::new(blocks.cast(), blocks_size)? };
        with_float!(source, F => {
            // SAFETY: the caller's promise.
            let mut values = unsafe { Output::<F>::new(values, count)? };
            expect_apart(&[values.region()], &[blocks.region()])?;
            let blocks = blocks.bytes();
            let mut done = Ok(());
            values.pieces(|start, values| {
                let blocks = &blocks[bytes_before(block_type, start)..];
                let blocks = &blocks[..bytes_before(block_type, values.len())];
                done = done.and_then(|()| backend().dequantize_ggml(blocks, block_type, values));
            });
            done.map_err(|error: TensorError| error.source.into())
        })
    })
}

/// Bytes of the blocks of so many values.
fn block_bytes(block_type: GgmlType, count: usize) -> Result<usize, QuantStatus> {
    if !count.is_multiple_of(GgmlType::VALUES) {
        return Err(QuantStatus::InvalidBlocks);
    }
    block_type.len(count).ok_or(QuantStatus::InvalidLength)
}

/// The same of some of values whose number is known to be one.
fn bytes_before(block_type: GgmlType, count: usize) -> usize {
    count / GgmlType::VALUES * block_type.block_size()
}
