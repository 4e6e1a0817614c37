//! From pointers and lengths to slices, and from results to status codes.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::QuantStatus;

/// Runs a call's body; a panic ends here.
pub fn call(body: impl FnOnce() -> Result<(), QuantStatus>) -> QuantStatus {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => QuantStatus::Ok,
        Ok(Err(status)) => status,
        Err(_) => QuantStatus::Internal,
    }
}

/// An input.
///
/// # Safety
/// A pointer that is neither null nor misaligned points to `count` values, which nothing changes
/// during `'a`.
pub unsafe fn input<'a, T>(pointer: *const T, count: usize) -> Result<&'a [T], QuantStatus> {
    if count == 0 {
        return Ok(&[]);
    }
    check::<T>(pointer, count)?;
    // SAFETY: checked above; the rest is the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts(pointer, count) })
}

/// An output.
///
/// # Safety
/// A pointer that is neither null nor misaligned points to `count` initialized values, which
/// nothing else reads or changes during `'a`.
pub unsafe fn output<'a, T>(pointer: *mut T, count: usize) -> Result<&'a mut [T], QuantStatus> {
    if count == 0 {
        return Ok(&mut []);
    }
    check::<T>(pointer, count)?;
    // SAFETY: checked above; the rest is the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts_mut(pointer, count) })
}

/// A result.
///
/// # Safety
/// As for an [`output`] of one value, which need not be initialized.
pub unsafe fn put<T>(pointer: *mut T, value: T) -> Result<(), QuantStatus> {
    check::<T>(pointer, 1)?;
    // SAFETY: checked above; the rest is the caller's promise.
    unsafe { pointer.write(value) };
    Ok(())
}

fn check<T>(pointer: *const T, count: usize) -> Result<(), QuantStatus> {
    if pointer.is_null() || !pointer.is_aligned() {
        return Err(QuantStatus::InvalidPointer);
    }
    match count.checked_mul(size_of::<T>()) {
        Some(bytes) if isize::try_from(bytes).is_ok() => Ok(()),
        _ => Err(QuantStatus::InvalidLength),
    }
}

/// Whether a buffer has the length that the others ask for.
pub fn expect(length: usize, expected: usize) -> Result<(), QuantStatus> {
    match length == expected {
        true => Ok(()),
        false => Err(QuantStatus::InvalidLength),
    }
}
