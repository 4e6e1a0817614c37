use crate::{Float, Params, Scheme, ValueRange};

/// The range of `values`, and how many of them are NaN or infinite.
pub fn range<F: Float>(values: &[F]) -> ValueRange {
    let of_one = |value: f32| ValueRange {
        min: if value.is_nan() { f32::INFINITY } else { value },
        max: if value.is_nan() {
            f32::NEG_INFINITY
        } else {
            value
        },
        non_finite: u64::from(!value.is_finite()),
    };
    let values = values.iter().map(|value| of_one(value.to_f32()));
    values.fold(ValueRange::EMPTY, ValueRange::merge)
}

/// `round((value - bias) / scale) + zero_point`, rounded as the dialect says. NaN stays NaN.
fn code<F: Float>(value: F, scheme: Scheme, params: Params) -> f32 {
    let (scale, bias) = params.exact();
    let quotient = (value.to_f32() - bias) / scale;
    let (ties, rounding) = (scheme.dialect.ties(), scheme.dialect.rounding(F::TYPE));
    let (quotient, zero_point) = (rounding.round(quotient), params.zero_point() as f32);
    match scheme.adds_zero_point_first() {
        true => {
            let shift = scheme.zero_point_shift() as f32;
            ties.round(rounding.round(quotient + (zero_point - shift))) + shift
        }
        false => ties.round(quotient) + zero_point,
    }
}

/// Quantizes with given parameters, one code per byte, and returns how many values were NaN or
/// infinite. NaN becomes the zero point, or 0 where there is a bias; infinities saturate. A scale of
/// 0 stands for a block of zeros: every code is 0.
///
/// # Panics
/// If the lengths differ.
pub fn quantize<F: Float>(values: &[F], scheme: Scheme, params: Params, codes: &mut [u8]) -> u64 {
    assert_eq!(values.len(), codes.len(), "one code per value");
    let (qmin, qmax) = (scheme.qmin() as f32, scheme.qmax() as f32);
    for (value, code) in values.iter().zip(codes) {
        let wanted = self::code(*value, scheme, params);
        *code = if params.scale() == 0.0 {
            0
        } else if wanted.is_nan() {
            params.zero_point() as u8
        } else {
            wanted.clamp(qmin, qmax) as i32 as u8
        };
    }
    range(values).non_finite
}

/// How many values the clip of [`quantize`] changes.
pub fn saturated<F: Float>(values: &[F], scheme: Scheme, params: Params) -> u64 {
    let (qmin, qmax) = (scheme.qmin() as f32, scheme.qmax() as f32);
    let clipped = values.iter().filter(|&&value| {
        let code = code(value, scheme, params);
        params.scale() != 0.0 && (code < qmin || code > qmax)
    });
    clipped.count() as u64
}

/// `scale * (code - zero_point)`, or `scale * code + bias`, rounded to the scale's type and from there
/// to `F`.
///
/// # Panics
/// If the lengths differ.
pub fn dequantize<F: Float>(codes: &[u8], scheme: Scheme, params: Params, values: &mut [F]) {
    assert_eq!(values.len(), codes.len(), "one value per code");
    for (code, value) in codes.iter().zip(values) {
        let steps = (scheme.dtype.value(*code) - params.zero_point()) as f32;
        *value = F::from_f32(scheme.dialect.value(steps, &params));
    }
}
