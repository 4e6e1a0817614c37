//! A package's programs without their weights, so that two can be compared.

use std::collections::{BTreeMap, HashSet};

use quant_model::structure::{Signature, Structure};

use super::graph::Graph;
use super::inspect::SUFFIX;
use super::select::weight;
use crate::mil::program::{Binding, Operation, Payload, Program, Value};

fn signature(operation: &Operation<'_>) -> Signature {
    let plain = |name: &str| name.strip_suffix(SUFFIX).unwrap_or(name).to_owned();
    let value = |value: &Value<'_>| match value.payload {
        Payload::Tensor(bytes) => format!("{bytes:02x?}"),
        _ => "?".into(),
    };
    let mut parts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (key, bindings) in &operation.inputs {
        let bindings = bindings.iter().map(|binding| match binding {
            Binding::Name(name) => plain(name),
            Binding::Value(given) => value(given),
        });
        parts
            .entry(format!("input `{key}`"))
            .or_default()
            .extend(bindings);
    }
    let attributes = operation.attributes.iter();
    for (key, given) in attributes.filter(|(key, _)| *key != "name") {
        parts
            .entry(format!("attribute `{key}`"))
            .or_default()
            .push(value(given));
    }
    Signature {
        title: format!("{} `{}`", operation.kind, operation.name()),
        parts,
    }
}

/// Operations that are no weights, by the function that they are of.
pub(crate) fn structure(program: &Program<'_>) -> Structure {
    let graph = Graph::new(program);
    let weights = graph.constants.iter();
    let weights = weights.filter(|constant| weight(program, constant).is_some());
    let weights: HashSet<usize> = weights.map(|constant| constant.operation.id).collect();
    let places: Vec<String> = (0..program.functions.len())
        .map(|index| program.shown(index, program.functions[index].name))
        .collect();
    let mut found: BTreeMap<String, Vec<Signature>> = BTreeMap::new();
    for place in &places {
        found.entry(place.clone()).or_default();
    }
    let done = program.each::<std::convert::Infallible>(&mut |function, operation| {
        if !weights.contains(&operation.id) && !operation.is_constexpr() {
            let all = found.entry(places[function].clone()).or_default();
            all.push(signature(operation));
        }
        Ok(())
    });
    match done {
        Ok(()) => Structure { functions: found },
    }
}
