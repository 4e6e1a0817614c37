//! Functions with one scale and zero point: lengths, lanes, ties, bits.

use quant_core::{FloatType, IntType, Mode, Params, Scheme, reference};
use quant_testkit::hurtful::{self, Random};

use crate::arena::{Arenas, Placement};
use crate::case::{Case, Function, Value, scale_type};

/// Elements of the widest group that a kernel may take at a time.
pub const GROUP: usize = 64;

/// Functions of values that depend on the parameters.
pub const QUANTIZING: [Function; 3] = [
    Function::Quantize,
    Function::QuantizeWithStats,
    Function::FakeQuantize,
];

/// Functions of values alone.
pub const OBSERVING: [Function; 3] = [
    Function::MinMax,
    Function::Histogram(2048),
    Function::Histogram(4096),
];

/// Values that come before those at hand: with fewer, histograms do not take their kernel.
pub fn ahead(function: Function) -> usize {
    match function {
        Function::Histogram(_) => MOST_AHEAD,
        _ => 0,
    }
}

const MOST_AHEAD: usize = 4 * GROUP;

for_every_float! {
    every_length every_lane every_edge_beside_every_other ties_to_even any_bits every_code
    scales_of_other_types range_of_one_sign
    edges_of_bins
}

/// Ordinary values with something hurtful in between.
pub fn mixed<F: Value>(
    random: &mut Random,
    scheme: Scheme,
    params: Params,
    count: usize,
) -> Vec<F> {
    let mut values = random.ordinary::<F>(scheme, params, count);
    let (edges, ties) = (hurtful::edges(), hurtful::ties(scheme, params));
    for value in &mut values {
        match random.below(8) {
            0 => *value = edges[random.below(edges.len())],
            1 | 2 => *value = ties[random.below(ties.len())],
            _ => {}
        }
    }
    values
}

/// Codes of any bits; the low ones only where the type has 4.
pub fn any_codes(random: &mut Random, dtype: IntType, count: usize) -> Vec<u8> {
    let mask = ((1_u32 << dtype.bits()) - 1) as u8;
    (0..count).map(|_| random.bits() as u8 & mask).collect()
}

fn every_length<F: Value>() {
    let (mut arenas, mut random) = (Arenas::new(), Random(1));
    for scheme in hurtful::schemes() {
        let params = hurtful::params(scheme, scale_type::<F>(scheme));
        for len in 0..=4 * GROUP + 3 {
            let params = params[len % params.len()];
            let values = mixed::<F>(&mut random, scheme, params, MOST_AHEAD + len);
            let codes = any_codes(&mut random, scheme.dtype, len);
            let mut functions = QUANTIZING.to_vec();
            functions.extend([
                Function::Dequantize,
                Function::ValueRange,
                Function::ErrorStats,
            ]);
            functions.extend(OBSERVING);
            if scheme.dtype.bits() == 4 {
                for offset in [0, 1, 2, 7, 33] {
                    functions.extend([Function::Pack(offset), Function::Unpack(offset)]);
                }
            }
            for function in functions {
                let case = Case {
                    function,
                    scheme,
                    params: &[params],
                    values: &values[MOST_AHEAD - ahead(function)..],
                    codes: &codes,
                };
                case.check(&mut arenas, Placement::ALIGNED);
            }
        }
    }
}

/// Each edge value alone among ordinary ones, in every lane, in the first group and in the rest.
fn every_lane<F: Value>() {
    let (mut arenas, mut random) = (Arenas::new(), Random(2));
    let edges = hurtful::edges::<F>();
    for (i, scheme) in hurtful::schemes().into_iter().enumerate() {
        let params = hurtful::params(scheme, scale_type::<F>(scheme));
        let params = params[i % 5];
        let ordinary = MOST_AHEAD + GROUP + GROUP / 2 + 3;
        let ordinary = random.ordinary::<F>(scheme, params, ordinary);
        for lane in MOST_AHEAD..ordinary.len() {
            for &edge in &edges {
                let mut values = ordinary.clone();
                values[lane] = edge;
                let mut functions = QUANTIZING.to_vec();
                // These do not depend on the scheme.
                if i == 0 {
                    functions.extend([Function::ValueRange, Function::ErrorStats]);
                    functions.extend(OBSERVING);
                }
                for function in functions {
                    let case = Case {
                        function,
                        scheme,
                        params: &[params],
                        values: &values[MOST_AHEAD - ahead(function)..],
                        codes: &[],
                    };
                    case.check(&mut arenas, Placement::ALIGNED);
                }
            }
        }
    }
}

/// Edges and ties, nothing else, turned by one element at a time.
fn every_edge_beside_every_other<F: Value>() {
    let (mut arenas, mut random) = (Arenas::new(), Random(3));
    for scheme in hurtful::schemes() {
        for params in hurtful::params(scheme, scale_type::<F>(scheme)) {
            let (edges, ties) = (hurtful::edges::<F>(), hurtful::ties::<F>(scheme, params));
            let mut values: Vec<F> = Vec::new();
            for &edge in edges.iter().cycle().take(GROUP + 1) {
                values.extend([edge, ties[random.below(ties.len())]]);
            }
            values.rotate_left(random.below(GROUP));
            for function in QUANTIZING {
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

/// At every half-integer multiple of the scale, and at the three values on each side.
fn ties_to_even<F: Value>() {
    let mut arenas = Arenas::new();
    for scheme in hurtful::schemes() {
        for params in hurtful::params(scheme, scale_type::<F>(scheme)) {
            let values = hurtful::ties::<F>(scheme, params);
            for function in QUANTIZING {
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

fn any_bits<F: Value>() {
    let (mut arenas, mut random) = (Arenas::new(), Random(4));
    for scheme in hurtful::schemes() {
        for params in hurtful::params(scheme, scale_type::<F>(scheme)) {
            let values = random.any::<F>(1003);
            for function in QUANTIZING {
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
    for _ in 0..20 {
        let values = random.any::<F>(1003);
        for function in [Function::ValueRange, Function::ErrorStats]
            .into_iter()
            .chain(OBSERVING)
        {
            let case = Case {
                function,
                scheme: Scheme::new(IntType::Int8, Mode::Symmetric),
                params: &[],
                values: &values,
                codes: &[],
            };
            case.check(&mut arenas, Placement::ALIGNED);
        }
    }
}

/// Dequantizes every code there is, those outside of the scheme's range too, for scales of every
/// type, whatever the type of the values.
fn every_code<F: Value>() {
    let mut arenas = Arenas::new();
    for scheme in hurtful::schemes() {
        let all = if scheme.dtype.bits() == 4 { 16 } else { 256 };
        let codes: Vec<u8> = (0..259).map(|code| (code % all) as u8).collect();
        for scale_type in FloatType::ALL {
            for params in hurtful::params(scheme, scale_type) {
                let case = Case::<F> {
                    function: Function::Dequantize,
                    scheme,
                    params: &[params],
                    values: &[],
                    codes: &codes,
                };
                case.check(&mut arenas, Placement::ALIGNED);
            }
        }
    }
}

/// Parameters may say that the scale is stored in another type than the scheme would choose: it
/// may then have more digits than the values.
fn scales_of_other_types<F: Value>() {
    let mut arenas = Arenas::new();
    for scheme in hurtful::schemes() {
        let own = scale_type::<F>(scheme);
        for scale_type in FloatType::ALL.into_iter().filter(|&it| it != own) {
            for params in hurtful::params(scheme, scale_type) {
                let values = hurtful::ties::<F>(scheme, params);
                for function in QUANTIZING {
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
}

/// Only then can a bound be a zero, which is +0.0 whatever the zeros among the values are.
fn range_of_one_sign<F: Value>() {
    let (mut arenas, mut random) = (Arenas::new(), Random(12));
    let len = 2 * GROUP + 1;
    let mut edges = hurtful::edges::<F>();
    edges.push(F::from_f32(0.5));
    for sign in [1.0, -1.0] {
        for ordinary in [1.0, 0.0] {
            for &edge in &edges {
                for lane in 0..len {
                    let draw = |_| F::from_f32(random.unit().abs() * sign * ordinary);
                    let mut values: Vec<F> = (0..len).map(draw).collect();
                    values[lane] = edge;
                    for function in [Function::ValueRange, Function::ColumnRanges(43)] {
                        let case = Case {
                            function,
                            scheme: Scheme::new(IntType::Int8, Mode::Symmetric),
                            params: &[],
                            values: &values,
                            codes: &[],
                        };
                        case.check(&mut arenas, Placement::ALIGNED);
                    }
                }
            }
        }
    }
    for &edge in &edges {
        for len in 1..len {
            let case = Case {
                function: Function::ValueRange,
                scheme: Scheme::new(IntType::Int8, Mode::Symmetric),
                params: &[],
                values: &vec![edge; len],
                codes: &[],
            };
            case.check(&mut arenas, Placement::ALIGNED);
        }
    }
}

/// Each bin's edge and the numbers beside it, for bins of any width.
fn edges_of_bins<F: Value>() {
    let mut arenas = Arenas::new();
    for bins in [128, 2048, 8192] {
        for exponent in [-140, -126, -30, -9, 0, 3, 60, 122] {
            let width = 2.0_f64.powi(exponent);
            let mut values = Vec::new();
            for bin in (0..=bins / 2).step_by(bins / 128) {
                let edge = (bin as f64 * width) as f32;
                for value in [edge, edge.next_up(), edge.next_down()] {
                    values.extend([value, -value].map(F::from_f32));
                }
            }
            let case = Case {
                function: Function::Histogram(bins),
                scheme: Scheme::new(IntType::Int8, Mode::Symmetric),
                params: &[],
                values: &values,
                codes: &[],
            };
            case.check(&mut arenas, Placement::ALIGNED);
        }
    }
}

/// More than any cache holds, read at several places in turn.
#[test]
fn range_of_a_large_slice() {
    let mut values = vec![0.25_f32; (40 << 20) + 77];
    let n = values.len();
    for (position, value) in [(1, -3.5), (n / 2 + 5, 8.0), (n - 1, 9.0), (n / 3, f32::NAN)] {
        values[position] = value;
        let want = reference::range(&values);
        for &backend in quant_simd::Backend::available() {
            assert_eq!(backend.range(&values), want, "{}", backend.name());
        }
    }
}

/// Enough that results are written by non-temporal stores, unless it is larger than any we know of; to an
/// odd address, and with a tile that is done again.
#[test]
fn results_beyond_the_cache() {
    let mut values: Vec<f32> = (0..(9 << 20) + 77)
        .map(|i: i32| (i.wrapping_mul(7919) % 2003) as f32 / 1000.0 - 1.0)
        .collect();
    let n = values.len();
    for dtype in [IntType::Int8, IntType::Uint8, IntType::Int4] {
        let scheme = Scheme::new(dtype, Mode::Symmetric);
        let zero_point = scheme.symmetric_zero_point();
        let params = Params::new(scheme, 0.0079, zero_point, FloatType::F32).unwrap();
        let len = dtype.storage_len(n);
        for value in [0.5, f32::NAN] {
            values[n / 2] = value;
            let mut bytes = vec![0; n];
            let bad = reference::quantize(&values, scheme, params, &mut bytes);
            let mut want = vec![0; len];
            reference::pack(&bytes, dtype, &mut want);
            let mut floats = vec![0.0_f32; n];
            reference::dequantize(&bytes, scheme, params, &mut floats);
            for &backend in quant_simd::Backend::available() {
                let mut got = vec![0xcd; len + 2];
                let count = backend.quantize(&values, scheme, params, &mut got[1..=len]);
                assert_eq!(count, bad, "{} {dtype:?}", backend.name());
                assert!(got[1..=len] == want, "{} {dtype:?}", backend.name());
                assert_eq!((got[0], got[len + 1]), (0xcd, 0xcd));
                let mut dequantized = vec![1.0_f32; n + 1];
                backend.dequantize(&want, scheme, params, &mut dequantized[1..]);
                assert!(dequantized[1..] == floats, "{} {dtype:?}", backend.name());
            }
        }
        values[n / 2] = 0.5;
        let blocks = n.div_ceil(32);
        let stored = if scheme.stores_zero_point() {
            blocks
        } else {
            0
        };
        let run = |backend: quant_simd::Backend| {
            let (mut codes, mut scales) = (vec![0; len], vec![0.0_f32; blocks]);
            let mut zero_points = vec![0; stored];
            let (c, s, z) = (&mut codes, &mut scales, &mut zero_points);
            backend
                .quantize_blocks(&values, 32, scheme, c, s, z)
                .unwrap();
            (codes, scales, zero_points)
        };
        // Small blocks of the scalar backend go one by one, and never by non-temporal stores.
        let want = run(quant_simd::Backend::Scalar);
        for &backend in quant_simd::Backend::available() {
            assert!(run(backend) == want, "{} {dtype:?}", backend.name());
        }
    }
}

/// The block size is larger than any product of it.
#[test]
fn one_block_of_an_enormous_size() {
    let values = [1.0, -2.0, 0.5, 0.25, 2.0].map(half::f16::from_f32);
    let scheme = Scheme::new(IntType::Int8, Mode::Symmetric);
    for &backend in quant_simd::Backend::available() {
        for block_size in [5, 1 << 52, 1 << 53, usize::MAX] {
            let (mut codes, mut scales) = ([99; 5], [half::f16::ZERO]);
            let none = &mut [];
            let done =
                backend.quantize_blocks(&values, block_size, scheme, &mut codes, &mut scales, none);
            assert_eq!(done, Ok(()), "{block_size}");
            assert_eq!(
                codes.map(|code| code as i8),
                [64, -127, 32, 16, 127],
                "{block_size}"
            );
        }
    }
}
