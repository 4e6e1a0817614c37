//! Blocks of 32 and 128: their ranges, scales and codes, and back.

mod family;

use criterion::{Criterion, criterion_group, criterion_main};

fn blocks(criterion: &mut Criterion) {
    family::measure(criterion, "blocks");
}

criterion_group!(benches, blocks);
criterion_main!(benches);
