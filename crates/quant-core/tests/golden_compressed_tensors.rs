//! What compressed-tensors computes, bit for bit, and coreai-opt.

use half::{bf16, f16};
use quant_core::{
    Blocks, Dialect, Float, FloatType, Granularity, IntType, Mode, ParamsError, Scheme, reference,
};
use quant_testkit::{
    compressed_tensors::{self, Case},
    coreai,
};

/// From and to little-endian bytes.
trait Bytes: Float {
    fn read(bytes: &[u8]) -> Vec<Self>;
    fn write(values: &[Self]) -> Vec<u8>;
}

macro_rules! bytes {
    ($($float:ty)*) => {
        $(impl Bytes for $float {
            fn read(bytes: &[u8]) -> Vec<Self> {
                let (values, rest) = bytes.as_chunks();
                assert!(rest.is_empty());
                values.iter().map(|bytes| Self::from_le_bytes(*bytes)).collect()
            }
            fn write(values: &[Self]) -> Vec<u8> {
                values.iter().flat_map(|value| value.to_le_bytes()).collect()
            }
        })*
    };
}
bytes!(f32 f16 bf16);

fn check<F: Bytes>(case: &Case) {
    let name = format!("{} {:?} {}", case.float, case.scheme, case.group);
    let groups = Granularity::PerBlock {
        axis: 0,
        block_axis: 1,
        block_size: case.group,
    };
    let blocks = Blocks::new(&case.shape, &groups).unwrap();
    let values = F::read(&case.input);
    let quantized = reference::quantize_tensor(&values, case.scheme, &blocks).unwrap();
    let params = &quantized.params;
    let scales: Vec<F> = params.iter().map(|it| F::from_f32(it.scale())).collect();
    assert_eq!(F::write(&scales), case.scales, "scales of {name}");
    if case.scheme.stores_zero_point() {
        let zero_points: Vec<u8> = params.iter().map(|it| it.zero_point() as u8).collect();
        assert_eq!(zero_points, case.zero_points, "zero points of {name}");
    }
    assert_eq!(quantized.codes, case.codes, "codes of {name}");
    if let Some(expected) = &case.values {
        let values = reference::dequantize_tensor(&quantized.codes, case.scheme, &blocks, params);
        let (got, want) = (values, F::read(expected));
        // torch subtracts zero points as floats: it may give another zero than a product of 0.
        let numbers = |values: &[F]| values.iter().map(|it| it.to_f32()).collect::<Vec<_>>();
        assert_eq!(numbers(&got), numbers(&want), "values of {name}");
    }
}

/// Unsigned types have the same codes less the smallest, and scales.
fn check_unsigned<F: Bytes>(case: &Case) {
    let values = F::read(&case.input);
    let blocks = Blocks::new(&case.shape, &Granularity::PerChannel { axis: 0 }).unwrap();
    let signed = reference::quantize_tensor(&values, case.scheme, &blocks).unwrap();
    let bits = case.scheme.dtype.bits();
    let scheme = Scheme {
        dtype: IntType::new(bits, false).unwrap(),
        ..case.scheme
    };
    assert!(scheme.stores_zero_point());
    let unsigned = reference::quantize_tensor(&values, scheme, &blocks).unwrap();
    let half = 1 << (bits - 1);
    let codes: Vec<u8> = signed
        .codes
        .iter()
        .map(|it| it.wrapping_add(half))
        .collect();
    assert_eq!(unsigned.codes, codes);
    assert_eq!(unsigned.stats, signed.stats);
    for (unsigned, signed) in unsigned.params.iter().zip(&signed.params) {
        assert_eq!(unsigned.scale(), signed.scale());
        assert_eq!(unsigned.zero_point(), signed.zero_point() + i32::from(half));
    }
}

#[test]
fn unsigned_codes_are_signed_ones_less_the_smallest() {
    for case in compressed_tensors::cases()
        .iter()
        .filter(|it| it.group == 128)
    {
        match case.float {
            FloatType::F32 => check_unsigned::<f32>(case),
            FloatType::F16 => check_unsigned::<f16>(case),
            FloatType::Bf16 => check_unsigned::<bf16>(case),
        }
    }
}

#[test]
fn equals_compressed_tensors() {
    let cases = compressed_tensors::cases();
    assert_eq!(cases.len(), 3 * 2 * 2 * 3);
    for case in &cases {
        match case.float {
            FloatType::F32 => check::<f32>(case),
            FloatType::F16 => check::<f16>(case),
            FloatType::Bf16 => check::<bf16>(case),
        }
    }
}

#[test]
fn equals_coreai_opt() {
    let cases = coreai::cases();
    assert_eq!(cases.len(), 2 * 2 * 8 + 3 * 2 * 6);
    for case in &cases {
        match case.float {
            FloatType::F32 => check::<f32>(case),
            FloatType::F16 => check::<f16>(case),
            FloatType::Bf16 => check::<bf16>(case),
        }
    }
}

/// What coreai-opt destroys without a word: scales of 0, infinite ones, zero points of infinite
/// terms.
#[test]
fn weights_that_coreai_opt_destroys_are_errors() {
    let params = |dtype, mode, values: &[f32], dialect| {
        let scheme = Scheme::new(dtype, mode).with_dialect(dialect);
        scheme.params(&reference::range(values), FloatType::F16)
    };
    let coreai = Dialect::Coreai;
    let tiny = params(IntType::Int8, Mode::Symmetric, &[1e-6, 0.0], coreai);
    assert_eq!(tiny, Err(ParamsError::ScaleUnderflow));
    let wide = params(IntType::Int8, Mode::Symmetric, &[60_000.0, 0.0], coreai);
    assert_eq!(wide, Err(ParamsError::ScaleOverflow));
    let zero_point = params(IntType::Int8, Mode::Affine, &[600.0, 0.0], coreai);
    assert_eq!(zero_point, Err(ParamsError::ZeroPointOverflow));
    let tiny = params(
        IntType::Int8,
        Mode::Symmetric,
        &[1e-6, 0.0],
        Dialect::CoreaiTorch,
    );
    assert_eq!(tiny.unwrap().scale(), f32::EPSILON);
}

#[test]
fn what_has_no_parameters_is_an_error() {
    let dialect = compressed_tensors::cases()[0].scheme.dialect;
    let params = |dtype, mode, values: &[f32], source| {
        let scheme = Scheme::new(dtype, mode).with_dialect(dialect);
        scheme.params(&reference::range(values), source)
    };
    for mode in Mode::ALL {
        for value in [f32::NAN, f32::INFINITY] {
            let error = params(IntType::Int4, mode, &[1.0, value], FloatType::Bf16);
            assert_eq!(error, Err(ParamsError::NonFinite));
        }
        let empty = params(IntType::Int4, mode, &[], FloatType::F16).unwrap();
        assert_eq!((empty.scale(), empty.zero_point()), (1.0 / 1024.0, 0));
    }
    let wide = [-60_000.0, 60_000.0];
    let error = params(IntType::Int8, Mode::Affine, &wide, FloatType::F16);
    assert_eq!(error, Err(ParamsError::ScaleOverflow));
}
