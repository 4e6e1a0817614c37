//! Searched scales: the kernels' scales and codes beside the reference's, for blocks of every bound.

use std::time::Instant;

use half::f16;
use quant_core::{Blocks, Dialect, Granularity, IntType, Mode, Scheme, Search, reference};
use quant_simd::{Backend, Element, TensorQuantizer};
use rayon::prelude::*;

use super::{Expect, Row, sum};

/// Values of a block, and blocks of a batch.
const BLOCK: usize = 32;

/// Blocks whose bounds are f16, all or one of so many, and f32 between 1 and 2.
pub fn rows(reduced: bool) -> Vec<Row> {
    let mlx = Scheme::new(IntType::Uint4, Mode::Affine).with_dialect(Dialect::Mlx);
    let schemes = Mode::ALL
        .iter()
        .map(|&mode| Scheme::new(IntType::Int4, mode));
    let of = |scheme: Scheme| {
        let halves = if reduced { 61 } else { 1 };
        let every = if reduced { 65_537 } else { 1021 };
        let end = match scheme.mode {
            Mode::Symmetric => 0x7800,
            Mode::Affine => 0x6c00,
        };
        [
            // All that are ordinary numbers whose scale is one, and whose products with codes are.
            row::<f16>(scheme, "f16", 0x2000..end, halves, |bits| {
                f16::from_bits(bits as u16).to_f32()
            }),
            row::<f32>(scheme, "f32", 0..1 << 23, every, |bits| {
                f32::from_bits(127 << 23 | bits)
            }),
        ]
    };
    schemes.chain([mlx]).flat_map(of).collect()
}

fn row<F: Element>(
    scheme: Scheme,
    name: &str,
    bounds: std::ops::Range<u32>,
    every: usize,
    bound: impl Fn(u32) -> f32 + Sync,
) -> Row {
    let start = Instant::now();
    let bounds: Vec<u32> = bounds.step_by(every).collect();
    let (differences, first) = bounds
        .par_chunks(BLOCK)
        .map(|some| {
            let blocks = some.iter().flat_map(|&bits| block::<F>(bound(bits), bits));
            compare(scheme, &blocks.collect::<Vec<F>>())
        })
        .reduce(|| (0, None), sum);
    Row {
        scales: bounds.len() as u64,
        inputs: (bounds.len() * BLOCK) as u64,
        differences,
        first,
        seconds: start.elapsed().as_secs_f64(),
        ..Row::default()
    }
    .named(
        &match scheme.dialect {
            Dialect::Mlx => format!("searched MLX's {} of {name}", scheme.dtype),
            Dialect::Coremltools
            | Dialect::F32
            | Dialect::Torch
            | Dialect::CoremltoolsActivations
            | Dialect::CompressedTensors
            | Dialect::Coreai
            | Dialect::CoreaiTorch => {
                format!("searched {} {} of {name}", scheme.dtype, scheme.mode)
            }
        },
        Expect::Equal,
    )
}

/// A block with that bound, at either end, and smaller values.
fn block<F: Element>(bound: f32, number: u32) -> [F; BLOCK] {
    std::array::from_fn(|i| {
        let mixed = (number ^ (i as u32) << 20).wrapping_mul(0x9e37_79b9) >> 8;
        let share = (mixed % 4099) as f32 / 2049.0 - 1.0;
        F::from_f32(match i {
            7 if number.is_multiple_of(2) => bound,
            7 => -bound,
            _ => bound * share * share * share,
        })
    })
}

/// Blocks that differ in their codes or scales, on any backend, and the first of them.
fn compare<F: Element>(scheme: Scheme, values: &[F]) -> (u64, Option<String>) {
    let shape = [values.len() / BLOCK, BLOCK];
    let granularity = Granularity::Blocks(vec![1, BLOCK]);
    let blocks = Blocks::new(&shape, &granularity).expect("whole blocks");
    let found = reference::quantize_tensor_searched(values, scheme, &blocks, None);
    let found = found.expect("ordinary blocks");
    let mut codes = vec![0; scheme.dtype.storage_len(values.len())];
    reference::pack(&found.codes, scheme.dtype, &mut codes);
    // Zero points, or biases.
    let (kind, mut offsets) = (scheme.offset(), Vec::new());
    let size = kind.size(scheme.dialect.scale_type(F::TYPE));
    for params in &found.params {
        offsets.resize(offsets.len() + size, 0);
        let end = offsets.len();
        params.store_offset(kind, &mut offsets[end - size..]);
    }
    let (mut differences, mut first) = (0, None);
    for &backend in Backend::available() {
        let quantizer = TensorQuantizer {
            backend,
            scheme,
            source: F::TYPE,
            blocks: blocks.clone(),
            search: Search::Mse,
            importance: None,
        };
        let got = match quantizer.quantize_to_vec(values) {
            Ok(got) => got,
            Err(error) => return (1, Some(format!("{}: {error}", backend.name()))),
        };
        let scales = got.scales_f32();
        let got_offsets = &got.zero_points;
        let pairs = got.codes.chunks(BLOCK / 2).zip(codes.chunks(BLOCK / 2));
        let params = found.params.iter().map(|params| params.scale());
        for (block, ((got, codes), (scale, expected))) in
            pairs.zip(scales.iter().zip(params)).enumerate()
        {
            let offset = block * size..(block + 1) * size;
            if got != codes
                || scale.to_bits() != expected.to_bits()
                || got_offsets[offset.clone()] != offsets[offset]
            {
                differences += 1;
                let bound = values[block * BLOCK + 7].to_f32();
                first.get_or_insert(format!("{}: bound {bound:e}", backend.name()));
            }
        }
    }
    (differences, first)
}
