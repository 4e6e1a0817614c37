use crate::IntType;

/// Packs 4-bit codes, one per byte, two to a byte: the first in the low nibble. An odd count
/// leaves the last high nibble 0.
///
/// # Panics
/// If `packed` is not half as long as `codes`, rounded up.
///
/// ```
/// let mut packed = [0; 2];
/// quant_core::reference::pack(&[1, -1_i8 as u8, 7], &mut packed);
/// assert_eq!(packed, [0xf1, 0x07]);
/// ```
pub fn pack(codes: &[u8], packed: &mut [u8]) {
    assert_eq!(packed.len(), codes.len().div_ceil(2), "two codes per byte");
    for (pair, byte) in codes.chunks(2).zip(packed) {
        let high = pair.get(1).copied().unwrap_or(0);
        *byte = (pair[0] & 15) | (high << 4);
    }
}

/// Unpacks to one code per byte, sign-extended where the type is signed.
///
/// # Panics
/// If `packed` is not half as long as `codes`, rounded up, or `dtype` has 8 bits.
pub fn unpack(packed: &[u8], dtype: IntType, codes: &mut [u8]) {
    assert_eq!(packed.len(), codes.len().div_ceil(2), "two codes per byte");
    assert_eq!(dtype.bits(), 4, "only 4-bit codes are packed");
    for (i, code) in codes.iter_mut().enumerate() {
        let nibble = packed[i / 2] >> (i % 2 * 4) & 15;
        *code = if dtype.is_signed() {
            ((nibble << 4) as i8 >> 4) as u8
        } else {
            nibble
        };
    }
}
