//! Quantization and back, and quantization with its error.

mod family;

use criterion::{Criterion, criterion_group, criterion_main};

fn fake_quantize(criterion: &mut Criterion) {
    family::measure(criterion, "fake_quantize");
}

criterion_group!(benches, fake_quantize);
criterion_main!(benches);
