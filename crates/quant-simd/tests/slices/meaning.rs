//! What the functions mean, in literal numbers; and which backends were looked at.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

use quant_core::{IntType, Mode, Params, STATS_CHUNK, STATS_RUN, Scheme};
use quant_simd::Backend;
use quant_testkit::hurtful::{self, Random};

use crate::arena::{Arenas, Placement};
use crate::case::{Case, Function, Value, scale_type};
use crate::elements::{GROUP, mixed};

for_every_float! {
    half_integers_go_to_the_even_code saturates nan_becomes_zero_point a_scale_of_zero_gives_zeros
    stats_go_chunk_by_chunk errors_are_added_up_run_by_run
}

/// A backend that is not there is not tested: what is there must be all that the machine has.
#[test]
fn every_backend_of_this_machine_is_tested() {
    let mut expected = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        use std::is_x86_feature_detected as has;
        if has!("avx512f") && has!("avx512bw") && has!("avx512cd") && has!("avx512dq") {
            let hidden = cfg!(quant_hide_avx512);
            expected.extend((has!("avx512vl") && !hidden).then_some(Backend::Avx512));
        }
        if has!("avx2") && has!("fma") {
            expected.extend(has!("f16c").then_some(Backend::Avx2));
        }
    }
    if cfg!(target_arch = "aarch64") {
        expected.push(Backend::Neon);
    }
    expected.push(Backend::Scalar);
    assert_eq!(Backend::available(), expected);
    let names: Vec<&str> = expected.iter().map(|it| it.name()).collect();
    // Past the capture of output: what ran is to be seen.
    let _ = writeln!(std::io::stderr(), "backends tested: {}", names.join(" "));
}

/// The codes of these values by every backend, repeated over some lanes.
fn codes_of<F: Value>(values: &[f32], scheme: Scheme, params: Params, want: &[i32]) {
    for &backend in Backend::available() {
        for lane in 0..GROUP {
            let mut inputs = vec![F::from_f32(params.scale()); lane];
            inputs.extend(values.iter().map(|&value| F::from_f32(value)));
            inputs.resize(inputs.len() + GROUP, F::default());
            let mut codes = vec![0; inputs.len()];
            backend.quantize(&inputs, scheme, params, &mut codes);
            let got = codes[lane..lane + values.len()].iter();
            let got: Vec<i32> = got.map(|&code| scheme.dtype.value(code)).collect();
            let name = backend.name();
            assert_eq!(
                got,
                want,
                "{name} {}, {scheme:?}, lane {lane}",
                F::TYPE.name()
            );
        }
    }
}

fn new<F: Value>(dtype: IntType, mode: Mode, scale: f32, zero_point: i32) -> (Scheme, Params) {
    let scheme = Scheme::new(dtype, mode);
    let params = Params::new(scheme, scale, zero_point, scale_type::<F>(scheme));
    (scheme, params.expect("a legal pair"))
}

fn half_integers_go_to_the_even_code<F: Value>() {
    let halves = [0.5, 1.5, 2.5, 3.5, -0.5, -1.5, -2.5, -3.5, 125.5, 126.5];
    let even = [0, 2, 2, 4, 0, -2, -2, -4, 126, 126];
    for scale in [1.0, 0.25, 64.0] {
        let (scheme, params) = new::<F>(IntType::Int8, Mode::Symmetric, scale, 0);
        codes_of::<F>(&halves.map(|half| half * scale), scheme, params, &even);
        // Rounded first, and only then shifted, be it by an odd zero point.
        let (scheme, params) = new::<F>(IntType::Uint8, Mode::Affine, scale, 101);
        let shifted = even.map(|code| code + 101);
        codes_of::<F>(&halves.map(|half| half * scale), scheme, params, &shifted);
    }
}

fn saturates<F: Value>() {
    let large = if F::TYPE == quant_core::FloatType::F16 {
        6e4
    } else {
        3e38
    };
    let values = [
        200.0,
        -200.0,
        large,
        -large,
        f32::INFINITY,
        f32::NEG_INFINITY,
    ];
    for (dtype, mode, zero_point, low, high) in [
        (IntType::Int8, Mode::Symmetric, 0, -127, 127),
        (IntType::Int8, Mode::Affine, 5, -128, 127),
        (IntType::Uint8, Mode::Symmetric, 127, 0, 254),
        (IntType::Uint8, Mode::Affine, 200, 0, 255),
    ] {
        for scale in [0.5, 0.007_812_5, 0.011_718_75] {
            let (scheme, params) = new::<F>(dtype, mode, scale, zero_point);
            codes_of::<F>(&values, scheme, params, &[high, low, high, low, high, low]);
        }
    }
}

fn nan_becomes_zero_point<F: Value>() {
    let values = [f32::NAN, -f32::NAN, f32::NAN, 0.0, -0.0];
    for (dtype, mode, zero_point) in [
        (IntType::Int8, Mode::Symmetric, 0),
        (IntType::Int8, Mode::Affine, -128),
        (IntType::Int8, Mode::Affine, 127),
        (IntType::Uint8, Mode::Symmetric, 127),
        (IntType::Uint8, Mode::Affine, 255),
        (IntType::Uint8, Mode::Affine, 0),
    ] {
        let (scheme, params) = new::<F>(dtype, mode, 0.5, zero_point);
        codes_of::<F>(&values, scheme, params, &[zero_point; 5]);
    }
}

fn a_scale_of_zero_gives_zeros<F: Value>() {
    let values = [f32::NAN, f32::INFINITY, -1.0, 0.0, -0.0, 1e-7];
    for dtype in [IntType::Int8, IntType::Uint8] {
        let (scheme, params) = new::<F>(dtype, Mode::Affine, 0.0, 100);
        codes_of::<F>(&values, scheme, params, &[0; 6]);
    }
}

/// Sums do not depend on how many elements a kernel takes at a time, nor on where chunks end.
fn stats_go_chunk_by_chunk<F: Value>() {
    let (mut arenas, mut random) = (Arenas::new(), Random(11));
    let mut schemes = hurtful::schemes();
    schemes.retain(|it| it.mode == Mode::Affine);
    for (i, scheme) in schemes.into_iter().enumerate() {
        let params = hurtful::params(scheme, scale_type::<F>(scheme))[i];
        for len in [
            STATS_CHUNK - 1,
            STATS_CHUNK,
            STATS_CHUNK + 1,
            2 * STATS_CHUNK + 77,
        ] {
            let values = mixed::<F>(&mut random, scheme, params, len);
            for function in [Function::QuantizeWithStats, Function::ErrorStats] {
                let case = Case {
                    function,
                    scheme,
                    params: &[params],
                    values: &values,
                    codes: &[],
                };
                case.check(&mut arenas, Placement::ALIGNED);
            }
        }
    }
}

/// The type of the values need not be that of the scales' origin.
#[test]
fn values_of_another_type_than_the_scales() {
    let scheme = Scheme::new(IntType::Int8, Mode::Symmetric);
    let scale = half::f16::from_f32(0.1);
    for &backend in Backend::available() {
        let codes: Vec<u8> = (0..=255).collect();
        let mut values = [0.0_f32; 256];
        let result = backend.dequantize_blocks(&codes, 256, scheme, &[scale], &[], &mut values);
        result.expect("a legal scale");
        for (code, value) in codes.iter().zip(values) {
            let want = half::f16::from_f32(scale.to_f32() * f32::from(*code as i8));
            let same = value.to_bits() == want.to_f32().to_bits();
            assert!(same, "{} code {code}: {value}, not {want}", backend.name());
        }
    }
}

/// Wrong lengths never reach a kernel.
#[test]
fn wrong_lengths_panic() {
    let (int8, params) = new::<f32>(IntType::Int8, Mode::Symmetric, 0.5, 0);
    let (int4, nibbles) = new::<f32>(IntType::Int4, Mode::Symmetric, 0.5, 0);
    let values = [1.0_f32; 70];
    for &backend in Backend::available() {
        let panics = |what: &str, call: &mut dyn FnMut()| {
            let result = catch_unwind(AssertUnwindSafe(call));
            assert!(result.is_err(), "{} {what} went on", backend.name());
        };
        for wrong in [0, 69, 71] {
            let mut codes = vec![0; wrong];
            let mut dequantized = vec![0.0_f32; wrong];
            panics("quantize", &mut || {
                backend.quantize(&values, int8, params, &mut codes);
            });
            panics("quantize_with_stats", &mut || {
                backend.quantize_with_stats(&values, int8, params, &mut codes);
            });
            panics("dequantize", &mut || {
                backend.dequantize(&codes, int8, params, &mut [0.0_f32; 70]);
            });
            panics("fake_quantize", &mut || {
                backend.fake_quantize(&values, int8, params, &mut dequantized);
            });
            panics("error_stats", &mut || {
                backend.error_stats(&values, &dequantized);
            });
            panics("quantize_blocks", &mut || {
                let _ = backend.quantize_blocks(
                    &values,
                    32,
                    int8,
                    &mut codes,
                    &mut [0.0_f32; 3],
                    &mut [],
                );
            });
        }
        for wrong in [0, 34, 36] {
            let mut codes = vec![0; wrong];
            panics("quantize of 4 bits", &mut || {
                backend.quantize(&values, int4, nibbles, &mut codes);
            });
            panics("dequantize of 4 bits", &mut || {
                backend.dequantize(&codes, int4, nibbles, &mut [0.0_f32; 70]);
            });
        }
        panics("pack", &mut || {
            backend.pack(&[1; 70], IntType::Int4, &mut [0; 35], 1)
        });
        panics("unpack", &mut || {
            backend.unpack(&[0; 35], 1, IntType::Int4, &mut [0; 70]);
        });
        panics("scales that are too few", &mut || {
            let mut codes = [0; 70];
            let scales = &mut [0.0_f32; 2];
            let _ = backend.quantize_blocks(&values, 32, int8, &mut codes, scales, &mut []);
        });
        panics("a block size of 0", &mut || {
            let (mut codes, mut scales) = ([0; 70], [0.0_f32; 1]);
            let _ = backend.quantize_blocks(&values, 0, int8, &mut codes, &mut scales, &mut []);
        });
    }
}

/// Runs in which no code is clipped, with one in between that is out of the ordinary.
fn errors_are_added_up_run_by_run<F: Value>() {
    let (mut arenas, mut random) = (Arenas::new(), Random(12));
    for (i, scheme) in hurtful::schemes().into_iter().enumerate() {
        let (low, high) = (scheme.qmin(), scheme.qmax());
        let params = hurtful::params(scheme, scale_type::<F>(scheme));
        for params in [params[0], params[i % params.len()]] {
            let within = |random: &mut Random, fraction: f32| {
                let code = low + random.below((high - low + 1) as usize) as i32;
                F::from_f32(params.scale() * ((code - params.zero_point()) as f32 + fraction))
            };
            let plain = (0..5 * STATS_RUN + 77).map(|i| within(&mut random, (i % 9) as f32 / 20.0));
            let plain: Vec<F> = plain.collect();
            for (run, of_run) in [
                (0, None),
                (1, Some(f32::NAN)),
                (2, Some(f32::INFINITY)),
                (3, Some(params.scale() * 1000.0)),
                (0, Some(params.scale() * -1000.0)),
            ] {
                let mut values = plain.clone();
                let place = run * STATS_RUN + random.below(STATS_RUN);
                if let Some(value) = of_run {
                    values[place] = F::from_f32(value);
                }
                // And one without any error.
                values[4 * STATS_RUN..5 * STATS_RUN].fill(F::from_f32(0.0));
                let case = Case {
                    function: Function::QuantizeWithStats,
                    scheme,
                    params: &[params],
                    values: &values,
                    codes: &[],
                };
                case.check(&mut arenas, Placement::ALIGNED);
            }
        }
    }
}

/// Quotients that no integer of 32 bits holds, each after one that would hide it in a lane's sum.
#[test]
fn huge_quotients_of_both_signs_saturate() {
    let scheme = Scheme::new(IntType::Int8, Mode::Symmetric);
    let params = Params::new(scheme, 1.0, 0, quant_core::FloatType::F32).unwrap();
    for (lanes, sign) in [4, 8, 16].into_iter().flat_map(|n| [(n, 1.0), (n, -1.0)]) {
        let mut values = vec![-2.1e9 * sign; lanes];
        values.resize(2 * lanes, 2.6e9 * sign);
        values.resize(2 * lanes + GROUP, 0.0_f32);
        let code = |value: &f32| (value.clamp(-127.0, 127.0) as i8) as u8;
        let want: Vec<u8> = values.iter().map(code).collect();
        for &backend in Backend::available() {
            let mut codes = vec![0; values.len()];
            let stats = backend.quantize_with_stats(&values, scheme, params, &mut codes);
            assert_eq!(codes, want, "{} {lanes}", backend.name());
            assert_eq!(stats.saturated, 2 * lanes as u64, "{}", backend.name());
        }
    }
}
