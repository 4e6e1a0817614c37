//! The weights of a package, quantized into its weight files.

use std::collections::{HashMap, HashSet};

use quant_core::{ErrorStats, Scheme};
use quant_model::io::Data;
use quant_model::recoded::quantize_given;
use quant_model::report::{Decision, quantize_tensor};
use quant_model::{Error, Job, QuantizeOptions, TensorReport, values};
use quant_simd::TensorQuantizer;
use rayon::prelude::*;

use super::blob::ALIGN;
use super::emit::{Emitter, Part, PartSource, new_name};
use super::graph::{Constant, Graph};
use super::package::Package;
use super::parts::{PartBuffer, PartsSink, packed};
use super::select::{self, Candidate};
use super::weight_layout::{Role, WeightLayout};
use crate::mil::encode::{Become, Edit, Elements, NewValue};
use crate::mil::program::{Operation, Payload, Value};
use crate::mil::rewrite::Changes;
use crate::mil::schema::DataType;

/// Bytes of values that are quantized at the same time. Between two such windows threads wait for
/// each other; within one, all that follows a weight that is already stored has to be moved.
const WINDOW: usize = 32 << 20;

/// Quantizes weights, and keeps account of what that changes in the model.
pub(crate) struct Weights<'r, 'p, 'a> {
    package: &'p Package<'a>,
    graph: &'r Graph<'p, 'a>,
    emitter: Emitter<'r>,
    job: &'r Job<'r>,
    options: &'r QuantizeOptions,
    changes: Changes,
    /// Weights of other blocks that share record, type and geometry.
    shared: HashMap<Shared, (Vec<NewValue>, Option<ErrorStats>)>,
    names: Vec<HashSet<String>>,
    /// The names of what has been made so far, by block and parameters.
    made: HashMap<(usize, Vec<NewValue>), String>,
}

/// Where the parts of a weight go in the weight file, if they do.
type Places = Vec<Option<u64>>;

type Shared = (String, Origin, &'static str, Scheme, Vec<usize>, Vec<usize>);

/// Where the values of a weight are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Origin {
    /// In the record at this byte.
    Record(u64),
    /// In the operation of this position.
    Operation(usize),
}

impl Origin {
    /// The weight file that a weight goes to, and where its values are.
    pub fn new(
        package: &Package<'_>,
        value: &Value<'_>,
        constant: &Constant<'_, '_>,
    ) -> (String, Self) {
        match &value.payload {
            Payload::Blob(blob) => (blob.file.to_owned(), Self::Record(blob.offset)),
            _ => {
                let stage = package.program.functions[constant.function].stage;
                let id = constant.operation.id;
                (package.weight_file(stage), Self::Operation(id))
            }
        }
    }
}

/// An operation, and what it is if it is quantized.
struct Step<'s, 'p, 'a> {
    operation: &'p Operation<'a>,
    weight: Option<Weight<'s, 'a>>,
}

/// A constant to be quantized.
struct Weight<'s, 'a> {
    choice: &'s Candidate<'s, 'a>,
    quantizer: &'s TensorQuantizer,
    value: &'s Value<'a>,
    /// Codes that take the place of the nearest ones.
    given: Option<&'s [u8]>,
    /// The weight file that it goes to.
    file: String,
    origin: Origin,
    layout: WeightLayout,
    report: &'s mut TensorReport,
}

impl Weight<'_, '_> {
    fn key(&self) -> Shared {
        (
            self.file.clone(),
            self.origin,
            self.layout.kind,
            self.quantizer.scheme,
            self.quantizer.blocks.shape().to_vec(),
            self.quantizer.blocks.block_sizes().to_vec(),
        )
    }
}

/// A weight's parts, written or in memory.
struct Written {
    /// In the order of the layout; zero points in memory have one byte each.
    parts: Vec<PartSource>,
    stats: Option<ErrorStats>,
}

/// The weights to be quantized, by their operations.
fn chosen<'s, 'a>(
    (package, graph): (&Package<'a>, &Graph<'_, 'a>),
    options: &'s QuantizeOptions,
    candidates: &'s [Candidate<'s, 'a>],
    decisions: &'s [Decision],
    reports: &'s mut [TensorReport],
) -> Result<HashMap<usize, Weight<'s, 'a>>, Error> {
    let (mut quantized, mut given) = (HashMap::new(), HashMap::new());
    for ((choice, decision), report) in candidates.iter().zip(decisions).zip(reports) {
        if let (Decision::Quantize(quantizer), Some(value)) = (decision, choice.value) {
            let constant = &graph.constants[choice.constant];
            let id = constant.operation.id;
            let (file, origin) = Origin::new(package, value, constant);
            let since_18 = select::since_18(&package.program, constant);
            let layout = WeightLayout::new(quantizer, since_18)
                .map_err(|problem| Error::tensor(&package.model_path(), &choice.name, problem))?;
            let weight = Weight {
                choice,
                quantizer,
                value,
                given: options.given(&choice.name),
                file,
                origin,
                layout,
                report,
            };
            if let Some(codes) = weight.given {
                given.entry(weight.key()).or_insert(codes);
            }
            quantized.insert(id, weight);
        }
    }
    // What shares a record has the same codes, whichever of them they were found for.
    for weight in quantized.values_mut() {
        weight.given = given.get(&weight.key()).copied();
    }
    Ok(quantized)
}

impl<'r, 'p, 'a> Weights<'r, 'p, 'a> {
    pub fn new(
        package: &'p Package<'a>,
        graph: &'r Graph<'p, 'a>,
        emitter: Emitter<'r>,
        job: &'r Job<'r>,
        options: &'r QuantizeOptions,
    ) -> Self {
        let names = graph.names.iter();
        let owned = |names: &HashSet<&str>| names.iter().map(|&name| name.to_owned()).collect();
        Self {
            package,
            graph,
            emitter,
            job,
            options,
            changes: Changes::default(),
            shared: HashMap::new(),
            names: names.map(owned).collect(),
            made: HashMap::new(),
        }
    }

    /// The weight files as far as they are written, and what else changes.
    pub fn into_parts(self) -> (Emitter<'r>, Changes) {
        (self.emitter, self.changes)
    }

    /// Writes all records in the order of the operations.
    pub fn quantize(
        &mut self,
        candidates: &[Candidate<'_, 'a>],
        decisions: &[Decision],
        reports: &mut [TensorReport],
    ) -> Result<(), Error> {
        let mut quantized = chosen(
            (self.package, self.graph),
            self.options,
            candidates,
            decisions,
            reports,
        )?;
        let mut steps = Vec::new();
        let program = &self.package.program;
        program.each(&mut |_, operation| -> Result<(), Error> {
            let weight = quantized.remove(&operation.id);
            steps.push(Step { operation, weight });
            Ok(())
        })?;
        let mut rest = steps.as_mut_slice();
        while !rest.is_empty() {
            let mut bytes = 0;
            let past = rest.iter().position(|step| {
                let quantizer = step.weight.as_ref().map(|weight| weight.quantizer);
                bytes += quantizer.map_or(0, |it| it.blocks.element_count() * it.source.size());
                bytes >= WINDOW
            });
            let (window, later) = rest.split_at_mut(past.map_or(rest.len(), |last| last + 1));
            self.window(window)?;
            rest = later;
        }
        program
            .elsewhere
            .iter()
            .try_for_each(|blob| self.emitter.copy(blob))
    }

    /// Quantizes the weights of some operations at the same time, then settles them in order.
    fn window(&mut self, steps: &mut [Step<'_, 'p, 'a>]) -> Result<(), Error> {
        for weight in steps.iter().filter_map(|step| step.weight.as_ref()) {
            self.emitter.ensure(&weight.file)?;
        }
        let layouts = self.layouts(steps)?;
        let made = layouts.into_par_iter().map(|(index, places)| {
            let weight = steps[index].weight.as_ref().expect("what has places");
            (index, self.make(weight, &places))
        });
        let mut made: HashMap<_, _> = made.collect();
        for (index, step) in steps.iter_mut().enumerate() {
            match &mut step.weight {
                None => self.emitter.copy_all(step.operation)?,
                Some(weight) => {
                    let made = made.remove(&index).transpose()?;
                    let stats = self.settle(weight, made)?;
                    weight.report.set_stats(stats.as_ref());
                }
            }
        }
        Ok(())
    }

    /// Where the weights of some operations go, if none of their records is there already.
    fn layouts(&self, steps: &[Step<'_, 'p, 'a>]) -> Result<Vec<(usize, Places)>, Error> {
        let mut ends: HashMap<String, u64> = HashMap::new();
        let (mut keys, mut copied) = (HashSet::new(), HashSet::new());
        let mut layouts = Vec::new();
        for (index, step) in steps.iter().enumerate() {
            match &step.weight {
                None => {
                    for blob in step.operation.blobs() {
                        if self.emitter.has_copied(&blob)
                            || !copied.insert((blob.file, blob.offset))
                        {
                            continue;
                        }
                        let (_, record) = self.package.record(&blob)?;
                        let end = self.end(&mut ends, blob.file);
                        *end = end.next_multiple_of(ALIGN) + ALIGN + record.data.len() as u64;
                    }
                    if let Some((file, len)) = self.emitter.to_store(step.operation) {
                        let end = self.end(&mut ends, file);
                        *end = end.next_multiple_of(ALIGN) + ALIGN + len;
                    }
                }
                Some(weight) => {
                    let key = weight.key();
                    if !self.shared.contains_key(&key) && keys.insert(key) {
                        let end = self.end(&mut ends, &weight.file);
                        let (places, after) = weight.layout.places(*end);
                        *end = after;
                        layouts.push((index, places));
                    }
                }
            }
        }
        Ok(layouts)
    }

    /// Where the next record of a file goes.
    fn end<'e>(&self, ends: &'e mut HashMap<String, u64>, file: &str) -> &'e mut u64 {
        ends.entry(file.to_owned())
            .or_insert_with(|| self.emitter.next(file))
    }

    /// Quantizes a weight into the weight file.
    fn make(&self, weight: &Weight<'_, '_>, places: &[Option<u64>]) -> Result<Written, Error> {
        let Weight {
            choice,
            quantizer,
            value,
            ..
        } = weight;
        let data = self.package.data(value)?.unwrap_or(Data::EMPTY);
        let constant = &self.graph.constants[choice.constant];
        let buffer = |role: Role, len: usize| {
            let parts = weight.layout.parts.iter().zip(places);
            let mut direct = parts.filter(|(part, _)| part.is_written_directly());
            match direct.find(|(part, _)| part.role == role) {
                Some((_, Some(at))) => PartBuffer::File(*at),
                _ => PartBuffer::memory(len),
            }
        };
        let sink = PartsSink {
            writer: self.emitter.writer(&weight.file)?,
            job: self.job,
            codes: buffer(Role::Codes, quantizer.codes_len()),
            scales: buffer(Role::Scales, quantizer.scales_len()),
            zero_points: buffer(Role::ZeroPoints, quantizer.zero_points_len()),
            per_code_byte: (
                quantizer.source.size() as u64 * 8,
                quantizer.scheme.dtype.bits().into(),
            ),
        };
        let stats = self.options.stats;
        let quantized = match weight.given {
            Some(codes) => quantize_given(quantizer, codes, stats, &data, &sink),
            None => quantize_tensor(quantizer, stats, &data, &sink),
        };
        let stats = quantized.map_err(|failure| {
            let at = values::Tensor {
                file: &self.package.file_of(value),
                name: &choice.name,
                dtype: &choice.dtype,
                shape: &choice.shape,
            };
            at.failed(failure, quantizer, constant.operation.name(), false)
        })?;
        let [mut codes, mut scales, mut zero_points] =
            [sink.codes, sink.scales, sink.zero_points].map(|buffer| Some(buffer.into_source()));
        let none = || PartSource::Memory(Vec::new());
        let parts = weight.layout.parts.iter().map(|part| match part.role {
            Role::Codes => codes.take().unwrap_or_else(none),
            Role::Scales => scales.take().unwrap_or_else(none),
            Role::ZeroPoints => zero_points.take().unwrap_or_else(none),
            Role::Zeros => PartSource::Memory(vec![0; quantizer.blocks.scale_count()]),
        });
        Ok(Written {
            parts: parts.collect(),
            stats,
        })
    }

    /// Gives a weight its operation; `None` is made already.
    fn settle(
        &mut self,
        weight: &Weight<'_, '_>,
        made: Option<Written>,
    ) -> Result<Option<ErrorStats>, Error> {
        let constant = &self.graph.constants[weight.choice.constant];
        let id = constant.operation.id;
        let key = weight.key();
        let (values, stats) = match made {
            None => self.shared[&key].clone(),
            Some(made) => {
                let stats = made.stats;
                let made = (self.settle_parts(weight, made)?, stats);
                self.shared.insert(key, made.clone());
                made
            }
        };
        let made = (constant.block, values.clone());
        if let Some(name) = self.made.get(&made).filter(|_| !constant.leaves_block) {
            // As coremltools does, when two weights have become one.
            self.changes.edits.insert(id, Edit::Remove);
            self.changes.renamed.insert(id, name.clone());
            return Ok(stats);
        }
        let names = &mut self.names[constant.function];
        let name = new_name(names, constant.operation.name());
        self.made.entry(made).or_insert_with(|| name.clone());
        let layout = &weight.layout;
        self.changes.edits.insert(
            id,
            Edit::Become(Become {
                kind: layout.kind,
                name: name.clone(),
                parameters: layout.parameters.iter().copied().zip(values).collect(),
                as_inputs: layout.as_inputs,
                file: weight.file.clone(),
                old: &["val"],
            }),
        );
        self.changes.renamed.insert(id, name);
        Ok(stats)
    }

    /// Gives a weight's parts their final places, and returns them as its parameters.
    fn settle_parts(
        &mut self,
        weight: &Weight<'_, '_>,
        written: Written,
    ) -> Result<Vec<NewValue>, Error> {
        let parts = weight.layout.parts.iter().zip(written.parts);
        let parts = parts.map(|(part, source)| Part {
            dtype: part.dtype,
            shape: part.shape.clone(),
            source: match (part.role, source) {
                (Role::ZeroPoints, PartSource::Memory(codes)) => {
                    PartSource::Memory(packed(weight.quantizer.scheme.dtype, codes))
                }
                (_, source) => source,
            },
        });
        let parts = parts.collect();
        let block = self.graph.constants[weight.choice.constant].block;
        let mut values = self.emitter.settle(&weight.file, block, parts)?;
        values.extend(weight.layout.axis.map(|axis| NewValue {
            dtype: DataType::INT32,
            shape: Vec::new(),
            elements: Elements::Here((axis as i32).to_le_bytes().to_vec()),
        }));
        Ok(values)
    }
}
