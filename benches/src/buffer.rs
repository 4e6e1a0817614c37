//! Memory that is aligned, allocated and touched before anything is timed.

use std::ops::{Deref, DerefMut};

/// So that no figure depends on where the allocator happens to put a buffer.
const ALIGNMENT: usize = 4096;

pub struct Buffer<T> {
    storage: Vec<T>,
    start: usize,
    len: usize,
}

impl<T: Copy> Buffer<T> {
    pub fn new(len: usize, element: impl Fn(usize) -> T) -> Self {
        // `element(0)` is written everywhere: zeros might stay unmapped pages.
        let mut storage = vec![element(0); len + ALIGNMENT / size_of::<T>()];
        let start = storage.as_ptr().align_offset(ALIGNMENT);
        for (i, slot) in storage[start..start + len].iter_mut().enumerate() {
            *slot = element(i);
        }
        Self {
            storage,
            start,
            len,
        }
    }
}

impl<T> Deref for Buffer<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.storage[self.start..self.start + self.len]
    }
}

impl<T> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.storage[self.start..self.start + self.len]
    }
}
