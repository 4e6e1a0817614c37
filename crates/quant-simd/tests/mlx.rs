//! MLX's dialect on every backend: what MLX computes, and what the reference computes.

use half::{bf16, f16};
use quant_core::{
    Blocks, Dialect, FloatType, Granularity, IntType, Mode, OffsetKind, ParamsError, Scheme,
    reference,
};
use quant_simd::{Backend, Columns, Element, TensorQuantizer};
use quant_testkit::mlx::{self, Case};

fn scheme(dtype: IntType) -> Scheme {
    Scheme::new(dtype, Mode::Affine).with_dialect(Dialect::Mlx)
}

fn floats<F: Element>(bytes: &[u8]) -> Vec<F> {
    let mut floats = vec![F::zeroed(); bytes.len() / size_of::<F>()];
    bytemuck::cast_slice_mut(&mut floats).copy_from_slice(bytes);
    floats
}

fn blocks_and_tensors<F: Element>(case: &Case, backend: Backend) {
    let name = format!("{} {} {}, {backend}", case.float, case.dtype, case.group);
    let (scheme, values) = (scheme(case.dtype), floats::<F>(&case.input));
    assert_eq!(scheme.offset(), OffsetKind::Bias);
    let mut codes = vec![0xff; case.codes.len()];
    let mut scales = floats::<F>(&vec![0; case.scales.len()]);
    let mut biases = vec![0xff; case.biases.len()];
    backend
        .quantize_blocks(
            &values,
            case.group,
            scheme,
            &mut codes,
            &mut scales,
            &mut biases,
        )
        .unwrap();
    assert!(codes == case.codes, "codes of {name}");
    assert!(
        bytemuck::cast_slice::<F, u8>(&scales) == case.scales,
        "scales of {name}"
    );
    assert!(biases == case.biases, "biases of {name}");

    let mut back = vec![F::zeroed(); values.len()];
    backend
        .dequantize_blocks(&codes, case.group, scheme, &scales, &biases, &mut back)
        .unwrap();
    let back: &[u8] = bytemuck::cast_slice(&back);
    if let Some(expected) = &case.values {
        assert!(back == expected, "values of {name}");
    }

    let groups = Granularity::PerBlock {
        axis: 0,
        block_axis: 1,
        block_size: case.group,
    };
    let quantizer = TensorQuantizer {
        backend,
        ..TensorQuantizer::new(
            scheme,
            case.float,
            Blocks::new(&case.shape, &groups).unwrap(),
        )
    };
    let tensor = quantizer.quantize_to_vec(&values).unwrap();
    let expected = reference::quantize_tensor(&values, scheme, &quantizer.blocks).unwrap();
    assert!(tensor.codes == case.codes, "a tensor's codes of {name}");
    assert!(tensor.scales == case.scales, "a tensor's scales of {name}");
    assert!(
        tensor.zero_points == case.biases,
        "a tensor's biases of {name}"
    );
    assert_eq!(tensor.stats, expected.stats, "{name}");
    let again: Vec<F> = tensor.dequantize().unwrap();
    assert!(
        bytemuck::cast_slice::<F, u8>(&again) == back,
        "a tensor's values of {name}"
    );
}

#[test]
fn every_backend_equals_mlx() {
    for case in &mlx::cases() {
        for &backend in Backend::available() {
            match case.float {
                FloatType::F32 => blocks_and_tensors::<f32>(case, backend),
                FloatType::F16 => blocks_and_tensors::<f16>(case, backend),
                FloatType::Bf16 => blocks_and_tensors::<bf16>(case, backend),
            }
        }
    }
}

/// Slices, columns and tensors whose scales lie otherwise, with what MLX never sees: no block has its
/// number of values, and some values are not finite.
#[test]
fn every_function_equals_the_reference() {
    let mut values: Vec<f32> = (0..5000)
        .map(|i: i32| (i.wrapping_mul(7919) % 4001) as f32 / 1000.0 - 1.3)
        .collect();
    for bits in [2, 3, 4, 5, 6, 8] {
        let scheme = scheme(IntType::new(bits, false).unwrap());
        let params = scheme
            .params(&reference::range(&values), FloatType::F32)
            .unwrap();
        for &backend in Backend::available() {
            for shape in [[50, 100], [100, 50], [5000, 1], [1, 5000]] {
                for granularity in [
                    Granularity::PerTensor,
                    Granularity::PerChannel { axis: 0 },
                    Granularity::PerChannel { axis: 1 },
                    Granularity::Blocks(vec![shape[0].min(7), shape[1].min(3)]),
                ] {
                    let blocks = Blocks::new(&shape, &granularity).unwrap();
                    let expected = reference::quantize_tensor(&values, scheme, &blocks).unwrap();
                    let quantizer = TensorQuantizer {
                        backend,
                        ..TensorQuantizer::new(scheme, FloatType::F32, blocks)
                    };
                    let got = quantizer.quantize_to_vec(&values).unwrap();
                    let mut codes = vec![0; got.codes.len()];
                    reference::pack(&expected.codes, scheme.dtype, &mut codes);
                    assert!(got.codes == codes, "{shape:?} {granularity:?}");
                    let biases = expected
                        .params
                        .iter()
                        .flat_map(|it| it.bias().unwrap().to_le_bytes());
                    assert!(got.zero_points == biases.collect::<Vec<u8>>());
                    let back = reference::dequantize_tensor::<f32>(
                        &expected.codes,
                        scheme,
                        &quantizer.blocks,
                        &expected.params,
                    );
                    assert!(got.dequantize::<f32>().unwrap() == back);
                }
            }
            values[77] = f32::NAN;
            values[78] = f32::NEG_INFINITY;
            let mut bytes = vec![0; values.len()];
            let bad = reference::quantize(&values, scheme, params, &mut bytes);
            let mut codes = vec![0; scheme.dtype.storage_len(values.len())];
            reference::pack(&bytes, scheme.dtype, &mut codes);
            let mut got = vec![0xff; codes.len()];
            assert_eq!(backend.quantize(&values, scheme, params, &mut got), bad);
            assert_eq!(got, codes);
            got.fill(0xff);
            let stats = backend.quantize_with_stats(&values, scheme, params, &mut got);
            assert_eq!(got, codes);
            assert_eq!(
                stats.saturated,
                reference::saturated(&values, scheme, params)
            );
            let mut back = vec![0.0; values.len()];
            reference::dequantize(&bytes, scheme, params, &mut back);
            let mut dequantized = vec![0.0; values.len()];
            backend.dequantize(&codes, scheme, params, &mut dequantized);
            assert_eq!(dequantized, back);
            assert_eq!(
                backend.fake_quantize(&values, scheme, params, &mut dequantized),
                bad
            );
            assert_eq!(dequantized, back);
            let columns = Columns::new(scheme, FloatType::F32, &[params; 8]);
            got.fill(0xff);
            assert_eq!(backend.quantize_columns(&values, &columns, &mut got), bad);
            assert_eq!(got, codes);
            backend.dequantize_columns(&codes, &columns, &mut dequantized);
            assert_eq!(dequantized, back);
            values[77] = 0.5;
            values[78] = -0.5;
        }
    }
}

#[test]
fn what_mlx_does_not_have_is_refused() {
    for (dtype, mode) in [
        (IntType::Int4, Mode::Affine),
        (IntType::Uint4, Mode::Symmetric),
    ] {
        let scheme = Scheme::new(dtype, mode).with_dialect(Dialect::Mlx);
        let error = quant_simd::quantize(&[1.0_f32], scheme).unwrap_err();
        assert_eq!(error, ParamsError::UnsupportedScheme);
    }
    let large = quant_simd::quantize(&[f32::MAX, f32::MIN], scheme(IntType::Uint4));
    assert_eq!(large.unwrap_err(), ParamsError::ScaleOverflow);
}
