//! What C may pass, and what comes of it.

use std::ptr;

use half::f16;
use quant_capi::*;
use quant_core::{IntType, Mode, Scheme};
use quant_simd::Backend;

const INT4: QuantScheme = QuantScheme {
    dtype: 2,
    mode: 1,
    dialect: 0,
};

#[test]
fn equals_the_rust_functions() {
    let values: Vec<f16> = (0..77)
        .map(|i| f16::from_f32(i as f32 / 7.0 - 3.0))
        .collect();
    let scheme = Scheme::new(IntType::Int4, Mode::Affine);
    let (mut codes, mut scales, mut zeros) = ([0; 39], [f16::ZERO; 3], [0; 3]);
    let backend = Backend::detect();
    backend
        .quantize_blocks(&values, 32, scheme, &mut codes, &mut scales, &mut zeros)
        .unwrap();
    let (mut c_codes, mut c_scales, mut c_zeros) = ([9; 39], [f16::ONE; 3], [9; 3]);
    let mut back = [f16::ONE; 77];
    // SAFETY: buffers of these lengths.
    let status = unsafe {
        let (codes, scales, zeros) = (
            c_codes.as_mut_ptr(),
            c_scales.as_mut_ptr(),
            c_zeros.as_mut_ptr(),
        );
        [
            quant_quantize_blocks_f16(
                values.as_ptr(),
                77,
                32,
                INT4,
                codes,
                39,
                scales,
                3,
                zeros,
                3,
            ),
            quant_dequantize_blocks_f16(
                codes,
                39,
                32,
                INT4,
                scales,
                3,
                zeros,
                3,
                back.as_mut_ptr(),
                77,
            ),
        ]
    };
    assert_eq!(status, [QuantStatus::Ok; 2]);
    assert_eq!((c_codes, c_scales, c_zeros), (codes, scales, zeros));
    let mut expected = [f16::ZERO; 77];
    backend
        .dequantize_blocks(&codes, 32, scheme, &scales, &zeros, &mut expected)
        .unwrap();
    assert_eq!(back, expected);
}

#[test]
fn whole_slices() {
    let values = [0.5_f32, -1.27, 0.02, 1.0];
    let scheme = QuantScheme {
        dtype: 0,
        mode: 0,
        dialect: 0,
    };
    let mut range = QuantRange {
        min: 0.0,
        max: 0.0,
        non_finite: 9,
    };
    let mut params = QuantParams {
        scale: 0.0,
        zero_point: 9,
    };
    let (mut codes, mut back) = ([0_u8; 4], [0.0_f32; 4]);
    // SAFETY: buffers of these lengths.
    let status = unsafe {
        [
            quant_range_f32(values.as_ptr(), 4, &mut range),
            quant_find_params_f32(values.as_ptr(), 4, scheme, &mut params),
            quant_quantize_f32(values.as_ptr(), 4, scheme, params, codes.as_mut_ptr(), 4),
            quant_dequantize_f32(codes.as_ptr(), 4, scheme, params, back.as_mut_ptr(), 4),
        ]
    };
    assert_eq!(status, [QuantStatus::Ok; 4]);
    assert_eq!((range.min, range.max, range.non_finite), (-1.27, 1.0, 0));
    assert_eq!(codes.map(|code| code as i8), [50, -127, 2, 100]);
    assert_eq!(back[0], params.scale * 50.0);
}

#[test]
fn what_cannot_be_is_refused() {
    let values = [1.0_f32, f32::NAN];
    let mut codes = [0_u8; 2];
    let good = QuantParams {
        scale: 1.0,
        zero_point: 0,
    };
    let int8 = QuantScheme { dtype: 0, ..INT4 };
    let quantize = |values: *const f32, count, scheme, params, codes, length| {
        // SAFETY: null, misaligned, or a buffer of that length.
        unsafe { quant_quantize_f32(values, count, scheme, params, codes, length) }
    };
    let (from, to) = (values.as_ptr(), codes.as_mut_ptr());
    assert_eq!(quantize(from, 2, int8, good, to, 2), QuantStatus::Ok);
    assert_eq!(
        quantize(ptr::null(), 0, int8, good, ptr::null_mut(), 0),
        QuantStatus::Ok
    );
    let odd = from.wrapping_byte_add(1);
    let bad = QuantParams {
        scale: -1.0,
        zero_point: 0,
    };
    let unknown = QuantScheme { dtype: 4, ..INT4 };
    for (got, expected) in [
        (
            quantize(ptr::null(), 2, int8, good, to, 2),
            QuantStatus::InvalidPointer,
        ),
        (
            quantize(from, 2, int8, good, ptr::null_mut(), 2),
            QuantStatus::InvalidPointer,
        ),
        (
            quantize(odd, 1, int8, good, to, 1),
            QuantStatus::InvalidPointer,
        ),
        (
            quantize(from, 2, int8, good, to, 1),
            QuantStatus::InvalidLength,
        ),
        (
            quantize(from, usize::MAX, int8, good, to, usize::MAX),
            QuantStatus::InvalidLength,
        ),
        (
            quantize(from, 2, unknown, good, to, 2),
            QuantStatus::InvalidScheme,
        ),
        (
            quantize(from, 2, int8, bad, to, 2),
            QuantStatus::InvalidParams,
        ),
    ] {
        assert_eq!(got, expected);
    }
    let mut params = good;
    // SAFETY: a buffer of this length.
    let status = unsafe { quant_find_params_f32(from, 2, int8, &mut params) };
    assert_eq!(status, QuantStatus::NonFinite);
    // SAFETY: two values; the result's pointer is null.
    let status = unsafe { quant_range_f32(from, 2, ptr::null_mut()) };
    assert_eq!(status, QuantStatus::InvalidPointer);
}

#[test]
fn blocks_of_no_elements_are_refused() {
    let (mut codes, mut scales, mut zeros) = ([0; 1], [0.0_f32; 1], [0; 1]);
    let status = quantize_pair(0, &mut codes, &mut scales, &mut zeros);
    assert_eq!(status, QuantStatus::InvalidScheme);
    let status = quantize_pair(2, &mut codes, &mut scales, &mut zeros);
    assert_eq!(status, QuantStatus::Ok);
}

fn quantize_pair(
    block_size: usize,
    codes: &mut [u8],
    scales: &mut [f32],
    zero_points: &mut [u8],
) -> QuantStatus {
    let values = [1.0_f32, 2.0];
    // SAFETY: buffers of these lengths.
    unsafe {
        quant_quantize_blocks_f32(
            values.as_ptr(),
            values.len(),
            block_size,
            INT4,
            codes.as_mut_ptr(),
            codes.len(),
            scales.as_mut_ptr(),
            scales.len(),
            zero_points.as_mut_ptr(),
            zero_points.len(),
        )
    }
}
