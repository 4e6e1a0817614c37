//! From pointers and lengths to slices, whatever their alignment.

use std::ffi::c_void;
use std::mem::size_of;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::{ptr, slice};

use bytemuck::Pod;

use crate::QuantStatus;

/// Elements that are copied at a time where a buffer is not aligned; an even number.
pub(crate) const PIECE: usize = 2048;

/// An expression with the name of a run-time float type's Rust type.
macro_rules! with_float {
    ($dtype:expr, $F:ident => $body:expr) => {
        match $dtype {
            quant_core::FloatType::F32 => {
                type $F = f32;
                $body
            }
            quant_core::FloatType::F16 => {
                type $F = half::f16;
                $body
            }
            quant_core::FloatType::Bf16 => {
                type $F = half::bf16;
                $body
            }
        }
    };
}
pub(crate) use with_float;

/// Runs a call's body. Its arguments are checked; should it panic all the same, that ends here.
pub fn call(body: impl FnOnce() -> Result<(), QuantStatus>) -> QuantStatus {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => QuantStatus::Ok,
        Ok(Err(status)) => status,
        Err(_) => QuantStatus::Internal,
    }
}

/// A buffer to read from.
#[derive(Clone, Copy, Debug)]
pub struct Input<T> {
    pointer: *const T,
    count: usize,
}

// SAFETY: it is only read, and nothing changes it.
unsafe impl<T> Send for Input<T> {}

impl<T: Pod> Input<T> {
    /// A pointer that C passed.
    ///
    /// # Safety
    /// If it is not null, `count` values are behind it, of any alignment, which nothing changes
    /// while this exists.
    pub unsafe fn new(pointer: *const c_void, count: usize) -> Result<Self, QuantStatus> {
        check::<T>(pointer, count)?;
        let pointer = match count {
            0 => ptr::dangling(),
            _ => pointer.cast(),
        };
        Ok(Self { pointer, count })
    }

    pub fn len(&self) -> usize {
        self.count
    }

    /// All of them, where they are aligned.
    pub fn slice(&self) -> Option<&[T]> {
        // SAFETY: aligned; the rest was promised to `new`.
        let slice = || unsafe { slice::from_raw_parts(self.pointer, self.count) };
        self.pointer.is_aligned().then(slice)
    }

    /// Copies from position `start` on.
    pub fn read(&self, start: usize, values: &mut [T]) {
        assert!(start <= self.count && values.len() <= self.count - start);
        let (from, bytes) = (self.pointer.wrapping_add(start), size_of_val(values));
        // SAFETY: within the buffer; `values` is memory of our own.
        unsafe { ptr::copy_nonoverlapping(from.cast(), values.as_mut_ptr().cast::<u8>(), bytes) };
    }

    /// Some of them, from position `start` on.
    pub fn part(&self, start: usize, count: usize) -> Self {
        assert!(start <= self.count && count <= self.count - start);
        let pointer = self.pointer.wrapping_add(start);
        Self { pointer, count }
    }

    /// Calls `f` with all of them at once where they are aligned, else with copies of some, an
    /// even number but for the last; and with the position of the first.
    pub fn pieces(&self, mut f: impl FnMut(usize, &[T])) {
        if let Some(all) = self.slice() {
            return f(0, all);
        }
        let mut copy = [T::zeroed(); PIECE];
        for start in (0..self.count).step_by(PIECE) {
            let piece = &mut copy[..PIECE.min(self.count - start)];
            self.read(start, piece);
            f(start, piece);
        }
    }

    pub fn region(&self) -> Region {
        Region::new(self.pointer, self.count)
    }
}

impl Input<u8> {
    pub fn bytes(&self) -> &[u8] {
        self.slice().expect("bytes are aligned")
    }
}

/// A buffer to write to.
#[derive(Debug)]
pub struct Output<T> {
    pointer: *mut T,
    count: usize,
}

// SAFETY: nobody else has it.
unsafe impl<T> Send for Output<T> {}

impl<T: Pod> Output<T> {
    /// A pointer that C passed. What C did not set counts as set to something.
    ///
    /// # Safety
    /// If it is not null, there is room for `count` values behind it, of any alignment, which
    /// nothing else reads or changes while a slice of this exists.
    pub unsafe fn new(pointer: *mut c_void, count: usize) -> Result<Self, QuantStatus> {
        check::<T>(pointer, count)?;
        let pointer = match count {
            0 => ptr::dangling_mut(),
            _ => pointer.cast(),
        };
        Ok(Self { pointer, count })
    }

    pub fn len(&self) -> usize {
        self.count
    }

    /// All of them, where they are aligned.
    pub fn slice(&mut self) -> Option<&mut [T]> {
        // SAFETY: aligned; the rest was promised to `new`.
        let slice = || unsafe { slice::from_raw_parts_mut(self.pointer, self.count) };
        self.pointer.is_aligned().then(slice)
    }

    /// Sets those from position `start` on. Threads may do so at once where these do not overlap.
    pub fn write(&self, start: usize, values: &[T]) {
        assert!(start <= self.count && values.len() <= self.count - start);
        let (to, bytes) = (self.pointer.wrapping_add(start), size_of_val(values));
        // SAFETY: within the buffer; `values` is memory of our own.
        unsafe { ptr::copy_nonoverlapping(values.as_ptr().cast::<u8>(), to.cast(), bytes) };
    }

    /// Some of them, from position `start` on.
    pub fn part(&mut self, start: usize, count: usize) -> Self {
        assert!(start <= self.count && count <= self.count - start);
        let pointer = self.pointer.wrapping_add(start);
        Self { pointer, count }
    }

    /// Calls `f` as [`Input::pieces`] does, and keeps what it writes.
    pub fn pieces(&mut self, mut f: impl FnMut(usize, &mut [T])) {
        if let Some(all) = self.slice() {
            return f(0, all);
        }
        let mut copy = [T::zeroed(); PIECE];
        for start in (0..self.count).step_by(PIECE) {
            let piece = &mut copy[..PIECE.min(self.count - start)];
            f(start, piece);
            self.write(start, piece);
        }
    }

    pub fn region(&self) -> Region {
        Region::new(self.pointer, self.count)
    }
}

impl Output<u8> {
    pub fn bytes(&mut self) -> &mut [u8] {
        self.slice().expect("bytes are aligned")
    }
}

/// Sets a result, of any alignment.
///
/// # Safety
/// A pointer that is not null has room for it.
pub unsafe fn put<T>(pointer: *mut T, value: T) -> Result<(), QuantStatus> {
    if pointer.is_null() {
        return Err(QuantStatus::NullPointer);
    }
    // SAFETY: the caller's promise.
    unsafe { pointer.write_unaligned(value) };
    Ok(())
}

/// Sets a result if there is room for it.
///
/// # Safety
/// As for [`put`].
pub unsafe fn put_if_wanted<T>(pointer: *mut T, value: T) {
    // SAFETY: the caller's promise. Null is what nobody wants.
    let _ = unsafe { put(pointer, value) };
}

/// What memory a buffer takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    start: usize,
    end: usize,
}

impl Region {
    fn new<T>(pointer: *const T, count: usize) -> Self {
        let start = pointer.addr();
        let end = start + count * size_of::<T>();
        Self { start, end }
    }

    fn overlaps(self, other: Self) -> bool {
        self.start.max(other.start) < self.end.min(other.end)
    }
}

/// Whether no output overlaps with anything else.
pub fn expect_apart(outputs: &[Region], inputs: &[Region]) -> Result<(), QuantStatus> {
    for (i, output) in outputs.iter().enumerate() {
        let mut others = outputs[..i].iter().chain(inputs);
        if others.any(|other| output.overlaps(*other)) {
            return Err(QuantStatus::Overlap);
        }
    }
    Ok(())
}

/// Whether a buffer has the length that the others ask for; else the status that names it.
pub fn expect(length: usize, expected: usize, wrong: QuantStatus) -> Result<(), QuantStatus> {
    match length == expected {
        true => Ok(()),
        false => Err(wrong),
    }
}

fn check<T>(pointer: *const c_void, count: usize) -> Result<(), QuantStatus> {
    let bytes = count.checked_mul(size_of::<T>());
    match bytes.filter(|&bytes| isize::try_from(bytes).is_ok()) {
        None => Err(QuantStatus::InvalidLength),
        Some(0) => Ok(()),
        Some(_) if pointer.is_null() => Err(QuantStatus::NullPointer),
        // It would reach past the end of memory.
        Some(bytes) if pointer.addr().checked_add(bytes).is_none() => {
            Err(QuantStatus::InvalidLength)
        }
        Some(_) => Ok(()),
    }
}
