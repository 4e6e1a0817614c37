//! A quantized model of another format, in blocks with the same codes and scales.

use std::path::Path;

use half::f16;
use quant_core::{FloatType, GgmlType, OffsetKind, Scheme};
use quant_model::block_quantizer::Write;
use quant_model::error::{command, shortened};
use quant_model::format::OpenModel;
use quant_model::stored::{Parts, TensorView};
use quant_model::{Converted, Error, HintCommand, Inputs, Job};
use quant_simd::{Backend, Source as _, TensorQuantizer};
use rayon::prelude::*;

use crate::architecture;
use crate::file::{ALIGNMENT, beyond_ggml};
use crate::metadata;
use crate::types::TensorType;
use crate::write::{self, Content, Encode, Metadata, Plan, Planned};

const BLOCK: usize = GgmlType::VALUES;
/// Values that a thread works on at a time.
const WINDOW: usize = 1 << 16;

/// Writes a model as a GGUF file.
///
/// # Errors
/// Tensors that have no blocks with the same values; then there is no output.
pub(crate) fn convert(
    model: &dyn OpenModel,
    input: &Path,
    output: &Path,
    job: &Job<'_>,
) -> Result<Converted, Error> {
    let tensors = model.convertible(job)?;
    let found = encoded(&tensors, input, job)?;
    let count = found.iter().flatten().count();
    if count == 0 {
        let problem = format!(
            "holds no quantized tensor; {} writes it in this format",
            command(HintCommand::Quantize)
        );
        return Err(Error::file(input, problem));
    }
    let names: Vec<&str> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    let family = architecture::find(&names).map_err(|problem| Error::file(input, problem))?;
    let mut metadata = Metadata::default();
    let family = family.map(|family| family.architecture);
    let name = family.map_or("unknown", |family| family.name);
    metadata.push(metadata::text(metadata::ARCHITECTURE, name));
    if let Some(first) = found.iter().flatten().next() {
        metadata.push_type(TensorType::of_blocks(first.block_type));
    }
    let planned = tensors.iter().zip(&found).enumerate();
    let planned = planned.map(|(index, (tensor, encoded))| {
        let checked = architecture::check(family, &tensor.name, &tensor.shape);
        checked.map_err(|problem| Error::tensor(tensor.path, &tensor.name, problem))?;
        planned_tensor(index, tensor, encoded.as_ref())
    });
    let plan = Plan {
        version: 3,
        alignment: ALIGNMENT,
        metadata,
        tensors: planned.collect::<Result<_, Error>>()?,
        like: tensors[0].path.to_owned(),
    };
    let inputs = Inputs::of_model(input);
    let (bytes, mut warnings) = write::write(&plan, output, &inputs, false, job, &mut |_, _| {})?;
    let names_and_axes = tensors.iter().map(|it| (it.name.as_str(), it.shape.len()));
    warnings.extend(beyond_ggml(names_and_axes));
    Ok(Converted::new(bytes, count, warnings))
}

/// How each quantized tensor is said in blocks.
///
/// # Errors
/// The first that cannot be, and how many more there are.
fn encoded<'a>(
    tensors: &'a [TensorView<'a>],
    input: &Path,
    job: &Job<'_>,
) -> Result<Vec<Option<Encoded<'a>>>, Error> {
    let (mut found, mut refused) = (Vec::new(), Vec::new());
    for tensor in tensors {
        job.check()?;
        match &tensor.quantized {
            None => found.push(None),
            Some(parts) => match Encoded::new(tensor, parts)? {
                Ok(encoded) => found.push(Some(encoded)),
                Err(reason) => refused.push((&tensor.name, reason)),
            },
        }
    }
    if let Some((name, reason)) = refused.first() {
        let more = match refused.len() - 1 {
            0 => String::new(),
            more => format!(" (and {more} more, such as this one)"),
        };
        let problem = format!(
            "cannot be said in gguf with the same values: {reason}{more}; nothing is quantized anew, start from the float model or leave it out there"
        );
        return Err(Error::tensor(input, &shortened(name), problem));
    }
    Ok(found)
}

fn planned_tensor<'a>(
    index: usize,
    tensor: &'a TensorView<'a>,
    encoded: Option<&'a Encoded<'a>>,
) -> Result<Planned<'a>, Error> {
    let (dtype, content) = match encoded {
        Some(encoded) => (
            TensorType::of_blocks(encoded.block_type),
            Content::Encoded(encoded),
        ),
        None => {
            let known = TensorType::by_name(&tensor.dtype).filter(|dtype| dtype.values == 1);
            let known = known.ok_or_else(|| {
                let problem = format!("type {}, for which GGUF has no place", tensor.dtype);
                Error::tensor(tensor.path, &tensor.name, problem)
            })?;
            (known, Content::Copy)
        }
    };
    Ok(Planned {
        name: tensor.name.clone(),
        shape: tensor.shape.clone(),
        dtype,
        data: tensor.bytes.clone(),
        content,
        index,
        from: (tensor.path.to_owned(), tensor.name.clone()),
    })
}

/// A tensor whose codes go to blocks.
pub(crate) struct Encoded<'a> {
    tensor: &'a TensorView<'a>,
    parts: &'a Parts<'a>,
    block_type: GgmlType,
    /// Per scale of the tensor: the scale, and the minimum where blocks have one.
    floats: Vec<(f16, f16)>,
}

/// A value that f16 holds.
fn exact(value: f32) -> Option<f16> {
    let narrow = f16::from_f32(value);
    (narrow.is_finite() && narrow.to_f32() == value).then_some(narrow)
}

/// The value of the lowest code: in scales, and as it is.
fn lowest(quantizer: &TensorQuantizer, offsets: &[u8], count: usize) -> Option<Vec<(f32, f32)>> {
    let dtype = quantizer.scheme.dtype;
    let half = 1_i32 << (dtype.bits() - 1);
    let lowest = if dtype.is_signed() { -half } else { 0 };
    Some(match quantizer.scheme.offset() {
        OffsetKind::None => vec![(lowest as f32, 0.0); count],
        OffsetKind::Bias => {
            let biases = quant_simd::widen(offsets, quantizer.scale_type());
            let biases = biases.into_iter();
            biases.map(|bias| (lowest as f32, bias)).collect()
        }
        OffsetKind::ZeroPoint => {
            let points = offsets.iter().map(|it| match dtype.is_signed() {
                true => i32::from(*it as i8),
                false => i32::from(*it),
            });
            points.map(|it| ((lowest - it) as f32, 0.0)).collect()
        }
        _ => return None,
    })
}

/// The blocks that have such codes, with the middle one as 0 or not, or why there are none.
fn block_type(bits: u32, is_centred: bool) -> Result<GgmlType, String> {
    match (bits, is_centred) {
        (8, true) => Ok(GgmlType::Q8_0),
        (5, true) => Ok(GgmlType::Q5_0),
        (4, true) => Ok(GgmlType::Q4_0),
        (5, false) => Ok(GgmlType::Q5_1),
        (4, false) => Ok(GgmlType::Q4_1),
        (8, false) => Err("it has zero points or biases, and no blocks of 8 bits have".into()),
        _ => Err(format!("it has codes of {bits} bits; there are 4, 5 and 8")),
    }
}

impl<'a> Encoded<'a> {
    /// How a tensor is said in blocks, or why it cannot be.
    fn new(
        tensor: &'a TensorView<'a>,
        parts: &'a Parts<'a>,
    ) -> Result<Result<Self, String>, Error> {
        let quantizer = &parts.quantizer;
        let dtype = quantizer.scheme.dtype;
        let row = tensor.shape.last().copied().unwrap_or(0);
        let sizes = quantizer.blocks.block_sizes();
        let group = sizes.last().map_or(0, |size| row.min(*size));
        if row == 0 || !row.is_multiple_of(BLOCK) || !group.is_multiple_of(BLOCK) && group != row {
            return Ok(Err(format!(
                "its scales are for {group} values of rows of {row}, which are no blocks of 32"
            )));
        }
        let (scales, offsets) = parts.params()?;
        let scales = quant_simd::widen(scales, quantizer.scale_type());
        let Some(lowest) = lowest(quantizer, offsets, scales.len()) else {
            return Ok(Err("it has offsets of a kind that no blocks have".into()));
        };
        let half = (1_i32 << (dtype.bits() - 1)) as f32;
        let is_centred = lowest.iter().all(|it| *it == (-half, 0.0));
        let block_type = match block_type(dtype.bits(), is_centred) {
            Ok(block_type) => block_type,
            Err(reason) => return Ok(Err(reason)),
        };
        let floats = scales.iter().zip(&lowest).map(|(scale, (steps, bias))| {
            let minimum = match block_type.has_minimum() {
                true => exact(scale * steps + bias)?,
                false => f16::ZERO,
            };
            Some((exact(*scale)?, minimum))
        });
        let Some(floats) = floats.collect::<Option<Vec<_>>>() else {
            return Ok(Err(format!(
                "it has scales or minima of {} that f16 does not hold exactly, and GGUF's are f16",
                quantizer.scale_type()
            )));
        };
        Ok(Ok(Self {
            tensor,
            parts,
            block_type,
            floats,
        }))
    }
}

impl Encode for Encoded<'_> {
    /// Each block is compared with the values that it had.
    fn write(&self, job: &Job<'_>, write: Write<'_>) -> Result<(), Error> {
        let elements = self.tensor.element_count();
        (0..elements.div_ceil(WINDOW))
            .into_par_iter()
            .try_for_each(|window| {
                job.check()?;
                let (start, end) = (window * WINDOW, ((window + 1) * WINDOW).min(elements));
                let quantizer = &self.parts.quantizer;
                let dtype = quantizer.scheme.dtype;
                let (from, to) = (dtype.storage_len(start), dtype.storage_len(end));
                let mut packed = vec![0; to - from];
                self.tensor.bytes.read(from, &mut packed)?;
                let mut codes = vec![0; end - start];
                Backend::detect().unpack(&packed, 0, dtype, &mut codes);
                let half = 1_u8 << (dtype.bits() - 1);
                if dtype.is_signed() {
                    codes
                        .iter_mut()
                        .for_each(|code| *code = code.wrapping_add(half));
                }
                let mut blocks = Vec::new();
                for (i, codes) in codes.chunks_exact(BLOCK).enumerate() {
                    let scale = quantizer.blocks.scale_of(start + i * BLOCK);
                    self.put(codes, self.floats[scale], &mut blocks);
                }
                self.check(start..end, &blocks)?;
                (job.progress)(packed.len() as u64);
                write(start / BLOCK * self.block_type.block_size(), &blocks)
            })
    }
}

impl Encoded<'_> {
    /// A block of codes, of which 0 is the lowest.
    fn put(&self, codes: &[u8], (scale, minimum): (f16, f16), blocks: &mut Vec<u8>) {
        blocks.extend(scale.to_le_bytes());
        if self.block_type.has_minimum() {
            blocks.extend(minimum.to_le_bytes());
        }
        if self.block_type.bits() == 8 {
            blocks.extend(codes.iter().map(|code| code.wrapping_sub(128)));
            return;
        }
        if self.block_type.bits() == 5 {
            let fifth = codes.iter().enumerate();
            let fifth = fifth.fold(0_u32, |all, (i, code)| all | u32::from(code >> 4) << i);
            blocks.extend(fifth.to_le_bytes());
        }
        let (low, high) = codes.split_at(BLOCK / 2);
        let pairs = low.iter().zip(high);
        blocks.extend(pairs.map(|(low, high)| low & 15 | high << 4));
    }

    /// Whether blocks stand for the values that the codes stand for, rounded as these are.
    fn check(&self, elements: std::ops::Range<usize>, blocks: &[u8]) -> Result<(), Error> {
        let at = |problem: String| Error::tensor(self.tensor.path, &self.tensor.name, problem);
        let (mut before, mut after) = (vec![0.0; elements.len()], vec![0.0; elements.len()]);
        self.tensor.values(elements, &mut before)?;
        let backend = Backend::detect();
        let restored = backend.dequantize_ggml(blocks, self.block_type, &mut after);
        restored.map_err(|error| at(format!("{error}; the file is damaged")))?;
        let source = self.parts.quantizer.source;
        let mut pairs = before.iter().zip(&after);
        match pairs.all(|(before, after)| *before == source.round(*after)) {
            true => Ok(()),
            false => Err(at(format!(
                "would have other values in GGUF: {}; nothing was written, start from the float model",
                self.why_other_values()
            ))),
        }
    }

    fn why_other_values(&self) -> String {
        let quantizer = &self.parts.quantizer;
        let Scheme { dialect, .. } = quantizer.scheme;
        match (quantizer.scheme.offset(), quantizer.source) {
            (OffsetKind::Bias, source) if source != FloatType::F32 => format!(
                "the dialect {dialect} rounds the product of a code and a scale to {source} before it adds the bias, and GGUF's blocks add it in f32"
            ),
            (_, source) => format!(
                "the dialect {dialect} rounds to {source} on the way from codes to values, and GGUF's blocks are computed in f32"
            ),
        }
    }
}
