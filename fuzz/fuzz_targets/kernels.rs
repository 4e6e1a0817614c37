//! Functions on slices, with any parameters, against the reference.
#![no_main]

use arbitrary::{Result, Unstructured};
use bytemuck::{Pod, cast_slice};
use libfuzzer_sys::fuzz_target;
use quant_core::{FloatType, Params, Scheme, reference};
use quant_simd::{Backend, Columns, Element};

fuzz_target!(|bytes: &[u8]| {
    // What is too short says nothing.
    let _ = check(&mut Unstructured::new(bytes));
});

fn check(u: &mut Unstructured<'_>) -> Result<()> {
    match *u.choose(&FloatType::ALL)? {
        FloatType::F32 => with_floats::<f32>(u),
        FloatType::F16 => with_floats::<half::f16>(u),
        FloatType::Bf16 => with_floats::<half::bf16>(u),
    }
}

fn stored(scheme: Scheme, codes: &[u8]) -> Vec<u8> {
    let mut stored = vec![0; scheme.dtype.storage_len(codes.len())];
    reference::pack(codes, scheme.dtype, &mut stored);
    stored
}

fn bits<F: Pod>(values: &[F]) -> &[u8] {
    cast_slice(values)
}

fn with_floats<F: Element>(u: &mut Unstructured<'_>) -> Result<()> {
    let scheme = quant_fuzz::scheme(u)?;
    let scale_type = *u.choose(&FloatType::ALL)?;
    let columns = u.int_in_range(1..=70)?;
    let some: u8 = u.int_in_range(1..=4)?;
    let some = (0..some).map(|_| quant_fuzz::params(u, scheme, scale_type));
    let some = some.collect::<Result<Vec<Params>>>()?;
    let (params, rows) = (some[0], u.int_in_range(0..=5)?);
    let count = columns * rows;
    let few = quant_fuzz::values::<F>(u, 40, params.scale())?;
    let values: Vec<F> = few.into_iter().cycle().take(count).collect();
    let of_columns: Vec<Params> = some.iter().copied().cycle().take(columns).collect();

    let mut codes = vec![0; count];
    let bad = reference::quantize(&values, scheme, params, &mut codes);
    let mut dequantized = vec![F::default(); count];
    reference::dequantize(&codes, scheme, params, &mut dequantized);
    by_columns(scheme, &values, &of_columns, bad);
    for &backend in Backend::available() {
        let name = backend.name();
        let mut got = vec![0xcd; scheme.dtype.storage_len(count)];
        assert_eq!(
            backend.quantize(&values, scheme, params, &mut got),
            bad,
            "{name}"
        );
        assert_eq!(got, stored(scheme, &codes), "{name} {scheme:?} {params:?}");
        let mut floats = vec![F::default(); count];
        backend.dequantize(&got, scheme, params, &mut floats);
        assert_eq!(bits(&floats), bits(&dequantized), "{name} {scheme:?} {params:?}");
        backend.fake_quantize(&values, scheme, params, &mut floats);
        assert_eq!(bits(&floats), bits(&dequantized), "{name} {scheme:?} {params:?}");
        backend.quantize_with_stats(&values, scheme, params, &mut got);
        assert_eq!(got, stored(scheme, &codes), "{name} {scheme:?} {params:?}");
        let range = reference::range(&values);
        assert_eq!(backend.range(&values), range, "{name}");
        match scheme.dialect.scale_type(F::TYPE) {
            FloatType::F32 => blocks::<F, f32>(backend, scheme, &values, columns),
            FloatType::F16 | FloatType::Bf16 => blocks::<F, F>(backend, scheme, &values, columns),
        }
    }
    Ok(())
}

/// Each column with parameters of its own; `bad` is how many values are not finite.
fn by_columns<F: Element>(scheme: Scheme, values: &[F], of_columns: &[Params], bad: u64) {
    let (count, columns) = (values.len(), of_columns.len());
    let (mut by_column, mut dequantized_by_column) = (vec![0; count], vec![F::default(); count]);
    for i in 0..count {
        let (params, at) = (of_columns[i % columns], i..i + 1);
        reference::quantize(
            &values[at.clone()],
            scheme,
            params,
            &mut by_column[at.clone()],
        );
        let code = &by_column[at.clone()];
        reference::dequantize(code, scheme, params, &mut dequantized_by_column[at]);
    }
    let laid_out = Columns::new(scheme, F::TYPE, of_columns);
    for &backend in Backend::available() {
        let name = backend.name();
        let mut got = vec![0xcd; scheme.dtype.storage_len(count)];
        let mut floats = vec![F::default(); count];
        assert_eq!(
            backend.quantize_columns(values, &laid_out, &mut got),
            bad,
            "{name}"
        );
        assert_eq!(
            got,
            stored(scheme, &by_column),
            "{name} {scheme:?} {of_columns:?}"
        );
        backend.dequantize_columns(&got, &laid_out, &mut floats);
        assert_eq!(bits(&floats), bits(&dequantized_by_column), "{name} {scheme:?}");
    }
}

fn blocks<F: Element, S: Element>(backend: Backend, scheme: Scheme, values: &[F], size: usize) {
    // Sizes that kernels take many of, and others.
    let size = if size > 40 { 32 } else { size };
    let blocks = values.len().div_ceil(size);
    let mut codes = vec![0xcd; scheme.dtype.storage_len(values.len())];
    let mut scales = vec![S::default(); blocks];
    let mut zero_points = vec![
        0;
        if scheme.stores_zero_point() {
            blocks
        } else {
            0
        }
    ];
    let (c, s, z) = (&mut codes, &mut scales, &mut zero_points);
    let done = backend.quantize_blocks(values, size, scheme, c, s, z);
    let mut want = Vec::new();
    let mut params = Vec::new();
    for (block, values) in values.chunks(size).enumerate() {
        match scheme.params(&reference::range(values), F::TYPE) {
            Ok(found) => params.push(found),
            Err(source) => {
                let error = done.expect_err("a block without parameters");
                assert_eq!((error.block, error.source), (block, source));
                return;
            }
        }
        let mut of_block = vec![0; values.len()];
        reference::quantize(values, scheme, params[block], &mut of_block);
        want.extend(of_block);
    }
    done.expect("parameters for every block");
    let name = backend.name();
    assert_eq!(codes, stored(scheme, &want), "{name} {scheme:?} {size}");
    for (block, params) in params.iter().enumerate() {
        assert_eq!(scales[block].to_f32().to_bits(), params.scale().to_bits());
        if let Some(&zero_point) = zero_points.get(block) {
            assert_eq!(zero_point, params.zero_point() as u8);
        }
    }
}
