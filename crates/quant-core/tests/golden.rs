//! What coremltools 9.0 computes, bit for bit.

use half::f16;
use quant_core::{Blocks, Float, FloatType, Granularity, Scheme, reference};
use quant_testkit::golden::{self, Case, Floats};
use quant_testkit::hurtful;

fn check<F: Float>(case: &Case<'_>, values: &[F]) {
    let scheme = Scheme::new(case.dtype, case.mode);
    let sizes = Granularity::Blocks(case.blocks.to_vec());
    let blocks = Blocks::new(&case.shape, &sizes).unwrap();
    let quantized = reference::quantize_tensor(values, scheme, &blocks);
    if case.error {
        assert!(quantized.is_err(), "accepted: {case:?}");
        return;
    }
    let quantized = quantized.unwrap_or_else(|error| panic!("{error}: {case:?}"));
    assert_eq!(quantized.codes, case.codes, "codes of {case:?}");
    let scales: Vec<u32> = quantized
        .params
        .iter()
        .map(|p| bits::<F>(p.scale()))
        .collect();
    assert_eq!(scales, case.scales.to_bits(), "scales of {case:?}");
    assert_eq!(case.zero_points.is_some(), scheme.stores_zero_point());
    if let Some(zero_points) = case.zero_points {
        let got: Vec<u8> = quantized
            .params
            .iter()
            .map(|p| p.zero_point() as u8)
            .collect();
        assert_eq!(got, zero_points, "zero points of {case:?}");
    }
    if let Some(packed) = case.packed {
        let mut got = vec![0; values.len().div_ceil(2)];
        reference::pack(&quantized.codes, case.dtype, &mut got);
        assert_eq!(got, packed, "packed codes of {case:?}");
        let mut codes = vec![0; values.len()];
        reference::unpack(packed, case.dtype, &mut codes);
        assert_eq!(codes, case.codes, "unpacked codes of {case:?}");
    }
    if let Some(dequantized) = &case.dequantized {
        let params = &quantized.params;
        let got: Vec<F> = reference::dequantize_tensor(&quantized.codes, scheme, &blocks, params);
        let got: Vec<u32> = got.iter().map(|value| bits::<F>(value.to_f32())).collect();
        assert_eq!(got, dequantized.to_bits(), "values of {case:?}");
    }
}

fn bits<F: Float>(value: f32) -> u32 {
    match F::TYPE {
        FloatType::F16 => f16::from_f32(value).to_bits().into(),
        FloatType::F32 | FloatType::Bf16 => value.to_bits(),
    }
}

#[test]
fn equals_coremltools() {
    let cases = golden::cases();
    assert!(cases.len() >= 3000, "only {} cases", cases.len());
    for case in &cases {
        match &case.input {
            Floats::F32(values) => check(case, values),
            Floats::F16(values) => check(case, values),
        }
    }
    for dtype in hurtful::COREMLTOOLS_TYPES {
        assert!(cases.iter().any(|case| case.dtype == dtype));
    }
}
