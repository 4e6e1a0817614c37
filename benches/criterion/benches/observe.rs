//! Observers: min-max, and histograms of 2048 bins.

mod family;

use criterion::{Criterion, criterion_group, criterion_main};

fn observe(criterion: &mut Criterion) {
    family::measure(criterion, "observe");
}

criterion_group!(benches, observe);
criterion_main!(benches);
