//! Whole tensors.

use std::convert::Infallible;
use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ptr::null_mut;

use quant_core::{Blocks, FloatType, Granularity, ParamsError, STATS_CHUNK, Scheme};
use quant_simd::{ProcessError, Sink, TensorQuantizer};

use crate::buffers::{Input, Output, call, expect, expect_apart, put, put_if_wanted};
use crate::info::backend;
use crate::memory;
use crate::types::known;
use crate::{
    QuantErrorStats, QuantFailure, QuantFloat, QuantStatus, QuantTensor, QuantTensorSizes, threads,
};

/// More axes than any tensor has: what C passes by mistake is not reserved memory for.
const MAX_RANK: usize = 64;

/// What the buffers of a tensor must measure.
///
/// Status: `NULL_POINTER`, `INVALID_LENGTH`, `INVALID_SHAPE`, `UNKNOWN_VALUE`, `INVALID_BLOCKS`,
/// `NO_MEMORY`.
// SAFETY: the name is this library's own; what callers promise stands at the head of quant.h.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quant_tensor_sizes(
    tensor: *const QuantTensor,
    sizes: *mut QuantTensorSizes,
) -> QuantStatus {
    // SAFETY: the caller's promise.
    call(|| unsafe { put(sizes, self::sizes(&quantizer(tensor)?)?) })
}

/// Quantizes a whole tensor: `values_size` bytes of values in, bytes of codes, scales and zero
/// points out, of the sizes that `quant_tensor_sizes` gives. Scales have the tensor's type (f32
/// with `QUANT_DIALECT_F32`, `QUANT_DIALECT_TORCH` and, but for values of f16,
/// `QUANT_DIALECT_COREMLTOOLS_ACTIVATIONS`).
///
/// It runs on so many `threads`: 1 is the caller's own, and no other is started; 0 is one for each
/// core. Others are started, and ended before this returns; no more than there is work for. The
/// bytes do not depend on the number. Every thread allocates some hundred KiB; block sizes above 1
/// on several axes, of which the blocks lie apart, take 12 bytes for each scale.
///
/// The error goes to `error_stats`, unless that is null: then it is faster. On failure, where goes to
/// `failure`, unless that is null. A tensor without elements is done at once.
///
/// Status: `NULL_POINTER`, `INVALID_LENGTH`, `INVALID_SHAPE`, `INVALID_VALUES_SIZE`,
/// `INVALID_CODES_SIZE`, `INVALID_SCALES_SIZE`, `INVALID_ZERO_POINTS_SIZE`, `OVERLAP`,
/// `UNKNOWN_VALUE`, `INVALID_BLOCKS`, `NO_MEMORY`, `NON_FINITE`, `OUT_OF_RANGE`, `NO_THREADS`.
// SAFETY: the name is this library's own; what callers promise stands at the head of quant.h.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quant_quantize_tensor(
    tensor: *const QuantTensor,
    values: *const c_void,
    values_size: usize,
    codes: *mut u8,
    codes_size: usize,
    scales: *mut c_void,
    scales_size: usize,
    zero_points: *mut u8,
    zero_points_size: usize,
    threads: usize,
    error_stats: *mut QuantErrorStats,
    failure: *mut QuantFailure,
) -> QuantStatus {
    call(|| {
        // SAFETY: the caller's promise.
        let quantizer = unsafe { quantizer(tensor) }?;
        let sizes = sizes(&quantizer)?;
        expect(values_size, sizes.values, QuantStatus::InvalidValuesSize)?;
        expect(codes_size, sizes.codes, QuantStatus::InvalidCodesSize)?;
        expect(scales_size, sizes.scales, QuantStatus::InvalidScalesSize)?;
        expect(
            zero_points_size,
            sizes.zero_points,
            QuantStatus::InvalidZeroPointsSize,
        )?;
        // SAFETY: the caller's promise.
        let (values, parts) = unsafe {
            let parts = Parts {
                codes: Output::new(codes.cast(), codes_size)?,
                scales: Output::new(scales, scales_size)?,
                zero_points: Output::new(zero_points.cast(), zero_points_size)?,
            };
            (Input::<u8>::new(values, values_size)?, parts)
        };
        let [a, b, c] = [&parts.codes, &parts.scales, &parts.zero_points].map(Output::region);
        expect_apart(&[a, b, c], &[values.region()])?;
        let measured = !error_stats.is_null();
        let threads = useful(threads, sizes.count);
        memory::expect(memory::to_quantize(&quantizer, threads))?;
        let done = threads::run(threads, move || match measured {
            true => quantizer.quantize(values.bytes(), &parts).map(Some),
            false => quantizer
                .quantize_unmeasured(values.bytes(), &parts)
                .map(|()| None),
        })?;
        // SAFETY: the caller's promise.
        let found = done.map_err(|error| unsafe { explain(error, failure) })?;
        if let Some(found) = found {
            // SAFETY: the caller's promise.
            unsafe { put_if_wanted(error_stats, found.into()) };
        }
        Ok(())
    })
}

/// The values of what `quant_quantize_tensor` wrote, in the type `target`, which need not be the
/// tensor's: `values_size` is the number of elements times its size. `threads` and `failure` as
/// there.
///
/// Status: `NULL_POINTER`, `INVALID_LENGTH`, `INVALID_SHAPE`, `INVALID_VALUES_SIZE`,
/// `INVALID_CODES_SIZE`, `INVALID_SCALES_SIZE`, `INVALID_ZERO_POINTS_SIZE`, `OVERLAP`,
/// `UNKNOWN_VALUE`, `INVALID_BLOCKS`, `NO_MEMORY`, `INVALID_PARAMS`, `NO_THREADS`.
// SAFETY: the name is this library's own; what callers promise stands at the head of quant.h.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quant_dequantize_tensor(
    tensor: *const QuantTensor,
    codes: *const u8,
    codes_size: usize,
    scales: *const c_void,
    scales_size: usize,
    zero_points: *const u8,
    zero_points_size: usize,
    target: MaybeUninit<QuantFloat>,
    values: *mut c_void,
    values_size: usize,
    threads: usize,
    failure: *mut QuantFailure,
) -> QuantStatus {
    call(|| {
        // SAFETY: the caller's promise.
        let quantizer = unsafe { quantizer(tensor) }?;
        let target = known(target)?;
        let sizes = sizes(&quantizer)?;
        expect(
            values_size,
            bytes_of(sizes.count, target)?,
            QuantStatus::InvalidValuesSize,
        )?;
        expect(codes_size, sizes.codes, QuantStatus::InvalidCodesSize)?;
        expect(scales_size, sizes.scales, QuantStatus::InvalidScalesSize)?;
        expect(
            zero_points_size,
            sizes.zero_points,
            QuantStatus::InvalidZeroPointsSize,
        )?;
        // SAFETY: the caller's promise.
        let (codes, scales, zero_points, parts) = unsafe {
            let parts = Parts {
                codes: Output::new(values, values_size)?,
                scales: Output::new(null_mut(), 0)?,
                zero_points: Output::new(null_mut(), 0)?,
            };
            let codes = Input::<u8>::new(codes.cast(), codes_size)?;
            let scales = Input::<u8>::new(scales, scales_size)?;
            let zero_points = Input::<u8>::new(zero_points.cast(), zero_points_size)?;
            (codes, scales, zero_points, parts)
        };
        let inputs = [codes.region(), scales.region(), zero_points.region()];
        expect_apart(&[parts.codes.region()], &inputs)?;
        let threads = useful(threads, sizes.count);
        memory::expect(threads.saturating_mul(memory::PER_THREAD))?;
        let done = threads::run(threads, move || {
            let (codes, scales) = (codes.bytes(), scales.bytes());
            quantizer.dequantize(codes, scales, zero_points.bytes(), target, &parts)
        })?;
        // SAFETY: the caller's promise.
        done.map_err(|error| unsafe { explain(error, failure) })
    })
}

/// # Safety
/// A pointer that is not null points to a tensor, whose pointers are null or point to as many
/// numbers as it has axes.
unsafe fn quantizer(tensor: *const QuantTensor) -> Result<TensorQuantizer, QuantStatus> {
    if tensor.is_null() {
        return Err(QuantStatus::NullPointer);
    }
    // SAFETY: the caller's promise.
    let tensor = unsafe { tensor.read_unaligned() };
    let (source, scheme) = (known(tensor.dtype)?, Scheme::try_from(tensor.scheme)?);
    if tensor.rank > MAX_RANK {
        return Err(QuantStatus::InvalidShape);
    }
    if tensor.reserved != [0; 4] {
        return Err(QuantStatus::UnknownValue);
    }
    memory::expect(memory::GEOMETRY)?;
    let axes = |pointer: *const usize| {
        // SAFETY: the caller's promise.
        let axes = unsafe { Input::<usize>::new(pointer.cast(), tensor.rank) }?;
        let mut copy = Vec::new();
        let made = copy.try_reserve_exact(axes.len());
        made.map_err(|_| QuantStatus::NoMemory)?;
        copy.resize(axes.len(), 0);
        axes.read(0, &mut copy);
        Ok::<_, QuantStatus>(copy)
    };
    let shape = axes(tensor.shape)?;
    let granularity = match tensor.block_sizes.is_null() {
        true => Granularity::PerTensor,
        false => Granularity::Blocks(axes(tensor.block_sizes)?),
    };
    Ok(TensorQuantizer {
        backend: backend(),
        scheme,
        source,
        blocks: Blocks::new(&shape, &granularity)?,
        search: quant_core::Search::None,
        importance: None,
    })
}

fn sizes(quantizer: &TensorQuantizer) -> Result<QuantTensorSizes, QuantStatus> {
    let count = quantizer.blocks.element_count();
    // Nothing else is larger, but for f32 scales of f16 values.
    bytes_of(count, FloatType::F32)?;
    Ok(QuantTensorSizes {
        count,
        scale_count: quantizer.blocks.scale_count(),
        values: bytes_of(count, quantizer.source)?,
        codes: quantizer.codes_len(),
        scales: quantizer.scales_len(),
        zero_points: quantizer.zero_points_len(),
        reserved: [0; 2],
    })
}

fn bytes_of(count: usize, dtype: FloatType) -> Result<usize, QuantStatus> {
    let bytes = count.checked_mul(dtype.size());
    let bytes = bytes.filter(|&bytes| isize::try_from(bytes).is_ok());
    bytes.ok_or(QuantStatus::InvalidShape)
}

/// As many threads as there is work for.
fn useful(threads: usize, elements: usize) -> usize {
    threads::count(threads, elements.div_ceil(STATS_CHUNK))
}

/// # Safety
/// A pointer that is not null has room for a failure.
unsafe fn explain(error: ProcessError<Infallible>, failure: *mut QuantFailure) -> QuantStatus {
    let (status, position, count) = match error {
        ProcessError::NonFinite { first, count } => (QuantStatus::NonFinite, first, count),
        ProcessError::Params { block, source } => (ParamsError::into(source), block, 1),
        ProcessError::Sink(never) => match never {},
        ProcessError::NoMemory => (QuantStatus::NoMemory, 0, 0),
        // Sizes were looked at before.
        ProcessError::Argument(_) => (QuantStatus::Internal, 0, 0),
    };
    // SAFETY: the caller's promise.
    unsafe {
        put_if_wanted(
            failure,
            QuantFailure {
                position,
                count,
                reserved: [0; 2],
            },
        )
    };
    status
}

/// The caller's buffers.
struct Parts {
    codes: Output<u8>,
    scales: Output<u8>,
    zero_points: Output<u8>,
}

// SAFETY: the driver's threads write parts that do not overlap.
unsafe impl Sync for Parts {}

impl Sink for Parts {
    type Error = Infallible;

    fn codes(&self, offset: usize, bytes: &[u8]) -> Result<(), Infallible> {
        self.codes.write(offset, bytes);
        Ok(())
    }

    fn scales(&self, offset: usize, bytes: &[u8]) -> Result<(), Infallible> {
        self.scales.write(offset, bytes);
        Ok(())
    }

    fn zero_points(&self, offset: usize, bytes: &[u8]) -> Result<(), Infallible> {
        self.zero_points.write(offset, bytes);
        Ok(())
    }
}
