//! The same functions in the dialects of compressed-tensors and Core AI.

use quant_core::{Dialect, IntType, Mode, Scheme};
use quant_testkit::hurtful::COREMLTOOLS_TYPES;

use crate::case::Case;
use crate::{blocks, elements, tensors};

const DIALECTS: [Dialect; 3] = [
    Dialect::CompressedTensors,
    Dialect::Coreai,
    Dialect::CoreaiTorch,
];

/// Every second one adds zero points to quotients.
fn choose(case: &mut Case<'_>) {
    let adds = Scheme::new(IntType::Uint4, Mode::Affine);
    let adds = adds.with_dialect(Dialect::CompressedTensors);
    case.scheme = match case.random.below(4) {
        0 => adds,
        1 => Scheme {
            dtype: IntType::Uint8,
            ..adds
        },
        _ => Scheme {
            dtype: COREMLTOOLS_TYPES[case.random.below(4)],
            mode: Mode::ALL[case.random.below(2)],
            dialect: DIALECTS[case.random.below(DIALECTS.len())],
        },
    };
    let Scheme {
        dtype,
        mode,
        dialect,
    } = case.scheme;
    let scheme = [dtype.name(), mode.name(), dialect.name()];
    case.record.parameter("in fact", scheme.join(" "));
}

pub fn quantize_blocks(case: &mut Case<'_>) {
    choose(case);
    blocks::quantize_blocks(case);
}

pub fn dequantize_blocks(case: &mut Case<'_>) {
    choose(case);
    blocks::dequantize_blocks(case);
}

pub fn quantize_with_stats(case: &mut Case<'_>) {
    choose(case);
    elements::quantize_with_stats(case);
}

pub fn fake_quantize(case: &mut Case<'_>) {
    choose(case);
    elements::fake_quantize(case);
}

pub fn quantize_tensor(case: &mut Case<'_>) {
    choose(case);
    tensors::quantize(case);
}
