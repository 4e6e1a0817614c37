//! Arguments that do not fit each other.

use std::ops::Range;

use quant_core::{FloatType, IntType};

/// A buffer, a type or a range that does not fit the rest of a call. Nothing has been written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArgumentError {
    /// A buffer of another number of elements.
    #[error("{buffer}: {got} elements instead of {expected}")]
    Elements {
        /// Which: "values", "scales" or "zero points".
        buffer: &'static str,
        /// Elements that it has.
        got: usize,
        /// Elements that it must have.
        expected: usize,
    },
    /// A buffer of another number of bytes, which are no whole elements, or packed codes.
    #[error("{buffer}: {got} bytes instead of {expected}, for {elements} elements of {dtype}")]
    Bytes {
        /// Which: "values", "codes", "scales" or "zero points".
        buffer: &'static str,
        /// Bytes that it has.
        got: usize,
        /// Bytes that it must have.
        expected: usize,
        /// Elements that these stand for.
        elements: usize,
        /// The name of their type.
        dtype: &'static str,
    },
    /// A buffer for the result of another number of bytes.
    #[error("{buffer}: room for {got} bytes instead of {expected}")]
    Room {
        /// Which: "codes or values", "scales" or "zero points".
        buffer: &'static str,
        /// Bytes that there is room for.
        got: usize,
        /// Bytes that will be written.
        expected: usize,
    },
    /// Another number of bytes of zero points or biases.
    #[error("zero points: {got} bytes instead of {expected}, beside {count} scales")]
    Offsets {
        /// Bytes that there are.
        got: usize,
        /// Bytes that there must be: none where the scheme stores no zero points.
        expected: usize,
        /// Scales beside them.
        count: usize,
    },
    /// Values of another type.
    #[error("values of {got}, for a quantizer of {expected}")]
    Type {
        /// As given.
        got: FloatType,
        /// As wanted.
        expected: FloatType,
    },
    /// Elements that the tensor does not have.
    #[error("elements {start} to {end} of a tensor of {count}")]
    Range {
        /// The first.
        start: usize,
        /// Behind the last.
        end: usize,
        /// Elements of the tensor.
        count: usize,
    },
    /// Elements whose codes start within a byte.
    #[error("element {start} does not start a byte: those of {dtype} start at multiples of {unit}")]
    Start {
        /// The first element.
        start: usize,
        /// The type of the codes.
        dtype: IntType,
        /// Where bytes start.
        unit: usize,
    },
}

/// Whether there are as many elements.
#[inline]
pub(crate) fn elements(
    buffer: &'static str,
    got: usize,
    expected: usize,
) -> Result<(), ArgumentError> {
    match got == expected {
        true => Ok(()),
        false => Err(ArgumentError::Elements {
            buffer,
            got,
            expected,
        }),
    }
}

/// Whether bytes are those of `count` floats.
pub(crate) fn floats(
    buffer: &'static str,
    bytes: usize,
    count: usize,
    dtype: FloatType,
) -> Result<(), ArgumentError> {
    match bytes.is_multiple_of(dtype.size()) {
        true => elements(buffer, bytes / dtype.size(), count),
        false => Err(ArgumentError::Bytes {
            buffer,
            got: bytes,
            expected: count.saturating_mul(dtype.size()),
            elements: count,
            dtype: dtype.name(),
        }),
    }
}

/// Whether bytes are those of `count` codes, packed.
#[inline]
pub(crate) fn codes(bytes: usize, count: usize, dtype: IntType) -> Result<(), ArgumentError> {
    let expected = dtype.storage_len(count);
    match bytes == expected {
        true => Ok(()),
        false => Err(ArgumentError::Bytes {
            buffer: "codes",
            got: bytes,
            expected,
            elements: count,
            dtype: dtype.name(),
        }),
    }
}

/// Whether bytes are those of so many zero points or biases.
#[inline]
pub(crate) fn offsets(bytes: usize, expected: usize, count: usize) -> Result<(), ArgumentError> {
    match bytes == expected {
        true => Ok(()),
        false => Err(ArgumentError::Offsets {
            got: bytes,
            expected,
            count,
        }),
    }
}

/// Whether values have the type that they are to have.
pub(crate) fn float(got: FloatType, expected: FloatType) -> Result<(), ArgumentError> {
    match got == expected {
        true => Ok(()),
        false => Err(ArgumentError::Type { got, expected }),
    }
}

/// Whether a buffer has room for what comes, and for nothing else.
pub(crate) fn room(buffer: &'static str, got: usize, expected: usize) -> Result<(), ArgumentError> {
    match got == expected {
        true => Ok(()),
        false => Err(ArgumentError::Room {
            buffer,
            got,
            expected,
        }),
    }
}

/// Whether elements are some of a tensor's, and their codes start at a byte.
pub(crate) fn range(
    elements: &Range<usize>,
    count: usize,
    dtype: IntType,
) -> Result<(), ArgumentError> {
    let Range { start, end } = *elements;
    if start > end || end > count {
        return Err(ArgumentError::Range { start, end, count });
    }
    match dtype.packing().unit() {
        unit if start.is_multiple_of(unit) => Ok(()),
        unit => Err(ArgumentError::Start { start, dtype, unit }),
    }
}

/// For functions that panic, as those of std's slices do.
#[track_caller]
#[inline]
pub(crate) fn expect(fits: Result<(), ArgumentError>) {
    #[cold]
    #[inline(never)]
    #[track_caller]
    fn fail(error: ArgumentError) -> ! {
        panic!("{error}");
    }
    if let Err(error) = fits {
        fail(error);
    }
}
