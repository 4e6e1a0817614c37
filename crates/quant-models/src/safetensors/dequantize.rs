//! From a quantized model back to a float one.

use std::path::Path;

use quant_simd::Failure;

use super::quantize::type_name;
use crate::output::{Part, PartSink, Target};
use crate::scheme_record::KEY;
use crate::{Error, Job, Model};

/// Restores float tensors of the source type, and returns the bytes written.
pub(crate) fn dequantize(input: &Path, output: &Path, job: &Job<'_>) -> Result<u64, Error> {
    let model = Model::open(input)?;
    if !model.is_quantized() {
        let problem = "holds no tensor that quant quantized; there is nothing to do";
        return Err(Error::file(input, problem));
    }
    let tensors = model.tensors()?;
    let target = Target::new(&model, output, job)?;
    let mut outputs = Vec::new();
    for file in &model.files {
        let own = || {
            tensors
                .iter()
                .filter(|tensor| std::ptr::eq(tensor.file, file))
        };
        let parts = own().map(|tensor| match &tensor.quantized {
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
                len: file.data(tensor.entry).len(),
            },
        });
        let mut metadata = file.metadata().clone();
        metadata.remove(KEY);
        let output = target.file(&metadata, parts.collect())?;
        for tensor in own() {
            let Some(q) = &tensor.quantized else {
                output.copy(tensor.name, file.data(tensor.entry), job)?;
                continue;
            };
            let sink = PartSink {
                output: &output,
                job,
                name: tensor.name,
                scale: String::new(),
                zero_point: String::new(),
                per_code_byte: (
                    q.quantizer.scheme.dtype.bits().into(),
                    q.quantizer.source.size() as u64 * 8,
                ),
            };
            let source = q.quantizer.source;
            q.quantizer
                .dequantize(q.codes, q.scales, q.zero_points, source, &sink)
                .map_err(|failure| match failure {
                    Failure::Sink(error) => error,
                    other => Error::tensor(
                        file.path(),
                        tensor.name,
                        format!("{other:?}; the file is damaged"),
                    ),
                })?;
        }
        outputs.push(output);
    }
    target.finish(&model, outputs, job)
}
