//! The operations: a file per family, each with its table of names, and here the list of families.

mod activation;
mod binary;
mod cast;
mod concat;
mod constexpr;
mod conv;
mod conv_transpose;
mod crop;
mod fill;
mod gather;
mod linear;
mod normalization;
mod pad;
mod pool;
mod quantization;
mod recurrent;
mod reduce;
mod resample;
mod resize;
mod scatter;
mod shape;
mod slice;
mod sort;
mod spatial;
mod suppression;
mod unary;

use crate::call::Kernel;

pub(crate) use conv::Geometry;
pub(crate) use reduce::total;

/// Names and what they compute.
type Table = &'static [(&'static str, Kernel)];

const FAMILIES: [Table; 26] = [
    activation::TABLE,
    binary::TABLE,
    cast::TABLE,
    concat::TABLE,
    constexpr::TABLE,
    conv::TABLE,
    conv_transpose::TABLE,
    crop::TABLE,
    fill::TABLE,
    gather::TABLE,
    linear::TABLE,
    normalization::TABLE,
    pad::TABLE,
    pool::TABLE,
    quantization::TABLE,
    recurrent::TABLE,
    reduce::TABLE,
    resample::TABLE,
    resize::TABLE,
    scatter::TABLE,
    shape::TABLE,
    slice::TABLE,
    sort::TABLE,
    spatial::TABLE,
    suppression::TABLE,
    unary::TABLE,
];

/// Operations that the interpreter itself does.
const CONTROL: [&str; 6] = [
    "coreml_update_state",
    "cond",
    "const",
    "read_state",
    "while_loop",
    "write_state",
];

/// What an operation computes.
pub(crate) fn find(kind: &str) -> Option<Kernel> {
    let mut all = FAMILIES.iter().flat_map(|table| table.iter());
    all.find(|(name, _)| *name == kind)
        .map(|(_, kernel)| *kernel)
}

/// All names, in order.
pub(crate) fn all() -> Vec<&'static str> {
    let tables = FAMILIES.iter().flat_map(|table| table.iter());
    let mut names: Vec<_> = tables.map(|(name, _)| *name).chain(CONTROL).collect();
    names.sort_unstable();
    names
}
