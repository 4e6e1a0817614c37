//! From a quantized model back to a float one.

use std::collections::HashMap;
use std::path::Path;

use quant_simd::Failure;

use super::output::{Layout, Output, Part, PartSink, Target};
use super::quantize::type_name;
use crate::scheme_record::KEY;
use crate::{DequantizeOptions, Error, Inputs, Job, Model, Restored, SafetensorsFile, Tensor};

/// Restores float tensors of the source type.
pub(crate) fn dequantize(
    input: &Path,
    output: &Path,
    options: &DequantizeOptions,
    job: &Job<'_>,
) -> Result<Restored, Error> {
    let model = Model::open_for(input, job)?;
    if !model.is_quantized() {
        let problem = "holds no tensor that quant quantized; there is nothing to do";
        return Err(Error::file(input, problem));
    }
    let mut by_file: HashMap<*const SafetensorsFile, Vec<Tensor<'_>>> = HashMap::new();
    for tensor in model.tensors_for(job)? {
        let file: *const SafetensorsFile = tensor.file;
        by_file.entry(file).or_default().push(tensor);
    }
    let own = |file: &SafetensorsFile| {
        let file: *const SafetensorsFile = file;
        by_file.get(&file).map_or(&[][..], |tensors| tensors)
    };
    let layouts = model.files.iter().map(|file| layout(file, own(file), job));
    let layouts = layouts.collect::<Result<Vec<_>, Error>>()?;
    let inputs = Inputs::of_model(input);
    let mut target = Target::new(&model, &inputs, &layouts, output, job)?;
    if !options.weights_only {
        target.copy_companions(job)?;
    }
    for (file, layout) in model.files.iter().zip(layouts) {
        let output = target.begin(file, layout)?;
        for tensor in own(file) {
            restore(tensor, &output, job)?;
        }
        target.end(file, output, job)?;
    }
    let warnings = std::mem::take(&mut target.warnings);
    let copied = std::mem::take(&mut target.copied);
    Ok(Restored {
        bytes: target.finish(job)?,
        warnings,
        copied,
    })
}

fn layout(file: &SafetensorsFile, tensors: &[Tensor<'_>], job: &Job<'_>) -> Result<Layout, Error> {
    let parts = tensors.iter().map(|tensor| match &tensor.quantized {
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
    });
    let mut metadata = file.metadata().clone();
    metadata.remove(KEY);
    Layout::new(&metadata, parts.collect(), job)
}

fn restore(tensor: &Tensor<'_>, output: &Output, job: &Job<'_>) -> Result<(), Error> {
    let file = tensor.file;
    let Some(q) = &tensor.quantized else {
        return output.copy(tensor.name, &file.data(tensor.entry), job);
    };
    let source = q.quantizer.source;
    let sink = PartSink {
        output,
        job,
        name: tensor.name,
        scale: String::new(),
        zero_point: String::new(),
        per_code_byte: (
            q.quantizer.scheme.dtype.bits().into(),
            source.size() as u64 * 8,
        ),
    };
    q.quantizer
        .dequantize_source(
            &q.codes,
            &q.scales.whole()?,
            &q.zero_points.whole()?,
            source,
            &sink,
        )
        .map_err(|failure| match failure {
            Failure::Sink(error) => error,
            other => Error::tensor(
                file.path(),
                tensor.name,
                format!("{other}; the file is damaged"),
            ),
        })
}
