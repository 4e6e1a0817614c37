//! What this library is, and what this machine has.

use std::ffi::{CStr, c_char, c_void};
use std::mem::MaybeUninit;

use quant_simd::Backend;

use crate::buffers::Output;
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
pub extern "C" fn quant_status_string(status: MaybeUninit<QuantStatus>) -> *const c_char {
    const TEXTS: [(QuantStatus, &CStr); 11] = [
        (QuantStatus::Ok, c"done"),
        (QuantStatus::NullPointer, c"a pointer is null"),
        (
            QuantStatus::InvalidLength,
            c"a buffer does not have the size that the other arguments ask for",
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
            c"a block size is 0, or larger than its axis",
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

/// The backend that every function uses: the first of `quant_backend_list`.
// SAFETY: the name is this library's own; what callers promise stands at the head of quant.h.
#[unsafe(no_mangle)]
pub extern "C" fn quant_backend_detect() -> QuantBackend {
    variant(Backend::detect())
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
