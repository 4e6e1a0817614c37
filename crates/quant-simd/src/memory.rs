//! Memory that may not be there.

use std::alloc::{Layout, handle_alloc_error};

/// There is no memory for this.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NoMemory(Layout);

impl NoMemory {
    /// For callers who cannot be told: ends the process, as a vector does that cannot grow.
    pub(crate) fn end(self) -> ! {
        handle_alloc_error(self.0)
    }
}

/// Makes room for so many more elements.
pub(crate) fn reserve<T>(vector: &mut Vec<T>, more: usize) -> Result<(), NoMemory> {
    let refused = |_| NoMemory(Layout::array::<T>(more).unwrap_or(Layout::new::<T>()));
    vector.try_reserve(more).map_err(refused)
}

/// A vector with room for so many elements.
pub(crate) fn room<T>(count: usize) -> Result<Vec<T>, NoMemory> {
    let mut vector = Vec::new();
    let refused = |_| NoMemory(Layout::array::<T>(count).unwrap_or(Layout::new::<T>()));
    vector.try_reserve_exact(count).map_err(refused)?;
    Ok(vector)
}

/// A vector of so many of the same.
pub(crate) fn filled<T: Clone>(count: usize, value: T) -> Result<Vec<T>, NoMemory> {
    let mut vector = room(count)?;
    vector.resize(count, value);
    Ok(vector)
}

/// `Vec::resize`.
pub(crate) fn resize<T: Clone>(vector: &mut Vec<T>, len: usize, value: T) -> Result<(), NoMemory> {
    reserve(vector, len.saturating_sub(vector.len()))?;
    vector.resize(len, value);
    Ok(())
}

/// Appends what is there as often as that it is there so many times.
pub(crate) fn repeat<T: Copy>(vector: &mut Vec<T>, times: usize) -> Result<(), NoMemory> {
    let len = vector.len();
    reserve(vector, len * times.saturating_sub(1))?;
    for _ in 1..times {
        vector.extend_from_within(..len);
    }
    Ok(())
}

/// `Vec::push`.
pub(crate) fn push<T>(vector: &mut Vec<T>, value: T) -> Result<(), NoMemory> {
    reserve(vector, 1)?;
    vector.push(value);
    Ok(())
}

/// `Vec::extend_from_slice`.
pub(crate) fn extend<T: Clone>(vector: &mut Vec<T>, values: &[T]) -> Result<(), NoMemory> {
    reserve(vector, values.len())?;
    vector.extend_from_slice(values);
    Ok(())
}
