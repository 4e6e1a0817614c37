//! What this library is, and what this machine has.

use std::ffi::{CStr, c_char, c_void};
use std::mem::{MaybeUninit, transmute};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use quant_simd::Backend;

use crate::buffers::{Output, call};
use crate::types::{known, number, variant};
use crate::{QuantBackend, QuantStatus};

const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");

/// The version of the library that is linked: `QUANT_VERSION` is that of this header. Static.
// SAFETY: the name is this library's own; what callers promise stands at the head of quant.h.
#[unsafe(no_mangle)]
pub extern "C" fn quant_version() -> *const c_char {
    VERSION.as_ptr().cast()
}

/// What a status means, in a few English words; "unknown status" for a number that is none.
/// Static, never null.
// SAFETY: the name is this library's own; what callers promise stands at the head of quant.h.
#[unsafe(no_mangle)]
// Long: a line per status.
pub extern "C" fn quant_status_string(status: MaybeUninit<QuantStatus>) -> *const c_char {
    const TEXTS: [(QuantStatus, &CStr); 19] = [
        (QuantStatus::Ok, c"done"),
        (QuantStatus::NullPointer, c"a pointer is null"),
        (
            QuantStatus::InvalidLength,
            c"a size is more than can be addressed",
        ),
        (
            QuantStatus::Overlap,
            c"an output overlaps with another buffer",
        ),
        (
            QuantStatus::UnknownValue,
            c"a number that its enumeration does not have",
        ),
        (
            QuantStatus::InvalidBlocks,
            c"a block size is 0, or larger than its axis, or a block is not whole",
        ),
        (
            QuantStatus::InvalidParams,
            c"a scale or zero point cannot be",
        ),
        (
            QuantStatus::NonFinite,
            c"there are NaN or infinities among the values",
        ),
        (
            QuantStatus::OutOfRange,
            c"the values are too large or too small for scale or zero point",
        ),
        (QuantStatus::NoThreads, c"the system starts no more threads"),
        (QuantStatus::Internal, c"a defect of the library"),
        (QuantStatus::NoMemory, c"there is not enough memory"),
        (
            QuantStatus::InvalidShape,
            c"a tensor has more axes or elements than there can be",
        ),
        (
            QuantStatus::InvalidValuesSize,
            c"the values do not have the size that the other arguments ask for",
        ),
        (
            QuantStatus::InvalidCodesSize,
            c"the codes do not have the size that the other arguments ask for",
        ),
        (
            QuantStatus::InvalidScalesSize,
            c"the scales do not have the size that the other arguments ask for",
        ),
        (
            QuantStatus::InvalidZeroPointsSize,
            c"the zero points or biases do not have the size that the other arguments ask for",
        ),
        (
            QuantStatus::InvalidSettings,
            c"a setting of an observer is out of its range",
        ),
        (
            QuantStatus::CannotMerge,
            c"observers of different settings, or moving averages, cannot be merged",
        ),
    ];
    let text = TEXTS.iter().find(|(it, _)| number(*it) == number(status));
    text.map_or(c"unknown status", |(_, text)| text).as_ptr()
}

/// How many backends this machine can run, and which: the first `capacity` of them are written to
/// `backends`, the fastest first. `backends` may be null where `capacity` is 0.
// SAFETY: the name is this library's own; what callers promise stands at the head of quant.h.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quant_backend_list(backends: *mut QuantBackend, capacity: usize) -> usize {
    let available = Backend::available();
    let count = available.len().min(capacity);
    // SAFETY: the caller's promise.
    let output = unsafe { Output::<u32>::new(backends.cast::<c_void>(), count) };
    if let Ok(output) = output {
        for (i, backend) in available.iter().take(count).enumerate() {
            output.write(i, &[number(variant::<QuantBackend>(*backend))]);
        }
    }
    available.len()
}

/// The fastest backend that this machine can run: the first of `quant_backend_list`. Every function
/// uses it unless `quant_backend_use` was called.
// SAFETY: the name is this library's own; what callers promise stands at the head of quant.h.
#[unsafe(no_mangle)]
pub extern "C" fn quant_backend_detect() -> QuantBackend {
    variant(Backend::detect())
}

/// Chooses the backend of every later call, of all threads. Results are the same bytes with any.
///
/// Status: `UNKNOWN_VALUE`; also for a backend that this machine cannot run.
// SAFETY: the name is this library's own; what callers promise stands at the head of quant.h.
#[unsafe(no_mangle)]
pub extern "C" fn quant_backend_use(backend: MaybeUninit<QuantBackend>) -> QuantStatus {
    call(|| {
        let backend = known(backend)?;
        if !backend.is_available() {
            return Err(QuantStatus::UnknownValue);
        }
        CHOSEN.store(number(variant::<QuantBackend>(backend)), Relaxed);
        Ok(())
    })
}

/// The number of the backend that calls use, if one was chosen.
static CHOSEN: AtomicU32 = AtomicU32::new(u32::MAX);

/// The backend that calls use.
pub(crate) fn backend() -> Backend {
    let chosen = MaybeUninit::new(CHOSEN.load(Relaxed));
    // SAFETY: of one size; `known` takes any number.
    let chosen: MaybeUninit<QuantBackend> = unsafe { transmute(chosen) };
    known(chosen).unwrap_or_else(|_| Backend::detect())
}

/// The version of the library that is linked, as a number: `QUANT_VERSION_NUMBER` is that of this
/// header.
// SAFETY: the name is this library's own; what callers promise stands at the head of quant.h.
#[unsafe(no_mangle)]
pub extern "C" fn quant_version_number() -> u32 {
    let part = |text: &str| text.parse::<u32>().unwrap_or(0);
    1_000_000 * part(env!("CARGO_PKG_VERSION_MAJOR"))
        + 1_000 * part(env!("CARGO_PKG_VERSION_MINOR"))
        + part(env!("CARGO_PKG_VERSION_PATCH"))
}

/// "scalar", "avx2", "avx512" or "neon"; "unknown" for a number that is none of them. Static,
/// never null.
// SAFETY: the name is this library's own; what callers promise stands at the head of quant.h.
#[unsafe(no_mangle)]
pub extern "C" fn quant_backend_name(backend: MaybeUninit<QuantBackend>) -> *const c_char {
    let name = match known(backend) {
        Ok(Backend::Scalar) => c"scalar",
        Ok(Backend::Avx2) => c"avx2",
        Ok(Backend::Avx512) => c"avx512",
        Ok(Backend::Neon) => c"neon",
        _ => c"unknown",
    };
    name.as_ptr()
}
