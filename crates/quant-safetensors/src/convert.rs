//! From one encoding to another: the same integers, scales and zero points, said in other words.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use quant_core::STATS_CHUNK;
use quant_model::error::{command, shortened};
use quant_model::facts::{Axes, Facts, Storage};
use quant_model::report::Decision;
use quant_model::settings::Settings;
use quant_model::{
    Converted, Encoding, Error, Grouping, HintCommand, Inputs, Job, QuantizeOptions, SchemeRecord,
};
use quant_simd::{Source as _, TensorQuantizer};
use rayon::prelude::*;

use super::encodings::{
    Convention, OutputFile, PartOffset, Recode, Recoded, TensorParts, convention,
};
use super::output::{Layout, Output, Target};
use super::part::Part;
use crate::model_files::ModelFiles;
use crate::{Model, Quantized, Tensor};

/// How a quantized tensor is written in another encoding.
struct Change {
    recoded: Recoded,
    parts: TensorParts,
}

/// Writes the model at `input` in another encoding.
///
/// # Errors
/// Tensors that have no place there with the same values; then there is no output.
pub(crate) fn convert(
    model: &Model,
    input: &Path,
    output: &Path,
    encoding: Encoding,
    weights_only: bool,
    job: &Job<'_>,
) -> Result<Converted, Error> {
    let from = source_encoding(model, input, encoding)?;
    let (source, target) = (convention(from), convention(encoding));
    let recode = target
        .recode()
        .map_err(|why| Error::file(input, format!("is not converted to {encoding}, {why}")))?;
    let tensors = model.without_activations(model.tensors_for(job)?);
    // What the tensors are says more than that the model's configuration is not a float model's.
    let changes = changes(model, &tensors, encoding, recode, input)?;
    target.check_model(&model.base, &QuantizeOptions::for_encoding(encoding))?;
    let files = files(model, &tensors, &changes, source, target)?;
    let layouts = files.iter().map(|file| Layout::new(file, job));
    let layouts = layouts.collect::<Result<Vec<_>, Error>>()?;
    let mut made = Target::new(model, &Inputs::of_model(input), &layouts, output, job)?;
    if !weights_only {
        made.copy_companions(&|name| source.writes(name) || target.writes(name), job)?;
    }
    for (file, layout) in files.iter().zip(layouts) {
        let output = made.begin(file.like, layout)?;
        for (tensor, change) in tensors.iter().zip(&changes) {
            if std::ptr::eq(tensor.file, file.like) {
                write(tensor, change.as_ref(), target, &output, job)?;
            }
        }
        made.end(&file.name, output, job)?;
    }
    let decisions = decisions(model, &tensors, &changes);
    made.write_documents(|written| match target.writes(CONFIG) {
        true => target.documents(&model.base, &decisions, None, written, job),
        false => source.restored_documents(&model.base, written, job),
    })?;
    let warnings = std::mem::take(&mut made.warnings);
    let copied = std::mem::take(&mut made.copied);
    let count = changes.iter().flatten().count();
    let mut converted = Converted::new(made.finish(job)?, count, warnings);
    converted.copied = copied;
    Ok(converted)
}

const CONFIG: &str = "config.json";

/// The encoding that a model has, if it can be converted.
fn source_encoding(model: &Model, input: &Path, encoding: Encoding) -> Result<Encoding, Error> {
    let bad = |problem: String| Err(Error::file(input, problem));
    let Some(from) = model.encodings().next() else {
        return bad(format!(
            "holds no tensor that quant quantized; {} writes it in this format",
            command(HintCommand::Quantize)
        ));
    };
    if from == encoding {
        return bad(format!("is in the format {encoding} already"));
    }
    Ok(from)
}

/// One per tensor; none for those that are not quantized.
fn changes(
    model: &Model,
    tensors: &[Tensor<'_>],
    encoding: Encoding,
    recode: Recode,
    input: &Path,
) -> Result<Vec<Option<Change>>, Error> {
    let (mut changes, mut refused) = (Vec::new(), Vec::new());
    for tensor in tensors {
        let Some(quantized) = &tensor.quantized else {
            changes.push(None);
            continue;
        };
        match change(model, tensor, quantized, convention(encoding), recode)? {
            Ok(change) => changes.push(Some(change)),
            Err(reason) => refused.push((tensor.name, reason)),
        }
    }
    Err(match refused.first() {
        None => return Ok(changes),
        Some((name, reason)) => {
            let more = match refused.len() - 1 {
                0 => String::new(),
                more => format!(" (and {more} more, such as this one)"),
            };
            let problem = format!(
                "cannot be said in {encoding} with the same values: {reason}{more}; nothing is quantized anew, start from the float model or leave it out there"
            );
            Error::tensor(input, &shortened(name), problem)
        }
    })
}

fn change(
    model: &Model,
    tensor: &Tensor<'_>,
    quantized: &Quantized<'_>,
    target: &dyn Convention,
    recode: Recode,
) -> Result<Result<Change, String>, Error> {
    let stored = quantized.zero_points.whole()?;
    let below_zero = has_scales_below_zero(quantized)?;
    let recoded = match recode(&quantized.quantizer, &stored, below_zero) {
        Ok(recoded) => recoded,
        Err(reason) => return Ok(Err(reason)),
    };
    let quantizer = &recoded.quantizer;
    if quantizer.scale_type() != quantized.quantizer.scale_type() {
        return Ok(Err(format!(
            "its scales are {}, and would have to be {}",
            quantized.quantizer.scale_type(),
            quantizer.scale_type()
        )));
    }
    let fits = target.supports(tensor.name, quantizer);
    let fits = fits.and_then(|()| wanted(&model.base, tensor, quantizer, target));
    if let Err(reason) = fits {
        return Ok(Err(reason));
    }
    let parts = target.parts(tensor.name, quantizer);
    Ok(Ok(Change { recoded, parts }))
}

fn has_scales_below_zero(quantized: &Quantized<'_>) -> Result<bool, Error> {
    if !quantized.quantizer.scheme.has_signed_scales() {
        return Ok(false);
    }
    let scales = quantized.scales.whole()?;
    let scales = quant_simd::widen(&scales, quantized.quantizer.scale_type());
    Ok(scales.iter().any(|&scale| scale < 0.0))
}

/// Why a loader wants the tensor in float.
fn wanted(
    model: &ModelFiles,
    tensor: &Tensor<'_>,
    quantizer: &TensorQuantizer,
    target: &dyn Convention,
) -> Result<(), String> {
    let facts = Facts {
        index: 0,
        name: tensor.name.into(),
        alias: None,
        file: tensor.file.path().to_owned(),
        dtype: tensor.entry.dtype.clone(),
        shape: quantizer.blocks.shape().to_vec(),
        bytes: 0,
        storage: Storage::Float(quantizer.source),
        axes: Axes::Agreed {
            output: 0,
            input: 1,
        },
        consumers: Vec::new(),
        pinned: None,
    };
    let mut settings = Settings {
        scheme: quantizer.scheme,
        granularity: Grouping::Blocks(quantizer.blocks.block_sizes().to_vec()),
        block_type: None,
        min_elements: 0,
        all_axes: false,
    };
    target.adjust(model, &facts, &mut settings)
}

/// A file for each one of the model, with its tensors in order.
fn files<'m>(
    model: &'m Model,
    tensors: &[Tensor<'_>],
    changes: &[Option<Change>],
    source: &dyn Convention,
    target: &dyn Convention,
) -> Result<Vec<OutputFile<'m>>, Error> {
    let mut files = Vec::new();
    for file in &model.base.files {
        let mut made = OutputFile {
            name: file.path().file_name().unwrap_or_default().to_owned(),
            like: file,
            metadata: file.metadata().clone(),
            parts: Vec::new(),
            steps: Vec::new(),
        };
        source.restore_metadata(&mut made.metadata);
        let mut records = BTreeMap::new();
        for (tensor, change) in tensors.iter().zip(changes) {
            if !std::ptr::eq(tensor.file, file) {
                continue;
            }
            let Some(change) = change else {
                made.parts.push(kept(tensor));
                continue;
            };
            let record = SchemeRecord::from_quantizer(&change.recoded.quantizer);
            records.insert(tensor.name.to_owned(), record);
            made.parts
                .extend(change.parts.all().map(|(_, part)| part.clone()));
        }
        target.describe(&mut made, records)?;
        let mut names = std::collections::HashSet::new();
        if let Some(twice) = made.parts.iter().find(|part| !names.insert(&part.name)) {
            let problem = "two tensors would have this name; rename one of them";
            return Err(Error::tensor(file.path(), &twice.name, problem));
        }
        files.push(made);
    }
    Ok(files)
}

fn kept(tensor: &Tensor<'_>) -> Part {
    Part {
        name: tensor.name.into(),
        dtype: tensor.entry.dtype.clone(),
        shape: tensor.entry.shape.clone(),
        len: tensor.entry.len(),
    }
}

/// One per entry of the files, as those who describe a result want it.
fn decisions(model: &Model, tensors: &[Tensor<'_>], changes: &[Option<Change>]) -> Vec<Decision> {
    let changed = tensors.iter().zip(changes);
    let changed = changed.filter_map(|(tensor, change)| Some((tensor.name, change.as_ref()?)));
    let changed: BTreeMap<&str, &Change> = changed.collect();
    let entries = model.base.entries();
    let decisions = entries.map(|(_, name, _)| match changed.get(name) {
        Some(change) => Decision::Quantize(change.recoded.quantizer.clone()),
        None => Decision::LeaveAlone(String::new()),
    });
    decisions.collect()
}

fn write(
    tensor: &Tensor<'_>,
    change: Option<&Change>,
    target: &dyn Convention,
    output: &Output,
    job: &Job<'_>,
) -> Result<(), Error> {
    let (Some(change), Some(quantized)) = (change, &tensor.quantized) else {
        let to = PartOffset::whole(&kept(tensor));
        return output.copy(&to, &tensor.file.data(tensor.entry), job);
    };
    let Change { recoded, parts } = change;
    let scales = quantized.scales.whole()?;
    output.write_part(&parts.scales.name, 0, &scales)?;
    if let Some(part) = &parts.offsets {
        let bytes = match target.packs_offsets(&recoded.quantizer) {
            true => target.packed_offsets(&recoded.quantizer, &recoded.zero_points),
            false => recoded.zero_points.clone(),
        };
        output.write_part(&part.name, 0, &bytes)?;
    }
    for (part, bytes) in &parts.constants {
        output.write_part(&part.name, 0, bytes)?;
    }
    let zero_points = quantized.zero_points.whole()?;
    let (elements, bits) = (
        tensor.element_count(),
        recoded.quantizer.scheme.dtype.bits(),
    );
    let place = |element: usize| (element * bits as usize).div_ceil(8);
    (0..elements.div_ceil(STATS_CHUNK))
        .into_par_iter()
        .try_for_each(|chunk| {
            job.check()?;
            let window = chunk * STATS_CHUNK..((chunk + 1) * STATS_CHUNK).min(elements);
            let (start, end) = (place(window.start), place(window.end));
            let mut codes = vec![0; end - start];
            quantized.codes.read(start, &mut codes)?;
            let values = |quantizer: &TensorQuantizer, codes: &[u8], zero_points: &[u8]| {
                let parts = [codes, &scales[..], zero_points];
                restored(tensor, quantizer, parts, window.clone())
            };
            let before = values(&quantized.quantizer, &codes, &zero_points)?;
            codes.iter_mut().for_each(|byte| *byte ^= recoded.flip);
            let after = values(&recoded.quantizer, &codes, &recoded.zero_points)?;
            let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits() || *a == *b;
            if !before.iter().zip(&after).all(same) {
                let problem = "would have other values there; nothing was written";
                return Err(Error::tensor(tensor.file.path(), tensor.name, problem));
            }
            output.write_part(&parts.codes.name, start, &codes)?;
            (job.progress)(codes.len() as u64);
            Ok(())
        })
}

/// The values of a window of a tensor, from its codes, and from the scales and zero points of all of it.
fn restored(
    tensor: &Tensor<'_>,
    quantizer: &TensorQuantizer,
    [codes, scales, zero_points]: [&[u8]; 3],
    window: Range<usize>,
) -> Result<Vec<f32>, Error> {
    let mut values = vec![0.0; window.len()];
    let done = quantizer.dequantize_some(codes, scales, zero_points, window, &mut values);
    done.map_err(|error| {
        let problem = format!("{error}; the file is damaged");
        Error::tensor(tensor.file.path(), tensor.name, problem)
    })?;
    Ok(values)
}
