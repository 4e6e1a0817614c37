//! A tensor into blocks of ggml's types, window by window on all threads.

use std::ops::Range;

use bytemuck::Pod;
use half::{bf16, f16};
use quant_core::{ErrorStats, FloatType, GgmlType, ParamsError, STATS_CHUNK, TensorError};
use quant_simd::{Backend, Element, Source as _};
use rayon::prelude::*;

use crate::error::option;
use crate::io::Data;
use crate::values::position;
use crate::{Error, Job, SchemeRecord};

/// Values that a thread works on at a time.
const WINDOW: usize = 4 * STATS_CHUNK;

/// What values are made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockSource {
    /// Floats, as they are.
    Float(FloatType),
    /// Blocks, which are restored first.
    Blocks(GgmlType),
}

impl BlockSource {
    /// Bytes of so many values.
    fn len(self, values: usize) -> usize {
        match self {
            Self::Float(float) => values * float.size(),
            Self::Blocks(block_type) => values / GgmlType::VALUES * block_type.block_size(),
        }
    }
}

/// A block type and a shape, ready to be applied to a tensor.
#[derive(Clone, Debug)]
pub struct BlockQuantizer {
    /// The kernels to use.
    pub backend: Backend,
    /// What blocks are made.
    pub block_type: GgmlType,
    /// What they are made from.
    pub source: BlockSource,
    /// The tensor's shape.
    pub shape: Vec<usize>,
}

/// Where blocks or values go: an offset in bytes, and bytes.
pub type Write<'w> = &'w (dyn Fn(usize, &[u8]) -> Result<(), Error> + Sync);

/// Why a window could not be done.
enum Failed {
    Error(Error),
    /// A block of the window.
    Block(TensorError),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl BlockQuantizer {
    /// Why a tensor of this shape has no such blocks.
    ///
    /// # Errors
    /// That reason.
    pub fn check_shape(shape: &[usize]) -> Result<(), String> {
        let row = shape.last().copied().unwrap_or(0);
        match row % GgmlType::VALUES {
            0 => Ok(()),
            _ => Err(format!("rows of {row} do not fill blocks of 32 values")),
        }
    }

    fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes of the blocks.
    ///
    /// # Panics
    /// The shape is none that [`check_shape`](Self::check_shape) passes.
    pub fn blocks_len(&self) -> usize {
        self.block_type.len(self.elements()).expect("whole blocks")
    }

    /// What reports say of it.
    pub fn record(&self) -> SchemeRecord {
        let source = match self.source {
            BlockSource::Float(float) => float.name().into(),
            BlockSource::Blocks(block_type) => block_type.to_string(),
        };
        SchemeRecord::of_blocks(self.block_type, &self.shape, source)
    }

    fn windows(&self) -> impl IndexedParallelIterator<Item = Range<usize>> {
        let elements = self.elements();
        let count = elements.div_ceil(WINDOW);
        let window = move |at: usize| at * WINDOW..((at + 1) * WINDOW).min(elements);
        (0..count).into_par_iter().map(window)
    }

    /// Quantizes; measures the error only if `stats` are wanted. `file` and `name` are for
    /// messages.
    ///
    /// # Errors
    /// Values or scales that are not finite; what `write` says.
    pub fn quantize(
        &self,
        values: &Data<'_>,
        stats: bool,
        at: (&std::path::Path, &str),
        job: &Job<'_>,
        write: Write<'_>,
    ) -> Result<Option<ErrorStats>, Error> {
        let window = |window: Range<usize>| {
            job.check()?;
            let bytes = self.source.len(window.len());
            let found = self.window(values, window, stats, write)?;
            (job.progress)(bytes as u64);
            Ok(found)
        };
        let found: Result<Vec<Vec<ErrorStats>>, Failed> = self.windows().map(window).collect();
        match found {
            Ok(found) => {
                let chunks = found.into_iter().flatten();
                let all = chunks.fold(ErrorStats::default(), ErrorStats::then);
                Ok(stats.then_some(all))
            }
            Err(Failed::Error(error)) => Err(error),
            Err(Failed::Block(error)) => Err(self.refuse(values, error, at, job)),
        }
    }

    fn window(
        &self,
        values: &Data<'_>,
        window: Range<usize>,
        stats: bool,
        write: Write<'_>,
    ) -> Result<Vec<ErrorStats>, Failed> {
        match self.source {
            BlockSource::Float(FloatType::F32) => self.floats::<f32>(values, window, stats, write),
            BlockSource::Float(FloatType::F16) => self.floats::<f16>(values, window, stats, write),
            BlockSource::Float(FloatType::Bf16) => {
                self.floats::<bf16>(values, window, stats, write)
            }
            BlockSource::Blocks(_) => {
                let wide = self.restored(values, &window)?;
                self.encode(&wide, window.start, stats, write)
            }
        }
    }

    fn floats<F: Element + Pod>(
        &self,
        values: &Data<'_>,
        window: Range<usize>,
        stats: bool,
        write: Write<'_>,
    ) -> Result<Vec<ErrorStats>, Failed> {
        let mut floats = vec![F::zeroed(); window.len()];
        let bytes = bytemuck::cast_slice_mut(&mut floats);
        values.read(window.start * size_of::<F>(), bytes)?;
        self.encode(&floats, window.start, stats, write)
    }

    /// The values of blocks.
    fn restored(&self, values: &Data<'_>, window: &Range<usize>) -> Result<Vec<f32>, Failed> {
        let BlockSource::Blocks(from) = self.source else {
            unreachable!("floats are read as they are");
        };
        let mut wide = vec![0.0; window.len()];
        let (start, len) = (self.source.len(window.start), self.source.len(window.len()));
        let blocks = values.part(start, len)?;
        let restored = self.backend.dequantize_ggml(&blocks, from, &mut wide);
        restored.map_err(|error| Failed::Block(behind(error, window.start)))?;
        Ok(wide)
    }

    fn encode<F: Element>(
        &self,
        values: &[F],
        start: usize,
        stats: bool,
        write: Write<'_>,
    ) -> Result<Vec<ErrorStats>, Failed> {
        let block_type = self.block_type;
        let len = |values: usize| values / GgmlType::VALUES * block_type.block_size();
        let mut blocks = vec![0; len(values.len())];
        let done = self.backend.quantize_ggml(values, block_type, &mut blocks);
        done.map_err(|error| Failed::Block(behind(error, start)))?;
        write(len(start), &blocks)?;
        if !stats {
            return Ok(Vec::new());
        }
        let mut restored = vec![0.0_f32; values.len()];
        let done = self
            .backend
            .dequantize_ggml(&blocks, block_type, &mut restored);
        done.map_err(|error| Failed::Block(behind(error, start)))?;
        let chunks = values.chunks(STATS_CHUNK).zip(restored.chunks(STATS_CHUNK));
        let stats = chunks.map(|(values, restored)| self.backend.error_stats(values, restored));
        Ok(stats.collect())
    }

    /// What is said of a block that cannot be made: the first one, whatever the threads.
    fn refuse(
        &self,
        values: &Data<'_>,
        found: TensorError,
        (file, name): (&std::path::Path, &str),
        job: &Job<'_>,
    ) -> Error {
        let tried = self
            .windows()
            .map(|window| {
                job.check()?;
                self.window(values, window, false, &|_, _| Ok(()))
            })
            .find_first(Result::is_err);
        let first = match tried {
            Some(Err(Failed::Block(first))) => first,
            Some(Err(Failed::Error(error))) => return error,
            _ => found,
        };
        let place = position(first.block * GgmlType::VALUES, &self.shape);
        let exclude = option(&format!("exclude '^{}$'", regex::escape(name)));
        let problem = match first.source {
            ParamsError::NonFinite => match self.non_finite(values) {
                Ok(Some((first, count))) => format!(
                    "{count} of {} values are NaN or Inf, the first at {:?}; mend the model, or leave such tensors in float with {}",
                    self.elements(),
                    position(first, &self.shape),
                    option("non_finite skip")
                ),
                Ok(None) => first.to_string(),
                Err(error) => return error,
            },
            ParamsError::ScaleOverflow => format!(
                "the block at {place:?} has values for which the scale is too large for f16; leave the tensor in float with {exclude}"
            ),
            source => format!("the block at {place:?}: {source}; the file is damaged"),
        };
        Error::tensor(file, name, problem)
    }

    /// The position of the first value that is NaN or infinite, and how many are.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn non_finite(&self, values: &Data<'_>) -> Result<Option<(usize, u64)>, Error> {
        let BlockSource::Float(float) = self.source else {
            return Ok(None);
        };
        let window = |window: Range<usize>| {
            let (start, len) = (self.source.len(window.start), self.source.len(window.len()));
            let wide = quant_simd::widen(&values.part(start, len)?, float);
            let mut bad = wide.iter().enumerate().filter(|(_, it)| !it.is_finite());
            let first = bad.next().map(|(at, _)| (window.start + at, 1));
            Ok::<_, Error>(first.map(|(at, one)| (at, one + bad.count() as u64)))
        };
        let join = |a: Option<(usize, u64)>, b: Option<(usize, u64)>| {
            Ok(match (a, b) {
                (Some((i, m)), Some((j, n))) => Some((i.min(j), m + n)),
                (a, b) => a.or(b),
            })
        };
        self.windows().map(window).try_reduce(|| None, join)
    }
}

/// The error of a window that begins at an element.
fn behind(error: TensorError, start: usize) -> TensorError {
    TensorError {
        block: error.block + start / GgmlType::VALUES,
        ..error
    }
}

/// Restores the f32 values of blocks.
///
/// # Errors
/// A block whose scale or minimum is not finite; what `write` says.
pub fn restore(
    blocks: &Data<'_>,
    block_type: GgmlType,
    shape: &[usize],
    at: (&std::path::Path, &str),
    job: &Job<'_>,
    write: Write<'_>,
) -> Result<(), Error> {
    let quantizer = BlockQuantizer {
        backend: Backend::detect(),
        block_type,
        source: BlockSource::Blocks(block_type),
        shape: shape.to_vec(),
    };
    let window = |window: Range<usize>| {
        job.check()?;
        let wide = quantizer.restored(blocks, &window)?;
        write(window.start * size_of::<f32>(), bytemuck::cast_slice(&wide))?;
        (job.progress)(quantizer.source.len(window.len()) as u64);
        Ok(())
    };
    let done: Result<(), Failed> = quantizer.windows().map(window).collect();
    done.map_err(|failed| match failed {
        Failed::Error(error) => error,
        Failed::Block(error) => quantizer.refuse(blocks, error, at, job),
    })
}
