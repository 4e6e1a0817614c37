//! What other conventions wrote, as compressed-tensors says it.

use quant_core::{Dialect, IntType, Mode, OffsetKind, Scheme};
use quant_simd::TensorQuantizer;

use crate::encodings::Recoded;

/// The same as unsigned integers with the dialect of compressed-tensors.
///
/// # Errors
/// What the format has no place for.
pub(super) fn unsigned(
    quantizer: &TensorQuantizer,
    zero_points: &[u8],
    below_zero: bool,
) -> Result<Recoded, String> {
    if below_zero {
        return Err("a search found scales below zero for it, and the format has none".into());
    }
    let scheme = quantizer.scheme;
    if scheme.offset() == OffsetKind::Bias {
        return Err("it has float biases, for which the format has no place".into());
    }
    let (bits, is_signed) = (scheme.dtype.bits(), scheme.dtype.is_signed());
    let (flip, half) = match (bits, is_signed) {
        (4, true) => (0x88, 8_u8),
        (8, true) => (0x80, 128),
        (4, false) => (0, 8),
        (8, false) => (0, 128),
        _ => return Err(format!("it has codes of {bits} bits; there are 4 and 8")),
    };
    let shift = if is_signed { half } else { 0 };
    let mut moved: Vec<u8> = zero_points
        .iter()
        .map(|it| it.wrapping_add(shift))
        .collect();
    if moved.is_empty() {
        moved = vec![half; quantizer.blocks.scale_count()];
    }
    let mode = match moved.iter().all(|it| *it == half) {
        true => Mode::Symmetric,
        false => Mode::Affine,
    };
    let dtype = IntType::new(bits, false).expect("a type of 4 or 8 bits");
    let scheme = Scheme::new(dtype, mode).with_dialect(Dialect::CompressedTensors);
    Ok(Recoded {
        quantizer: TensorQuantizer {
            scheme,
            ..quantizer.clone()
        },
        flip,
        zero_points: moved,
    })
}
