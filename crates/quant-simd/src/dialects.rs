//! What the kernels know of dialects.

use quant_core::Dialect;

/// The dialects whose scales and zero points [`blocks`](crate::kernels::blocks) computes. Blocks of
/// any other have theirs from the reference, one by one: a new dialect is right before it is fast.
const WITH_BLOCK_FORMULA: &[Dialect] = &[Dialect::Coremltools, Dialect::F32];

/// Whether the block kernels compute what this dialect does.
pub fn has_block_formula(dialect: Dialect) -> bool {
    WITH_BLOCK_FORMULA.contains(&dialect)
}
