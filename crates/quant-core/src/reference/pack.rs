use crate::IntType;

/// Packs codes, one per byte, as [`Packing`](crate::Packing) says: bit by bit, the first code in the
/// lowest bits.
///
/// # Panics
/// If `packed` does not have [`IntType::storage_len`] bytes.
///
/// ```
/// use quant_core::{IntType, reference};
/// let mut packed = [0; 2];
/// reference::pack(&[1, -1_i8 as u8, 7], IntType::Int4, &mut packed);
/// assert_eq!(packed, [0xf1, 0x07]);
/// ```
pub fn pack(codes: &[u8], dtype: IntType, packed: &mut [u8]) {
    let len = dtype.storage_len(codes.len());
    assert_eq!(packed.len(), len, "room for each code");
    packed.fill(0);
    let bits = dtype.bits() as usize;
    for (i, code) in codes.iter().enumerate() {
        for bit in 0..bits {
            let at = i * bits + bit;
            packed[at / 8] |= (code >> bit & 1) << (at % 8);
        }
    }
}

/// Unpacks to one code per byte, sign-extended where the type is signed.
///
/// # Panics
/// If `packed` does not have [`IntType::storage_len`] bytes.
pub fn unpack(packed: &[u8], dtype: IntType, codes: &mut [u8]) {
    let len = dtype.storage_len(codes.len());
    assert_eq!(packed.len(), len, "as many codes as are packed");
    let bits = dtype.bits() as usize;
    for (i, code) in codes.iter_mut().enumerate() {
        *code = 0;
        for bit in 0..bits {
            let at = i * bits + bit;
            *code |= (packed[at / 8] >> (at % 8) & 1) << bit;
        }
        if i32::from(*code) > dtype.max_value() {
            *code = (i32::from(*code) - (1 << bits)) as u8;
        }
    }
}
