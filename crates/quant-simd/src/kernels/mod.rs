//! The kernels, each written once over [`Isa`]. A kernel never allocates, spawns or detects.
//!
//! A kernel works through whole groups in tiles of [`TILE`] groups. What is left over is copied
//! into one padded group, which goes the same way.

// An index that also counts pairs and lanes reads better than an iterator beside it.
#![allow(clippy::needless_range_loop)]

pub mod block_params;
pub mod blocks;
pub mod columns;
pub mod dequantize;
pub mod encode;
pub mod encode_runs;
pub mod error;
pub mod fit;
pub mod ggml;
pub mod histogram;
pub mod pack;
pub mod quantize;
pub mod range;
pub mod search;
pub mod widen;

use bytemuck::Pod;

use crate::isa::{Isa, TILE};
use crate::lane::Lane;

/// Bytes from what is read now to what is asked for, where it lies beyond the cache: far enough that
/// it comes in the meantime, and a small part of the second cache. Twice or four times it is as fast.
pub const AHEAD: usize = 8 << 10;

/// The elements whose codes fill one register.
pub type Group<F, I> = [<F as Lane>::Vector<I>; 4];

/// Whole groups, and the elements left over.
#[inline(always)]
pub fn groups<G: Pod, T: Pod>(slice: &[T]) -> (&[G], &[T]) {
    let (whole, rest) = slice.split_at(slice.len() - slice.len() % per_group::<G, T>());
    (bytemuck::cast_slice(whole), rest)
}

/// [`groups`], to be written.
#[inline(always)]
pub fn groups_mut<G: Pod, T: Pod>(slice: &mut [T]) -> (&mut [G], &mut [T]) {
    let (whole, rest) = slice.split_at_mut(slice.len() - slice.len() % per_group::<G, T>());
    (bytemuck::cast_slice_mut(whole), rest)
}

/// So many groups, to be written, and the rest: packed codes may fill a group that the elements
/// they belong to do not.
#[inline(always)]
pub fn first_groups_mut<G: Pod>(slice: &mut [u8], count: usize) -> (&mut [G], &mut [u8]) {
    let (whole, rest) = slice.split_at_mut(count * size_of::<G>());
    (bytemuck::cast_slice_mut(whole), rest)
}

#[inline(always)]
const fn per_group<G, T>() -> usize {
    size_of::<G>() / size_of::<T>()
}

/// Elements that do not fill a group, and zeros.
#[inline(always)]
pub fn padded<G: Pod, T: Pod>(rest: &[T]) -> G {
    let mut group = G::zeroed();
    bytemuck::cast_slice_mut::<G, T>(core::slice::from_mut(&mut group))[..rest.len()]
        .copy_from_slice(rest);
    group
}

/// The elements of a group that `rest` has room for.
#[inline(always)]
pub fn unpadded<G: Pod, T: Pod>(group: G, rest: &mut [T]) {
    let group = [group];
    rest.copy_from_slice(&bytemuck::cast_slice::<G, T>(&group)[..rest.len()]);
}

/// Groups of a tile that are stored past the cache (non-temporal stores) once all of them are made. They
/// are made here, so that a kernel's loop exists once, whichever way its results are stored.
#[repr(align(64))]
pub struct Staged<G>([G; TILE]);

impl<G: Pod> Staged<G> {
    /// If `wanted`.
    #[inline(always)]
    pub fn new(wanted: bool) -> Option<Self> {
        match wanted {
            true => Some(Self([G::zeroed(); TILE])),
            false => None,
        }
    }

    /// Room for so many.
    #[inline(always)]
    pub fn first(&mut self, count: usize) -> &mut [G] {
        &mut self.0[..count]
    }

    /// Stores as many as `to` has.
    #[inline(always)]
    pub fn stream<I: Isa>(&self, isa: I, to: &mut [G]) {
        let from = bytemuck::cast_slice(&self.0[..to.len()]);
        stream(isa, from, bytemuck::cast_slice_mut(to));
    }
}

/// Stores past the cache, but for what does not fill a vector. Ends with [`Isa::fence`].
#[inline(always)]
pub fn stream<I: Isa>(isa: I, from: &[u8], to: &mut [u8]) {
    let size = size_of::<I::I8>();
    let before = Ord::min(to.as_ptr().align_offset(size), to.len());
    let (first, from) = from.split_at(before);
    let (first_to, to) = to.split_at_mut(before);
    first_to.copy_from_slice(first);
    let (from, rest) = groups::<I::I8, u8>(from);
    let (to, rest_to) = groups_mut::<I::I8, u8>(to);
    for (&from, to) in from.iter().zip(to) {
        isa.stream(to, from);
    }
    rest_to.copy_from_slice(rest);
}

/// Tiles of whole groups, and one of a padded group at the end where elements are left over.
pub struct Tiles {
    tile: usize,
    start: usize,
    groups: usize,
    rest: usize,
}

impl Tiles {
    /// For so many groups, and elements left over.
    #[inline(always)]
    pub fn new(groups: usize, rest: usize) -> Self {
        Self {
            tile: TILE,
            start: 0,
            groups,
            rest,
        }
    }

    /// Tiles of so many groups.
    #[inline(always)]
    pub fn of(tile: usize, groups: usize, rest: usize) -> Self {
        Self {
            tile,
            ..Self::new(groups, rest)
        }
    }

    /// One tile for all whole groups, whatever their number.
    #[inline(always)]
    pub fn one(groups: usize, rest: usize) -> Self {
        Self {
            tile: groups,
            ..Self::new(groups, rest)
        }
    }
}

/// One of [`Tiles`].
pub struct Tile {
    /// Its first group.
    pub start: usize,
    /// The group behind it.
    pub end: usize,
    /// Whether it is the padded group.
    pub padded: bool,
}

impl Tile {
    /// Its groups.
    #[inline(always)]
    pub fn groups(&self) -> core::ops::Range<usize> {
        self.start..self.end
    }
}

impl Iterator for Tiles {
    type Item = Tile;

    #[inline(always)]
    fn next(&mut self) -> Option<Tile> {
        let start = self.start;
        let padded = start == self.groups;
        if padded && self.rest == 0 {
            return None;
        }
        let end = Ord::min(start + self.tile, self.groups);
        if padded {
            self.rest = 0;
        }
        self.start = end;
        Some(Tile { start, end, padded })
    }
}

/// How codes lie in memory.
pub trait CodeLayout: Copy {
    /// Whether two codes share a byte.
    const PACKED: bool;
    /// A group of codes.
    type Memory<I: Isa>: Pod;
    /// From a register.
    fn form<I: Isa>(isa: I, codes: I::I8) -> Self::Memory<I>;
    /// From two registers.
    #[inline(always)]
    fn form_two<I: Isa>(isa: I, codes: [I::I8; 2]) -> [Self::Memory<I>; 2] {
        codes.map(|codes| Self::form(isa, codes))
    }
    /// To a register; packed codes as 0 to 15.
    fn codes<I: Isa>(isa: I, memory: Self::Memory<I>) -> I::I8;
}

/// One code per byte.
#[derive(Clone, Copy)]
pub struct Bytes;

impl CodeLayout for Bytes {
    const PACKED: bool = false;
    type Memory<I: Isa> = I::I8;
    #[inline(always)]
    fn form<I: Isa>(_: I, codes: I::I8) -> I::I8 {
        codes
    }
    #[inline(always)]
    fn codes<I: Isa>(_: I, memory: I::I8) -> I::I8 {
        memory
    }
}

/// Two codes per byte, the first in the low nibble.
#[derive(Clone, Copy)]
pub struct Packed;

impl CodeLayout for Packed {
    const PACKED: bool = true;
    type Memory<I: Isa> = I::Nibbles;
    #[inline(always)]
    fn form<I: Isa>(isa: I, codes: I::I8) -> I::Nibbles {
        isa.pack(codes)
    }
    #[inline(always)]
    fn form_two<I: Isa>(isa: I, codes: [I::I8; 2]) -> [I::Nibbles; 2] {
        isa.pack_two(codes)
    }
    #[inline(always)]
    fn codes<I: Isa>(isa: I, memory: I::Nibbles) -> I::I8 {
        isa.unpack(memory)
    }
}

/// The sum of the lanes.
#[inline(always)]
pub fn lane_sum<V: Pod>(vector: V) -> u64 {
    let lanes = [vector];
    let mut sum = 0;
    for &lane in bytemuck::cast_slice::<V, i32>(&lanes) {
        sum += lane as u64;
    }
    sum
}
