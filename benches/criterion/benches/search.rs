//! Blocks of 32 by the tensor driver, with plain scales and searched ones.

mod family;

use criterion::{Criterion, criterion_group, criterion_main};

fn search(criterion: &mut Criterion) {
    family::measure(criterion, "search");
}

criterion_group!(benches, search);
criterion_main!(benches);
