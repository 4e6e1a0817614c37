//! The bytes of a package before it is written.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;

use quant_model::report::Decision;
use quant_model::{Error, Job};
use quant_simd::TensorQuantizer;

use super::blob::ALIGN;
use super::emit::{Part, new_name};
use super::graph::{Constant, Graph};
use super::manifest::MANIFEST;
use super::output::size;
use super::package::Package;
use super::quantize::raise_versions;
use super::select::{self, Candidate};
use super::weight_layout::WeightLayout;
use super::weights::Origin;
use crate::mil::encode::{Become, Edit, Elements, NewValue, Store};
use crate::mil::program::{Blob, Operation, Value};
use crate::mil::rewrite::Changes;
use crate::mil::schema::DataType;

/// The bytes of all files of the package that these decisions make, one per candidate: what is written
/// without its data. Different weights whose parts happen to be equal are counted apart.
pub(crate) fn bytes_of(
    package: &Package<'_>,
    graph: &Graph<'_, '_>,
    candidates: &[Candidate<'_, '_>],
    decisions: &[Decision],
    job: &Job<'_>,
) -> Result<u64, Error> {
    let before = size(package.path)?;
    let mut quantized = HashMap::new();
    for (choice, decision) in candidates.iter().zip(decisions) {
        if let (Decision::Quantize(quantizer), Some(value)) = (decision, choice.value) {
            let constant = &graph.constants[choice.constant];
            let weight = Planned {
                choice,
                quantizer,
                value,
                constant,
            };
            quantized.insert(constant.operation.id, weight);
        }
    }
    if quantized.is_empty() {
        return Ok(before);
    }
    let mut sizes = Sizes::new(package, graph);
    package.program.each(&mut |_, operation| {
        job.check()?;
        match quantized.remove(&operation.id) {
            Some(weight) => sizes.weight(&weight),
            None => sizes.kept(operation),
        }
    })?;
    let mut elsewhere = package.program.elsewhere.iter();
    elsewhere.try_for_each(|blob| sizes.copy(blob))?;
    sizes.total(before, candidates, decisions)
}

/// A weight to be quantized.
struct Planned<'s, 'p, 'a> {
    choice: &'s Candidate<'p, 'a>,
    quantizer: &'s TensorQuantizer,
    value: &'p Value<'a>,
    constant: &'s Constant<'p, 'a>,
}

/// Weights of other blocks that share record, type and geometry are stored once.
type Shared = (
    String,
    Origin,
    &'static str,
    quant_core::Scheme,
    Vec<usize>,
    Vec<usize>,
);

struct Sizes<'s, 'p, 'a> {
    package: &'s Package<'a>,
    graph: &'s Graph<'p, 'a>,
    /// Where each weight file ends.
    ends: BTreeMap<String, u64>,
    changes: Changes,
    /// Constants that stand in the model, where coremltools puts them into a weight file.
    inline: HashMap<usize, String>,
    shared: HashMap<Shared, Vec<NewValue>>,
    names: Vec<HashSet<String>>,
    made: HashMap<(usize, Vec<NewValue>), String>,
}

impl<'s, 'p, 'a> Sizes<'s, 'p, 'a> {
    fn new(package: &'s Package<'a>, graph: &'s Graph<'p, 'a>) -> Self {
        let files = package.weights.keys();
        let names = graph.names.iter();
        let owned = |names: &HashSet<&str>| names.iter().map(|&name| name.to_owned()).collect();
        let constants = graph.constants.iter().filter_map(|constant| {
            select::weight(&package.program, constant)?.elements()?;
            let stage = package.program.functions[constant.function].stage;
            Some((constant.operation.id, package.weight_file(stage)))
        });
        Self {
            package,
            graph,
            ends: files.map(|file| (file.clone(), ALIGN)).collect(),
            changes: Changes::default(),
            inline: constants.collect(),
            shared: HashMap::new(),
            names: names.map(owned).collect(),
            made: HashMap::new(),
        }
    }

    /// Appends a record, and says where.
    fn record(&mut self, file: &str, len: u64) -> u64 {
        let end = self.ends.entry(file.to_owned()).or_insert(ALIGN);
        let place = end.next_multiple_of(ALIGN);
        *end = place + ALIGN + len;
        place
    }

    fn copy(&mut self, blob: &Blob<'_>) -> Result<(), Error> {
        let key = (blob.file.to_owned(), blob.offset);
        if !self.changes.moved.contains_key(&key) {
            let (_, record) = self.package.record(blob)?;
            let place = self.record(blob.file, record.data.len() as u64);
            self.changes.moved.insert(key, place);
        }
        Ok(())
    }

    /// An operation that stays as it is.
    fn kept(&mut self, operation: &Operation<'_>) -> Result<(), Error> {
        operation
            .blobs()
            .iter()
            .try_for_each(|blob| self.copy(blob))?;
        let value = operation.attribute("val");
        let kind = value.and_then(|value| Some((value.elements()?, value.kind.as_ref()?)));
        let (Some(file), Some((bytes, kind))) = (self.inline.remove(&operation.id), kind) else {
            return Ok(());
        };
        if let Some(shape) = kind.shape() {
            let elements = Elements::Blob(self.record(&file, bytes.len() as u64));
            let value = NewValue {
                dtype: kind.dtype,
                shape,
                elements,
            };
            let store = Edit::Store(Store { file, value });
            self.changes.edits.insert(operation.id, store);
        }
        Ok(())
    }

    fn weight(&mut self, weight: &Planned<'_, '_, '_>) -> Result<(), Error> {
        let (package, constant, quantizer) = (self.package, weight.constant, weight.quantizer);
        let id = constant.operation.id;
        let since_18 = select::since_18(&package.program, constant);
        let (file, origin) = Origin::new(package, weight.value, constant);
        let layout = WeightLayout::new(quantizer, since_18).map_err(|problem| {
            Error::tensor(&package.model_path(), &weight.choice.name, problem)
        })?;
        let key = (
            file.clone(),
            origin,
            layout.kind,
            quantizer.scheme,
            quantizer.blocks.shape().to_vec(),
            quantizer.blocks.block_sizes().to_vec(),
        );
        let values = match self.shared.get(&key) {
            Some(values) => values.clone(),
            None => {
                let values = self.values(&file, &layout);
                self.shared.insert(key, values.clone());
                values
            }
        };
        let made = (constant.block, values.clone());
        if let Some(name) = self.made.get(&made).filter(|_| !constant.leaves_block) {
            self.changes.edits.insert(id, Edit::Remove);
            self.changes.renamed.insert(id, name.clone());
            return Ok(());
        }
        let name = new_name(
            &mut self.names[constant.function],
            constant.operation.name(),
        );
        self.made.entry(made).or_insert_with(|| name.clone());
        let edit = Edit::Become(Become {
            kind: layout.kind,
            name: name.clone(),
            parameters: layout.parameters.iter().copied().zip(values).collect(),
            as_inputs: layout.as_inputs,
            file,
            old: &["val"],
        });
        self.changes.edits.insert(id, edit);
        self.changes.renamed.insert(id, name);
        Ok(())
    }

    /// The parts of a weight, zeros where they stand in the model.
    fn values(&mut self, file: &str, layout: &WeightLayout) -> Vec<NewValue> {
        let mut values = Vec::new();
        for part in &layout.parts {
            let elements = match Part::len_of(part.dtype, &part.shape) {
                Some(len) => Elements::Blob(self.record(file, len)),
                None => Elements::Here(vec![0; Part::stored_len(part.dtype, &part.shape)]),
            };
            values.push(NewValue {
                dtype: part.dtype,
                shape: part.shape.clone(),
                elements,
            });
        }
        values.extend(layout.axis.map(|axis| NewValue {
            dtype: DataType::INT32,
            shape: Vec::new(),
            elements: Elements::Here((axis as i32).to_le_bytes().to_vec()),
        }));
        values
    }

    fn total(
        mut self,
        before: u64,
        candidates: &[Candidate<'_, '_>],
        decisions: &[Decision],
    ) -> Result<u64, Error> {
        let package = self.package;
        raise_versions(
            package,
            self.graph,
            candidates,
            decisions,
            &mut self.changes,
        );
        let damaged = |problem| Error::file(&package.model_path(), problem);
        let model = self.changes.apply(package.bytes).map_err(damaged)?;
        let files = self.ends.keys();
        let paths = files.map(|file| package.weight_path(file).map_err(damaged));
        let paths: Vec<PathBuf> = paths.collect::<Result<_, _>>()?;
        let manifest = match package.manifest_with(&paths)? {
            None => 0,
            Some(manifest) => {
                let path = package.path.join(MANIFEST);
                let old = std::fs::metadata(&path).map_err(Error::io(&path, "read it"))?;
                manifest.len() as i64 - old.len() as i64
            }
        };
        let weights: u64 = self.ends.values().sum();
        let old: u64 = package.weights.values().map(|file| file.len()).sum();
        let rest = before.saturating_sub(old + package.bytes.len() as u64);
        Ok((rest + weights + model.len() as u64).saturating_add_signed(manifest))
    }
}
