//! Blocks of ggml on every backend: what ggml computes, and what the reference computes.

use half::{bf16, f16};
use quant_core::{FloatType, GgmlType, TensorError, reference};
use quant_simd::{Backend, Element};
use quant_testkit::ggml::{self, Case};
use quant_testkit::hurtful::{self, Bits, Random};

fn equals_ggml<F: Element>(case: &Case) {
    let values: Vec<F> = case.input.iter().map(|&it| F::from_f32(it)).collect();
    for &backend in Backend::available() {
        let name = format!("{} {}, {backend}", case.float, case.block_type);
        let mut blocks = vec![0xaa; case.blocks.len()];
        backend
            .quantize_ggml(&values, case.block_type, &mut blocks)
            .unwrap();
        assert!(blocks == case.blocks, "blocks of {name}");
        if let Some(expected) = &case.values {
            let mut values = vec![0_f32; expected.len()];
            backend
                .dequantize_ggml(&blocks, case.block_type, &mut values)
                .unwrap();
            let (got, want): (&[u8], &[u8]) = (
                bytemuck::cast_slice(&values),
                bytemuck::cast_slice(expected),
            );
            assert!(got == want, "values of {name}");
        }
    }
}

#[test]
fn every_backend_equals_ggml() {
    for case in &ggml::cases() {
        match case.float {
            FloatType::F32 => equals_ggml::<f32>(case),
            FloatType::F16 => equals_ggml::<f16>(case),
            FloatType::Bf16 => equals_ggml::<bf16>(case),
        }
    }
}

/// Quantizes with the reference and on every backend, and back.
fn check<F: Element + Bits>(values: &[F], what: &str) {
    for block_type in GgmlType::ALL {
        let len = block_type.len(values.len()).unwrap();
        let mut want = vec![0xaa; len];
        let result = reference::quantize_ggml(values, block_type, &mut want);
        let mut want_values = vec![F::default(); values.len()];
        if result.is_ok() {
            reference::dequantize_ggml(&want, block_type, &mut want_values).unwrap();
        }
        for &backend in Backend::available() {
            let name = format!("{} {block_type} {backend}: {what}", F::TYPE);
            let mut got = vec![0x55; len];
            assert_eq!(
                backend.quantize_ggml(values, block_type, &mut got),
                result,
                "{name}"
            );
            if result.is_ok() {
                assert!(got == want, "{name}");
                let mut values = vec![F::default(); values.len()];
                backend
                    .dequantize_ggml(&got, block_type, &mut values)
                    .unwrap();
                let (got, want): (&[u8], &[u8]) = (
                    bytemuck::cast_slice(&values),
                    bytemuck::cast_slice(&want_values),
                );
                assert!(got == want, "values of {name}");
            }
        }
    }
}

/// Finite values of any bits below a bound, which is another one for each block; a fourth of the blocks
/// have one sign only.
fn draw<F: Bits>(random: &mut Random, blocks: usize) -> Vec<F> {
    let mut values = Vec::new();
    for _ in 0..blocks {
        let bound = F::from_bits(random.below(F::from_f32(60_000.0).bits() as usize) as u32);
        let negative = F::from_f32(-0.0).bits();
        let only = match random.below(8) {
            0 => Some(0),
            1 => Some(negative),
            _ => None,
        };
        for _ in 0..GgmlType::VALUES {
            let sign = random.below(2) as u32 * negative;
            let value = match random.below(4) {
                0 => F::from_bits(random.below(bound.bits() as usize + 1) as u32 | sign),
                1 => F::from_bits(bound.bits() | sign),
                _ => F::from_f32(random.unit() * bound.to_f32()),
            };
            let value = match random.below(40) {
                0 => F::from_bits(sign),
                _ => value,
            };
            values.push(match only {
                Some(sign) => F::from_bits(value.bits() & !negative | sign),
                None => value,
            });
        }
    }
    values
}

fn any_values_of<F: Element + Bits>() {
    let mut random = Random(5);
    let edges = hurtful::edges::<F>();
    for i in 0..quant_testkit::cases(400) {
        let blocks = random.below(40);
        let mut values = draw::<F>(&mut random, blocks);
        check(&values, "finite");
        if i % 4 == 0 && !values.is_empty() {
            let at = random.below(values.len());
            values[at] = edges[random.below(edges.len())];
            check(&values, "an edge value");
        }
    }
}

#[test]
fn any_values() {
    any_values_of::<f32>();
    any_values_of::<f16>();
    any_values_of::<bf16>();
}

/// Every half step and its neighbours, where each type rounds.
#[test]
fn ties() {
    for scale in [1.0_f32, 0.02, 1.0 / 3.0, 0.043_7, 7.3, 1e-5] {
        for largest in [127.0, 8.0, -8.0, 16.0, -16.0, 15.0, 31.0] {
            let mut values = Vec::new();
            for half_steps in -256..256 {
                let tie = half_steps as f32 / 2.0 * scale;
                values.extend((-3..=3).map(|count| tie.neighbour(count)));
            }
            values.retain(|value| value.abs() <= f32::abs(largest * scale));
            let mut blocks = Vec::new();
            for some in values.chunks(31) {
                blocks.push(largest * scale);
                blocks.extend(some.iter().copied());
            }
            blocks.resize(blocks.len().next_multiple_of(32), 0.0);
            check(&blocks, "ties");
        }
    }
}

#[test]
fn any_bits_as_blocks() {
    fn of<F: Element + Bits>() {
        let mut random = Random(9);
        for _ in 0..quant_testkit::cases(300) {
            for block_type in GgmlType::ALL {
                let count = random.below(40);
                let bytes = block_type.len(32 * count).unwrap();
                let mut blocks: Vec<u8> = (0..bytes).map(|_| random.bits() as u8).collect();
                // Floats of any bits are seldom all finite.
                if random.below(3) > 0 {
                    for block in blocks.chunks_exact_mut(block_type.block_size()) {
                        block[1] &= !0x40;
                        block[3] &= !0x40;
                    }
                }
                let mut want = vec![F::default(); 32 * count];
                let result = reference::dequantize_ggml(&blocks, block_type, &mut want);
                for &backend in Backend::available() {
                    let mut got = vec![F::default(); 32 * count];
                    let again = backend.dequantize_ggml(&blocks, block_type, &mut got);
                    assert_eq!(again, result, "{block_type} {backend}");
                    if result.is_ok() {
                        let (got, want): (&[u8], &[u8]) =
                            (bytemuck::cast_slice(&got), bytemuck::cast_slice(&want));
                        assert!(got == want, "{block_type} {backend}");
                    }
                }
            }
        }
    }
    of::<f32>();
    of::<f16>();
    of::<bf16>();
}

#[test]
fn an_error_names_the_first_block() {
    let values = |bad: &[usize]| {
        let mut values = vec![1.0_f32; 32 * 100];
        for &at in bad {
            values[at] = f32::NAN;
        }
        values
    };
    for &backend in Backend::available() {
        for (bad, block) in [(vec![32 * 99], 99), (vec![32 * 55 + 31, 32 * 57], 55)] {
            let mut blocks = vec![0; 34 * 100];
            let error = backend.quantize_ggml(&values(&bad), GgmlType::Q8_0, &mut blocks);
            assert!(
                matches!(error, Err(TensorError { block: it, .. }) if it == block),
                "{error:?}"
            );
        }
    }
}

#[test]
#[should_panic(expected = "a whole number of blocks")]
fn a_part_of_a_block_is_refused() {
    let _ = quant_simd::quantize_q8_0(&[0.0_f32; 33], &mut [0; 34]);
}

#[test]
#[should_panic(expected = "34 bytes of blocks instead of 68, for 64 values")]
fn blocks_must_have_room() {
    let _ = quant_simd::quantize_q8_0(&[0.0_f32; 64], &mut [0; 34]);
}
