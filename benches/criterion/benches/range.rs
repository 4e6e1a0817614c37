//! Ranges of f32 and f16.

mod family;

use criterion::{Criterion, criterion_group, criterion_main};

fn range(criterion: &mut Criterion) {
    family::measure(criterion, "range");
}

criterion_group!(benches, range);
criterion_main!(benches);
