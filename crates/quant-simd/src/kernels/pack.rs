//! Two 4-bit codes to a byte, and back.

use super::{first_groups_mut, groups, groups_mut, padded, unpadded};
use crate::isa::{Isa, Kernel};

/// Packs codes from the low nibble of the first byte on; the last high nibble may be left over,
/// and is 0.
pub struct Pack<'a> {
    /// One code per byte.
    pub codes: &'a [u8],
    /// Half as many bytes, rounded up.
    pub packed: &'a mut [u8],
}

impl Kernel for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (codes, rest) = groups::<I::I8, u8>(self.codes);
        let (packed, rest_packed) = first_groups_mut::<I::Nibbles>(self.packed, codes.len());
        let (twos, one) = codes.as_chunks::<2>();
        let (packed_twos, packed_one) = packed.as_chunks_mut::<2>();
        for (&codes, packed) in twos.iter().zip(packed_twos) {
            *packed = isa.pack_two(codes);
        }
        for (&codes, packed) in one.iter().zip(packed_one) {
            *packed = isa.pack(codes);
        }
        if !rest.is_empty() {
            unpadded(isa.pack(padded::<I::I8, u8>(rest)), rest_packed);
        }
    }
}

/// Unpacks codes from the low nibble of the first byte on.
pub struct Unpack<'a> {
    /// Half as many bytes as there are codes, rounded up.
    pub packed: &'a [u8],
    /// Buffer for one code per byte.
    pub codes: &'a mut [u8],
    /// Whether to extend the sign.
    pub signed: bool,
}

impl Kernel for Unpack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (packed, rest) = groups::<I::Nibbles, u8>(self.packed);
        let (codes, rest_codes) = groups_mut::<I::I8, u8>(self.codes);
        let signed = self.signed;
        for (&packed, codes) in packed.iter().zip(&mut *codes) {
            *codes = extend(isa, isa.unpack(packed), signed);
        }
        if !rest_codes.is_empty() {
            // The last group of nibbles may be whole where that of the codes lacks the last one.
            let last = match codes.len() < packed.len() {
                true => packed[codes.len()],
                false => padded::<I::Nibbles, u8>(rest),
            };
            unpadded(extend(isa, isa.unpack(last), signed), rest_codes);
        }
    }
}

#[inline(always)]
fn extend<I: Isa>(isa: I, codes: I::I8, signed: bool) -> I::I8 {
    match signed {
        true => isa.extend_nibble(codes),
        false => codes,
    }
}

/// The first byte of each of eight words.
const BYTES: u64 = 0x0101_0101_0101_0101;
/// Words of eight codes that are packed at a time.
const WORDS: usize = 8;

/// Packs codes of `BITS` bits, of which only those count, eight at a time.
pub struct PackBits<'a, const BITS: usize> {
    /// Eights of codes, one per byte.
    pub codes: &'a [[u8; 8]],
    /// `BITS` bytes for each.
    pub packed: &'a mut [u8],
}

/// Eight codes, one per byte, at the lowest bits.
#[inline(always)]
fn squeeze<const BITS: usize>(codes: u64) -> u64 {
    let word = codes & (BYTES * ((1 << BITS) - 1));
    let low = 0x00ff_00ff_00ff_00ff;
    let word = word & low | (word & !low) >> (8 - BITS);
    let low = 0x0000_ffff_0000_ffff;
    let word = word & low | (word & !low) >> (16 - 2 * BITS);
    let low = 0xffff_ffff;
    word & low | (word & !low) >> (32 - 4 * BITS)
}

/// The inverse of [`squeeze`]; the bits behind the codes do not matter.
#[inline(always)]
fn spread<const BITS: usize>(word: u64) -> u64 {
    let low = (1 << (4 * BITS)) - 1;
    let word = word & low | word << (32 - 4 * BITS) & low << 32;
    let low = ((1 << (2 * BITS)) - 1) * 0x0000_0001_0000_0001;
    let word = word & low | word << (16 - 2 * BITS) & low << 16;
    let low = ((1 << BITS) - 1) * 0x0001_0001_0001_0001;
    word & low | word << (8 - BITS) & low << 8
}

/// [`spread`] codes, with their sign if `SIGNED`.
#[inline(always)]
fn extended<const BITS: usize, const SIGNED: bool>(word: u64) -> u64 {
    let codes = spread::<BITS>(word);
    match SIGNED {
        // `(code ^ sign) - sign`, byte by byte: nothing is borrowed from the next one.
        true => {
            let sign = BYTES << (BITS - 1);
            ((codes ^ sign | BYTES << 7) - sign) ^ BYTES << 7
        }
        false => codes,
    }
}

impl<const BITS: usize> Kernel for PackBits<'_, BITS> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, _: I) {
        // Each word is written whole, and the next one over what it has too much; so the last ones of all
        // go another way.
        let sure = self.packed.len().saturating_sub(8) / (WORDS * BITS);
        let sure = Ord::min(sure, self.codes.len() / WORDS);
        let (codes, rest) = self.codes.split_at(sure * WORDS);
        for (i, codes) in codes.chunks_exact(WORDS).enumerate() {
            let mut words = [0; WORDS];
            for w in 0..WORDS {
                words[w] = squeeze::<BITS>(u64::from_le_bytes(codes[w]));
            }
            let packed = &mut self.packed[i * WORDS * BITS..][..WORDS * BITS + 8];
            for w in 0..WORDS {
                packed[w * BITS..w * BITS + 8].copy_from_slice(&words[w].to_le_bytes());
            }
        }
        let packed = self.packed[sure * WORDS * BITS..].chunks_exact_mut(BITS);
        for (&codes, packed) in rest.iter().zip(packed) {
            let word = squeeze::<BITS>(u64::from_le_bytes(codes));
            packed.copy_from_slice(&word.to_le_bytes()[..BITS]);
        }
    }
}

/// Unpacks codes of `BITS` bits, eight at a time.
pub struct UnpackBits<'a, const BITS: usize> {
    /// `BITS` bytes for each eight of codes.
    pub packed: &'a [u8],
    /// Buffer for eights of codes, one per byte.
    pub codes: &'a mut [[u8; 8]],
    /// Whether to extend the sign.
    pub signed: bool,
}

impl<const BITS: usize> UnpackBits<'_, BITS> {
    #[inline(always)]
    fn unpack<const SIGNED: bool>(self) {
        // A word is read whole, with what it has too much.
        let sure = self.packed.len().saturating_sub(8) / (WORDS * BITS);
        let sure = Ord::min(sure, self.codes.len() / WORDS);
        let (codes, rest) = self.codes.split_at_mut(sure * WORDS);
        for (i, codes) in codes.chunks_exact_mut(WORDS).enumerate() {
            let packed = &self.packed[i * WORDS * BITS..][..WORDS * BITS + 8];
            let mut words = [0; WORDS];
            for w in 0..WORDS {
                let mut bytes = [0; 8];
                bytes.copy_from_slice(&packed[w * BITS..w * BITS + 8]);
                words[w] = u64::from_le_bytes(bytes);
            }
            for w in 0..WORDS {
                codes[w] = extended::<BITS, SIGNED>(words[w]).to_le_bytes();
            }
        }
        let packed = self.packed[sure * WORDS * BITS..].chunks_exact(BITS);
        for (codes, packed) in rest.iter_mut().zip(packed) {
            let mut bytes = [0; 8];
            bytes[..BITS].copy_from_slice(packed);
            *codes = extended::<BITS, SIGNED>(u64::from_le_bytes(bytes)).to_le_bytes();
        }
    }
}

impl<const BITS: usize> Kernel for UnpackBits<'_, BITS> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, _: I) {
        match self.signed {
            true => self.unpack::<true>(),
            false => self.unpack::<false>(),
        }
    }
}
