//! A program without its weights, so that two can be compared.

use std::collections::{BTreeMap, HashSet};

use crate::graph::{constant, unversioned};
use crate::model::Model;
use quant_model::structure::{Signature, Structure};

/// Operations that are neither weights nor parts of these, by the graph that they are in.
pub(crate) fn structure(model: &Model<'_>) -> Structure {
    let graph = &model.graph;
    let weights: HashSet<usize> = graph.weights.iter().map(|weight| weight.node).collect();
    let is_part = |node: usize| {
        let uses = graph.uses_of(node);
        constant(model.tables, graph.nodes[node].operation).is_some()
            && !uses.is_empty()
            && uses.iter().all(|(user, _)| weights.contains(user))
    };
    let mut functions: BTreeMap<String, Vec<Signature>> = BTreeMap::new();
    for (id, node) in graph.nodes.iter().enumerate() {
        if weights.contains(&id) || is_part(id) {
            continue;
        }
        let name = model.tables.operations[node.operation.name].name;
        let graph_name = graph.graph_of(id).to_owned();
        let all = functions.entry(graph_name).or_default();
        let number = all.len();
        let mut parts = BTreeMap::new();
        let kinds = node.operation.results.iter();
        let kinds = kinds.map(|kind| model.described(*kind));
        parts.insert("results".to_owned(), kinds.collect());
        parts.insert("operands".into(), vec![node.operands.len().to_string()]);
        all.push(Signature {
            title: format!("{} `{number}`", unversioned(name)),
            parts,
        });
    }
    Structure { functions }
}
