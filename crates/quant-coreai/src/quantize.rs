//! From a float model to a quantized one.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use quant_core::{ErrorStats, FloatType, Mode, Scheme, ValueRange};
use quant_simd::{Sink, TensorQuantizer};

use crate::changes::{Changes, Layout};
use crate::folder::{Program, Target};
use crate::graph::{SCALED, constant};
use crate::hash;
use crate::model::Model;
use crate::parts::packed;
use crate::rewrite::{Edit, NewOperation};
use crate::types::{ConstantValue, Element, TensorType, mentioned};
use crate::wire::Reader;
use quant_model::recoded::quantize_given;
use quant_model::report::{self, Decision};
use quant_model::{Error, Job, QuantizeOptions, Report, values};

/// A weight in the file that is quantized, for all constants that have its values.
struct Item<'d> {
    quantizer: &'d TensorQuantizer,
    /// The weight that it is reported for first.
    weight: usize,
    others: Vec<usize>,
    codes: usize,
    scales: usize,
    /// Where zero points are not all the same.
    zero_points: Option<usize>,
}

/// What makes two weights the same one.
type Key = (usize, Scheme, FloatType, Vec<usize>, Vec<usize>);

/// Writes a model with these decisions, one per weight.
pub(crate) fn quantize(
    model: &Model<'_>,
    output: &Path,
    decisions: &[Decision],
    options: &QuantizeOptions,
    job: &Job<'_>,
    report: &mut Report,
) -> Result<(), Error> {
    let mut target = Target::new(model.path, &options.inputs(model.path), output, job)?;
    report.warn(std::mem::take(&mut target.warnings));
    let mut changes = Changes::new(model);
    let items = plan(model, decisions, &mut changes);
    if items.is_empty() {
        let (bytes, told) = hash::checked(model, job, || target.copy(&[], job))?;
        report.warn(told);
        report.bytes_after = Some(bytes);
        return target.finish(job);
    }
    let layout = changes.layout();
    let tensors = &mut report.tensors;
    let ((program, bytes), told) = hash::checked(model, job, || {
        let begun = target.begin(&layout, &model.file.file, job)?;
        for item in &items {
            let stats = item.run(model, &layout, &begun.0, options, job)?;
            for weight in [item.weight].iter().chain(&item.others) {
                tensors[*weight].set_stats(stats.as_ref());
            }
        }
        Ok(begun)
    })?;
    report.warn(told);
    target.end(program, job)?;
    report.bytes_after = Some(bytes);
    Ok(())
}

/// Decides where parts go, and what the program becomes.
fn plan<'m, 'd>(
    model: &'m Model<'m>,
    decisions: &'d [Decision],
    changes: &mut Changes<'m>,
) -> Vec<Item<'d>> {
    let decided = model.graph.weights.iter().zip(decisions);
    let quantized = decided.filter(|(_, it)| matches!(it, Decision::Quantize(_)));
    let quantized: HashSet<usize> = quantized.map(|(weight, _)| weight.node).collect();
    let needed = needed(model, &|id| quantized.contains(&id));
    let (mut items, mut known): (Vec<Item<'d>>, HashMap<Key, usize>) = Default::default();
    let (mut taken, mut scaled) = (HashSet::new(), None);
    for (index, decision) in decisions.iter().enumerate() {
        let Decision::Quantize(quantizer) = decision else {
            continue;
        };
        let Some(ConstantValue::Resource(resource)) = model.graph.weights[index].payload else {
            unreachable!("only constants in the file are quantized");
        };
        let blocks = &quantizer.blocks;
        let key = (
            resource,
            quantizer.scheme,
            quantizer.source,
            blocks.shape().to_vec(),
            blocks.block_sizes().to_vec(),
        );
        let item = match known.get(&key) {
            Some(&item) => {
                items[item].others.push(index);
                item
            }
            None => {
                let reuses = !needed.contains(&resource) && taken.insert(resource);
                items.push(Item::new(
                    quantizer,
                    index,
                    reuses.then_some(resource),
                    changes,
                ));
                known.insert(key, items.len() - 1);
                items.len() - 1
            }
        };
        let scaled = *scaled.get_or_insert_with(|| changes.operation(SCALED));
        edit(model, index, &items[item], scaled, changes);
    }
    items
}

/// Resources that something needs besides the constants that are gone.
pub(crate) fn needed(model: &Model<'_>, is_gone: &dyn Fn(usize) -> bool) -> HashSet<usize> {
    let tables = model.tables;
    let resource = |attribute: usize| match ConstantValue::read(tables, attribute) {
        Some(ConstantValue::Resource(number)) => Some(number),
        _ => None,
    };
    let mut needed = HashSet::new();
    for (id, node) in model.graph.nodes.iter().enumerate() {
        let operation = node.operation;
        match constant(tables, operation) {
            Some(ConstantValue::Resource(number)) if !is_gone(id) => {
                needed.insert(number);
            }
            Some(_) => {}
            None => {
                let properties = operation.properties.map(|it| tables.properties[it]);
                let mut reader = Reader::new(properties.unwrap_or_default());
                while let Ok(number) = reader.varint() {
                    if number < tables.attributes.len() as u64 {
                        needed.extend(resource(number as usize));
                    }
                }
            }
        }
    }
    // An attribute may stand within another one.
    let mut within = HashSet::new();
    for entry in &tables.attributes {
        mentioned(entry, &mut within);
    }
    let within = within.into_iter().filter_map(|it| usize::try_from(it).ok());
    let within = within.filter(|it| *it < tables.attributes.len());
    needed.extend(within.filter_map(resource));
    needed
}

/// The zero point of all blocks, where they have the same.
fn zero_point(quantizer: &TensorQuantizer) -> Option<u8> {
    match quantizer.scheme.mode {
        Mode::Affine => None,
        Mode::Symmetric => {
            let params = quantizer
                .scheme
                .params(&ValueRange::EMPTY, quantizer.source);
            Some(params.map_or(0, |params| params.zero_point() as u8))
        }
    }
}

/// Makes the operations that a constant becomes.
fn edit<'m>(
    model: &'m Model<'m>,
    weight: usize,
    item: &Item<'_>,
    scaled: usize,
    changes: &mut Changes<'m>,
) {
    let weight = &model.graph.weights[weight];
    let old = model.graph.nodes[weight.node].operation;
    let quantizer = item.quantizer;
    let scale_shape = quantizer.blocks.scale_shape();
    let element = Element::Integer(quantizer.scheme.dtype).encoded();
    let integers = changes.kind(element.expect("types are checked"));
    let floats = weight.kind.element_type;
    let mut tensor = |shape: &[usize], element| changes.kind(TensorType::encode(shape, element));
    let kinds = [
        tensor(&weight.kind.shape, integers),
        tensor(&scale_shape, floats),
        tensor(&scale_shape, integers),
        tensor(&scale_shape, floats),
    ];
    let mut splat = |element: &[u8]| {
        let attribute = changes.attribute(ConstantValue::encode_splat(element));
        changes.constant(attribute)
    };
    let zeros = splat(&vec![0; quantizer.source.size()]);
    let same = zero_point(quantizer).map(|code| splat(&[code]));
    let zero_points = match (item.zero_points, same) {
        (Some(resource), _) => changes.constant_of(resource),
        (None, same) => same.expect("zero points are all the same"),
    };
    let values = [
        changes.constant_of(item.codes),
        changes.constant_of(item.scales),
        zero_points,
        zeros,
    ];
    let parts = kinds
        .into_iter()
        .zip(values)
        .map(|(kind, value)| NewOperation {
            name: old.name,
            location: old.location,
            properties: Some(value),
            result: kind,
            operands: Vec::new(),
            orders: &[],
        });
    let mut operations: Vec<_> = parts.collect();
    operations.push(NewOperation {
        name: scaled,
        location: old.location,
        properties: None,
        result: old.results[0],
        operands: vec![0, 1, 2, 3],
        orders: old.orders,
    });
    changes.edits.insert(old.id, Edit::Replace(operations));
}

impl<'d> Item<'d> {
    fn new(
        quantizer: &'d TensorQuantizer,
        weight: usize,
        reused: Option<usize>,
        changes: &mut Changes<'_>,
    ) -> Self {
        let codes = quantizer.codes_len() as u64;
        let codes = match reused {
            Some(resource) => {
                changes.replace(resource, codes);
                resource
            }
            None => changes.resource(codes),
        };
        let count = quantizer.blocks.scale_count();
        let points = quantizer.scheme.dtype.storage_len(count) as u64;
        Self {
            quantizer,
            weight,
            others: Vec::new(),
            codes,
            scales: changes.resource(quantizer.scales_len() as u64),
            zero_points: zero_point(quantizer)
                .is_none()
                .then(|| changes.resource(points)),
        }
    }

    fn run(
        &self,
        model: &Model<'_>,
        layout: &Layout,
        program: &Program,
        options: &QuantizeOptions,
        job: &Job<'_>,
    ) -> Result<Option<ErrorStats>, Error> {
        let (weight, quantizer) = (&model.graph.weights[self.weight], self.quantizer);
        let sink = PartSink {
            program,
            job,
            codes: layout.resources[self.codes],
            scales: Some(layout.resources[self.scales]),
            zero_points: Mutex::new(vec![0; quantizer.zero_points_len()]),
            per_code_byte: (
                quantizer.source.size() as u64 * 8,
                quantizer.scheme.dtype.bits().into(),
            ),
        };
        let values = model.data(weight).expect("its values are in the file");
        let done = match options.given(&weight.name) {
            Some(codes) => quantize_given(quantizer, codes, options.stats, &values, &sink),
            None => report::quantize_tensor(quantizer, options.stats, &values, &sink),
        };
        let stats = done.map_err(|failure| {
            let at = values::Tensor {
                file: model.file.file.path(),
                name: &weight.name,
                dtype: &weight.kind.element.name(),
                shape: &weight.kind.shape,
            };
            at.failed(failure, quantizer, &weight.name, false)
        })?;
        if let Some(zero_points) = self.zero_points {
            let codes = sink.zero_points.into_inner();
            let codes = codes.unwrap_or_else(PoisonError::into_inner);
            let bytes = packed(quantizer.scheme.dtype, codes);
            program.write(layout.resources[zero_points], &bytes)?;
        }
        Ok(stats)
    }
}

/// Takes the parts of a weight.
pub(crate) struct PartSink<'a> {
    pub program: &'a Program,
    pub job: &'a Job<'a>,
    /// Where codes begin, or values.
    pub codes: u64,
    pub scales: Option<u64>,
    /// One byte each, until they are packed.
    pub zero_points: Mutex<Vec<u8>>,
    /// Input bytes for `numerator / denominator` bytes of codes.
    pub per_code_byte: (u64, u64),
}

impl Sink for PartSink<'_> {
    type Error = Error;
    fn codes(&self, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        self.job.check()?;
        self.program.write(self.codes + offset as u64, bytes)?;
        let (numerator, denominator) = self.per_code_byte;
        (self.job.progress)(bytes.len() as u64 * numerator / denominator);
        Ok(())
    }
    fn scales(&self, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        match self.scales {
            Some(scales) => self.program.write(scales + offset as u64, bytes),
            None => Ok(()),
        }
    }
    fn zero_points(&self, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        let mut points = self
            .zero_points
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        points[offset..offset + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }
}
