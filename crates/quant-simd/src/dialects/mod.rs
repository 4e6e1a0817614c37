//! What the kernels know of dialects.

pub mod mlx;
pub mod mlx_search;

use quant_core::{Dialect, Mode, OffsetKind, Scheme, Ties};

/// The dialects whose scales and zero points [`blocks`](crate::kernels::blocks) computes. Blocks of
/// any other have theirs from the reference, one by one: a new dialect is right before it is fast.
const WITH_BLOCK_FORMULA: &[Dialect] = &[Dialect::Coremltools, Dialect::F32];

/// Whether the block kernels compute what this dialect does.
pub fn has_block_formula(dialect: Dialect) -> bool {
    WITH_BLOCK_FORMULA.contains(&dialect)
}

/// Whether the kernels compute this scheme's codes and values, given scale and zero point. What they
/// do not is left to the reference.
#[inline]
pub fn has_kernels(scheme: Scheme) -> bool {
    scheme.offset() != OffsetKind::Bias && scheme.dialect.ties() == Ties::Even
}

/// Whether [`mlx`] computes this scheme's scales, biases, codes and values, many blocks at once.
#[inline]
pub fn has_bias_formula(scheme: Scheme) -> bool {
    scheme.dialect == Dialect::Mlx && scheme.mode == Mode::Affine && !scheme.dtype.is_signed()
}
