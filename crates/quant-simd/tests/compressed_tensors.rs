//! The dialects of compressed-tensors and of Core AI on every backend: what these tools compute
//! themselves.

use half::{bf16, f16};
use quant_core::{Blocks, FloatType, Granularity, reference};
use quant_simd::{Backend, Element, TensorQuantizer};
use quant_testkit::{
    compressed_tensors::{self, Case},
    coreai,
};

fn floats<F: Element>(bytes: &[u8]) -> Vec<F> {
    let mut floats = vec![F::zeroed(); bytes.len() / size_of::<F>()];
    bytemuck::cast_slice_mut(&mut floats).copy_from_slice(bytes);
    floats
}

fn check<F: Element>(case: &Case, backend: Backend) {
    let name = format!("{} {:?} {} {backend}", case.float, case.scheme, case.group);
    let (scheme, values) = (case.scheme, floats::<F>(&case.input));
    let mut packed = vec![0; scheme.dtype.storage_len(values.len())];
    reference::pack(&case.codes, scheme.dtype, &mut packed);

    let mut codes = vec![0xff; packed.len()];
    let mut scales = floats::<F>(&vec![0; case.scales.len()]);
    let mut zero_points = vec![0xff; case.zero_points.len()];
    backend
        .quantize_blocks(
            &values,
            case.group,
            scheme,
            &mut codes,
            &mut scales,
            &mut zero_points,
        )
        .unwrap();
    assert!(codes == packed, "codes of {name}");
    assert!(
        bytemuck::cast_slice::<F, u8>(&scales) == case.scales,
        "scales of {name}"
    );
    assert!(zero_points == case.zero_points, "zero points of {name}");

    let groups = Granularity::PerBlock {
        axis: 0,
        block_axis: 1,
        block_size: case.group,
    };
    let blocks = Blocks::new(&case.shape, &groups).unwrap();
    let quantizer = TensorQuantizer {
        backend,
        ..TensorQuantizer::new(scheme, case.float, blocks)
    };
    let tensor = quantizer.quantize_to_vec(&values).unwrap();
    let expected = reference::quantize_tensor(&values, scheme, &quantizer.blocks).unwrap();
    assert!(tensor.codes == packed, "a tensor's codes of {name}");
    assert!(tensor.scales == case.scales, "a tensor's scales of {name}");
    assert!(
        tensor.zero_points == case.zero_points,
        "a tensor's zero points of {name}"
    );
    assert_eq!(tensor.stats, expected.stats, "{name}");
    let back: Vec<F> = tensor.dequantize().unwrap();
    let again =
        reference::dequantize_tensor::<F>(&case.codes, scheme, &quantizer.blocks, &expected.params);
    assert!(
        bytemuck::cast_slice::<F, u8>(&back) == bytemuck::cast_slice::<F, u8>(&again),
        "a tensor's values of {name}"
    );
}

fn check_all(cases: &[Case]) {
    for case in cases {
        for &backend in Backend::available() {
            match case.float {
                FloatType::F32 => check::<f32>(case, backend),
                FloatType::F16 => check::<f16>(case, backend),
                FloatType::Bf16 => check::<bf16>(case, backend),
            }
        }
    }
}

#[test]
fn every_backend_equals_compressed_tensors() {
    check_all(&compressed_tensors::cases());
}

#[test]
fn every_backend_equals_coreai_opt() {
    check_all(&coreai::cases());
}
