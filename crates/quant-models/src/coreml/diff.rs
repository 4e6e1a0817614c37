//! Two packages: their weights, and whether their programs are the same otherwise.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;

use super::folder::Folder;
use super::graph::Graph;
use super::inspect::stored;
use super::package::Package;
use super::program::{Binding, Held, Operation, Program, Value};
use super::select::weight;
use crate::diff::{apart, of};
use crate::stored::Stored;
use crate::{Difference, Error, Job};

const SUFFIX: &str = "_quantized";

/// Compares two packages.
pub(crate) fn diff(a: &Path, b: &Path, job: &Job<'_>) -> Result<Difference, Error> {
    let (a, b) = (Folder::open(a)?, Folder::open(b)?);
    let (a, b) = (Package::open(&a)?, Package::open(&b)?);
    let mut found = of(keyed(stored(&a)?), keyed(stored(&b)?), job)?;
    if let Some(reason) = programs(&a.program, &b.program) {
        found.equal = false;
        found.tensors.push(apart("(program)", &reason));
    }
    Ok(found)
}

/// A quantized weight is compared with the float one that it was made from.
fn keyed(all: Vec<Stored<'_>>) -> impl Iterator<Item = (String, Stored<'_>)> {
    let names: HashSet<String> = all.iter().map(|one| one.name.clone()).collect();
    all.into_iter().map(move |one| {
        let plain = one.name.strip_suffix(SUFFIX);
        let key = plain.filter(|plain| !names.contains(*plain));
        (key.unwrap_or(&one.name).to_owned(), one)
    })
}

/// Where two programs differ first, but for their weights.
fn programs(a: &Program<'_>, b: &Program<'_>) -> Option<String> {
    let (a, b) = (operations(a), operations(b));
    let functions: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    for function in functions {
        let (Some(a), Some(b)) = (a.get(function), b.get(function)) else {
            return Some(format!("function `{function}` is only in one of them"));
        };
        if let Some((a, b)) = a.iter().zip(b).find(|(a, b)| a != b) {
            return Some(a.difference(b));
        }
        if a.len() != b.len() {
            return Some(format!(
                "{} operations in the first, {} in the second",
                a.len(),
                b.len()
            ));
        }
    }
    None
}

/// What makes two operations the same one.
#[derive(PartialEq)]
struct Signature {
    /// Its type and name.
    title: String,
    /// Inputs and attributes by name.
    parts: BTreeMap<String, Vec<String>>,
}

impl Signature {
    fn new(operation: &Operation<'_>) -> Self {
        let plain = |name: &str| name.strip_suffix(SUFFIX).unwrap_or(name).to_owned();
        let value = |value: &Value<'_>| match value.held {
            Held::Tensor(bytes) => format!("{bytes:02x?}"),
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
        Self {
            title: format!("{} `{}`", operation.kind, operation.name()),
            parts,
        }
    }

    /// What differs first.
    fn difference(&self, other: &Self) -> String {
        let title = &self.title;
        if *title != other.title {
            return format!("{title} in the first, {} in the second", other.title);
        }
        let mut keys = self.parts.keys().chain(other.parts.keys());
        let differs = keys.find(|key| self.parts.get(*key) != other.parts.get(*key));
        match differs {
            Some(key) => format!("{title} differs in its {key}"),
            None => format!("{title} differs"),
        }
    }
}

/// Operations that are no weights, by the function that they are of.
fn operations(program: &Program<'_>) -> BTreeMap<String, Vec<Signature>> {
    let graph = Graph::of(program);
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
            all.push(Signature::new(operation));
        }
        Ok(())
    });
    match done {
        Ok(()) => found,
    }
}
