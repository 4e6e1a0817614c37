//! From a quantized model back to a float one.

use std::path::Path;

use quant_model::restored::{Restoring, nothing_to_restore, restore_tensor};
use quant_model::{DequantizeOptions, Error, Inputs, Job, Restored};

use super::encodings::{OutputFile, PartOffset, Step, convention, type_name};
use super::foreign::Foreign;
use super::output::{Layout, Output, PartSink, Target};
use super::part::Part;
use crate::{Model, Tensor};

/// Restores float tensors of the source type.
pub(crate) fn dequantize(
    model: &Model,
    input: &Path,
    output: &Path,
    options: &DequantizeOptions,
    job: &Job<'_>,
) -> Result<Restored, Error> {
    let Some(encoding) = model.encodings().next() else {
        let left = Foreign::find(model, job)?.unrestored();
        return Err(nothing_to_restore(input, left.as_deref()));
    };
    let convention = convention(encoding);
    let tensors = model.without_activations(model.tensors_for(job)?);
    let files = files(model, &tensors, job)?;
    let layouts = files.iter().map(|file| Layout::new(file, job));
    let layouts = layouts.collect::<Result<Vec<_>, Error>>()?;
    let inputs = Inputs::of_model(input);
    let mut target = Target::new(model, &inputs, &layouts, output, job)?;
    if !options.weights_only {
        target.copy_companions(&|name| convention.writes(name), job)?;
    }
    for (file, layout) in files.into_iter().zip(layouts) {
        let output = target.begin(file.like, layout)?;
        for step in &file.steps {
            if let Step::Copy { tensor, to } = step {
                restore(&tensors[*tensor], to, &output, job)?;
            }
        }
        target.end(&file.name, output, job)?;
    }
    target.write_documents(|written| convention.restored_documents(&model.base, written, job))?;
    let warnings = std::mem::take(&mut target.warnings);
    let warnings = warnings.into_iter().chain(model.activations_left_out());
    let copied = std::mem::take(&mut target.copied);
    let mut restored = Restored::new(target.finish(job)?, warnings);
    restored.copied = copied;
    Ok(restored)
}

/// A file for each one of the model; a tensor is where its codes were.
fn files<'m>(
    model: &'m Model,
    tensors: &[Tensor<'_>],
    job: &Job<'_>,
) -> Result<Vec<OutputFile<'m>>, Error> {
    let files = model.base.files.iter().map(|file| {
        let mut metadata = file.metadata().clone();
        for encoding in model.encodings() {
            convention(encoding).restore_metadata(&mut metadata);
        }
        OutputFile {
            name: file.path().file_name().unwrap_or_default().to_owned(),
            like: file,
            metadata,
            parts: Vec::new(),
            steps: Vec::new(),
        }
    });
    let mut files: Vec<_> = files.collect();
    for (index, tensor) in tensors.iter().enumerate() {
        job.check()?;
        let Some(file) = files
            .iter_mut()
            .find(|it| std::ptr::eq(it.like, tensor.file))
        else {
            continue;
        };
        let part = match &tensor.quantized {
            Some(q) => Part {
                name: tensor.name.into(),
                dtype: type_name(q.quantizer.source).into(),
                shape: q.record.shape.clone(),
                len: tensor.element_count() * q.quantizer.source.size(),
            },
            None => Part {
                name: tensor.name.into(),
                dtype: tensor.entry.dtype.clone(),
                shape: tensor.entry.shape.clone(),
                len: tensor.entry.len(),
            },
        };
        let to = PartOffset::whole(&part);
        file.parts.push(part);
        file.steps.push(Step::Copy { tensor: index, to });
    }
    Ok(files)
}

fn restore(
    tensor: &Tensor<'_>,
    to: &PartOffset,
    output: &Output,
    job: &Job<'_>,
) -> Result<(), Error> {
    let file = tensor.file;
    let Some(q) = &tensor.quantized else {
        return output.copy(to, &file.data(tensor.entry), job);
    };
    let source = q.quantizer.source;
    let sink = PartSink {
        output,
        job,
        codes: to,
        scales: None,
        offsets: None,
        gathered: None,
        per_code_byte: (
            q.quantizer.scheme.dtype.bits().into(),
            source.size() as u64 * 8,
        ),
    };
    let restoring = Restoring {
        file: file.path(),
        name: tensor.name,
        quantizer: &q.quantizer,
        codes: &q.codes,
        scales: &q.scales,
        zero_points: &q.zero_points,
    };
    restore_tensor(&restoring, &sink)
}
