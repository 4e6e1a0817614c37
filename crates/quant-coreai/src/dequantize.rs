//! From a quantized model to a float one.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Mutex;

use crate::changes::Changes;
use crate::folder::{Program, Target};
use crate::graph::{SCALED, Weight, constant};
use crate::hash;
use crate::model::Model;
use crate::parts;
use crate::quantize::{PartSink, needed};
use crate::rewrite::{Edit, NewOperation};
use crate::types::ConstantValue;
use quant_model::io::Data;
use quant_model::restored::{Restoring, left_alone, nothing_to_restore, restore_tensor};
use quant_model::stored::Parts;
use quant_model::{Error, Inputs, Job, Restored};

/// A weight that becomes floats, for all operations that make these of the same constants.
struct Item<'m> {
    weight: &'m Weight<'m>,
    codes: Data<'m>,
    parts: Parts<'m>,
    values: usize,
}

/// Writes a model with its quantized weights as floats.
pub(crate) fn dequantize(
    model: &Model<'_>,
    output: &Path,
    job: &Job<'_>,
) -> Result<Restored, Error> {
    let mut warnings = Vec::new();
    let mut changes = Changes::new(model);
    let items = plan(model, &mut changes, &mut warnings)?;
    if items.is_empty() {
        let left = warnings.last().map(String::as_str);
        return Err(nothing_to_restore(model.path, left));
    }
    let inputs = Inputs::of_model(model.path);
    let mut target = Target::new(model.path, &inputs, output, job)?;
    warnings.append(&mut target.warnings);
    let layout = changes.layout();
    let ((program, bytes), told) = hash::checked(model, job, || {
        let begun = target.begin(&layout, &model.file.file, job)?;
        for item in &items {
            item.run(model, layout.resources[item.values], &begun.0, job)?;
        }
        Ok(begun)
    })?;
    warnings.extend(told);
    target.end(program, job)?;
    Ok(Restored::new(bytes, warnings))
}

impl Item<'_> {
    /// Writes its values from a place on.
    fn run(
        &self,
        model: &Model<'_>,
        values: u64,
        program: &Program,
        job: &Job<'_>,
    ) -> Result<(), Error> {
        let quantizer = &self.parts.quantizer;
        let sink = PartSink {
            program,
            job,
            codes: values,
            scales: None,
            zero_points: Mutex::default(),
            per_code_byte: (
                quantizer.scheme.dtype.bits().into(),
                quantizer.source.size() as u64 * 8,
            ),
        };
        let restoring = Restoring {
            file: model.file.file.path(),
            name: &self.weight.name,
            quantizer,
            codes: &self.codes,
            scales: &self.parts.scales,
            zero_points: &self.parts.zero_points,
        };
        restore_tensor(&restoring, &sink)
    }
}

/// Decides where values go, and what the program becomes.
fn plan<'m>(
    model: &'m Model<'m>,
    changes: &mut Changes<'m>,
    warnings: &mut Vec<String>,
) -> Result<Vec<Item<'m>>, Error> {
    let graph = &model.graph;
    let (mut items, mut known): (Vec<Item<'m>>, HashMap<_, usize>) = Default::default();
    // Nodes that nobody needs any more.
    let mut gone = HashSet::new();
    for weight in graph
        .weights
        .iter()
        .filter(|weight| weight.payload.is_none())
    {
        let Some((codes, parts)) = parts::read(model, weight)? else {
            let what = format!("a {SCALED} like this one");
            warnings.push(left_alone(&weight.name, &what));
            continue;
        };
        let operation = graph.nodes[weight.node].operation;
        let makers: Vec<usize> = (0..4)
            .filter_map(|it| graph.maker(weight.node, it))
            .collect();
        let payload = |maker: &usize| constant(model.tables, graph.nodes[*maker].operation);
        let key: Vec<_> = makers.iter().map(payload).collect();
        let key = (format!("{key:?}"), weight.kind.shape.clone());
        let len = parts.quantizer.blocks.element_count() * parts.quantizer.source.size();
        let values = *known.entry(key).or_insert_with(|| {
            let values = changes.resource(len as u64);
            items.push(Item {
                weight,
                codes,
                parts,
                values,
            });
            values
        });
        let first = graph.nodes[makers[0]].operation;
        let restored = NewOperation {
            name: first.name,
            location: operation.location,
            properties: Some(changes.constant_of(values)),
            result: operation.results[0],
            operands: Vec::new(),
            orders: operation.orders,
        };
        changes
            .edits
            .insert(operation.id, Edit::Replace(vec![restored]));
        gone.insert(weight.node);
    }
    remove_parts(model, &gone, changes);
    Ok(items)
}

/// Removes constants that only fed what is gone, and the bytes of their resources.
fn remove_parts<'m>(model: &'m Model<'m>, gone: &HashSet<usize>, changes: &mut Changes<'m>) {
    let graph = &model.graph;
    let parts = gone
        .iter()
        .flat_map(|node| (0..4).filter_map(|it| graph.maker(*node, it)));
    let parts: HashSet<usize> = parts.collect();
    for part in &parts {
        let operation = graph.nodes[*part].operation;
        let is_needed = graph
            .uses(*part)
            .iter()
            .any(|(user, _)| !gone.contains(user));
        match is_needed {
            false => changes.edits.insert(operation.id, Edit::Remove),
            true if operation.orders.is_empty() => None,
            true => changes.edits.insert(operation.id, Edit::Unordered),
        };
    }
    let is_removed = |id| matches!(changes.edits.get(&id), Some(Edit::Remove));
    let needed = needed(model, &is_removed);
    let removed = graph
        .nodes
        .iter()
        .filter(|node| is_removed(node.operation.id));
    let dropped: Vec<usize> = removed
        .filter_map(|node| match constant(model.tables, node.operation) {
            Some(ConstantValue::Resource(number)) => Some(number),
            _ => None,
        })
        .filter(|number| !needed.contains(number))
        .collect();
    dropped
        .into_iter()
        .for_each(|number| changes.replace(number, 0));
}
