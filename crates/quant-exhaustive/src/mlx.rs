//! MLX's blocks: the kernels' scales, biases and codes beside the reference's, for values at the middles
//! between codes and beside them.

use std::time::Instant;

use half::{bf16, f16};
use quant_core::{Dialect, IntType, Mode, Params, Scheme, ValueRange, reference};
use quant_simd::{Backend, Element};
use rayon::prelude::*;

use super::{Expect, Row, sum};

/// Values of a block.
const BLOCK: usize = 64;
/// Blocks that are quantized in one call.
const BLOCKS: usize = 96;

/// All bits, and types of values: blocks with every bound of 16 bits, and with significands of f32, one
/// of so many.
pub fn rows(reduced: bool) -> Vec<Row> {
    let every = if reduced { 4099 } else { 67 };
    let bits = [2, 3, 4, 5, 6, 8];
    let of = |bits: u32| {
        let scheme = Scheme::new(IntType::new(bits, false).expect("a type"), Mode::Affine);
        let scheme = scheme.with_dialect(Dialect::Mlx);
        let halves = if reduced { 31 } else { 1 };
        [
            row::<f16>(scheme, "f16", 1 << 16, halves, |i| {
                f16::from_bits(i as u16).to_f32()
            }),
            row::<bf16>(scheme, "bf16", 1 << 16, halves, |i| {
                bf16::from_bits(i as u16).to_f32()
            }),
            // Between 1/4 and 16, of either sign.
            row::<f32>(scheme, "f32", 3 << 24, every, |i| {
                let exponent = 125 + (i >> 24) * 2 + (i >> 22 & 1);
                f32::from_bits((i >> 23 & 1) << 31 | exponent << 23 | i & 0x7f_ffff)
            }),
        ]
    };
    bits.into_iter().flat_map(of).collect()
}

fn row<F: Element>(
    scheme: Scheme,
    name: &str,
    count: u32,
    every: u32,
    bound: impl Fn(u32) -> f32 + Sync,
) -> Row {
    let start = Instant::now();
    let bounds: Vec<u32> = (0..count).step_by(every as usize).collect();
    let usable = |i: &u32| {
        let bound = bound(*i);
        bound.is_finite() && bound.abs() < 3e4 && bound != 0.0
    };
    let bounds: Vec<u32> = bounds.into_iter().filter(usable).collect();
    let (differences, first) = bounds
        .par_chunks(BLOCKS)
        .map(|some| {
            let blocks = some.iter().map(|&i| block::<F>(scheme, bound(i), i));
            compare(scheme, &blocks.flatten().collect::<Vec<F>>())
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
        &format!("mlx {} of {name}: ties, scales, biases", scheme.dtype),
        Expect::Equal,
    )
}

/// A block with that bound, another one that is chosen by the number, and values in the middle between
/// codes and beside it.
fn block<F: Element>(scheme: Scheme, bound: f32, number: u32) -> [F; BLOCK] {
    let mixed = number.wrapping_mul(0x9e37_79b9) >> 8;
    let share = (mixed % 4099) as f32 / 2049.0 - 1.0;
    let other = F::from_f32(bound * share).to_f32();
    let range = ValueRange {
        min: bound.min(other),
        max: bound.max(other),
        non_finite: 0,
    };
    let mut values = [F::from_f32(bound); BLOCK];
    values[1] = F::from_f32(other);
    let Ok(params) = scheme.params(&range, F::TYPE) else {
        return values;
    };
    let (scale, bias) = (params.scale(), params.bias().unwrap_or(0.0));
    for (i, value) in values.iter_mut().enumerate().skip(2) {
        let code = (mixed as usize + i / 3 * 7) % (scheme.qmax() as usize + 1);
        let middle = bias + (code as f32 + 0.5) * scale;
        let beside = match i % 3 {
            0 => middle,
            1 => middle.next_up(),
            _ => middle.next_down(),
        };
        *value = F::from_f32(beside.clamp(range.min, range.max));
    }
    values
}

fn compare<F: Element>(scheme: Scheme, values: &[F]) -> (u64, Option<String>) {
    let blocks = values.len() / BLOCK;
    let dtype = scheme.dtype;
    let mut expected = (vec![0; values.len()], vec![F::zeroed(); blocks], Vec::new());
    for (block, values) in values.chunks(BLOCK).enumerate() {
        let found = scheme.params(&reference::range(values), F::TYPE);
        let params: Params = found.expect("bounds that have a scale");
        reference::quantize(
            values,
            scheme,
            params,
            &mut expected.0[block * BLOCK..][..BLOCK],
        );
        expected.1[block] = F::from_f32(params.scale());
        let mut bias = vec![0; size_of::<F>()];
        params.store_offset(scheme.offset(), &mut bias);
        expected.2.extend(bias);
    }
    let mut packed = vec![0; dtype.storage_len(values.len())];
    reference::pack(&expected.0, dtype, &mut packed);
    let mut found = (0, None);
    for &backend in Backend::available() {
        let mut codes = vec![0; packed.len()];
        let (mut scales, mut biases) = (vec![F::zeroed(); blocks], vec![0; expected.2.len()]);
        let done =
            backend.quantize_blocks(values, BLOCK, scheme, &mut codes, &mut scales, &mut biases);
        done.expect("blocks that have scales");
        let mut differ = 0;
        for block in 0..blocks {
            let bytes = dtype.storage_len(BLOCK);
            let of = |all: &[u8], size: usize| all[block * size..][..size].to_vec();
            let same = of(&codes, bytes) == of(&packed, bytes)
                && scales[block].to_f32().to_bits() == expected.1[block].to_f32().to_bits()
                && of(&biases, size_of::<F>()) == of(&expected.2, size_of::<F>());
            if !same {
                differ += 1;
                if found.1.is_none() {
                    let values = &values[block * BLOCK..][..2];
                    let bounds = (values[0].to_f32(), values[1].to_f32());
                    found.1 = Some(format!("{backend}, the block with {bounds:?}"));
                }
            }
        }
        found.0 += differ;
    }
    found
}
