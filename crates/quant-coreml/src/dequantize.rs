//! From a quantized package back to a float one.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Mutex;

use quant_core::FloatType;
use quant_model::io::{Data, DataKey};
use quant_model::restored::{Restoring, left_alone, nothing_to_restore, restore_tensor};
use quant_model::stored::Parts;
use quant_model::{Error, Inputs, Job, Restored};

use super::blob::{ALIGN, WeightFile};
use super::emit::{Emitter, Part};
use super::graph::{Constant, Graph};
use super::output::Target;
use super::package::Package;
use super::parts::{self, PartBuffer, PartsSink};
use super::select::shown_name;
use crate::mil::encode::{Become, Edit, NewValue};
use crate::mil::program::Payload;
use crate::mil::rewrite::Changes;
use crate::mil::schema::DataType;

/// Turns linearly quantized weights into float constants.
pub(crate) fn dequantize<'p>(
    package: &'p Package<'_>,
    graph: &Graph<'p, '_>,
    output: &Path,
    job: &Job<'_>,
) -> Result<Restored, Error> {
    let input = package.path;
    let mut warnings = package.warnings();
    let quantized = quantized(package, graph, &mut warnings)?;
    warnings.extend(of_activations(package)?);
    let mut target = Target::new(package, &Inputs::of_model(input), output, job)?;
    warnings.append(&mut target.warnings);
    let room = room(package, quantized.values());
    let mut emitter = Emitter::create(package, graph, &target, room, job)?;
    let mut changes = Changes::default();
    // By block and value; and weights of other blocks, by record and parameters.
    let mut made: HashMap<(usize, Vec<NewValue>), &str> = HashMap::new();
    let mut shared: HashMap<Shared<'_>, Vec<NewValue>> = HashMap::new();
    package.program.each(&mut |_, operation| {
        let Some(weight) = quantized.get(&operation.id) else {
            return emitter.copy_all(operation);
        };
        let constant = weight.constant;
        let values = match shared.get(&weight.key()) {
            Some(known) => known.clone(),
            None => {
                emitter.ensure(&weight.file)?;
                let value = restore(package, &emitter, job, weight)?;
                let values = emitter.settle(&weight.file, constant.block, vec![value])?;
                shared.insert(weight.key(), values.clone());
                values
            }
        };
        let output = operation.outputs.first().map_or("", |output| output.name);
        let here = (constant.block, values.clone());
        if let Some(name) = made.get(&here).filter(|_| !constant.leaves_block) {
            changes.edits.insert(operation.id, Edit::Remove);
            changes.renamed.insert(operation.id, (*name).into());
            return Ok(());
        }
        made.entry(here).or_insert(output);
        let edit = constant_of(output, values, &weight.file);
        changes.edits.insert(operation.id, Edit::Become(edit));
        Ok(())
    })?;
    let mut elsewhere = package.program.elsewhere.iter();
    elsewhere.try_for_each(|blob| emitter.copy(blob))?;
    let bytes = emitter.finish(changes)?;
    target.finish(job)?;
    Ok(Restored::new(bytes, warnings))
}

/// The constant that an operation becomes.
fn constant_of(name: &str, values: Vec<NewValue>, file: &str) -> Become {
    Become {
        kind: "const",
        name: name.into(),
        parameters: ["val"].into_iter().zip(values).collect(),
        as_inputs: false,
        file: file.to_owned(),
        old: &[
            "data",
            "scale",
            "offset",
            "quantized_data",
            "zero_point",
            "axis",
        ],
    }
}

/// That activations stay quantized, if there are any.
fn of_activations(package: &Package<'_>) -> Result<Option<String>, Error> {
    let mut activations = 0;
    package.program.each(&mut |_, operation| {
        activations += usize::from(operation.kind == "quantize");
        Ok::<_, Error>(())
    })?;
    Ok((activations > 0).then(|| {
        format!(
            "activations stay quantized ({activations} quantize operations): only weights are restored"
        )
    }))
}

/// Bytes of each weight file at most.
fn room<'w, 's: 'w, 'p: 's>(
    package: &Package<'_>,
    weights: impl Iterator<Item = &'w Weight<'s, 'p>>,
) -> HashMap<String, u64> {
    let mut room = HashMap::new();
    for weight in weights {
        let quantizer = &weight.parts.quantizer;
        let values = quantizer.blocks.element_count() * quantizer.source.size();
        let old = package.weights.get(&weight.file);
        let old = old.map_or(ALIGN, WeightFile::len);
        *room.entry(weight.file.clone()).or_insert(old) += values as u64 + 2 * ALIGN;
    }
    room
}

/// A weight to be restored.
struct Weight<'s, 'p> {
    constant: &'s Constant<'p, 'p>,
    /// Its name for people.
    name: String,
    /// The weight file that it goes to.
    file: String,
    codes: Data<'p>,
    parts: Parts<'p>,
}

/// The linearly quantized weights, by their operations, at least one; and a warning of each other one.
fn quantized<'s, 'p>(
    package: &'p Package<'p>,
    graph: &'s Graph<'p, 'p>,
    warnings: &mut Vec<String>,
) -> Result<HashMap<usize, Weight<'s, 'p>>, Error> {
    let (mut found, known) = (HashMap::new(), warnings.len());
    let constants = graph.constants.iter();
    for constant in constants.filter(|one| one.operation.is_constexpr()) {
        let operation = constant.operation;
        let name = shown_name(&package.program, constant);
        let Some((codes, parts)) = parts::read(package, operation)? else {
            warnings.push(left_alone(&name, operation.kind));
            continue;
        };
        let stage = package.program.functions[constant.function].stage;
        let file = operation.values().find_map(|value| match &value.payload {
            Payload::Blob(blob) => Some(blob.file.to_owned()),
            _ => None,
        });
        let weight = Weight {
            constant,
            name,
            file: file.unwrap_or_else(|| package.weight_file(stage)),
            codes,
            parts,
        };
        found.insert(operation.id, weight);
    }
    if found.is_empty() {
        let left = warnings[known..].last().map(String::as_str);
        return Err(nothing_to_restore(package.path, left));
    }
    Ok(found)
}

/// Where codes are, scales and zero points, and geometry: equal ones are the same weight.
type Shared<'a> = (
    &'a str,
    DataKey<'a>,
    DataKey<'a>,
    DataKey<'a>,
    &'a [usize],
    &'a [usize],
);

impl Weight<'_, '_> {
    fn key(&self) -> Shared<'_> {
        let parts = &self.parts;
        let blocks = &parts.quantizer.blocks;
        (
            &self.file,
            self.codes.key(),
            parts.scales.key(),
            parts.zero_points.key(),
            blocks.shape(),
            blocks.block_sizes(),
        )
    }
}

/// Writes the values of a weight.
fn restore(
    package: &Package<'_>,
    emitter: &Emitter<'_>,
    job: &Job<'_>,
    weight: &Weight<'_, '_>,
) -> Result<Part, Error> {
    let Weight {
        name,
        file,
        codes,
        parts,
        ..
    } = weight;
    let quantizer = &parts.quantizer;
    let shape = quantizer.blocks.shape().to_vec();
    let source = quantizer.source;
    let at = |large: bool| match large {
        true => Ok(Some(emitter.writer(file)?.next() + ALIGN)),
        false => Ok::<_, Error>(None),
    };
    let at = at(Part::is_large(&shape))?;
    let len = quantizer.blocks.element_count() * source.size();
    let sink = PartsSink {
        writer: emitter.writer(file)?,
        job,
        codes: at.map_or_else(|| PartBuffer::memory(len), PartBuffer::File),
        scales: PartBuffer::Memory(Mutex::default()),
        zero_points: PartBuffer::Memory(Mutex::default()),
        per_code_byte: (
            quantizer.scheme.dtype.bits().into(),
            source.size() as u64 * 8,
        ),
    };
    let restoring = Restoring {
        file: package.path,
        name,
        quantizer,
        codes,
        scales: &parts.scales,
        zero_points: &parts.zero_points,
    };
    restore_tensor(&restoring, &sink)?;
    Ok(Part {
        dtype: match source {
            FloatType::F32 => DataType::FLOAT32,
            FloatType::F16 | FloatType::Bf16 => DataType::FLOAT16,
        },
        shape,
        source: sink.codes.into_source(),
    })
}
