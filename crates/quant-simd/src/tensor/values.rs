//! A tensor's bytes as elements.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use bytemuck::Pod;

use super::Source;
use super::work::PassError;
use crate::Element;
use crate::memory::{self, NoMemory};

#[cfg(target_endian = "big")]
compile_error!("tensors are little-endian bytes, and are read in place");

/// Elements in place where they are aligned, else copied as they are needed. Those before `start`
/// are not there.
#[derive(Clone, Copy)]
pub struct Values<'a, F> {
    start: usize,
    elements: Elements<'a, F>,
}

#[derive(Clone, Copy)]
enum Elements<'a, F> {
    Aligned(&'a [F]),
    Bytes(&'a [u8]),
}

impl<'a, F: Pod> Values<'a, F> {
    pub fn new(bytes: &'a [u8]) -> Self {
        let elements = match bytemuck::try_cast_slice(bytes) {
            Ok(values) => Elements::Aligned(values),
            Err(_) => Elements::Bytes(bytes),
        };
        Self { start: 0, elements }
    }

    pub fn with<T>(self, elements: Range<usize>, f: impl FnOnce(&[F]) -> T) -> Result<T, NoMemory> {
        let elements = elements.start - self.start..elements.end - self.start;
        Ok(match self.elements {
            Elements::Aligned(values) => f(&values[elements]),
            Elements::Bytes(bytes) => {
                let mut copy = memory::filled(elements.len(), F::zeroed())?;
                let size = size_of::<F>();
                bytemuck::cast_slice_mut(&mut copy)
                    .copy_from_slice(&bytes[elements.start * size..elements.end * size]);
                f(&copy)
            }
        })
    }
}

/// All values of a tensor, wherever they are.
pub enum Input<'a, F, E> {
    Memory(Values<'a, F>),
    Source(&'a dyn Source<Error = E>),
}

impl<F: Copy, E> Clone for Input<'_, F, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F: Copy, E> Copy for Input<'_, F, E> {}

impl<'a, F: Pod, E: Send> Input<'a, F, E> {
    /// Some elements, read into `buffer` where they are not in memory.
    pub fn window<'w>(
        self,
        elements: Range<usize>,
        buffer: &'w mut Vec<F>,
    ) -> Result<Values<'w, F>, PassError<E>>
    where
        'a: 'w,
    {
        let source = match self {
            Self::Memory(values) => return Ok(values),
            Self::Source(source) => source,
        };
        if buffer.len() < elements.len() {
            memory::resize(buffer, elements.len(), F::zeroed())?;
        }
        let buffer = &mut buffer[..elements.len()];
        let read = source.read(
            elements.start * size_of::<F>(),
            bytemuck::cast_slice_mut(buffer),
        );
        read.map_err(PassError::Sink)?;
        Ok(Values {
            start: elements.start,
            elements: Elements::Aligned(buffer),
        })
    }
}

/// Buffers that threads use one after the other: fresh memory costs as much as reading into it.
#[derive(Default)]
pub struct Pool<B>(Mutex<Vec<B>>);

impl<B: Default> Pool<B> {
    pub fn with<T>(&self, f: impl FnOnce(&mut B) -> T) -> T {
        let pool = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut buffer = pool().pop().unwrap_or_default();
        let result = f(&mut buffer);
        let mut pool = pool();
        // One that nobody keeps is made again.
        if memory::reserve(&mut pool, 1).is_ok() {
            pool.push(buffer);
        }
        result
    }
}

/// All elements in f32.
pub fn widen<F: Element>(bytes: &[u8]) -> Vec<f32> {
    let count = bytes.len() / size_of::<F>();
    let mut wide = vec![0.0; count];
    let widened = Values::<F>::new(bytes).with(0..count, |values| {
        F::widen_slice(crate::Backend::detect(), values, &mut wide);
    });
    widened.unwrap_or_else(|lack| lack.end());
    wide
}
