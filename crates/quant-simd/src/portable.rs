//! Plain loops over values widened to f32.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use quant_core::{FloatType, Params, Range, Scheme};

/// Adding and subtracting it rounds to an integer, ties to even, below a magnitude of 2^22.
const ROUND: f32 = 12_582_912.0;

/// Widens little-endian elements, whatever their alignment.
pub fn widen(bytes: &[u8], source: FloatType, values: &mut Vec<f32>) {
    values.clear();
    let (pairs, _) = bytes.as_chunks::<2>();
    match source {
        FloatType::F32 => {
            let (quads, _) = bytes.as_chunks::<4>();
            values.extend(quads.iter().map(|quad| f32::from_le_bytes(*quad)));
        }
        FloatType::F16 => {
            let narrow: Vec<f16> = pairs.iter().map(|pair| f16::from_le_bytes(*pair)).collect();
            values.resize(narrow.len(), 0.0);
            narrow.convert_to_f32_slice(values);
        }
        FloatType::Bf16 => {
            values.extend(pairs.iter().map(|pair| bf16::from_le_bytes(*pair).to_f32()));
        }
    }
}

/// Rounds to `target` and appends the little-endian bytes.
pub fn narrow(values: &[f32], target: FloatType, bytes: &mut Vec<u8>) {
    bytes.clear();
    for &value in values {
        match target {
            FloatType::F32 => bytes.extend(value.to_le_bytes()),
            FloatType::F16 => bytes.extend(f16::from_f32(value).to_le_bytes()),
            FloatType::Bf16 => bytes.extend(bf16::from_f32(value).to_le_bytes()),
        }
    }
}

pub fn range(values: &[f32]) -> Range {
    let (mut min, mut max, mut non_finite) = (f32::INFINITY, f32::NEG_INFINITY, 0);
    for &value in values {
        min = if value < min { value } else { min };
        max = if value > max { value } else { max };
        non_finite += u32::from(!value.is_finite());
    }
    Range {
        min: min + 0.0,
        max: max + 0.0,
        non_finite: non_finite.into(),
    }
}

/// Quantizes values of type `source`, one code per byte, and returns how many were clipped.
pub fn quantize(
    values: &[f32],
    source: FloatType,
    scheme: Scheme,
    params: Params,
    codes: &mut [u8],
) -> u64 {
    if params.scale() == 0.0 {
        codes.fill(0);
        return 0;
    }
    match scheme.dialect.arithmetic(source) {
        FloatType::F16 => quantize_rounding(values, scheme, params, codes, to_f16_precision),
        _ => quantize_rounding(values, scheme, params, codes, |quotient| quotient),
    }
}

/// The nearest number of 11 significant bits, ties to even: what f16 holds of numbers that do not
/// round to 0 or to more than any code.
fn to_f16_precision(value: f32) -> f32 {
    let bits = value.to_bits();
    if value.is_finite() {
        f32::from_bits(bits.wrapping_add(0xfff + (bits >> 13 & 1)) & !0x1fff)
    } else {
        value
    }
}

#[inline(always)]
fn quantize_rounding(
    values: &[f32],
    scheme: Scheme,
    params: Params,
    codes: &mut [u8],
    round: impl Fn(f32) -> f32,
) -> u64 {
    let (scale, zero_point) = (params.scale(), params.zero_point());
    let low = (scheme.qmin() - zero_point) as f32;
    let high = (scheme.qmax() - zero_point) as f32;
    let mut clipped = 0;
    for (&value, code) in values.iter().zip(codes) {
        let quotient = round(value / scale);
        let quotient = if quotient.is_nan() { 0.0 } else { quotient };
        // One step beyond the bounds, so that what is clipped can still be told.
        let steps = (quotient.clamp(low - 1.0, high + 1.0) + ROUND) - ROUND;
        clipped += u64::from(steps < low || steps > high);
        *code = (steps.clamp(low, high) as i32 + zero_point) as u8;
    }
    clipped
}

/// The values that codes, one per byte, stand for, in the scale's type.
pub fn dequantize(codes: &[u8], scheme: Scheme, params: Params, values: &mut [f32]) {
    let (dtype, zero_point) = (scheme.dtype, params.zero_point());
    for (&code, value) in codes.iter().zip(&mut *values) {
        *value = params.scale() * (dtype.value(code) - zero_point) as f32;
    }
    if params.scale_type() != FloatType::F32 {
        for value in values {
            *value = params.scale_type().round(*value);
        }
    }
}
