//! A tensor's bytes as elements.

use std::ops::Range;

use crate::Element;

#[cfg(target_endian = "big")]
compile_error!("tensors are little-endian bytes, and are read in place");

/// Elements in place where they are aligned, else copied as they are needed.
#[derive(Clone, Copy)]
pub enum Values<'a, F> {
    Aligned(&'a [F]),
    Bytes(&'a [u8]),
}

impl<'a, F: Element> Values<'a, F> {
    pub fn new(bytes: &'a [u8]) -> Self {
        match bytemuck::try_cast_slice(bytes) {
            Ok(values) => Self::Aligned(values),
            Err(_) => Self::Bytes(bytes),
        }
    }

    pub fn with<T>(self, elements: Range<usize>, f: impl FnOnce(&[F]) -> T) -> T {
        match self {
            Self::Aligned(values) => f(&values[elements]),
            Self::Bytes(bytes) => {
                let mut copy = vec![F::zeroed(); elements.len()];
                let size = size_of::<F>();
                bytemuck::cast_slice_mut(&mut copy)
                    .copy_from_slice(&bytes[elements.start * size..elements.end * size]);
                f(&copy)
            }
        }
    }
}

/// All elements in f32.
pub fn widen<F: Element>(bytes: &[u8]) -> Vec<f32> {
    let count = bytes.len() / size_of::<F>();
    let mut wide = vec![0.0; count];
    Values::<F>::new(bytes).with(0..count, |values| {
        F::widen_slice(crate::Backend::detect(), values, &mut wide);
    });
    wide
}
