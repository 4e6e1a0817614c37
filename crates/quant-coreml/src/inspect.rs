//! The weights of a package in the form that both formats share.

use std::collections::HashSet;

use quant_model::Error;
use quant_model::io::Data;
use quant_model::stored::TensorView;

use super::graph::{Constant, Graph, Use};
use super::package::Package;
use super::parts;
use super::select::{shown_name, weight};
use crate::mil::dtype::float_type;

/// The end of the name of a weight that has been quantized.
pub(crate) const SUFFIX: &str = "_quantized";

/// Constants that are weights, and compressed ones.
pub(crate) fn stored<'p>(package: &'p Package<'_>) -> Result<Vec<TensorView<'p>>, Error> {
    let graph = Graph::new(&package.program);
    let mut found = Vec::new();
    for constant in &graph.constants {
        found.extend(one(package, constant)?);
    }
    // A quantized weight is compared with the float one that it was made from.
    let names: HashSet<String> = found.iter().map(|one| one.name.clone()).collect();
    for one in &mut found {
        let plain = one.name.strip_suffix(SUFFIX);
        if let Some(plain) = plain.filter(|plain| !names.contains(*plain)) {
            one.key = plain.to_owned();
        }
    }
    Ok(found)
}

fn one<'p>(
    package: &'p Package<'_>,
    constant: &Constant<'p, '_>,
) -> Result<Option<TensorView<'p>>, Error> {
    let program = &package.program;
    let operation = constant.operation;
    let output = operation
        .outputs
        .first()
        .and_then(|output| output.kind.as_ref());
    let mut stored = TensorView {
        path: package.path,
        key: shown_name(program, constant),
        name: shown_name(program, constant),
        dtype: output.map_or(String::new(), |kind| kind.dtype.name()),
        shape: output.and_then(|kind| kind.shape()).unwrap_or_default(),
        float: output.and_then(|kind| float_type(kind.dtype)),
        bytes: Data::EMPTY,
        quantized: None,
        blocks: None,
        consumers: constant.consumers.iter().map(Use::consumer).collect(),
        kind: None,
        others: Vec::new(),
    };
    if !operation.is_constexpr() {
        let Some(value) = weight(program, constant) else {
            return Ok(None);
        };
        match package.data(value)? {
            Some(bytes) => stored.bytes = bytes,
            None => stored.float = None,
        }
        let size = stored
            .float
            .map(|float| stored.element_count() * float.size());
        if size.is_some_and(|size| size != stored.bytes.len()) {
            stored.float = None;
        }
        return Ok(Some(stored));
    }
    if let Some((codes, parts)) = parts::read(package, operation)? {
        stored.dtype = parts.quantizer.scheme.dtype.name().into();
        stored.shape = parts.quantizer.blocks.shape().to_vec();
        stored.float = Some(parts.quantizer.source);
        stored.bytes = codes;
        stored.quantized = Some(parts);
        return Ok(Some(stored));
    }
    stored.float = None;
    stored.kind = Some(operation.kind.into());
    let values = operation.values().filter(|value| value.string().is_none());
    for value in values {
        stored.others.extend(package.data(value)?);
    }
    Ok(Some(stored))
}
