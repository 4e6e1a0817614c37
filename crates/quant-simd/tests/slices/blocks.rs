//! Blocks of consecutive elements with parameters of their own.

use half::f16;
use quant_core::{Dialect, FloatType, IntType, Mode, Params, ParamsError, Scheme, reference};
use quant_simd::Backend;
use quant_testkit::hurtful::{self, Bits, Random};

use crate::arena::{Arenas, Placement};
use crate::case::{Case, Function, Returned, Value, scale_type};
use crate::elements::any_codes;

const SIZES: [usize; 16] = [
    1, 2, 3, 7, 8, 16, 31, 32, 33, 48, 64, 96, 100, 128, 256, 1000,
];

for_every_float! {
    every_block_size every_block_size_back the_first_bad_block_is_named
    the_first_bad_scale_is_named
}

/// A block that has parameters: ordinary, all zeros of both signs, constant, tiny, or with its
/// largest values on a tie.
fn block<F: Value>(random: &mut Random, scheme: Scheme, len: usize) -> Vec<F> {
    let magnitude = 2.0_f32.powi(random.below(8) as i32 - 5);
    let constant = random.unit() * magnitude;
    let kind = random.below(10);
    (0..len)
        .map(|i| {
            F::from_f32(match kind {
                0 => [0.0, -0.0][i % 2],
                1 => constant,
                2 => constant * [1.0, 0.0][i % 2],
                3 => magnitude * (0.5 + random.unit().abs()),
                4 => -magnitude * (0.5 + random.unit().abs()),
                // A scale that is a power of two, and values on its ties.
                5 if i == 0 => (scheme.qmax() - scheme.qmin()) as f32 * magnitude / 2.0,
                5 => (random.below(256) as f32 - 127.5) * magnitude / 2.0,
                _ => random.unit() * magnitude,
            })
        })
        .collect()
}

/// Lengths in blocks and elements: whole blocks, and a shorter last one.
fn lengths(size: usize) -> Vec<usize> {
    let mut all = vec![
        0,
        1,
        size,
        size + 1,
        2 * size,
        5 * size,
        5 * size + size / 2,
    ];
    all.extend([
        16 * size + 1,
        (600 / size) * size,
        (600 / size) * size + size - 1,
    ]);
    all
}

fn every_block_size<F: Value>() {
    let (mut arenas, mut random) = (Arenas::new(), Random(5));
    for scheme in hurtful::schemes() {
        for size in SIZES {
            for len in lengths(size) {
                let mut values: Vec<F> = Vec::new();
                while values.len() < len {
                    let len = size.min(len - values.len());
                    values.extend(block::<F>(&mut random, scheme, len));
                }
                let case = Case {
                    function: Function::QuantizeBlocks(size),
                    scheme,
                    params: &[],
                    values: &values,
                    codes: &[],
                };
                let returned = case.expected(&mut arenas).returned;
                assert_eq!(returned, Returned::Nothing, "blocks with parameters");
                case.check(&mut arenas, Placement::ALIGNED);
            }
        }
    }
}

fn every_block_size_back<F: Value>() {
    let (mut arenas, mut random) = (Arenas::new(), Random(6));
    for scheme in hurtful::schemes() {
        let mut pool = hurtful::params(scheme, scale_type::<F>(scheme));
        pool.retain(|it| scheme.stores_zero_point() || it.zero_point() == 0);
        for size in SIZES {
            for len in lengths(size) {
                let count = len.div_ceil(size);
                let draw = |_| pool[random.below(pool.len())];
                let params: Vec<Params> = (0..count).map(draw).collect();
                let codes = any_codes(&mut random, scheme.dtype, len);
                let case = Case::<F> {
                    function: Function::DequantizeBlocks(size),
                    scheme,
                    params: &params,
                    values: &[],
                    codes: &codes,
                };
                case.check(&mut arenas, Placement::ALIGNED);
            }
        }
    }
}

/// Every error there is, in every block, alone and with another behind it.
fn the_first_bad_block_is_named<F: Value>() {
    let (mut arenas, mut random) = (Arenas::new(), Random(7));
    let mut seen = Vec::new();
    let mut bad: Vec<F> = hurtful::edges();
    // Large, but finite, and small, but not 0: whether that is an error depends on the scheme.
    for value in [
        -300.0, 300.0, 600.0, 33_000.0, 1e38, 1.8e38, -3e38, 3e38, 1e-44, 1e-7, 4e-6,
    ] {
        bad.push(F::from_f32(value));
    }
    for scheme in hurtful::schemes() {
        for size in [1, 3, 8, 32, 33, 64, 100] {
            let blocks = 5;
            let len = blocks * size - size / 2;
            for (i, &value) in bad.iter().enumerate() {
                for at in 0..blocks {
                    let mut values: Vec<F> = vec![F::from_f32(0.25); len];
                    // The block is bad by one value, or by all of them.
                    let block = at * size..((at + 1) * size).min(len);
                    match i % 2 {
                        0 => values[block.start + random.below(block.len())] = value,
                        _ => values[block].fill(value),
                    }
                    let behind = len - 1 - random.below(size);
                    if at % 2 == 1 && behind >= (at + 1) * size {
                        values[behind] = bad[random.below(bad.len())];
                    }
                    let case = Case {
                        function: Function::QuantizeBlocks(size),
                        scheme,
                        params: &[],
                        values: &values,
                        codes: &[],
                    };
                    if let Returned::Error(block, error) = case.expected(&mut arenas).returned {
                        seen.push((block, error));
                    }
                    case.check(&mut arenas, Placement::ALIGNED);
                }
            }
        }
    }
    let mut errors = vec![
        ParamsError::NonFinite,
        ParamsError::ScaleOverflow,
        ParamsError::ScaleUnderflow,
    ];
    if F::TYPE == quant_core::FloatType::F16 {
        errors.push(ParamsError::ZeroPointOverflow);
    }
    for error in errors {
        for block in 0..5 {
            assert!(seen.contains(&(block, error)), "{error:?} in {block}");
        }
    }
}

/// Scales and zero points from a file may be anything.
fn the_first_bad_scale_is_named<F: Value>() {
    let scheme = Scheme {
        dtype: IntType::Int8,
        mode: Mode::Symmetric,
        dialect: Dialect::F32,
    };
    let affine = Scheme {
        mode: Mode::Affine,
        dtype: IntType::Uint4,
        ..scheme
    };
    let bad = [-1.0, f32::NAN, f32::INFINITY, -f32::MIN_POSITIVE];
    for &backend in Backend::available() {
        for size in [1, 32, 33] {
            for at in 0..5 {
                let codes = vec![3; 5 * size];
                let mut values = vec![F::default(); 5 * size];
                for scale in bad {
                    let mut scales = [0.5_f32; 5];
                    (scales[at], scales[4]) = (scale, scale);
                    let got =
                        backend.dequantize_blocks(&codes, size, scheme, &scales, &[], &mut values);
                    let got = got.map_err(|error| (error.block, error.source));
                    let want = Err((at, ParamsError::InvalidScale));
                    assert_eq!(got, want, "{} {size} {scale:e}", backend.name());
                }
                let mut zero_points = [15; 5];
                (zero_points[at], zero_points[4]) = (16, 16);
                let scales = [F::from_f32(0.5); 5];
                let codes = vec![0x3c; (5 * size).div_ceil(2)];
                let got = backend.dequantize_blocks(
                    &codes,
                    size,
                    affine,
                    &scales,
                    &zero_points,
                    &mut values,
                );
                let got = got.map_err(|error| (error.block, error.source));
                let want = Err((at, ParamsError::InvalidZeroPoint));
                assert_eq!(got, want, "{} {size}", backend.name());
            }
        }
    }
}

/// Minus zero, as a scale, is zero: its products are +0.0 and -0.0 as those of zero are.
#[test]
fn a_scale_of_minus_zero_is_zero() {
    let scheme = Scheme::new(IntType::Int8, Mode::Symmetric);
    let codes: Vec<u8> = (0..=255).collect();
    for &backend in Backend::available() {
        let mut values = [1.0_f32; 256];
        let result =
            backend.dequantize_blocks(&codes, 64, scheme, &[-0.0_f32; 4], &[], &mut values);
        result.expect("zero is a scale");
        for (code, value) in codes.iter().zip(values) {
            let want = if (*code as i8) < 0 { -0.0_f32 } else { 0.0 };
            assert_eq!(value.bits(), want.bits(), "{} {code}", backend.name());
        }
    }
}

/// A subnormal scale is rounded so much that the largest values are beyond the codes.
#[test]
fn subnormal_scales_clip() {
    for dtype in [IntType::Int8, IntType::Int4] {
        let scheme = Scheme::new(dtype, Mode::Symmetric);
        for bits in 1..2048 {
            let value = f16::from_bits(bits);
            let values: Vec<f16> = [value, -value, -value].repeat(32 * 32 / 2);
            let Ok(params) = scheme.params(&reference::range(&values), FloatType::F16) else {
                continue;
            };
            let mut codes = vec![0; values.len()];
            reference::quantize(&values, scheme, params, &mut codes);
            let mut want = vec![0; dtype.storage_len(codes.len())];
            reference::pack(&codes, dtype, &mut want);
            for &backend in Backend::available() {
                let mut got = vec![0; want.len()];
                let mut scales = vec![f16::ZERO; values.len() / 32];
                backend
                    .quantize_blocks(&values, 32, scheme, &mut got, &mut scales, &mut [])
                    .expect("an ordinary block");
                assert_eq!(got, want, "{} {bits:#x}", backend.name());
            }
        }
    }
}
