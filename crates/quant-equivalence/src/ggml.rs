//! Blocks of ggml.

use quant_core::{GgmlType, reference};
use quant_testkit::hurtful;

use crate::case::{Case, by_float};
use crate::values::{self, Value};

/// How many blocks, and of which type: every number up to a few times what kernels take at a time.
fn blocks(case: &mut Case<'_>) -> (usize, GgmlType) {
    let count = match case.round {
        round @ 0..70 => round,
        _ => case.random.below(50),
    };
    let block_type = GgmlType::ALL[case.random.below(GgmlType::ALL.len())];
    case.record.parameter("blocks", count);
    case.record.parameter("block type", block_type);
    (count, block_type)
}

/// Blocks of values of which few have scales that f16 cannot hold.
fn block_values<F: Value>(case: &mut Case<'_>, count: usize) -> Vec<F> {
    let mut all: Vec<F> = Vec::new();
    for _ in 0..count {
        let mut block = values::block::<F>(&mut case.random, case.scheme, GgmlType::VALUES);
        let is_usable = |value: &F| value.to_f32().abs() < 60_000.0;
        if !block.iter().all(is_usable) && case.random.below(20) > 0 {
            block.fill(F::from_f32(-0.75));
        }
        all.extend(block);
    }
    if count > 0 && case.random.below(12) == 0 {
        let (edges, at) = (hurtful::edges(), case.random.below(all.len()));
        all[at] = edges[case.random.below(edges.len())];
    }
    all
}

pub fn quantize_ggml(case: &mut Case<'_>) {
    fn of<F: Value>(case: &mut Case<'_>) {
        let (count, block_type) = blocks(case);
        let values = block_values::<F>(case, count);
        let values = case.input("values", &values);
        let mut blocks = case.output::<u8>("blocks", count * block_type.block_size());
        let backend = case.backend;
        match backend.quantize_ggml::<F>(values.get(), block_type, blocks.get_mut()) {
            Ok(()) => case.record.bytes("blocks", blocks.get()),
            Err(error) => case.record.failure(error.block, error.source),
        }
        // The reference is compiled for every target, too.
        let mut again = vec![0; count * block_type.block_size()];
        match reference::quantize_ggml::<F>(values.get(), block_type, &mut again) {
            Ok(()) => case.record.bytes("the reference's blocks", &again),
            Err(error) => case.record.failure(error.block, error.source),
        }
    }
    by_float!(of(case));
}

pub fn dequantize_ggml(case: &mut Case<'_>) {
    fn of<F: Value>(case: &mut Case<'_>) {
        let (count, block_type) = blocks(case);
        let mut blocks: Vec<u8> = Vec::new();
        for _ in 0..count {
            let start = blocks.len();
            let bytes = (0..block_type.block_size()).map(|_| case.random.bits() as u8);
            blocks.extend(bytes);
            // Few scales and minima are infinite.
            if case.random.below(300) > 0 {
                blocks[start + 1] &= !0x40;
                blocks[start + 3] &= !0x40;
            }
        }
        let blocks = case.input("blocks", &blocks);
        let mut values = case.output::<F>("values", count * GgmlType::VALUES);
        let backend = case.backend;
        match backend.dequantize_ggml::<F>(blocks.get(), block_type, values.get_mut()) {
            Ok(()) => case.record.bytes("values", values.get()),
            Err(error) => case.record.failure(error.block, error.source),
        }
    }
    by_float!(of(case));
}
