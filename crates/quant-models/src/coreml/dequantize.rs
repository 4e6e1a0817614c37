//! From a quantized package back to a float one.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Mutex;

use quant_core::FloatType;
use quant_simd::Failure;

use super::blob::ALIGN;
use super::emit::{Emitter, Part, Source, rewritten};
use super::encode::{Become, Edit, NewValue};
use super::graph::Graph;
use super::output::Target;
use super::package::Package;
use super::parts::{self, PartsSink, Place};
use super::program::Held;
use super::rewrite::Changes;
use super::schema::DataType;
use super::select::shown_name;
use crate::stored::Parts;
use crate::{Error, Inputs, Job, Restored};

/// Turns linearly quantized weights into float constants.
pub(crate) fn dequantize(input: &Path, output: &Path, job: &Job<'_>) -> Result<Restored, Error> {
    let package = Package::open(input)?;
    let program = package.program()?;
    let graph = Graph::of(&program);
    let mut quantized = HashMap::new();
    let mut warnings = Vec::new();
    for constant in graph
        .constants
        .iter()
        .filter(|one| one.operation.is_constexpr())
    {
        match parts::read(&package, constant.operation)? {
            Some(found) => {
                quantized.insert(constant.operation.id, (constant, found));
            }
            None => warnings.push(format!(
                "`{}` is left alone: quant does not undo {}",
                shown_name(&program, constant),
                constant.operation.kind
            )),
        }
    }
    if quantized.is_empty() {
        let problem = "holds no linearly quantized weight; there is nothing to do";
        return Err(Error::file(input, problem));
    }
    let mut activations = 0;
    program.each(&mut |_, operation| {
        activations += usize::from(operation.kind == "quantize");
        Ok::<_, Error>(())
    })?;
    if activations > 0 {
        warnings.push(format!(
            "activations stay quantized ({activations} quantize operations): only weights are restored"
        ));
    }
    let mut target = Target::new(&package, &Inputs::of_model(input), output, job)?;
    warnings.append(&mut target.warnings);
    let room = package
        .weights
        .iter()
        .map(|(name, file)| (name.as_str(), file.len()));
    let mut room: HashMap<&str, u64> = room.collect();
    for (_, (_, parts)) in quantized.values() {
        let values = parts.quantizer.blocks.element_count() * parts.quantizer.source.size();
        // Which of several files it goes to is not worth knowing: they are cut in the end.
        room.values_mut().for_each(|room| *room += values as u64);
    }
    let mut emitter = Emitter::create(&package, &target, &room, job)?;
    let mut changes = Changes::default();
    // By block and value; and weights of other blocks, by record and parameters.
    let mut made: HashMap<(usize, Vec<NewValue>), &str> = HashMap::new();
    let mut shared: HashMap<Shared<'_>, Vec<NewValue>> = HashMap::new();
    program.each(&mut |_, operation| {
        let Some((constant, (codes, parts))) = quantized.get(&operation.id) else {
            return emitter.copy_all(operation);
        };
        let blob = operation.values().find_map(|value| match &value.held {
            Held::Blob(blob) => Some(blob.file),
            _ => None,
        });
        // A weight whose every part stands in the model itself goes to the first file there is.
        let first = || package.weights.keys().next().map(String::as_str);
        let file = blob.or_else(first).unwrap_or_default();
        let name = shown_name(&program, constant);
        let key = shared_key(file, codes, parts);
        let values = match shared.get(&key) {
            Some(known) => known.clone(),
            None => {
                let value = restore(&package, &emitter, job, file, &name, (codes, parts))?;
                let values = emitter.settle(file, constant.block, vec![value])?;
                shared.insert(key, values.clone());
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
        let edit = Become {
            kind: "const",
            name: output.into(),
            parameters: ["val"].into_iter().zip(values).collect(),
            as_inputs: false,
            file: file.into(),
            old: &[
                "data",
                "scale",
                "offset",
                "quantized_data",
                "zero_point",
                "axis",
            ],
        };
        changes.edits.insert(operation.id, Edit::Become(edit));
        Ok(())
    })?;
    program
        .elsewhere
        .iter()
        .try_for_each(|blob| emitter.copy(blob))?;
    changes.moved.clone_from(&emitter.moved);
    let weights = emitter.finish()?;
    let model = changes.apply(&package.bytes);
    let model = model.map_err(|problem| Error::file(&package.model_path(), problem))?;
    target.put(&package, &package.model, &model)?;
    let rest = target.copy_rest(&package, &rewritten(&package), job)?;
    target.finish(job)?;
    Ok(Restored {
        bytes: weights + model.len() as u64 + rest,
        warnings,
        copied: Vec::new(),
    })
}

/// Where codes are, scales and zero points, and geometry: equal ones are the same weight.
type Shared<'a> = (
    &'a str,
    (*const u8, usize),
    &'a [u8],
    &'a [u8],
    &'a [usize],
    &'a [usize],
);

fn shared_key<'a>(file: &'a str, codes: &[u8], parts: &'a Parts<'_>) -> Shared<'a> {
    let blocks = &parts.quantizer.blocks;
    (
        file,
        (codes.as_ptr(), codes.len()),
        &parts.scales,
        &parts.zero_points,
        blocks.shape(),
        blocks.block_sizes(),
    )
}

/// Writes the values of a weight.
fn restore(
    package: &Package,
    emitter: &Emitter<'_>,
    job: &Job<'_>,
    file: &str,
    name: &str,
    (codes, parts): (&[u8], &Parts<'_>),
) -> Result<Part, Error> {
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
        codes: at.map_or_else(|| Place::memory(len), Place::File),
        scales: Place::Memory(Mutex::default()),
        zero_points: Place::Memory(Mutex::default()),
        per_code_byte: (
            quantizer.scheme.dtype.bits().into(),
            source.size() as u64 * 8,
        ),
    };
    quantizer
        .dequantize(codes, &parts.scales, &parts.zero_points, source, &sink)
        .map_err(|failure| match failure {
            Failure::Sink(error) => error,
            Failure::Params { block, source } => {
                let problem = format!("block {block}: {source}; the model is damaged");
                Error::tensor(&package.path, name, problem)
            }
            Failure::NonFinite { .. } => {
                Error::tensor(&package.path, name, "NaN or Inf; the model is damaged")
            }
        })?;
    Ok(Part {
        dtype: match source {
            FloatType::F32 => DataType::FLOAT32,
            _ => DataType::FLOAT16,
        },
        shape,
        source: match sink.codes {
            Place::File(at) => Source::File(at),
            Place::Memory(buffer) => Source::Memory(
                buffer
                    .into_inner()
                    .unwrap_or_else(|poisoned| poisoned.into_inner()),
            ),
        },
    })
}
