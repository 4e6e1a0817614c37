//! Matrices whose columns have scales of their own.

use quant_core::{Params, ValueRange};
use quant_simd::Columns;

use crate::case::{Case, by_float};
use crate::values::{Value, Values};

/// Columns, and elements in whole rows of them.
fn matrix(case: &mut Case<'_>) -> (usize, usize) {
    let columns = match case.random.below(4) {
        0 => [63, 64, 65, 100, 127, 128, 129, 256, 511, 513][case.random.below(10)],
        _ => 1 + case.random.below(40),
    };
    let count = case.len() / columns * columns;
    // At least a row.
    let count = count.max(columns);
    case.record.parameter("columns", columns);
    (columns, count)
}

fn params(case: &mut Case<'_>, columns: usize) -> Vec<Params> {
    let scale_type = case.scale_type();
    (0..columns).map(|_| case.params(scale_type)).collect()
}

pub fn column_ranges(case: &mut Case<'_>) {
    fn of<F: Value>(case: &mut Case<'_>) {
        let (columns, count) = matrix(case);
        let params = case.params(F::TYPE);
        let values = Values::<F>::new(case.scheme, params);
        let (_, values) = values.draw(&mut case.random, count);
        let values = case.input("values", &values);
        // Ranges that are merged into: some of them already hold something.
        let earlier = |column| match column % 3 {
            0 => ValueRange::EMPTY,
            1 => ValueRange {
                min: -0.25,
                max: 0.5,
                non_finite: 3,
            },
            _ => ValueRange {
                min: 0.0,
                max: 0.0,
                non_finite: 0,
            },
        };
        let mut ranges: Vec<ValueRange> = (0..columns).map(earlier).collect();
        case.backend.column_ranges::<F>(values.get(), &mut ranges);
        for range in &ranges {
            case.record.range(range);
        }
    }
    by_float!(of(case));
}

pub fn quantize_columns(case: &mut Case<'_>) {
    fn of<F: Value>(case: &mut Case<'_>) {
        let (columns, count) = matrix(case);
        let params = params(case, columns);
        let first = case.random.below(columns);
        let values = Values::<F>::new(case.scheme, params[first]);
        let (_, values) = values.draw(&mut case.random, count);
        let values = case.input("values", &values);
        let mut codes = case.output::<u8>("codes", case.scheme.dtype.storage_len(count));
        let columns = Columns::new(case.scheme, F::TYPE, &params);
        let backend = case.backend;
        let bad = backend.quantize_columns::<F>(values.get(), &columns, codes.get_mut());
        case.record.bytes("codes", codes.get());
        case.record.count("non-finite", bad);
    }
    by_float!(of(case));
}

pub fn dequantize_columns(case: &mut Case<'_>) {
    fn of<F: Value>(case: &mut Case<'_>) {
        let (columns, count) = matrix(case);
        let params = params(case, columns);
        let codes = case.stored_codes(count);
        let codes = case.input("codes", &codes);
        let mut values = case.output::<F>("values", count);
        let columns = Columns::new(case.scheme, F::TYPE, &params);
        let backend = case.backend;
        backend.dequantize_columns::<F>(codes.get(), &columns, values.get_mut());
        case.record.bytes("values", values.get());
    }
    by_float!(of(case));
}
