//! What MLX computes on the CPU, bit for bit.

use half::{bf16, f16};
use quant_core::{Blocks, Dialect, Float, FloatType, Granularity, Mode, Scheme, reference};
use quant_testkit::mlx::{self, Case};

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
    let name = format!("{} {} {}", case.float, case.dtype, case.group);
    let scheme = Scheme::new(case.dtype, Mode::Affine).with_dialect(Dialect::Mlx);
    let groups = Granularity::PerBlock {
        axis: 0,
        block_axis: 1,
        block_size: case.group,
    };
    let blocks = Blocks::new(&case.shape, &groups).unwrap();
    let quantized = reference::quantize_tensor(&F::read(&case.input), scheme, &blocks).unwrap();
    let params = &quantized.params;
    let scales: Vec<F> = params.iter().map(|it| F::from_f32(it.scale())).collect();
    assert_eq!(F::write(&scales), case.scales, "scales of {name}");
    let biases = params.iter().map(|it| F::from_f32(it.bias().unwrap()));
    let biases: Vec<F> = biases.collect();
    assert_eq!(F::write(&biases), case.biases, "biases of {name}");
    let mut codes = vec![0; case.codes.len()];
    reference::pack(&quantized.codes, case.dtype, &mut codes);
    assert_eq!(codes, case.codes, "codes of {name}");
    if let Some(expected) = &case.values {
        let values = reference::dequantize_tensor(&quantized.codes, scheme, &blocks, params);
        assert_eq!(F::write(&values), *expected, "values of {name}");
    }
}

#[test]
fn equals_mlx() {
    let cases = mlx::cases();
    assert_eq!(cases.len(), 3 * 6 * 3);
    for case in &cases {
        match case.float {
            FloatType::F32 => check::<f32>(case),
            FloatType::F16 => check::<f16>(case),
            FloatType::Bf16 => check::<bf16>(case),
        }
    }
}
