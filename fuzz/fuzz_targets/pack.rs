//! Nibbles, from any one on.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quant_core::{IntType, reference};
use quant_simd::Backend;

fuzz_target!(|input: (u8, bool, Vec<u8>, Vec<u8>)| {
    let (offset, signed, codes, before) = input;
    let offset = usize::from(offset);
    let dtype = if signed {
        IntType::Int4
    } else {
        IntType::Uint4
    };
    let len = (offset + codes.len()).div_ceil(2);
    let packed: Vec<u8> = before
        .iter()
        .copied()
        .chain(std::iter::repeat(0x5a))
        .take(len)
        .collect();
    let mut nibbles = vec![0; 2 * len];
    reference::unpack(&packed, IntType::Uint4, &mut nibbles);
    nibbles[offset..offset + codes.len()].copy_from_slice(&codes);
    let mut want = vec![0; len];
    reference::pack(&nibbles, &mut want);
    let mut unpacked = vec![0; offset + codes.len()];
    reference::unpack(&want, dtype, &mut unpacked);
    for &backend in Backend::available() {
        let mut got = packed.clone();
        backend.pack(&codes, &mut got, offset);
        // Nothing to pack: nothing is touched.
        assert_eq!(
            got,
            if codes.is_empty() { &packed } else { &want }.as_slice()
        );
        let mut back = vec![0; codes.len()];
        backend.unpack(&want, offset, dtype, &mut back);
        assert_eq!(back, unpacked[offset..]);
    }
});
