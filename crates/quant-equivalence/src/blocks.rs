//! Blocks of consecutive values, and the parameters that are found for them.

use bytemuck::cast_slice;
use quant_core::{FloatType, ValueRange};
use quant_simd::Element;
use quant_testkit::hurtful;

use crate::buffer::Buffer;
use crate::case::{Case, by_float};
use crate::values::{self, Value};

const SIZES: [usize; 20] = [
    1, 2, 3, 7, 8, 16, 31, 32, 32, 32, 33, 48, 64, 64, 96, 100, 128, 128, 256, 1000,
];

fn block_size(case: &mut Case<'_>) -> usize {
    let size = SIZES[case.random.below(SIZES.len())];
    case.record.parameter("block size", size);
    size
}

/// Buffer for a zero point per block, where the scheme stores them.
fn zero_points(case: &mut Case<'_>, blocks: usize) -> Buffer {
    let stored = case.scheme.stores_zero_point();
    case.output::<u8>("zero points", if stored { blocks } else { 0 })
}

/// Blocks of values of which few have no parameters.
fn block_values<F: Value>(case: &mut Case<'_>, count: usize, size: usize) -> Vec<F> {
    let mut values: Vec<F> = Vec::new();
    while values.len() < count {
        let len = size.min(count - values.len());
        values.extend(values::block::<F>(&mut case.random, case.scheme, len));
    }
    if count > 0 && case.random.below(12) == 0 {
        let edges = hurtful::edges();
        values[case.random.below(count)] = edges[case.random.below(edges.len())];
    }
    values
}

pub fn quantize_blocks(case: &mut Case<'_>) {
    fn with_scales<F: Value, S: Element>(case: &mut Case<'_>) {
        // Kernels take many blocks at a time.
        let (size, count) = (block_size(case), case.len());
        let count = count * if case.random.below(4) == 0 { 4 } else { 1 };
        case.record.parameter("elements, after all", count);
        let values = block_values::<F>(case, count, size);
        let values = case.input("values", &values);
        let blocks = count.div_ceil(size);
        let mut codes = case.output::<u8>("codes", case.scheme.dtype.storage_len(count));
        let mut scales = case.output::<S>("scales", blocks);
        let mut zero_points = zero_points(case, blocks);
        let done = case.backend.quantize_blocks::<F, S>(
            values.get(),
            size,
            case.scheme,
            codes.get_mut(),
            scales.get_mut(),
            zero_points.get_mut(),
        );
        match done {
            Ok(()) => {
                case.record.bytes("codes", codes.get());
                case.record.bytes("scales", scales.get());
                case.record.bytes("zero points", zero_points.get());
            }
            Err(error) => case.record.failure(error.block, error.source),
        }
    }
    fn of<F: Value>(case: &mut Case<'_>) {
        match case.scheme.dialect.scale_type(F::TYPE) {
            FloatType::F32 => with_scales::<F, f32>(case),
            FloatType::F16 | FloatType::Bf16 => with_scales::<F, F>(case),
        }
    }
    by_float!(of(case));
}

pub fn dequantize_blocks(case: &mut Case<'_>) {
    fn with_scales<F: Value, S: Value>(case: &mut Case<'_>) {
        let (size, count) = (block_size(case), case.len());
        let blocks = count.div_ceil(size);
        let codes = case.stored_codes(count);
        let codes = case.input("codes", &codes);
        let pool = hurtful::scales(S::TYPE);
        let mut scales: Vec<S> = Vec::new();
        let mut zero_points: Vec<u8> = Vec::new();
        let legal = hurtful::zero_points(case.scheme);
        for _ in 0..blocks {
            let scale = match case.random.below(200) {
                // Not one that can be.
                0 => f32::from_bits(case.random.bits() as u32),
                1..100 => pool[case.random.below(7)],
                _ => pool[case.random.below(pool.len())],
            };
            scales.push(S::from_f32(scale));
            if case.scheme.stores_zero_point() {
                let zero_point = legal[case.random.below(legal.len())] as u8;
                let any = case.random.below(200) == 0;
                zero_points.push(if any {
                    case.random.bits() as u8
                } else {
                    zero_point
                });
            }
        }
        let scales = case.input("scales", &scales);
        let zero_points = case.input("zero points", &zero_points);
        let mut values = case.output::<F>("values", count);
        let done = case.backend.dequantize_blocks::<S, F>(
            codes.get(),
            size,
            case.scheme,
            scales.get(),
            zero_points.get(),
            values.get_mut(),
        );
        match done {
            Ok(()) => case.record.bytes("values", values.get()),
            Err(error) => case.record.failure(error.block, error.source),
        }
    }
    // Whatever the scheme says: any scales can be read.
    fn of<F: Value>(case: &mut Case<'_>) {
        let scale_type = case.scale_type();
        case.record.parameter("scales of type", scale_type.name());
        match scale_type {
            FloatType::F32 => with_scales::<F, f32>(case),
            FloatType::F16 => with_scales::<F, half::f16>(case),
            FloatType::Bf16 => with_scales::<F, half::bf16>(case),
        }
    }
    by_float!(of(case));
}

/// Scale and zero point of any range.
pub fn scheme_params(case: &mut Case<'_>) {
    fn of<F: Value>(case: &mut Case<'_>) {
        let bounds = match case.random.below(3) {
            0 => case.random.any::<F>(2),
            _ => values::block::<F>(&mut case.random, case.scheme, 2),
        };
        case.record.bytes("bounds", cast_slice(&bounds));
        let [a, b] = [0, 1].map(|i: usize| bounds[i].to_f32());
        let bits = |value: f32| value.to_bits();
        let (min, max) = if a < b { (a, b) } else { (b, a) };
        let non_finite = u64::from(!a.is_finite()) + u64::from(!b.is_finite());
        let range = ValueRange {
            min,
            max,
            non_finite,
        };
        match case.scheme.params(&range, F::TYPE) {
            Ok(params) => {
                let scale = bits(params.scale());
                case.record.bytes("scale", &scale.to_le_bytes());
                let zero_point = params.zero_point();
                case.record.bytes("zero point", &zero_point.to_le_bytes());
            }
            Err(error) => case.record.failure(0, error),
        }
    }
    by_float!(of(case));
}
