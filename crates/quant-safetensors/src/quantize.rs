//! From a float model to a quantized one.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use quant_core::ErrorStats;
use quant_model::recoded::quantize_given;
use quant_model::report::{self, Decision};
use quant_model::values;
use quant_model::{Error, Job, Large, QuantizeOptions, Report};
use quant_simd::TensorQuantizer;

use super::encodings::{Convention, PartOffset, Step, Written, convention};
use super::output::{Layout, Output, PartSink, Target};
use crate::{Entry, Model, SafetensorsFile};

/// Bytes of the files that [`quantize`] would write by a plan: the weights, and what the convention writes
/// beside them. What is copied is not counted.
pub(crate) fn bytes_of(
    model: &Model,
    decisions: &[Decision],
    options: &QuantizeOptions,
    job: &Job<'_>,
) -> Result<u64, Error> {
    let convention = convention(options.encoding());
    let (mut bytes, mut written) = (0, Written::default());
    for file in convention.files(&model.base, decisions, job)? {
        let layout = Layout::new(&file, job)?;
        bytes += layout.len();
        written.add(&file.name, layout);
    }
    if model.base.folder.is_some() {
        let documents = convention.documents(&model.base, decisions, None, &written, job)?;
        bytes += documents.iter().map(|it| it.text.len() as u64).sum::<u64>();
    }
    Ok(bytes)
}

/// Writes the model at `input` with these decisions, one per tensor.
pub(crate) fn quantize(
    model: &Model,
    input: &Path,
    output: &Path,
    decisions: &[Decision],
    options: &QuantizeOptions,
    job: &Job<'_>,
    report: &mut Report,
) -> Result<(), Error> {
    let convention = convention(options.encoding());
    let files = convention.files(&model.base, decisions, job)?;
    let layouts = files.iter().map(|file| Layout::new(file, job));
    let layouts = layouts.collect::<Result<Vec<_>, Error>>()?;
    let mut target = Target::new(model, &options.inputs(input), &layouts, output, job)?;
    if !options.weights_only {
        target.copy_companions(&|name| convention.writes(name), job)?;
    }
    let entries: Vec<_> = model.base.entries().collect();
    for (file, layout) in files.into_iter().zip(layouts) {
        let output = target.begin(file.like, layout)?;
        for step in Large::new(file.steps, job).iter() {
            match step {
                Step::Write { to, bytes } => output.write_part(&to.part, to.offset, bytes)?,
                Step::Copy { tensor, to } => {
                    let (file, _, entry) = entries[*tensor];
                    output.copy(to, &file.data(entry), job)?;
                }
                Step::Quantize {
                    tensor,
                    codes,
                    scales,
                    offsets,
                } => {
                    let Decision::Quantize(quantizer) = &decisions[*tensor] else {
                        unreachable!("what goes to codes is quantized");
                    };
                    let step = QuantizeStep {
                        quantizer,
                        places: (codes, scales, offsets.as_ref()),
                        given: options.given(entries[*tensor].1),
                        stats: options.stats,
                    };
                    let stats = step.run(convention, entries[*tensor], &output, job)?;
                    report.tensors[*tensor].set_stats(stats.as_ref());
                }
            }
        }
        target.end(&file.name, output, job)?;
    }
    target.write_documents(|written| {
        convention.documents(&model.base, decisions, options.asked(), written, job)
    })?;
    report.warn(std::mem::take(&mut target.warnings));
    report.copied = std::mem::take(&mut target.copied);
    report.bytes_after = Some(target.finish(job)?);
    Ok(())
}

/// A tensor that is quantized, and where its codes, scales and offsets go.
struct QuantizeStep<'a> {
    quantizer: &'a TensorQuantizer,
    places: (&'a PartOffset, &'a PartOffset, Option<&'a PartOffset>),
    given: Option<&'a [u8]>,
    stats: bool,
}

impl QuantizeStep<'_> {
    fn run(
        &self,
        convention: &dyn Convention,
        entry: (&SafetensorsFile, &str, &Entry),
        output: &Output,
        job: &Job<'_>,
    ) -> Result<Option<ErrorStats>, Error> {
        let quantizer = self.quantizer;
        let (codes, scales, offsets) = self.places;
        let packed = offsets.filter(|_| convention.packs_offsets(quantizer));
        let gathered = packed.map(|_| Mutex::new(vec![0; quantizer.zero_points_len()]));
        let sink = PartSink {
            output,
            job,
            codes,
            scales: Some(scales),
            offsets,
            gathered: gathered.as_ref(),
            per_code_byte: (
                quantizer.source.size() as u64 * 8,
                quantizer.scheme.dtype.bits().into(),
            ),
        };
        let stats = quantize_tensor(entry, quantizer, self.given, &sink, self.stats)?;
        if let (Some(to), Some(gathered)) = (packed, gathered) {
            let gathered = gathered
                .into_inner()
                .unwrap_or_else(PoisonError::into_inner);
            let bytes = convention.packed_offsets(quantizer, &gathered);
            output.write_part(&to.part, to.offset, &bytes)?;
        }
        Ok(stats)
    }
}

fn quantize_tensor(
    (file, name, entry): (&SafetensorsFile, &str, &Entry),
    quantizer: &TensorQuantizer,
    given: Option<&[u8]>,
    sink: &PartSink<'_>,
    stats: bool,
) -> Result<Option<ErrorStats>, Error> {
    let values = file.data(entry);
    let done = match given {
        Some(codes) => quantize_given(quantizer, codes, stats, &values, sink),
        None => report::quantize_tensor(quantizer, stats, &values, sink),
    };
    done.map_err(|failure| {
        let at = values::Tensor {
            file: file.path(),
            name,
            dtype: &entry.dtype,
            shape: &entry.shape,
        };
        at.failed(failure, quantizer, name, true)
    })
}
