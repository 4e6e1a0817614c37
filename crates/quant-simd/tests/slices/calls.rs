//! The functions by the reference and by a backend, on the same buffers.

use bytemuck::{cast_slice, cast_slice_mut};
use quant_core::observer::{Histogram, MinMax};
use quant_core::{ErrorStats, Params, STATS_CHUNK, Scheme, TensorError, ValueRange, reference};
use quant_simd::{Backend, Columns};

use crate::case::{Case, Function as Fn, Returned, Value, elements, scale_type};

fn of_stats(stats: ErrorStats) -> Returned {
    let sums = [
        stats.signal,
        stats.noise,
        stats.absolute,
        stats.max_absolute,
    ];
    let [signal, noise, absolute, max_absolute] = sums.map(f64::to_bits);
    let counts = [stats.count, stats.non_finite, stats.saturated];
    let [count, non_finite, saturated] = counts;
    Returned::Stats([
        count,
        non_finite,
        saturated,
        signal,
        noise,
        absolute,
        max_absolute,
    ])
}

fn of_ranges(ranges: &[ValueRange]) -> Returned {
    let bits = |it: &ValueRange| (it.min.to_bits(), it.max.to_bits(), it.non_finite);
    Returned::Ranges(ranges.iter().map(bits).collect())
}

fn of_result(result: Result<(), TensorError>) -> Returned {
    match result {
        Ok(()) => Returned::Nothing,
        Err(error) => Returned::Error(error.block, error.source),
    }
}

/// Ranges that are merged into: some of them already hold something.
fn earlier_ranges(columns: usize) -> Vec<ValueRange> {
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
    (0..columns).map(earlier).collect()
}

fn histogram<F: Value>(bins: usize, observe: impl std::ops::Fn(&mut Histogram)) -> Returned {
    let mut histogram = Histogram::new(bins).expect("a power of two");
    observe(&mut histogram);
    histogram.observe(&[F::from_f32(1.0), F::from_f32(-1e4)]);
    observe(&mut histogram);
    Returned::Histogram(Box::new(histogram))
}

/// By a backend.
pub fn backend<F: Value>(
    backend: Backend,
    case: &Case<F>,
    from: &[&[u8]],
    to: &mut [&mut [u8]],
) -> Returned {
    let (scheme, values) = (case.scheme, || elements::<F>(from[0]));
    let params = || case.params[0];
    match case.function {
        Fn::ValueRange => of_ranges(&[backend.range(values())]),
        Fn::MinMax => Returned::MinMax(backend.min_max(values())),
        Fn::Histogram(bins) => histogram::<F>(bins, |histogram| {
            backend.observe_histogram(values(), histogram);
        }),
        Fn::Quantize => Returned::Count(backend.quantize(values(), scheme, params(), to[0])),
        Fn::QuantizeWithStats => {
            of_stats(backend.quantize_with_stats(values(), scheme, params(), to[0]))
        }
        Fn::Dequantize => {
            backend.dequantize::<F>(from[0], scheme, params(), cast_slice_mut(to[0]));
            Returned::Nothing
        }
        Fn::FakeQuantize => {
            let dequantized = cast_slice_mut(to[0]);
            Returned::Count(backend.fake_quantize(values(), scheme, params(), dequantized))
        }
        Fn::ErrorStats => of_stats(backend.error_stats(values(), cast_slice(from[1]))),
        Fn::Pack(offset) => {
            backend.pack(from[0], scheme.dtype, to[0], offset);
            Returned::Nothing
        }
        Fn::Unpack(offset) => {
            backend.unpack(from[0], offset, scheme.dtype, to[0]);
            Returned::Nothing
        }
        Fn::QuantizeBlocks(size) => {
            let (codes, rest) = to.split_at_mut(1);
            let (scales, rest) = rest.split_at_mut(1);
            let (codes, scales) = (&mut *codes[0], &mut *scales[0]);
            let zero_points = match rest {
                [zero_points] => &mut **zero_points,
                _ => &mut [],
            };
            of_result(match scale_type::<F>(scheme) == F::TYPE {
                true => {
                    let scales = cast_slice_mut::<u8, F>(scales);
                    backend.quantize_blocks(values(), size, scheme, codes, scales, zero_points)
                }
                false => {
                    let scales = cast_slice_mut::<u8, f32>(scales);
                    backend.quantize_blocks(values(), size, scheme, codes, scales, zero_points)
                }
            })
        }
        Fn::DequantizeBlocks(size) => {
            let zero_points = from.get(2).copied().unwrap_or(&[]);
            let (codes, values) = (from[0], cast_slice_mut::<u8, F>(to[0]));
            of_result(match scale_type::<F>(scheme) == F::TYPE {
                true => {
                    let scales = elements::<F>(from[1]);
                    backend.dequantize_blocks(codes, size, scheme, scales, zero_points, values)
                }
                false => {
                    let scales = elements::<f32>(from[1]);
                    backend.dequantize_blocks(codes, size, scheme, scales, zero_points, values)
                }
            })
        }
        Fn::ColumnRanges(columns) => {
            let mut ranges = earlier_ranges(columns);
            backend.column_ranges(values(), &mut ranges);
            of_ranges(&ranges)
        }
        Fn::QuantizeColumns(_) => {
            let columns = Columns::new(scheme, F::TYPE, case.params);
            Returned::Count(backend.quantize_columns(values(), &columns, to[0]))
        }
        Fn::DequantizeColumns(_) => {
            let columns = Columns::new(scheme, F::TYPE, case.params);
            backend.dequantize_columns::<F>(from[0], &columns, cast_slice_mut(to[0]));
            Returned::Nothing
        }
    }
}

/// By the reference, element by element where parameters change.
pub fn reference<F: Value>(case: &Case<F>, from: &[&[u8]], to: &mut [&mut [u8]]) -> Returned {
    let (scheme, n) = (case.scheme, case.len());
    let values = || elements::<F>(from[0]);
    let (mut bytes, mut dequantized) = (vec![0; n], vec![F::default(); n]);
    match case.function {
        Fn::ValueRange => of_ranges(&[reference::range(values())]),
        Fn::MinMax => Returned::MinMax(MinMax::from_values(values())),
        Fn::Histogram(bins) => histogram::<F>(bins, |histogram| histogram.observe(values())),
        Fn::Quantize => {
            let bad = reference::quantize(values(), scheme, case.params[0], &mut bytes);
            store(scheme, &bytes, to[0]);
            Returned::Count(bad)
        }
        Fn::QuantizeWithStats => {
            let params = case.params[0];
            reference::quantize(values(), scheme, params, &mut bytes);
            store(scheme, &bytes, to[0]);
            let mut dequantized = vec![0.0_f32; n];
            reference::dequantize(&bytes, scheme, params, &mut dequantized);
            let mut stats = error_stats(values(), &dequantized);
            stats.saturated = reference::saturated(values(), scheme, params);
            of_stats(stats)
        }
        Fn::Dequantize => {
            let bytes = load(scheme, from[0], n);
            reference::dequantize(&bytes, scheme, case.params[0], &mut dequantized);
            to[0].copy_from_slice(cast_slice(&dequantized));
            Returned::Nothing
        }
        Fn::FakeQuantize => {
            let bad = reference::quantize(values(), scheme, case.params[0], &mut bytes);
            reference::dequantize(&bytes, scheme, case.params[0], &mut dequantized);
            to[0].copy_from_slice(cast_slice(&dequantized));
            Returned::Count(bad)
        }
        Fn::ErrorStats => of_stats(error_stats(values(), cast_slice(from[1]))),
        Fn::Pack(offset) => {
            // Whole bytes of codes: those behind stay, too.
            let bits = scheme.dtype.bits() as usize;
            let mut before = to[0].to_vec();
            before.resize(before.len().next_multiple_of(bits), 0);
            let mut codes = vec![0; before.len() * 8 / bits];
            reference::unpack(&before, scheme.dtype, &mut codes);
            codes[offset..offset + n].copy_from_slice(from[0]);
            reference::pack(&codes, scheme.dtype, &mut before);
            to[0].copy_from_slice(&before[..to[0].len()]);
            Returned::Nothing
        }
        Fn::Unpack(offset) => {
            let mut nibbles = vec![0; offset + n];
            reference::unpack(from[0], scheme.dtype, &mut nibbles);
            to[0].copy_from_slice(&nibbles[offset..]);
            Returned::Nothing
        }
        Fn::QuantizeBlocks(size) => of_result(quantize_blocks(values(), size, scheme, to)),
        Fn::DequantizeBlocks(size) => {
            let bytes = load(scheme, from[0], n);
            let blocks = bytes.chunks(size).zip(dequantized.chunks_mut(size));
            for ((bytes, values), params) in blocks.zip(case.params) {
                reference::dequantize(bytes, scheme, *params, values);
            }
            to[0].copy_from_slice(cast_slice(&dequantized));
            Returned::Nothing
        }
        Fn::ColumnRanges(columns) => {
            let mut ranges = earlier_ranges(columns);
            for (i, value) in values().iter().enumerate() {
                let range = &mut ranges[i % columns];
                *range = range.merge(reference::range(&[*value]));
            }
            of_ranges(&ranges)
        }
        Fn::QuantizeColumns(columns) => {
            let mut bad = 0;
            for (i, byte) in bytes.iter_mut().enumerate() {
                let (value, params) = (&values()[i..=i], case.params[i % columns]);
                bad += reference::quantize(value, scheme, params, std::slice::from_mut(byte));
            }
            store(scheme, &bytes, to[0]);
            Returned::Count(bad)
        }
        Fn::DequantizeColumns(columns) => {
            let bytes = load(scheme, from[0], n);
            for (i, value) in dequantized.iter_mut().enumerate() {
                let (code, params) = (&bytes[i..=i], case.params[i % columns]);
                reference::dequantize(code, scheme, params, std::slice::from_mut(value));
            }
            to[0].copy_from_slice(cast_slice(&dequantized));
            Returned::Nothing
        }
    }
}

fn quantize_blocks<F: Value>(
    values: &[F],
    size: usize,
    scheme: Scheme,
    to: &mut [&mut [u8]],
) -> Result<(), TensorError> {
    let mut bytes = vec![0; values.len()];
    let mut all: Vec<Params> = Vec::new();
    for (values, bytes) in values.chunks(size).zip(bytes.chunks_mut(size)) {
        let params = scheme.params(&reference::range(values), F::TYPE);
        let params = params.map_err(|source| TensorError {
            block: all.len(),
            source,
        })?;
        reference::quantize(values, scheme, params, bytes);
        all.push(params);
    }
    store(scheme, &bytes, to[0]);
    let scales = all.iter().map(Params::scale);
    match scale_type::<F>(scheme) == F::TYPE {
        true => {
            let scales: Vec<F> = scales.map(F::from_f32).collect();
            to[1].copy_from_slice(cast_slice(&scales));
        }
        false => to[1].copy_from_slice(cast_slice(&scales.collect::<Vec<f32>>())),
    }
    if scheme.stores_zero_point() {
        for (byte, params) in to[2].iter_mut().zip(&all) {
            *byte = params.zero_point() as u8;
        }
    }
    Ok(())
}

fn error_stats<F: Value>(values: &[F], dequantized: &[f32]) -> ErrorStats {
    let chunks = values
        .chunks(STATS_CHUNK)
        .zip(dequantized.chunks(STATS_CHUNK));
    let stats = chunks.map(|(values, dequantized)| {
        let values = values.iter().map(|value| value.to_f32());
        ErrorStats::of_chunk(values.zip(dequantized.iter().copied()))
    });
    stats.fold(ErrorStats::default(), ErrorStats::then)
}

fn store(scheme: Scheme, bytes: &[u8], codes: &mut [u8]) {
    reference::pack(bytes, scheme.dtype, codes);
}

fn load(scheme: Scheme, codes: &[u8], count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    reference::unpack(codes, scheme.dtype, &mut bytes);
    bytes
}
