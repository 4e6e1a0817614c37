//! All 65,536 inputs of f16 and bf16, over every scale of their own type and thousands of f32 ones,
//! by every backend, against the reference.

use std::time::Instant;

use half::{bf16, f16};
use quant_core::{Dialect, FloatType, Params, Scheme, reference};
use quant_simd::{Backend, Element};
use quant_testkit::hurtful::{self, Bits, Random};
use rayon::prelude::*;

use super::{Expect, Row, sum};

/// f32 scales of any bits, beside the hurtful ones.
const WIDE_SCALES: usize = 4096;

/// One table row per type of values and of scales; `reduced`: one scale of 64.
pub fn rows(reduced: bool) -> Vec<Row> {
    let stride = if reduced { 64 } else { 1 };
    vec![
        row::<f16>("f16", Dialect::Coremltools, stride),
        row::<bf16>("bf16", Dialect::Coremltools, stride),
        row::<f16>("f16", Dialect::F32, stride),
        row::<bf16>("bf16", Dialect::F32, stride),
    ]
}

fn row<F: Element + Bits>(name: &str, dialect: Dialect, stride: usize) -> Row {
    let start = Instant::now();
    let values: Vec<F> = (0..=u16::MAX)
        .map(|bits| F::from_bits(bits.into()))
        .collect();
    let scale_type = dialect.scale_type(F::TYPE);
    let infinity = F::from_f32(f32::INFINITY).bits();
    let scales: Vec<f32> = match scale_type {
        FloatType::F32 => {
            let mut scales = hurtful::scales(FloatType::F32);
            let any = Random(1).any::<f32>(WIDE_SCALES).into_iter().map(f32::abs);
            scales.extend(any.filter(|scale| scale.is_finite()));
            scales
        }
        FloatType::F16 | FloatType::Bf16 => (0..infinity)
            .map(|bits| F::from_bits(bits).to_f32())
            .collect(),
    };
    let mut schemes = hurtful::schemes();
    schemes.retain(|it| it.dialect == dialect);
    let scales: Vec<f32> = scales.into_iter().step_by(stride).collect();
    let compare = |(i, &scale): (usize, &f32)| {
        let scheme = schemes[i % schemes.len()];
        let zero_points = hurtful::zero_points(scheme);
        let zero_point = zero_points[i / schemes.len() % zero_points.len()];
        let params = Params::new(scheme, scale, zero_point, scale_type);
        compare(&values, scheme, params.expect("a legal pair"))
    };
    let (differences, first) = scales
        .par_iter()
        .enumerate()
        .map(compare)
        .reduce(|| (0, None), sum);
    let (count, backends) = (scales.len(), Backend::available().len());
    let row = Row {
        scales: count as u64,
        inputs: (count * values.len() * backends) as u64,
        differences,
        first,
        seconds: start.elapsed().as_secs_f64(),
        ..Row::default()
    };
    let what = format!("{name} inputs, {} scales, every backend", scale_type.name());
    row.named(&what, Expect::Equal)
}

/// Codes of all values, and values of all codes.
fn compare<F: Element + Bits>(
    values: &[F],
    scheme: Scheme,
    params: Params,
) -> (u64, Option<String>) {
    let mut want = vec![0; values.len()];
    let want_bad = reference::quantize(values, scheme, params, &mut want);
    if scheme.dtype.packing().is_packed() {
        let codes = want;
        want = vec![0; codes.len() / 2];
        reference::pack(&codes, scheme.dtype, &mut want);
    }
    let stored: Vec<u8> = (0..=255).collect();
    let mut all_codes = stored.clone();
    if scheme.dtype.packing().is_packed() {
        all_codes.resize(2 * stored.len(), 0);
        reference::unpack(&stored, scheme.dtype, &mut all_codes);
    }
    let mut want_values = vec![F::default(); all_codes.len()];
    reference::dequantize(&all_codes, scheme, params, &mut want_values);
    let (mut differences, mut first) = (0, None);
    for &backend in Backend::available() {
        let mut got = vec![0xaa; want.len()];
        let bad = backend.quantize(values, scheme, params, &mut got);
        let mut got_values = vec![F::default(); all_codes.len()];
        backend.dequantize(&stored, scheme, params, &mut got_values);
        let mut report = |what: String| {
            let name = backend.name();
            first.get_or_insert(format!("{name} {scheme:?} {params:?}, {what}"));
            differences += 1;
        };
        if bad != want_bad {
            report(format!("{bad} non-finite values, not {want_bad}"));
        }
        let per_byte = values.len() / want.len();
        for (i, (want, got)) in want.iter().zip(&got).enumerate() {
            if want != got {
                let bits = values[i * per_byte].bits();
                report(format!(
                    "bits {bits:#06x}: want {want:#04x}, got {got:#04x}"
                ));
            }
        }
        for (i, (want, got)) in want_values.iter().zip(&got_values).enumerate() {
            let (want, got) = (want.bits(), got.bits());
            if want != got {
                report(format!(
                    "code {:#04x}: want {want:#06x}, got {got:#06x}",
                    all_codes[i]
                ));
            }
        }
    }
    (differences, first)
}
