//! Packed codes, written out by hand and there and back.

use quant_core::{IntType, reference};

/// The codes 0, 1, 2 and so on, as many as there are or eight.
#[test]
fn codes_lie_as_a_stream_of_bits() {
    let packed = |dtype: IntType| {
        let count = 1 << dtype.bits();
        let codes: Vec<u8> = (0..8_u32).map(|code| (code % count) as u8).collect();
        let mut packed = vec![0xff; dtype.storage_len(8)];
        reference::pack(&codes, dtype, &mut packed);
        packed
    };
    assert_eq!(packed(IntType::Uint2), [0b11_10_01_00, 0b11_10_01_00]);
    // 7 6 5 4 3 2 1 0, of three bits each, from right to left.
    let word = 0b111_110_101_100_011_010_001_000_u32;
    assert_eq!(packed(IntType::Uint3), word.to_le_bytes()[..3]);
    assert_eq!(packed(IntType::Uint4), [0x10, 0x32, 0x54, 0x76]);
    let word = (0..8).fold(0_u64, |word, code| word | code << (5 * code));
    assert_eq!(packed(IntType::Uint5), word.to_le_bytes()[..5]);
    let word = (0..8).fold(0_u64, |word, code| word | code << (6 * code));
    assert_eq!(packed(IntType::Uint6), word.to_le_bytes()[..6]);
    assert_eq!(packed(IntType::Uint8), [0, 1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn every_code_comes_back() {
    for dtype in IntType::ALL {
        for count in 0..40 {
            let range = dtype.min_value()..=dtype.max_value();
            let codes: Vec<u8> = range.cycle().take(count).map(|code| code as u8).collect();
            let mut packed = vec![0xff; dtype.storage_len(count)];
            reference::pack(&codes, dtype, &mut packed);
            let used = count * dtype.bits() as usize % 8;
            if used > 0 {
                assert_eq!(packed.last().unwrap() >> used, 0, "zeros behind the last");
            }
            let mut back = vec![0x55; count];
            reference::unpack(&packed, dtype, &mut back);
            assert_eq!(back, codes, "{dtype}");
        }
    }
}
