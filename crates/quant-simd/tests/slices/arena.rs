//! Memory to call functions on: buffers at any offset, between canaries, or against a page that
//! may be neither read nor written.

// It guards pages.
#![allow(unsafe_code)]

use std::ops::Range;

use crate::case::{Buffer, Outcome, Returned};

const CAPACITY: usize = 1 << 20;
const PAGE: usize = 1 << 16;
/// Bytes on each side of an output that must stay as they are.
const MARGIN: usize = 256;

/// Where a buffer lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Place {
    /// So many elements behind a multiple of 64 bytes.
    Offset(usize),
    /// Its last byte is the last before the forbidden page.
    AtEnd,
    /// Its first byte is the first behind the forbidden page.
    AtStart,
}

/// Where a call's inputs and outputs lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Placement {
    pub inputs: Place,
    pub outputs: Place,
}

impl Placement {
    pub const ALIGNED: Self = Self::both(Place::Offset(0));

    pub const fn both(place: Place) -> Self {
        Self {
            inputs: place,
            outputs: place,
        }
    }
}

/// An arena for each buffer of a call.
pub struct Arenas {
    inputs: Vec<Arena>,
    outputs: Vec<Arena>,
}

impl Arenas {
    pub fn new() -> Self {
        let three = || (0..3).map(|_| Arena::new()).collect();
        Self {
            inputs: three(),
            outputs: three(),
        }
    }

    /// Calls with buffers at `placement`, and returns what the outputs hold then.
    ///
    /// # Errors
    /// Which output was left on which side.
    pub fn call(
        &mut self,
        placement: Placement,
        inputs: &[Buffer],
        outputs: &[Buffer],
        call: impl FnOnce(&[&[u8]], &mut [&mut [u8]]) -> Returned,
    ) -> Result<Outcome, String> {
        let mut from: Vec<&[u8]> = Vec::new();
        for (arena, buffer) in self.inputs.iter_mut().zip(inputs) {
            let range = arena.put(buffer, placement.inputs);
            from.push(&arena.memory[range]);
        }
        let mut ranges = Vec::new();
        for (arena, buffer) in self.outputs.iter_mut().zip(outputs) {
            ranges.push(arena.put(buffer, placement.outputs));
        }
        let arenas = self.outputs.iter_mut().zip(&ranges);
        let mut to: Vec<&mut [u8]> = arenas
            .map(|(arena, range)| &mut arena.memory[range.clone()])
            .collect();
        let returned = call(&from, &mut to);
        let mut after = Vec::new();
        for (which, range) in ranges.into_iter().enumerate() {
            let arena = &self.outputs[which];
            if let Some(at) = arena.first_touched(&range) {
                return Err(format!("output {which}: byte {at} was written"));
            }
            after.push(Buffer {
                bytes: arena.memory[range].to_vec(),
                size: outputs[which].size,
            });
        }
        Ok(Outcome {
            outputs: after,
            returned,
        })
    }
}

struct Arena {
    memory: &'static mut [u8],
}

fn canary(position: usize) -> u8 {
    (position as u8).wrapping_mul(37) ^ 0x5c
}

impl Arena {
    fn new() -> Self {
        Self {
            memory: between_forbidden_pages(CAPACITY),
        }
    }

    fn margins(&self, range: &Range<usize>) -> [Range<usize>; 2] {
        let end = (range.end + MARGIN).min(self.memory.len());
        [
            range.start.saturating_sub(MARGIN)..range.start,
            range.end..end,
        ]
    }

    fn put(&mut self, buffer: &Buffer, place: Place) -> Range<usize> {
        let len = buffer.bytes.len();
        let start = match place {
            Place::Offset(elements) => 2 * MARGIN + elements * buffer.size,
            Place::AtEnd => self.memory.len() - len,
            Place::AtStart => 0,
        };
        let range = start..start + len;
        self.memory[range.clone()].copy_from_slice(&buffer.bytes);
        for margin in self.margins(&range) {
            for position in margin {
                self.memory[position] = canary(position);
            }
        }
        range
    }

    /// The first byte beside `range` that has changed, relative to its start.
    fn first_touched(&self, range: &Range<usize>) -> Option<isize> {
        let mut beside = self.margins(range).into_iter().flatten();
        let touched = beside.find(|&at| self.memory[at] != canary(at))?;
        Some(touched as isize - range.start as isize)
    }
}

/// Memory whose neighbouring pages fault on any access. Never unmapped.
#[cfg(unix)]
fn between_forbidden_pages(len: usize) -> &'static mut [u8] {
    use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect};

    let (nothing, both) = (
        ProtFlags::empty(),
        MprotectFlags::READ | MprotectFlags::WRITE,
    );
    // SAFETY: a fresh mapping, at an address of the system's choice. Its middle, whole pages, is
    // made accessible, holds zeros, is never unmapped, and no other reference to it exists.
    unsafe {
        let total = len + 2 * PAGE;
        let mapping = mmap_anonymous(std::ptr::null_mut(), total, nothing, MapFlags::PRIVATE);
        let middle = mapping.expect("a mapping").add(PAGE);
        mprotect(middle, len, both).expect("accessible pages");
        std::slice::from_raw_parts_mut(middle.cast::<u8>(), len)
    }
}

#[cfg(not(unix))]
fn between_forbidden_pages(len: usize) -> &'static mut [u8] {
    // A multiple of 64 bytes, as pages are.
    let memory = Box::leak(vec![0; len + 64].into_boxed_slice());
    let aligned = memory.as_ptr().align_offset(64);
    &mut memory[aligned..aligned + len]
}
