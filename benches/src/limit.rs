//! The limit of memory traffic: loops that load and store what a kernel loads and stores, and
//! compute nothing.

// It uses non-temporal stores, as kernels do.
#![allow(unsafe_code)]

use std::hint::black_box;

use pulp::{Arch, Simd, WithSimd};

/// Accumulators of a loop that only loads.
const ACCUMULATORS: usize = 8;

/// One form of the loop. Which is the fastest depends on size and machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// The widest vectors there are.
    Widest,
    /// The widest vectors, stored past the caches.
    NonTemporal,
    /// 256-bit vectors.
    Narrow,
    /// 256-bit vectors, stored past the caches.
    NarrowNonTemporal,
    /// 256-bit vectors, loaded from four places far apart.
    FarApart,
}

impl Limit {
    /// The forms that exist on this machine for a kernel that stores something, or nothing.
    pub fn available(stores: bool) -> &'static [Self] {
        match (narrow().is_some(), stores) {
            (true, true) => &[
                Self::Widest,
                Self::NonTemporal,
                Self::Narrow,
                Self::NarrowNonTemporal,
            ],
            (true, false) => &[Self::Widest, Self::Narrow, Self::FarApart],
            (false, _) => &[Self::Widest],
        }
    }

    /// The name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Widest => "limit",
            Self::NonTemporal => "limit, non-temporal",
            Self::Narrow => "limit, 256-bit",
            Self::NarrowNonTemporal => "limit, 256-bit non-temporal",
            Self::FarApart => "limit, four streams",
        }
    }

    /// Reads all of `input` and writes all of `output` (up to a few vectors at the end), evenly
    /// interleaved.
    ///
    /// # Panics
    /// If the ratio of the lengths is not one that a kernel has.
    pub(crate) fn pass(self, input: &[u32], output: &mut [u32]) {
        let narrow = || narrow().expect("available");
        match self {
            Self::Widest => Arch::new().dispatch(Pass::<false>(input, output)),
            Self::NonTemporal => Arch::new().dispatch(Pass::<true>(input, output)),
            Self::Narrow => narrow().vectorize(Pass::<false>(input, output)),
            Self::NarrowNonTemporal => narrow().vectorize(Pass::<true>(input, output)),
            Self::FarApart => narrow().vectorize(FarApart(input)),
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn narrow() -> Option<impl Simd> {
    pulp::x86::V3::try_new()
}

#[cfg(not(target_arch = "x86_64"))]
fn narrow() -> Option<impl Simd> {
    None::<pulp::Scalar>
}

struct Pass<'a, const NON_TEMPORAL: bool>(&'a [u32], &'a mut [u32]);

impl<const NON_TEMPORAL: bool> WithSimd for Pass<'_, NON_TEMPORAL> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self(input, output) = self;
        if output.is_empty() {
            return load::<S, 1, ACCUMULATORS>(simd, input);
        }
        let (long, short) = (input.len().max(output.len()), input.len().min(output.len()));
        // Blocks of ggml hold their scales: these are left out here as others are.
        let ratio = 1 << (long as f64 / short as f64).log2().round() as u32;
        match (ratio, input.len() > output.len()) {
            (1, _) => step::<S, 1, 1, NON_TEMPORAL>(simd, input, output),
            (2, true) => step::<S, 2, 1, NON_TEMPORAL>(simd, input, output),
            (4, true) => step::<S, 4, 1, NON_TEMPORAL>(simd, input, output),
            (8, true) => step::<S, 8, 1, NON_TEMPORAL>(simd, input, output),
            (2, false) => step::<S, 1, 2, NON_TEMPORAL>(simd, input, output),
            (4, false) => step::<S, 1, 4, NON_TEMPORAL>(simd, input, output),
            (8, false) => step::<S, 1, 8, NON_TEMPORAL>(simd, input, output),
            (ratio, _) => panic!("no loop for a ratio of {ratio}"),
        }
    }
}

struct FarApart<'a>(&'a [u32]);

impl WithSimd for FarApart<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        load::<S, 4, 2>(simd, self.0);
    }
}

/// Per step, `LOADS` vectors come and `STORES` vectors go.
#[inline(always)]
fn step<S: Simd, const LOADS: usize, const STORES: usize, const NON_TEMPORAL: bool>(
    simd: S,
    input: &[u32],
    output: &mut [u32],
) {
    let (input, _) = S::as_simd_u32s(input);
    let (output, _) = S::as_mut_simd_u32s(output);
    let (input, _) = input.as_chunks::<LOADS>();
    let (output, _) = output.as_chunks_mut::<STORES>();
    for (from, to) in input.iter().zip(output) {
        // Every load counts only if its value is used.
        let mut word = from[0];
        for &other in &from[1..] {
            word = simd.or_u32s(word, other);
        }
        for slot in to {
            if NON_TEMPORAL {
                store_non_temporal::<S>(slot, word);
            } else {
                *slot = word;
            }
        }
    }
    #[cfg(target_arch = "x86_64")]
    if NON_TEMPORAL {
        // SAFETY: every x86-64 processor has SSE.
        unsafe { std::arch::x86_64::_mm_sfence() };
    }
}

/// Loads everything, `EACH` vectors per step from each of `STREAMS` places.
#[inline(always)]
fn load<S: Simd, const STREAMS: usize, const EACH: usize>(simd: S, input: &[u32]) {
    let (input, _) = S::as_simd_u32s(input);
    let (input, _) = input.as_chunks::<EACH>();
    let steps = input.len() / STREAMS;
    let mut streams = [&input[..0]; STREAMS];
    for (i, stream) in streams.iter_mut().enumerate() {
        *stream = &input[i * steps..][..steps];
    }
    let mut seen = [[simd.splat_u32s(0); EACH]; STREAMS];
    for i in 0..steps {
        for (stream, seen) in streams.iter().zip(&mut seen) {
            for (&word, seen) in stream[i].iter().zip(seen) {
                *seen = simd.or_u32s(*seen, word);
            }
        }
    }
    black_box(seen);
}

/// An ordinary store where there is no other.
#[inline(always)]
fn store_non_temporal<S: Simd>(slot: &mut S::u32s, word: S::u32s) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{__m256i, __m512i, _mm256_stream_si256, _mm512_stream_si512};
        let (place, from) = (&raw mut *slot, &raw const word);
        debug_assert_eq!(
            place.addr() % size_of::<S::u32s>(),
            0,
            "a page begins there"
        );
        if size_of::<S::u32s>() == 64 {
            // SAFETY: pulp dispatches to vectors of 64 bytes only where there is AVX-512. The place
            // is exclusive, of that size, and aligned: buffers begin at a page.
            unsafe { _mm512_stream_si512(place.cast(), from.cast::<__m512i>().read_unaligned()) };
            return;
        }
        if size_of::<S::u32s>() == 32 {
            // SAFETY: as above, with 32 bytes and AVX.
            unsafe { _mm256_stream_si256(place.cast(), from.cast::<__m256i>().read_unaligned()) };
            return;
        }
    }
    *slot = word;
}

#[cfg(test)]
mod tests {
    use super::Limit;
    use crate::buffer::Buffer;

    #[test]
    fn every_limit_writes_everything() {
        let input = Buffer::new(8192, |_| 7_u32);
        for stores in [1024, 2048, 4096, 8192, 16384, 32768, 65536] {
            for limit in Limit::available(true) {
                let mut output = Buffer::new(stores, |_| 1_u32);
                limit.pass(&input, &mut output);
                assert!(output.iter().all(|&word| word == 7), "{limit:?}, {stores}");
            }
        }
        for limit in Limit::available(false) {
            limit.pass(&input, &mut []);
        }
    }
}
