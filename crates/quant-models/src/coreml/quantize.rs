//! From a float package to a quantized one.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use quant_core::ErrorStats;
use quant_simd::{Failure, TensorQuantizer};

use super::activations;
use super::blob::ALIGN;
use super::emit::{Emitter, Part, Source, rewritten};
use super::encode::{Become, Edit, Elements, NewValue};
use super::graph::Graph;
use super::output::{self, Target};
use super::package::Package;
use super::parts::{AFFINE, BLOCKWISE, PartsSink, Place, data_type, packed};
use super::program::{Blob, Program};
use super::rewrite::Changes;
use super::schema::DataType;
use super::select::{self, Choice, float_type, select};
use crate::map::Bytes;
use crate::report::{Decision, quantize_tensor};
use crate::values::{advice, position};
use crate::{ComputeUnit, Error, Job, NonFinite, QuantizeOptions, Report, TensorReport};

/// The first version with quantized weights, iOS16, and its opset.
const FIRST: (u64, &str) = (7, "CoreML6");

/// Quantizes the package at `input` into one at `output`.
pub(crate) fn quantize(
    input: &Path,
    output: &Path,
    options: &QuantizeOptions,
    job: &Job<'_>,
) -> Result<Report, Error> {
    let mut package = Package::open(input)?;
    let (mut operations, mut warnings) = (Vec::new(), Vec::new());
    if let Some(activations) = &options.activations {
        let inserted = activations::insert(&package, &package.program()?, activations, 2)?;
        (operations, warnings) = (inserted.operations, inserted.warnings);
        package.bytes = Bytes::Made(inserted.model);
    }
    let program = package.program()?;
    let graph = Graph::of(&program);
    let mut choices = select(&package, &program, &graph, options, &mut warnings)?;
    check(&package, &mut choices, options)?;
    warn(&choices, options, &mut warnings);
    let tensors = choices.iter().map(|choice| {
        let bytes = choice.blob.map_or(Ok(0), |blob| {
            let (_, record) = package.record(&blob)?;
            Ok(record.data.len() as u64)
        });
        let mut report = TensorReport::new(
            &choice.name,
            &choice.dtype,
            &choice.shape,
            bytes?,
            &choice.decision,
        );
        report.consumers = choice.uses.iter().map(|one| one.consumer()).collect();
        Ok(report)
    });
    let mut report = Report {
        tensors: tensors.collect::<Result<_, Error>>()?,
        operations,
        warnings,
        bytes_before: output::size(input)?,
        bytes_after: None,
    };
    report.check_strict(options.strict)?;
    if options.dry_run {
        return Ok(report);
    }
    let target = Target::new(&package, output, job)?;
    let emitter = Emitter::create(&package, &target, &room(&package, &choices)?, job)?;
    let mut run = Run {
        package: &package,
        program: &program,
        graph: &graph,
        emitter,
        job,
        stats: options.stats,
        changes: Changes::default(),
        shared: HashMap::new(),
        names: graph
            .names
            .iter()
            .map(|names| names.iter().map(|&name| name.to_owned()).collect())
            .collect(),
        made: Vec::new(),
    };
    run.all(&choices, &mut report.tensors)?;
    let Run {
        emitter,
        mut changes,
        ..
    } = run;
    changes.moved.clone_from(&emitter.moved);
    if program.specification < FIRST.0 && changes.edits.values().next().is_some() {
        changes.version = Some(FIRST);
        report.warnings.push(format!(
            "the model was made for an older system, without quantized weights; it now needs iOS16 or macOS13 (specification version {})",
            FIRST.0
        ));
    }
    let weights = emitter.finish()?;
    let model = changes.apply(&package.bytes);
    let model = model.map_err(|problem| Error::file(&package.model_path(), problem))?;
    target.put(&package.model, &model)?;
    let rest = target.copy_rest(&package, &rewritten(&package), job)?;
    target.finish(job)?;
    report.bytes_after = Some(weights + model.len() as u64 + rest);
    Ok(report)
}

/// Bytes of each weight file at most.
fn room<'a>(package: &Package, choices: &[Choice<'_, 'a>]) -> Result<HashMap<&'a str, u64>, Error> {
    let mut room = HashMap::new();
    for choice in choices {
        let (Some(blob), Decision::Quantize(quantizer)) = (choice.blob, &choice.decision) else {
            continue;
        };
        let file = package.record(&blob)?.0;
        let room = room.entry(blob.file).or_insert(file.len());
        let scales = quantizer.scales_len() + quantizer.blocks.scale_count();
        // Each record has a header, and may leave a gap.
        let after = (quantizer.codes_len() + scales) as u64 + 4 * ALIGN;
        let before = (quantizer.blocks.element_count() * quantizer.source.size()) as u64;
        *room = (*room + after).saturating_sub(before);
    }
    Ok(room)
}

/// Tensors that hold NaN or infinities, and options that fit no tensor.
fn check(
    package: &Package,
    choices: &mut [Choice<'_, '_>],
    options: &QuantizeOptions,
) -> Result<(), Error> {
    let (mut fits, mut misfit) = (0, None);
    for choice in choices {
        match (&choice.decision, choice.blob) {
            (Decision::Quantize(quantizer), Some(blob)) => {
                fits += 1;
                if options.non_finite == NonFinite::Skip {
                    let (file, record) = package.record(&blob)?;
                    if let Some((first, count)) = quantizer.non_finite(file.data(&record)) {
                        let at = position(first, &choice.shape);
                        choice.decision = Decision::Skip(format!(
                            "{count} values are NaN or Inf, the first at {at:?}"
                        ));
                    }
                }
            }
            (Decision::Skip(reason), _) if misfit.is_none() => {
                let problem =
                    format!("{reason}; choose another, or leave the tensor out with --exclude");
                misfit = Some(Error::tensor(&package.model_path(), &choice.name, problem));
            }
            _ => {}
        }
    }
    match misfit {
        Some(error) if fits == 0 && !options.strict => Err(error),
        _ => Ok(()),
    }
}

/// What Apple's guide to coremltools says of performance, where the model does otherwise:
/// <https://apple.github.io/coremltools/docs-guides/source/opt-quantization-perf.html>.
fn warn(choices: &[Choice<'_, '_>], options: &QuantizeOptions, warnings: &mut Vec<String>) {
    let (mut all, mut blocks, mut channels_of_4) = (0, 0, 0);
    for choice in choices {
        if let Decision::Quantize(quantizer) = &choice.decision {
            let scales = quantizer.blocks.scale_shape();
            let in_blocks = scales.iter().filter(|&&count| count > 1).count() > 1;
            all += 1;
            blocks += usize::from(in_blocks);
            channels_of_4 += usize::from(!in_blocks && quantizer.scheme.dtype.bits() == 4);
        }
    }
    match options.target {
        Some(ComputeUnit::NeuralEngine) if blocks > 0 => warnings.push(format!(
            "{blocks} weights in blocks: for the Neural Engine Apple recommends scales per channel (--granularity per-channel)"
        )),
        Some(ComputeUnit::Gpu) if channels_of_4 > 0 => warnings.push(format!(
            "{channels_of_4} weights of 4 bits per channel: for 4 bits on the GPU Apple recommends blocks (--granularity per-block)"
        )),
        Some(ComputeUnit::Cpu) if all > 0 => warnings.push(format!(
            "{all} weights: on the CPU they become floats again when the model is loaded; it is smaller on disk only"
        )),
        _ => {}
    }
}

struct Run<'r, 'p, 'a> {
    package: &'r Package,
    program: &'p Program<'a>,
    graph: &'r Graph<'p, 'a>,
    emitter: Emitter<'r>,
    job: &'r Job<'r>,
    stats: bool,
    changes: Changes,
    /// Weights of other blocks that share record, type and geometry.
    shared: HashMap<Shared, (Vec<NewValue>, Option<ErrorStats>)>,
    names: Vec<HashSet<String>>,
    /// What has been made so far: block, function, name, parameters.
    made: Vec<(usize, String, Vec<NewValue>)>,
}

type Shared = (String, u64, quant_core::Scheme, Vec<usize>, Vec<usize>);

impl Run<'_, '_, '_> {
    /// Writes all records in the order of the operations.
    fn all(
        &mut self,
        choices: &[Choice<'_, '_>],
        reports: &mut [TensorReport],
    ) -> Result<(), Error> {
        let mut quantized = HashMap::new();
        for (choice, report) in choices.iter().zip(reports) {
            if let (Decision::Quantize(quantizer), Some(blob)) = (&choice.decision, choice.blob) {
                let id = self.graph.constants[choice.constant].operation.id;
                quantized.insert(id, (choice, quantizer, blob, report));
            }
        }
        let program = self.program;
        program.each(&mut |_, operation| match quantized.get_mut(&operation.id) {
            None => self.emitter.copy_all(operation),
            Some((choice, quantizer, blob, report)) => {
                let stats = self.one(choice, quantizer, blob)?;
                report.set_stats(stats.as_ref());
                Ok(())
            }
        })?;
        program
            .elsewhere
            .iter()
            .try_for_each(|blob| self.emitter.copy(blob))
    }

    fn one(
        &mut self,
        choice: &Choice<'_, '_>,
        quantizer: &TensorQuantizer,
        blob: &Blob<'_>,
    ) -> Result<Option<ErrorStats>, Error> {
        let constant = &self.graph.constants[choice.constant];
        let id = constant.operation.id;
        let since_18 = self.program.specification >= select::BLOCKWISE;
        let key = (
            blob.file.to_owned(),
            blob.offset,
            quantizer.scheme,
            quantizer.blocks.shape().to_vec(),
            quantizer.blocks.block_sizes().to_vec(),
        );
        let (values, stats) = match self.shared.get(&key) {
            Some(known) => known.clone(),
            None => {
                let made = self.make(choice, quantizer, blob, since_18)?;
                self.shared.insert(key, made.clone());
                made
            }
        };
        let mut same = self.made.iter();
        let same = same.find(|(block, _, others)| *block == constant.block && *others == values);
        if let Some((_, name, _)) = same.filter(|_| !constant.leaves_block) {
            // As coremltools does, when two weights have become one.
            self.changes.edits.insert(id, Edit::Remove);
            self.changes.renamed.insert(id, name.clone());
            return Ok(stats);
        }
        let name = self.new_name(constant.function, constant.operation.name());
        self.made
            .push((constant.block, name.clone(), values.clone()));
        let keys: &[&'static str] = match since_18 {
            true => &["data", "scale", "offset"],
            false => &["quantized_data", "zero_point", "scale", "axis"],
        };
        self.changes.edits.insert(
            id,
            Edit::Become(Become {
                kind: if since_18 { BLOCKWISE } else { AFFINE },
                name: name.clone(),
                parameters: keys.iter().copied().zip(values).collect(),
                as_inputs: since_18,
                file: blob.file.into(),
                old: &["val"],
            }),
        );
        self.changes.renamed.insert(id, name);
        Ok(stats)
    }

    fn new_name(&mut self, function: usize, old: &str) -> String {
        let names = &mut self.names[function];
        let plain = format!("{old}_quantized");
        let mut name = plain.clone();
        let mut count = 0;
        while !names.insert(name.clone()) {
            count += 1;
            name = format!("{plain}_{count}");
        }
        name
    }

    /// Quantizes a weight into the weight file, and returns its parameters.
    fn make(
        &mut self,
        choice: &Choice<'_, '_>,
        quantizer: &TensorQuantizer,
        blob: &Blob<'_>,
        since_18: bool,
    ) -> Result<(Vec<NewValue>, Option<ErrorStats>), Error> {
        let (file, record) = self.package.record(blob)?;
        let constant = &self.graph.constants[choice.constant];
        let (dtype, scale_shape) = (quantizer.scheme.dtype, quantizer.blocks.scale_shape());
        let count = quantizer.blocks.scale_count();
        // A scale alone has rank 0 in the older operation.
        let (part_shape, axis) = match since_18 {
            true => (scale_shape, 0),
            false => {
                let axis = scale_shape.iter().position(|&count| count > 1);
                (
                    axis.map_or(vec![], |axis| vec![scale_shape[axis]]),
                    axis.unwrap_or(0),
                )
            }
        };
        let large = Part::is_large(&part_shape);
        let writer = self.emitter.writer(blob.file)?;
        let codes_at = writer.next() + ALIGN;
        let mut end = codes_at + quantizer.codes_len() as u64;
        let mut place = |len: usize| {
            let at = end.next_multiple_of(ALIGN) + ALIGN;
            end = at + len as u64;
            at
        };
        let (scales_len, zero_points_len) = (quantizer.scales_len(), quantizer.zero_points_len());
        let in_file = large && dtype.bits() == 8 && zero_points_len > 0;
        let [scales, zero_points] = match since_18 {
            true => {
                let scales = place(scales_len);
                [scales, place(zero_points_len)]
            }
            false => {
                let zero_points = place(count);
                [place(scales_len), zero_points]
            }
        };
        let sink = PartsSink {
            writer,
            job: self.job,
            codes: Place::File(codes_at),
            scales: match large {
                true => Place::File(scales),
                false => Place::memory(scales_len),
            },
            zero_points: match in_file {
                true => Place::File(zero_points),
                false => Place::memory(zero_points_len),
            },
            per_code_byte: (quantizer.source.size() as u64 * 8, dtype.bits().into()),
        };
        let quantized = quantize_tensor(quantizer, self.stats, file.data(&record), &sink);
        let stats = quantized.map_err(|failure| match failure {
            Failure::Sink(error) => error,
            Failure::NonFinite { first, count } => {
                let problem = format!(
                    "{count} of {} values are NaN or Inf, the first at {:?}; mend the model, or leave such tensors in float with --non-finite skip",
                    quantizer.blocks.element_count(),
                    position(first, &choice.shape)
                );
                Error::tensor(file.path(), &choice.name, problem)
            }
            Failure::Params { block, source } => {
                let at = position(block, &quantizer.blocks.scale_shape());
                let problem = format!(
                    "block {at:?}: {source} ({}); {}",
                    choice.dtype,
                    advice(quantizer, constant.operation.name(), false)
                );
                Error::tensor(file.path(), &choice.name, problem)
            }
        })?;
        let of = |place: Place, at: u64| match place {
            Place::File(_) => Source::File(at),
            Place::Memory(buffer) => Source::Memory(
                buffer
                    .into_inner()
                    .unwrap_or_else(|poisoned| poisoned.into_inner()),
            ),
        };
        let part = |dtype: DataType, source: Source| Part {
            dtype,
            shape: part_shape.clone(),
            source,
        };
        let codes = Part {
            dtype: data_type(dtype),
            shape: choice.shape.clone(),
            source: Source::File(codes_at),
        };
        let scale_type = match quantizer.scale_type() {
            quant_core::FloatType::F32 => DataType::FLOAT32,
            _ => DataType::FLOAT16,
        };
        debug_assert_eq!(float_type(scale_type), Some(quantizer.scale_type()));
        let scale = part(scale_type, of(sink.scales, scales));
        let zero_point = match of(sink.zero_points, zero_points) {
            _ if zero_points_len == 0 && since_18 => None,
            // The older operation always has one.
            _ if zero_points_len == 0 => Some(Source::Memory(vec![0; count])),
            Source::Memory(codes) => Some(Source::Memory(packed(dtype, codes))),
            source => Some(source),
        };
        let zero_point = zero_point.map(|source| part(data_type(dtype), source));
        let parts: Vec<Part> = match since_18 {
            true => [Some(codes), Some(scale), zero_point]
                .into_iter()
                .flatten()
                .collect(),
            false => [Some(codes), zero_point, Some(scale)]
                .into_iter()
                .flatten()
                .collect(),
        };
        let mut values = self.emitter.settle(blob.file, constant.block, parts)?;
        if !since_18 {
            values.push(NewValue {
                dtype: DataType::INT32,
                shape: Vec::new(),
                elements: Elements::Here((axis as i32).to_le_bytes().to_vec()),
            });
        }
        Ok((values, stats))
    }
}
