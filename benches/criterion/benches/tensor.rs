//! Whole tensors through the driver, beside a copy of the same bytes.

use std::convert::Infallible;
use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use quant_core::{Blocks, FloatType, Granularity, IntType, Mode, Scheme, Search};
use quant_simd::{Backend, Sink, TensorQuantizer};

const ROWS: usize = 1024;

/// Looks at what it is given, and keeps nothing.
struct Discard;

impl Sink for Discard {
    type Error = Infallible;
    fn codes(&self, _: usize, bytes: &[u8]) -> Result<(), Infallible> {
        black_box(bytes);
        Ok(())
    }
    fn scales(&self, _: usize, bytes: &[u8]) -> Result<(), Infallible> {
        black_box(bytes);
        Ok(())
    }
    fn zero_points(&self, _: usize, bytes: &[u8]) -> Result<(), Infallible> {
        black_box(bytes);
        Ok(())
    }
}

type Case = (&'static str, IntType, Granularity, Search);

fn cases() -> [Case; 6] {
    let per_block = Granularity::PerBlock {
        axis: 0,
        block_axis: 1,
        block_size: 32,
    };
    let rows = Granularity::PerChannel { axis: 0 };
    let columns = Granularity::PerChannel { axis: 1 };
    let (int8, int4) = (IntType::Int8, IntType::Int4);
    let (plain, searched) = (Search::None, Search::Mse);
    [
        ("int8 per-tensor", int8, Granularity::PerTensor, plain),
        ("int8 per-channel", int8, rows.clone(), plain),
        ("int8 per-channel, columns", int8, columns, plain),
        ("int4 per-block 32", int4, per_block.clone(), plain),
        ("int4 per-channel, searched", int4, rows, searched),
        ("int4 per-block 32, searched", int4, per_block, searched),
    ]
}

fn tensor(criterion: &mut Criterion) {
    let n = ROWS * ROWS;
    let values: Vec<u8> = (0..n)
        .flat_map(|i| ((i * 7919 % 1009) as f32 / 500.0 - 1.0).to_le_bytes())
        .collect();
    let mut group = criterion.benchmark_group("quantize f32, 1 Mi elements");
    group.throughput(Throughput::Elements(n as u64));
    let mut copy = vec![0; values.len()];
    group.bench_function("memcpy", |b| {
        b.iter(|| black_box(&mut copy).copy_from_slice(black_box(&values)));
    });
    for (name, dtype, granularity, search) in cases() {
        for &backend in Backend::available() {
            let quantizer = TensorQuantizer {
                backend,
                scheme: Scheme::new(dtype, Mode::Symmetric),
                source: FloatType::F32,
                blocks: Blocks::new(&[ROWS, ROWS], &granularity).unwrap(),
                search,
                importance: None,
            };
            group.bench_function(format!("{name}, {}", backend.name()), |b| {
                b.iter(|| quantizer.quantize(black_box(&values), &Discard));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, tensor);
criterion_main!(benches);
