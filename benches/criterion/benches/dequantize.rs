//! Dequantization with given parameters.

mod family;

use criterion::{Criterion, criterion_group, criterion_main};

fn dequantize(criterion: &mut Criterion) {
    family::measure(criterion, "dequantize");
}

criterion_group!(benches, dequantize);
criterion_main!(benches);
