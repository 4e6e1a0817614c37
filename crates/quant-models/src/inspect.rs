//! What a model holds, tensor by tensor.

use std::path::Path;

use quant_core::{FloatType, STATS_CHUNK};
use quant_model::io::Data;
use quant_model::stored::TensorView;
use quant_model::{Consumer, Error, Job, SchemeRecord};
use rayon::prelude::*;
use serde::Serialize;

use crate::formats::open;
use quant_model::unique::{NEARLY_ZERO, Seen16, Seen32, zeros_16};

/// What a thread looks at before it tells of its progress.
const CHUNK_BYTES: usize = 1 << 20;

/// What a model holds.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Inspection {
    /// Per tensor, in the order of the file.
    pub tensors: Vec<TensorInfo>,
    /// Bytes of all tensors.
    pub bytes: u64,
    /// Elements of all tensors.
    pub elements: usize,
    /// Bits per element, scales and zero points included.
    pub bits_per_weight: f64,
}

/// What a tensor is.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct TensorInfo {
    /// Its name.
    pub name: String,
    /// Its type in the file; that of the codes where it is quantized.
    pub dtype: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Bytes, scales and zero points included.
    pub bytes: u64,
    /// Bits per element.
    pub bits_per_weight: f64,
    /// How it was quantized.
    pub scheme: Option<SchemeRecord>,
    /// How it is stored, where that is something else, such as a palette.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The smallest scale.
    pub scale_min: Option<f32>,
    /// The largest scale.
    pub scale_max: Option<f32>,
    /// What it feeds, in a format that says so.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub consumers: Vec<Consumer>,
    /// Share of values that are zero or nearly so; where asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sparsity: Option<f64>,
    /// Number of different values; where asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unique_values: Option<usize>,
}

/// Lists the tensors of a model; with `values`, also looks at every value.
///
/// ```no_run
/// let inspection = quant_models::inspect("small.safetensors".as_ref(), false)?;
/// for tensor in &inspection.tensors {
///     println!("{}: {} {:?}, {} bytes", tensor.name, tensor.dtype, tensor.shape, tensor.bytes);
/// }
/// # Ok::<(), quant_models::Error>(())
/// ```
///
/// # Errors
/// A model that cannot be read.
pub fn inspect(path: &Path, values: bool) -> Result<Inspection, Error> {
    inspect_with_progress(path, values, &Job::UNWATCHED)
}

/// The same, watched and stopped by `job`.
///
/// # Errors
/// A model that cannot be read; [`Error::Interrupted`].
pub fn inspect_with_progress(
    path: &Path,
    values: bool,
    job: &Job<'_>,
) -> Result<Inspection, Error> {
    open(path, job, |model| of(model.stored(job)?, values, job))
}

fn of(all: Vec<TensorView<'_>>, values: bool, job: &Job<'_>) -> Result<Inspection, Error> {
    let elements = all.iter().map(TensorView::element_count).sum();
    // One by one: what has been read of a tensor goes with it.
    let tensors = all.into_iter().map(|tensor| info(&tensor, values, job));
    let tensors = tensors.collect::<Result<Vec<_>, Error>>()?;
    let bytes = tensors.iter().map(|tensor| tensor.bytes).sum();
    Ok(Inspection {
        tensors,
        bytes,
        elements,
        bits_per_weight: 8.0 * bytes as f64 / elements.max(1) as f64,
    })
}

fn info(tensor: &TensorView<'_>, values: bool, job: &Job<'_>) -> Result<TensorInfo, Error> {
    let (bytes, elements) = (tensor.stored_bytes(), tensor.element_count());
    let scales = tensor
        .quantized
        .as_ref()
        .map(|parts| parts.scale_range())
        .transpose()?
        .flatten();
    let readable = tensor.float.is_some() && elements > 0;
    let found = match values && readable {
        true => Some(look_at_values(tensor, job)?),
        false => None,
    };
    Ok(TensorInfo {
        name: tensor.name.clone(),
        dtype: tensor.dtype.clone(),
        shape: tensor.shape.clone(),
        bytes,
        bits_per_weight: 8.0 * bytes as f64 / elements.max(1) as f64,
        scheme: tensor.record(),
        kind: tensor.kind.clone(),
        scale_min: scales.map(|scales| scales.0),
        scale_max: scales.map(|scales| scales.1),
        consumers: tensor.consumers.clone(),
        sparsity: found.map(|(zeros, _)| zeros as f64 / elements as f64),
        unique_values: found.map(|(_, unique)| unique),
    })
}

/// How many values are nearly zero, and how many different ones there are.
fn look_at_values(tensor: &TensorView<'_>, job: &Job<'_>) -> Result<(usize, usize), Error> {
    let is_plain = tensor.quantized.is_none() && tensor.blocks.is_none();
    match tensor.float {
        Some(float @ (FloatType::F16 | FloatType::Bf16)) if is_plain => {
            look_at_16_bits(&tensor.bytes, float, job)
        }
        Some(FloatType::F16 | FloatType::Bf16 | FloatType::F32) | None => {
            look_at_32_bits(tensor, job)
        }
    }
}

fn look_at_16_bits(
    data: &Data<'_>,
    float: FloatType,
    job: &Job<'_>,
) -> Result<(usize, usize), Error> {
    let starts: Vec<usize> = (0..data.len()).step_by(CHUNK_BYTES).collect();
    let found = starts.into_par_iter().try_fold(
        || (0, Seen16::default()),
        |(zeros, mut seen), start| {
            job.check()?;
            let chunk = data.part(start, CHUNK_BYTES.min(data.len() - start))?;
            seen.insert(&chunk);
            (job.progress)(chunk.len() as u64);
            Ok::<_, Error>((zeros + zeros_16(&chunk, float), seen))
        },
    );
    let (zeros, seen) = found.try_reduce(
        || (0, Seen16::default()),
        |(a, seen), (b, other)| Ok((a + b, seen.join(&other))),
    )?;
    Ok((zeros, seen.count(float)))
}

fn look_at_32_bits(tensor: &TensorView<'_>, job: &Job<'_>) -> Result<(usize, usize), Error> {
    let n = tensor.element_count();
    let starts: Vec<usize> = (0..n).step_by(STATS_CHUNK).collect();
    let seen = Seen32::default();
    let chunk = |start: usize| {
        job.check()?;
        let elements = start..(start + STATS_CHUNK).min(n);
        let mut values = vec![0.0; elements.len()];
        let bytes = tensor.bytes.len() * elements.len() / n;
        tensor.values(elements, &mut values)?;
        (job.progress)(bytes as u64);
        let zeros = values
            .iter()
            .filter(|value| value.abs() <= NEARLY_ZERO)
            .count();
        values.into_iter().for_each(|value| seen.insert(value));
        Ok::<_, Error>(zeros)
    };
    let zeros = starts
        .into_par_iter()
        .map(chunk)
        .try_reduce(|| 0, |a, b| Ok(a + b))?;
    Ok((zeros, seen.count()))
}
