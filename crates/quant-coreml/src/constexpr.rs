//! The operations that stand for a linearly quantized weight: the names of their parameters, and how
//! scales lie over codes.

use quant_core::Granularity;

use crate::mil::dtype::{float_type, int_type};
use crate::mil::program::{Operation, Value};

pub(crate) const AFFINE: &str = "constexpr_affine_dequantize";
pub(crate) const BLOCKWISE: &str = "constexpr_blockwise_shift_scale";

/// The parameters of a linearly quantized weight: codes, scales, zero points.
pub(crate) fn names(operation: &Operation<'_>) -> Option<[&'static str; 3]> {
    match operation.kind {
        AFFINE => Some(["quantized_data", "scale", "zero_point"]),
        BLOCKWISE => Some(["data", "scale", "offset"]),
        _ => None,
    }
}

/// Types and shapes of a linearly quantized weight's parts, and of its result, may not contradict each
/// other; where the operation of either system would not take them, nothing of it can be believed.
// Long: one contradiction after the other.
pub(crate) fn check(operation: &Operation<'_>) -> Result<(), String> {
    let Some(names) = names(operation) else {
        return Ok(());
    };
    let kind = |name: &str| operation.parameter(name)?.kind.as_ref();
    let [Some(codes), Some(scale), offset] = names.map(kind) else {
        return Ok(());
    };
    let (Some(shape_of_codes), Some(scales)) = (codes.shape(), scale.shape()) else {
        return Ok(());
    };
    let differ = |what: &str| Err(format!("{what}; the model is damaged"));
    let result = operation.outputs.first();
    if let Some(result) = result.and_then(|output| output.kind.as_ref()) {
        if result.shape().is_some_and(|shape| shape != shape_of_codes) {
            return differ(&format!(
                "codes of shape {shape_of_codes:?} for a result of shape {:?}",
                result.shape().unwrap_or_default()
            ));
        }
        if float_type(scale.dtype).is_some() && result.dtype != scale.dtype {
            return differ(&format!(
                "scales of type {} for a result of type {}",
                scale.dtype.name(),
                result.dtype.name()
            ));
        }
    }
    // An axis that is not a plain number says nothing.
    let axis = operation.parameter("axis").and_then(Value::integer);
    let known = operation.kind == BLOCKWISE || axis.is_some();
    let fits = |shape: &[usize]| !known || granularity(operation, &shape_of_codes, shape).is_some();
    if !fits(&scales) {
        return differ(&format!(
            "scales of shape {scales:?} for codes of shape {shape_of_codes:?}"
        ));
    }
    let Some((offset, points)) = offset.and_then(|kind| Some((kind, kind.shape()?))) else {
        return Ok(());
    };
    let integers = (int_type(codes.dtype), int_type(offset.dtype));
    let differ_in_type = matches!(integers, (Some(codes), Some(offset)) if codes != offset);
    // The older operation takes zero points of either type of eight bits.
    let takes_both = operation.kind == AFFINE && integers.1.is_some_and(|it| it.bits() == 8);
    if differ_in_type && !takes_both {
        return differ(&format!(
            "zero points of type {} for codes of type {}",
            offset.dtype.name(),
            codes.dtype.name()
        ));
    }
    let count: usize = points.iter().product();
    let fits = match operation.kind {
        AFFINE => fits(&points),
        _ => points == scales || count == 1,
    };
    if !fits {
        return differ(&format!(
            "zero points of shape {points:?} for scales of shape {scales:?}"
        ));
    }
    Ok(())
}

/// How the scales of an operation lie over its codes.
pub(crate) fn granularity(
    operation: &Operation<'_>,
    shape: &[usize],
    scales: &[usize],
) -> Option<Granularity> {
    if operation.kind == AFFINE {
        return match scales {
            [] | [1] => Some(Granularity::PerTensor),
            [count] => {
                let axis = operation.parameter("axis")?.integer()?;
                let rank = shape.len() as i32;
                let axis = if axis < 0 { axis + rank } else { axis };
                let dim = shape.get(usize::try_from(axis).ok()?)?;
                (dim == count).then_some(Granularity::PerChannel {
                    axis: axis as isize,
                })
            }
            _ => None,
        };
    }
    let fits = shape.len() == scales.len();
    let divides = |(&dim, &scales): (&usize, &usize)| scales > 0 && dim % scales == 0;
    let sizes = || shape.iter().zip(scales).map(|(dim, scales)| dim / scales);
    (fits && shape.iter().zip(scales).all(divides)).then(|| Granularity::Blocks(sizes().collect()))
}
