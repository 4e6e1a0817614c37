//! 4-bit codes to nibbles and back.

mod family;

use criterion::{Criterion, criterion_group, criterion_main};

fn pack(criterion: &mut Criterion) {
    family::measure(criterion, "pack");
}

criterion_group!(benches, pack);
criterion_main!(benches);
