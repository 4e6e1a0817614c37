//! Functions with one scale and zero point, or none.

use quant_core::{IntType, Params, reference};
use quant_testkit::hurtful::Bits;

use crate::buffer::Buffer;
use crate::case::{Case, by_float};
use crate::values::{Value, Values};

/// Values for the parameters, which come first.
fn values<F: Value>(case: &mut Case<'_>, params: Params) -> (usize, Buffer) {
    let count = case.len();
    let (kind, values) = Values::<F>::new(case.scheme, params).draw(&mut case.random, count);
    case.record.parameter("kind of values", kind);
    (count, case.input("values", &values))
}

pub fn range(case: &mut Case<'_>) {
    fn of<F: Value>(case: &mut Case<'_>) {
        let scale_type = case.scale_type();
        let params = case.params(scale_type);
        let (_, values) = values::<F>(case, params);
        case.record.range(&case.backend.range::<F>(values.get()));
    }
    by_float!(of(case));
}

pub fn quantize(case: &mut Case<'_>) {
    fn of<F: Value>(case: &mut Case<'_>) {
        let scale_type = case.scale_type();
        let params = case.params(scale_type);
        let (count, values) = values::<F>(case, params);
        let mut codes = case.output::<u8>("codes", case.scheme.dtype.storage_len(count));
        let backend = case.backend;
        let bad = backend.quantize::<F>(values.get(), case.scheme, params, codes.get_mut());
        case.record.bytes("codes", codes.get());
        case.record.count("non-finite", bad);
    }
    by_float!(of(case));
}

pub fn quantize_with_stats(case: &mut Case<'_>) {
    fn of<F: Value>(case: &mut Case<'_>) {
        // A few are cut into chunks.
        let scale_type = case.scale_type();
        let params = case.params(scale_type);
        let (count, values) = match case.round {
            289 => long_values::<F>(case, params),
            _ => values::<F>(case, params),
        };
        let mut codes = case.output::<u8>("codes", case.scheme.dtype.storage_len(count));
        let (backend, to) = (case.backend, codes.get_mut());
        let stats = backend.quantize_with_stats::<F>(values.get(), case.scheme, params, to);
        case.record.bytes("codes", codes.get());
        case.record.stats(&stats);
    }
    by_float!(of(case));
}

/// More than [`quant_core::STATS_CHUNK`].
fn long_values<F: Value>(case: &mut Case<'_>, params: Params) -> (usize, Buffer) {
    let count = quant_core::STATS_CHUNK + 1 + case.random.below(700);
    let (_, few) = Values::<F>::new(case.scheme, params).draw(&mut case.random, 1009);
    let values: Vec<F> = few.into_iter().cycle().take(count).collect();
    case.record.parameter("elements", count);
    (count, case.input("values", &values))
}

pub fn dequantize(case: &mut Case<'_>) {
    fn of<F: Value>(case: &mut Case<'_>) {
        let scale_type = case.scale_type();
        let params = case.params(scale_type);
        let count = case.len();
        let codes = case.stored_codes(count);
        let codes = case.input("codes", &codes);
        let mut values = case.output::<F>("values", count);
        let backend = case.backend;
        backend.dequantize::<F>(codes.get(), case.scheme, params, values.get_mut());
        case.record.bytes("values", values.get());
    }
    by_float!(of(case));
}

pub fn fake_quantize(case: &mut Case<'_>) {
    fn of<F: Value>(case: &mut Case<'_>) {
        let scale_type = case.scale_type();
        let params = case.params(scale_type);
        let (count, values) = values::<F>(case, params);
        let mut dequantized = case.output::<F>("became", count);
        let backend = case.backend;
        let bad =
            backend.fake_quantize::<F>(values.get(), case.scheme, params, dequantized.get_mut());
        case.record.bytes("became", dequantized.get());
        case.record.count("non-finite", bad);
    }
    by_float!(of(case));
}

pub fn error_stats(case: &mut Case<'_>) {
    fn of<F: Value>(case: &mut Case<'_>) {
        let scale_type = case.scale_type();
        let params = case.params(scale_type);
        let (_, values) = match case.round {
            149 if case.scheme.dtype == IntType::Int8 => long_values::<F>(case, params),
            _ => values::<F>(case, params),
        };
        // Errors of all magnitudes, none at all, and what is finite on one side only.
        let random = &mut case.random;
        let dequantized = values.get::<F>().iter().map(|value| {
            let value = value.to_f32();
            match random.below(8) {
                0 => value,
                1 => f32::from_bits(random.bits() as u32),
                _ => value.neighbour(1 << random.below(24)),
            }
        });
        let dequantized: Vec<f32> = dequantized.collect();
        let dequantized = case.input("became", &dequantized);
        let stats = case
            .backend
            .error_stats::<F>(values.get(), dequantized.get());
        case.record.stats(&stats);
    }
    by_float!(of(case));
}

pub fn pack(case: &mut Case<'_>) {
    let count = case.len();
    let start = case.random.below(9);
    case.record.parameter("first nibble", start);
    let codes = case.codes(IntType::Uint4, count);
    let codes = case.input("codes", &codes);
    let mut packed = case.output::<u8>("packed", (start + count).div_ceil(2));
    case.backend
        .pack(codes.get(), IntType::Uint4, packed.get_mut(), start);
    case.record.bytes("packed", packed.get());
}

pub fn unpack(case: &mut Case<'_>) {
    let count = case.len();
    let start = case.random.below(9);
    let dtype = [IntType::Int4, IntType::Uint4][case.random.below(2)];
    case.record.parameter("first nibble", start);
    case.record.parameter("to", dtype.name());
    let packed = case.codes(IntType::Uint8, (start + count).div_ceil(2));
    let packed = case.input("packed", &packed);
    let mut codes = case.output::<u8>("codes", count);
    case.backend
        .unpack(packed.get(), start, dtype, codes.get_mut());
    case.record.bytes("codes", codes.get());
}

/// On the fastest backend, whichever the others are called with.
pub fn widen(case: &mut Case<'_>) {
    fn of<F: Value>(case: &mut Case<'_>) {
        let count = case.len();
        let values = case.random.any::<F>(count);
        let bytes: Vec<u8> = bytemuck::cast_slice(&values).to_vec();
        let values = case.input("values", &bytes);
        let wide = quant_simd::widen(values.get(), F::TYPE);
        case.record.bytes("wide", bytemuck::cast_slice(&wide));
    }
    by_float!(of(case));
}

/// The reference is compiled for every target, too.
pub fn reference_quantize(case: &mut Case<'_>) {
    fn of<F: Value>(case: &mut Case<'_>) {
        let scale_type = case.scale_type();
        let params = case.params(scale_type);
        let (count, values) = values::<F>(case, params);
        let mut codes = vec![0; count];
        let bad = reference::quantize::<F>(values.get(), case.scheme, params, &mut codes);
        case.record.bytes("codes", &codes);
        case.record.count("non-finite", bad);
        let saturated = reference::saturated::<F>(values.get(), case.scheme, params);
        case.record.count("saturated", saturated);
        let mut dequantized = vec![F::default(); count];
        reference::dequantize(&codes, case.scheme, params, &mut dequantized);
        case.record
            .bytes("became", bytemuck::cast_slice(&dequantized));
    }
    by_float!(of(case));
}
