//! Matrices whose columns have parameters of their own.

mod family;

use criterion::{Criterion, criterion_group, criterion_main};

fn columns(criterion: &mut Criterion) {
    family::measure(criterion, "columns");
}

criterion_group!(benches, columns);
criterion_main!(benches);
