//! Any shape and granularity: runs, groups and scales say the same; a tensor of that geometry is
//! quantized as the reference does.
#![no_main]

use arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use quant_core::{Arrangement, Blocks, Float, FloatType, reference};
use quant_fuzz::Memory;
use quant_simd::{Backend, TensorQuantizer};

fuzz_target!(|bytes: &[u8]| {
    // What is too short says nothing.
    let _ = check(&mut Unstructured::new(bytes));
});

fn check(u: &mut Unstructured<'_>) -> Result<()> {
    let rank = u.int_in_range(0..=5)?;
    let shape: Vec<usize> = (0..rank)
        .map(|_| quant_fuzz::size(u))
        .collect::<Result<_>>()?;
    let Ok(blocks) = Blocks::new(&shape, &quant_fuzz::granularity(u)?) else {
        return Ok(());
    };
    let count = blocks.element_count();
    let scales = blocks.scale_shape();
    if count > 50_000 {
        return Ok(());
    }
    assert_eq!(
        blocks.scale_count(),
        if count == 0 {
            0
        } else {
            scales.iter().product()
        }
    );
    let mut next = 0;
    for run in blocks.runs(0..count) {
        assert_eq!(run.elements.start, next);
        next = run.elements.end;
        for element in [run.elements.start, run.elements.end - 1] {
            assert_eq!(blocks.scale_of(element), run.scale);
            if blocks.arrangement() != Arrangement::Scattered {
                assert!(blocks.group_of(element).contains(&element));
            }
        }
    }
    assert_eq!(next, count);
    match *u.choose(&FloatType::ALL)? {
        FloatType::F32 => tensor::<f32>(u, blocks),
        FloatType::F16 => tensor::<half::f16>(u, blocks),
        FloatType::Bf16 => tensor::<half::bf16>(u, blocks),
    }
}

fn tensor<F: Float + bytemuck::Pod>(u: &mut Unstructured<'_>, blocks: Blocks) -> Result<()> {
    let scheme = quant_fuzz::scheme(u)?;
    let few = quant_fuzz::values::<F>(u, 50, 0.25)?;
    let values: Vec<F> = few
        .into_iter()
        .cycle()
        .take(blocks.element_count())
        .collect();
    let want = reference::quantize_tensor(&values, scheme, &blocks);
    for &backend in Backend::available() {
        let quantizer = TensorQuantizer {
            backend,
            scheme,
            source: F::TYPE,
            blocks: blocks.clone(),
            search: quant_core::Search::None,
            importance: None,
        };
        let (codes, scales) = (quantizer.codes_len(), quantizer.scales_len());
        let memory = Memory::new(codes, scales, quantizer.zero_points_len());
        let got = quantizer.quantize(bytemuck::cast_slice(&values), &memory);
        let (Ok(want), Ok(stats)) = (&want, &got) else {
            assert!(want.is_err() && got.is_err(), "{got:?} {quantizer:?}");
            continue;
        };
        assert_eq!(*stats, want.stats, "{quantizer:?}");
        let mut stored = want.codes.clone();
        stored.truncate(codes);
        reference::pack(&want.codes, scheme.dtype, &mut stored);
        assert_eq!(memory.codes.into_inner().unwrap(), stored, "{quantizer:?}");
    }
    Ok(())
}
