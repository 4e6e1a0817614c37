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
        for (&codes, packed) in codes.iter().zip(packed) {
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
