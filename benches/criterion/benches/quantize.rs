//! Quantization with given parameters.

mod family;

use criterion::{Criterion, criterion_group, criterion_main};

fn quantize(criterion: &mut Criterion) {
    family::measure(criterion, "quantize");
}

criterion_group!(benches, quantize);
criterion_main!(benches);
