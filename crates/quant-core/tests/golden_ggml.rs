//! What ggml's reference quantizers compute, byte for byte.

use half::{bf16, f16};
use quant_core::{Float, FloatType, GgmlType, ParamsError, TensorError, reference};
use quant_testkit::ggml::{self, Case};

fn check<F: Float>(case: &Case) {
    let name = format!("{} {}", case.float, case.block_type);
    let values: Vec<F> = case.input.iter().map(|&it| F::from_f32(it)).collect();
    let size = case.block_type.block_size();
    let mut blocks = vec![0xaa; case.blocks.len()];
    reference::quantize_ggml(&values, case.block_type, &mut blocks).unwrap();
    let got = blocks.chunks(size).zip(case.blocks.chunks(size));
    for ((got, want), values) in got.zip(case.input.chunks(GgmlType::VALUES)) {
        assert_eq!(got, want, "{name}: {values:?}");
    }
    if let Some(expected) = &case.values {
        let mut values = vec![0_f32; expected.len()];
        reference::dequantize_ggml(&blocks, case.block_type, &mut values).unwrap();
        let bits = |values: &[f32]| values.iter().map(|it| it.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&values), bits(expected), "values of {name}");
    }
}

#[test]
fn equals_ggml() {
    let cases = ggml::cases();
    let blocks: usize = cases.iter().map(|it| it.input.len() / 32).sum();
    assert!(cases.len() == 15 && blocks > 900, "{blocks} blocks");
    for case in &cases {
        match case.float {
            FloatType::F32 => check::<f32>(case),
            FloatType::F16 => check::<f16>(case),
            FloatType::Bf16 => check::<bf16>(case),
        }
    }
}

#[test]
fn what_ggml_leaves_open_is_an_error() {
    for block_type in GgmlType::ALL {
        let quantize = |at: usize, value: f32| {
            let mut values = [1.0; 96];
            values[at] = value;
            let mut blocks = vec![0; block_type.len(96).unwrap()];
            reference::quantize_ggml(&values, block_type, &mut blocks)
        };
        for value in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let error = TensorError {
                block: 1,
                source: ParamsError::NonFinite,
            };
            assert_eq!(quantize(63, value), Err(error), "{block_type}");
        }
        for value in [f32::MAX, f32::MIN, 1e7, -1e7] {
            let error = TensorError {
                block: 2,
                source: ParamsError::ScaleOverflow,
            };
            assert_eq!(quantize(64, value), Err(error), "{block_type} {value}");
        }
    }
}

#[test]
fn floats_of_a_block_must_be_numbers() {
    for block_type in GgmlType::ALL {
        let size = block_type.block_size();
        for (at, source) in [
            (0, ParamsError::InvalidScale),
            (2, ParamsError::InvalidBias),
        ] {
            if at == 2 && !block_type.has_minimum() {
                continue;
            }
            for bad in [f16::INFINITY, f16::NEG_INFINITY, f16::NAN] {
                let mut blocks = vec![0; 2 * size];
                blocks[size + at..][..2].copy_from_slice(&bad.to_le_bytes());
                let mut values = [0_f32; 64];
                let error = reference::dequantize_ggml(&blocks, block_type, &mut values);
                assert_eq!(error, Err(TensorError { block: 1, source }));
            }
        }
    }
}
