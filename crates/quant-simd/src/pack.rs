//! Codes from one per byte to bits, and back.

use quant_core::{IntType, Packing};

use crate::Backend;
use crate::kernels::pack::{Pack, PackBits, Unpack, UnpackBits};

/// Runs a kernel for so many bits.
macro_rules! by_bits {
    ($backend:expr, $bits:expr, $Kernel:ident { $($field:ident: $value:expr),* }) => {
        match $bits {
            1 => $backend.run($Kernel::<1> { $($field: $value),* }),
            2 => $backend.run($Kernel::<2> { $($field: $value),* }),
            3 => $backend.run($Kernel::<3> { $($field: $value),* }),
            5 => $backend.run($Kernel::<5> { $($field: $value),* }),
            6 => $backend.run($Kernel::<6> { $($field: $value),* }),
            7 => $backend.run($Kernel::<7> { $($field: $value),* }),
            bits => unreachable!("codes of {bits} bits fill bytes or nibbles"),
        }
    };
}

impl Backend {
    /// Packs codes, one per byte, as codes `offset` and following of `packed`: see [`Packing`].
    /// Other bits are left as they are.
    ///
    /// # Panics
    /// If `packed` is too short.
    ///
    /// ```
    /// use quant_core::IntType;
    /// let mut packed = [0x11, 0x11];
    /// quant_simd::Backend::detect().pack(&[7, 8], IntType::Uint4, &mut packed, 1);
    /// assert_eq!(packed, [0x71, 0x18]);
    /// ```
    pub fn pack(self, codes: &[u8], dtype: IntType, packed: &mut [u8], offset: usize) {
        if codes.is_empty() {
            return;
        }
        match dtype.packing() {
            Packing::Bytes => packed[offset..][..codes.len()].copy_from_slice(codes),
            Packing::Nibbles => self.pack_nibbles(codes, packed, offset),
            Packing::Bits(bits) => self.pack_bits(codes, bits as usize, packed, offset),
        }
    }

    /// Unpacks codes `offset` and following to one per byte, sign-extended where `dtype` is signed.
    ///
    /// # Panics
    /// If `packed` is too short.
    pub fn unpack(self, packed: &[u8], offset: usize, dtype: IntType, codes: &mut [u8]) {
        if codes.is_empty() {
            return;
        }
        match dtype.packing() {
            Packing::Bytes => codes.copy_from_slice(&packed[offset..][..codes.len()]),
            Packing::Nibbles => self.unpack_nibbles(packed, offset, dtype.is_signed(), codes),
            Packing::Bits(bits) => {
                self.unpack_bits(packed, offset, bits as usize, dtype.is_signed(), codes);
            }
        }
    }

    /// Packs codes that fill `packed`; the bits behind the last one become 0.
    pub(crate) fn pack_all(self, codes: &[u8], dtype: IntType, packed: &mut [u8]) {
        match dtype.packing() {
            Packing::Nibbles => self.run(Pack { codes, packed }),
            Packing::Bytes | Packing::Bits(_) => {
                self.pack(codes, dtype, packed, 0);
                clear_behind(packed, dtype, codes.len());
            }
        }
    }

    fn pack_nibbles(self, codes: &[u8], packed: &mut [u8], offset: usize) {
        let end = offset.checked_add(codes.len()).expect("a count of nibbles");
        let mut packed = &mut packed[offset / 2..end.div_ceil(2)];
        let mut codes = codes;
        if let (1, Some((&first, rest))) = (offset % 2, codes.split_first()) {
            packed[0] = packed[0] & 15 | first << 4;
            (codes, packed) = (rest, &mut packed[1..]);
        }
        if let (1, Some((&last, rest))) = (codes.len() % 2, codes.split_last()) {
            let end = packed.len() - 1;
            packed[end] = packed[end] & !15 | last & 15;
            (codes, packed) = (rest, &mut packed[..end]);
        }
        self.run(Pack { codes, packed });
    }

    fn unpack_nibbles(self, packed: &[u8], offset: usize, signed: bool, codes: &mut [u8]) {
        let end = offset.checked_add(codes.len()).expect("a count of nibbles");
        let mut packed = &packed[offset / 2..end.div_ceil(2)];
        let mut codes = codes;
        if offset % 2 == 1 {
            let (first, rest) = codes.split_at_mut(1);
            first[0] = match signed {
                true => (packed[0] as i8 >> 4) as u8,
                false => packed[0] >> 4,
            };
            (codes, packed) = (rest, &packed[1..]);
        }
        self.run(Unpack {
            packed,
            codes,
            signed,
        });
    }
}

/// [`Packing::Bits`]: one by one to where the next code starts a byte, then eight at a time, which fill as
/// many bytes as a code has bits.
impl Backend {
    #[inline(never)]
    fn pack_bits(self, codes: &[u8], bits: usize, packed: &mut [u8], offset: usize) {
        let head = ((8 - offset % 8) % 8).min(codes.len());
        let (head, rest) = codes.split_at(head);
        for (i, &code) in head.iter().enumerate() {
            put(code, bits, packed, offset + i);
        }
        let offset = offset + head.len();
        let (eights, tail) = rest.as_chunks::<8>();
        let (start, _) = position(offset, bits);
        let bytes = &mut packed[start..][..eights.len() * bits];
        by_bits!(
            self,
            bits,
            PackBits {
                codes: eights,
                packed: bytes
            }
        );
        for (i, &code) in tail.iter().enumerate() {
            put(code, bits, packed, offset + 8 * eights.len() + i);
        }
    }

    #[inline(never)]
    fn unpack_bits(
        self,
        packed: &[u8],
        offset: usize,
        bits: usize,
        signed: bool,
        codes: &mut [u8],
    ) {
        let extend = |code: u8| match signed {
            true => ((code << (8 - bits)) as i8 >> (8 - bits)) as u8,
            false => code,
        };
        let head = ((8 - offset % 8) % 8).min(codes.len());
        let (head, rest) = codes.split_at_mut(head);
        let offset_of_rest = offset + head.len();
        for (i, code) in head.iter_mut().enumerate() {
            *code = extend(get(packed, bits, offset + i));
        }
        let (eights, tail) = rest.as_chunks_mut::<8>();
        let (start, _) = position(offset_of_rest, bits);
        let bytes = &packed[start..][..eights.len() * bits];
        let offset_of_tail = offset_of_rest + 8 * eights.len();
        by_bits!(
            self,
            bits,
            UnpackBits {
                packed: bytes,
                codes: eights,
                signed: signed
            }
        );
        for (i, code) in tail.iter_mut().enumerate() {
            *code = extend(get(packed, bits, offset_of_tail + i));
        }
    }
}

/// Clears the bits from code `end` to the end of its byte.
pub(crate) fn clear_behind(packed: &mut [u8], dtype: IntType, end: usize) {
    let used = end % 8 * dtype.bits() as usize % 8;
    if used > 0 {
        packed[dtype.storage_len(end) - 1] &= (1 << used) - 1;
    }
}

/// The byte and the bit in it at which a code starts; nothing overflows.
fn position(code: usize, bits: usize) -> (usize, usize) {
    let rest = code % 8 * bits;
    (code / 8 * bits + rest / 8, rest % 8)
}

fn put(code: u8, bits: usize, packed: &mut [u8], at: usize) {
    let (byte, bit) = position(at, bits);
    let mask = ((1_u16 << bits) - 1) << bit;
    let [low, high] = (u16::from(code) << bit & mask).to_le_bytes();
    let [low_mask, high_mask] = mask.to_le_bytes();
    packed[byte] = packed[byte] & !low_mask | low;
    if high_mask != 0 {
        packed[byte + 1] = packed[byte + 1] & !high_mask | high;
    }
}

fn get(packed: &[u8], bits: usize, at: usize) -> u8 {
    let (byte, bit) = position(at, bits);
    let high = match bit + bits > 8 {
        true => packed[byte + 1],
        false => 0,
    };
    let word = u16::from_le_bytes([packed[byte], high]);
    (word >> bit) as u8 & ((1_u16 << bits) - 1) as u8
}
