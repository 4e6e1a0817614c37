//! Observers: ranges of activations from a stream of samples.

use std::ffi::c_void;
use std::mem::MaybeUninit;

use quant_core::observer::{Averaging, MergeError, Observer, ObserverConfig};
use quant_core::{Scheme, ValueRange};
use quant_simd::Element;

use crate::buffers::{Input, call, put, with_float};
use crate::info::backend;
use crate::types::{ObserverKind, known};
use crate::{
    QuantCode, QuantFloat, QuantMode, QuantObserverConfig, QuantParams, QuantRange, QuantScheme,
    QuantStatus, memory,
};

/// What an observer takes at most for a while: two histograms of the most bins, and what the rules
/// that clip make of one.
const ROOM: usize = 1 << 20;

/// The range of an activation, from values that come sample by sample and are not kept. One thread at
/// a time may change it.
pub struct QuantObserver(Observer);

/// Makes an observer of no values, which `quant_observer_free` ends.
///
/// Status: `NULL_POINTER`, `UNKNOWN_VALUE`, `NO_MEMORY`; `INVALID_SETTINGS` for settings out of their
/// range.
// SAFETY: the name is this library's own; what callers promise stands at the head of quant.h.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quant_observer_new(
    config: *const QuantObserverConfig,
    observer: *mut *mut QuantObserver,
) -> QuantStatus {
    call(|| {
        if config.is_null() || observer.is_null() {
            return Err(QuantStatus::NullPointer);
        }
        // SAFETY: the caller's promise; any alignment.
        let config = settings(&unsafe { config.read_unaligned() })?;
        memory::expect(ROOM)?;
        let new = Observer::new(config).map_err(|_| QuantStatus::InvalidSettings)?;
        let new = Box::into_raw(Box::new(QuantObserver(new)));
        // SAFETY: the caller's promise.
        unsafe { observer.write_unaligned(new) };
        Ok(())
    })
}

/// Ends an observer. Null is none.
// SAFETY: the name is this library's own; what callers promise stands at the head of quant.h.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quant_observer_free(ended: *mut QuantObserver) {
    if !ended.is_null() {
        // SAFETY: `quant_observer_new` made it, and the caller uses it no more.
        drop(unsafe { Box::from_raw(ended) });
    }
}

/// Takes `count` values, a whole sample: what one run of the model gives. NaN and infinities are left
/// out.
///
/// Status: `NULL_POINTER`, `INVALID_LENGTH`, `UNKNOWN_VALUE`, `NO_MEMORY`.
// SAFETY: the name is this library's own; what callers promise stands at the head of quant.h.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quant_observer_observe(
    observer: *mut QuantObserver,
    dtype: MaybeUninit<QuantFloat>,
    values: *const c_void,
    count: usize,
) -> QuantStatus {
    call(|| {
        // SAFETY: the caller's promise.
        let observer = unsafe { changed(observer)? };
        // SAFETY: the caller's promise.
        unsafe { take(observer, dtype, values, count)? };
        observer.end_sample();
        Ok(())
    })
}

/// Takes `count` values, a part of a sample, which `quant_observer_end_sample` ends. Only moving
/// averages depend on where samples end.
///
/// Status: `NULL_POINTER`, `INVALID_LENGTH`, `UNKNOWN_VALUE`, `NO_MEMORY`.
// SAFETY: the name is this library's own; what callers promise stands at the head of quant.h.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quant_observer_observe_part(
    observer: *mut QuantObserver,
    dtype: MaybeUninit<QuantFloat>,
    values: *const c_void,
    count: usize,
) -> QuantStatus {
    // SAFETY: the caller's promise.
    call(|| unsafe { take(changed(observer)?, dtype, values, count) })
}

/// Counts what came since the last one as a sample.
///
/// Status: `NULL_POINTER`.
// SAFETY: the name is this library's own; what callers promise stands at the head of quant.h.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quant_observer_end_sample(observer: *mut QuantObserver) -> QuantStatus {
    call(|| {
        // SAFETY: the caller's promise.
        unsafe { changed(observer)? }.end_sample();
        Ok(())
    })
}

/// As if `observer` had seen what `other`, which stays as it is, saw. The order in which observers
/// are merged does not matter.
///
/// Status: `NULL_POINTER`, `NO_MEMORY`; `CANNOT_MERGE` for moving averages and for observers of
/// different settings.
// SAFETY: the name is this library's own; what callers promise stands at the head of quant.h.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quant_observer_merge(
    observer: *mut QuantObserver,
    other: *const QuantObserver,
) -> QuantStatus {
    call(|| {
        memory::expect(ROOM)?;
        if observer.cast_const() == other && !other.is_null() {
            // SAFETY: the caller's promise.
            let twin = unsafe { seen(other)? }.clone();
            // SAFETY: the caller's promise.
            return merge(unsafe { changed(observer)? }, &twin);
        }
        // SAFETY: the caller's promise; they are two.
        let (observer, other) = unsafe { (changed(observer)?, seen(other)?) };
        merge(observer, other)
    })
}

/// The range that activations are to be quantized over. As long as no finite value came (of moving
/// averages, no sample with one ended), it is empty: `min` is +infinity, `max` -infinity. Type and mode
/// matter to percentiles and the mean squared error only.
///
/// Status: `NULL_POINTER`, `UNKNOWN_VALUE`, `NO_MEMORY`.
// SAFETY: the name is this library's own; what callers promise stands at the head of quant.h.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quant_observer_range(
    observer: *const QuantObserver,
    dtype: MaybeUninit<QuantCode>,
    mode: MaybeUninit<QuantMode>,
    range: *mut QuantRange,
) -> QuantStatus {
    call(|| {
        // SAFETY: the caller's promise.
        let observer = unsafe { seen(observer)? };
        let (dtype, mode) = (known(dtype)?, known(mode)?);
        memory::expect(ROOM)?;
        let found = observer.range(dtype, mode).unwrap_or(ValueRange::EMPTY);
        // SAFETY: the caller's promise.
        unsafe { put(range, found.into()) }
    })
}

/// Scale and zero point of that range, for values of type `dtype`. For activations the dialects
/// `QUANT_DIALECT_TORCH` and `QUANT_DIALECT_COREMLTOOLS_ACTIVATIONS` are made.
///
/// Status: `NULL_POINTER`, `UNKNOWN_VALUE`, `NO_MEMORY`, `OUT_OF_RANGE`.
// SAFETY: the name is this library's own; what callers promise stands at the head of quant.h.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quant_observer_params(
    observer: *const QuantObserver,
    dtype: MaybeUninit<QuantFloat>,
    scheme: QuantScheme,
    params: *mut QuantParams,
) -> QuantStatus {
    call(|| {
        // SAFETY: the caller's promise.
        let observer = unsafe { seen(observer)? };
        let (source, scheme) = (known(dtype)?, Scheme::try_from(scheme)?);
        memory::expect(ROOM)?;
        let range = observer.range(scheme.dtype, scheme.mode);
        // What was not finite is left out of the range; here it is no error.
        let range = ValueRange {
            non_finite: 0,
            ..range.unwrap_or(ValueRange::EMPTY)
        };
        let found = scheme.params(&range, source)?;
        // SAFETY: the caller's promise.
        unsafe { put(params, QuantParams::from_params(found)) }
    })
}

/// # Safety
/// The pointer is null, or an observer that nobody else uses.
unsafe fn changed<'a>(observer: *mut QuantObserver) -> Result<&'a mut Observer, QuantStatus> {
    // SAFETY: the caller's promise.
    let observer = unsafe { observer.as_mut() };
    Ok(&mut observer.ok_or(QuantStatus::NullPointer)?.0)
}

/// # Safety
/// The pointer is null, or an observer that nobody changes.
unsafe fn seen<'a>(observer: *const QuantObserver) -> Result<&'a Observer, QuantStatus> {
    // SAFETY: the caller's promise.
    let observer = unsafe { observer.as_ref() };
    Ok(&observer.ok_or(QuantStatus::NullPointer)?.0)
}

/// # Safety
/// `count` values are behind the pointer, or it is null.
unsafe fn take(
    observer: &mut Observer,
    dtype: MaybeUninit<QuantFloat>,
    values: *const c_void,
    count: usize,
) -> Result<(), QuantStatus> {
    fn pieces<F: Element>(observer: &mut Observer, values: &Input<F>) {
        let backend = backend();
        values.pieces(|_, values| backend.observe_part(values, observer));
    }
    let source = known(dtype)?;
    with_float!(source, F => {
        // SAFETY: the caller's promise.
        let values = unsafe { Input::<F>::new(values, count)? };
        memory::expect(ROOM)?;
        pieces(observer, &values);
    });
    Ok(())
}

fn merge(observer: &mut Observer, other: &Observer) -> Result<(), QuantStatus> {
    observer.merge(other).map_err(|error| match error {
        MergeError::Configuration | MergeError::Ordered => QuantStatus::CannotMerge,
        _ => QuantStatus::Internal,
    })
}

fn settings(given: &QuantObserverConfig) -> Result<ObserverConfig, QuantStatus> {
    let kind = known(given.kind)?;
    if given.reserved != [0; 4] {
        return Err(QuantStatus::UnknownValue);
    }
    let bins = match given.bins {
        0 => ObserverConfig::DEFAULT_BINS,
        bins => bins,
    };
    Ok(match kind {
        ObserverKind::MinMax => ObserverConfig::MinMax,
        ObserverKind::MovingAverage => ObserverConfig::MovingAverage {
            averaging: match given.constant {
                0.0 => Averaging::TORCH,
                constant => Averaging::Constant(constant),
            },
        },
        ObserverKind::Percentile => ObserverConfig::Percentile {
            bins,
            percentile: match given.percentile {
                0.0 => ObserverConfig::DEFAULT_PERCENTILE,
                percentile => percentile,
            },
        },
        ObserverKind::Entropy => ObserverConfig::Entropy { bins },
        ObserverKind::Mse => ObserverConfig::Mse { bins },
    })
}
