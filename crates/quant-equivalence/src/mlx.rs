//! Blocks with a scale and a bias each.

use quant_core::{Blocks, Dialect, Granularity, IntType, Mode, Scheme, Search, reference};
use quant_simd::{Importance, TensorQuantizer};

use crate::case::{Case, by_float};
use crate::tensors;
use crate::values::{self, Value};

const SIZES: [usize; 8] = [32, 32, 64, 64, 128, 256, 31, 100];

/// Any number of bits, block size and number of values: whole batches of blocks and parts of some.
/// And the scheme that the case had, for whose values there is a maker.
fn choices(case: &mut Case<'_>) -> (Scheme, usize, usize) {
    const BITS: [u32; 6] = [2, 3, 4, 5, 6, 8];
    let before = case.scheme;
    let dtype = IntType::new(BITS[case.random.below(BITS.len())], false).expect("a type");
    case.scheme = Scheme::new(dtype, Mode::Affine).with_dialect(Dialect::Mlx);
    case.record.parameter("codes", dtype.name());
    let size = SIZES[case.random.below(SIZES.len())];
    case.record.parameter("block size", size);
    let blocks = case.random.below(80);
    let count = match case.random.below(3) {
        0 => blocks * size + case.random.below(size),
        _ => blocks * size,
    };
    case.record.parameter("elements", count);
    (before, size, count)
}

pub fn quantize(case: &mut Case<'_>) {
    fn of<F: Value>(case: &mut Case<'_>) {
        let (scheme, size, count) = choices(case);
        let mut values: Vec<F> = Vec::new();
        while values.len() < count {
            let len = size.min(count - values.len());
            let offset = [0.0, 0.0, 0.25, -3.0][case.random.below(4)];
            let block = values::block::<F>(&mut case.random, scheme, len);
            values.extend(block.iter().map(|it| F::from_f32(it.to_f32() + offset)));
        }
        if count > 0 && case.random.below(8) == 0 {
            let edges = quant_testkit::hurtful::edges();
            values[case.random.below(count)] = edges[case.random.below(edges.len())];
        }
        let values = case.input("values", &values);
        let blocks = count.div_ceil(size);
        let mut codes = case.output::<u8>("codes", case.scheme.dtype.storage_len(count));
        let mut scales = case.output::<F>("scales", blocks);
        let mut biases = case.output::<u8>("biases", blocks * size_of::<F>());
        let done = case.backend.quantize_blocks::<F, F>(
            values.get(),
            size,
            case.scheme,
            codes.get_mut(),
            scales.get_mut(),
            biases.get_mut(),
        );
        match done {
            Ok(()) => {
                case.record.bytes("codes", codes.get());
                case.record.bytes("scales", scales.get());
                case.record.bytes("biases", biases.get());
            }
            Err(error) => case.record.failure(error.block, error.source),
        }
    }
    by_float!(of(case));
}

/// Scales and biases that are searched, every second time by how much elements matter.
pub fn search(case: &mut Case<'_>) {
    fn of<F: Value>(case: &mut Case<'_>) {
        let (before, size, count) = choices(case);
        let count = count / size * size;
        let mut values: Vec<F> = Vec::new();
        while values.len() < count {
            let offset = [0.0, 0.0, 0.25, -3.0][case.random.below(4)];
            let block = values::block::<F>(&mut case.random, before, size);
            values.extend(block.iter().map(|it| F::from_f32(it.to_f32() + offset)));
        }
        let shape = [count / size, size];
        let granularity = Granularity::Blocks(vec![1, size]);
        let blocks = Blocks::new(&shape, &granularity).expect("whole blocks");
        let axis = case.random.below(4);
        let importance = shape.get(axis).map(|&len| {
            let weights: Vec<f64> = (0..len).map(|_| case.random.below(99) as f64).collect();
            Importance::new(&shape, axis, &weights)
        });
        let quantizer = TensorQuantizer {
            backend: case.backend,
            scheme: case.scheme,
            source: F::TYPE,
            blocks,
            search: Search::Mse,
            importance,
        };
        tensors::record_values(case, &quantizer, bytemuck::cast_slice(&values));
    }
    by_float!(of(case));
}

pub fn dequantize(case: &mut Case<'_>) {
    fn of<F: Value>(case: &mut Case<'_>) {
        let (_, size, count) = choices(case);
        let blocks = count.div_ceil(size);
        let mut bytes = vec![0; count];
        for byte in &mut bytes {
            *byte = case.random.bits() as u8 & case.scheme.dtype.max_value() as u8;
        }
        let mut codes = vec![0; case.scheme.dtype.storage_len(count)];
        reference::pack(&bytes, case.scheme.dtype, &mut codes);
        let float = |case: &mut Case<'_>| match case.random.below(400) {
            0 => F::from_f32(f32::INFINITY),
            n => F::from_f32((n as f32 - 200.0) * 0.003_7),
        };
        let scales: Vec<F> = (0..blocks).map(|_| float(case)).collect();
        let biases: Vec<F> = (0..blocks).map(|_| float(case)).collect();
        let codes = case.input("codes", &codes);
        let scales = case.input("scales", &scales);
        let biases = case.input::<u8>("biases", bytemuck::cast_slice(&biases));
        let mut values = case.output::<F>("values", count);
        let done = case.backend.dequantize_blocks::<F, F>(
            codes.get(),
            size,
            case.scheme,
            scales.get(),
            biases.get(),
            values.get_mut(),
        );
        match done {
            Ok(()) => case.record.bytes("values", values.get()),
            Err(error) => case.record.failure(error.block, error.source),
        }
    }
    by_float!(of(case));
}
