//! Packed codes of every type, from any one on.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quant_core::{IntType, reference};
use quant_simd::Backend;

fuzz_target!(|input: (u8, u8, Vec<u8>, Vec<u8>)| {
    let (offset, dtype, codes, before) = input;
    let offset = usize::from(offset);
    let dtype = IntType::ALL[usize::from(dtype) % IntType::ALL.len()];
    let len = dtype.storage_len(offset + codes.len());
    let before = before.iter().copied().chain(std::iter::repeat(0x5a));
    // A whole number of codes, of which the last ones are not packed.
    let whole = len.next_multiple_of(dtype.bits() as usize);
    let mut want: Vec<u8> = before.take(whole).collect();
    let packed = want[..len].to_vec();
    let mut all = vec![0; 8 * whole / dtype.bits() as usize];
    reference::unpack(&want, dtype, &mut all);
    all[offset..offset + codes.len()].copy_from_slice(&codes);
    reference::pack(&all, dtype, &mut want);
    let mut unpacked = vec![0; all.len()];
    reference::unpack(&want, dtype, &mut unpacked);
    let want = &want[..len];
    for &backend in Backend::available() {
        let mut got = packed.clone();
        backend.pack(&codes, dtype, &mut got, offset);
        // Nothing to pack: nothing is touched.
        assert_eq!(got, if codes.is_empty() { &packed } else { want });
        let mut back = vec![0; codes.len()];
        backend.unpack(want, offset, dtype, &mut back);
        assert_eq!(back, unpacked[offset..][..codes.len()]);
    }
});
