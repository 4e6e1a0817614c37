//! Whole tensors: block geometry, threads and kernels.
//!
//! Work is cut at multiples of [`STATS_CHUNK`](quant_core::STATS_CHUNK) elements. Everything within
//! a chunk stays in the cache; a tensor whose scales belong to groups of elements that fit there is
//! read from memory once.

mod biased;
mod dequantize;
mod encoder;
mod erased;
mod importance;
mod param_stream;
mod params;
mod quantize;
mod search;
mod search_biased;
mod search_blocks;
mod values;
mod work;

use quant_core::{Blocks, FloatType, ParamsError, STATS_CHUNK, Scheme, Search};

use crate::{ArgumentError, Backend};

pub use importance::Importance;
pub use work::on_this_thread;

/// Takes the parts of a tensor as they are made, from any thread, in any order. Offsets are in
/// bytes from the start of the whole.
pub trait Sink: Sync {
    /// What can go wrong in taking them.
    type Error: Send;
    /// Hears, before the first part, how many bytes there will be of each. In dequantizing, values
    /// take the place of codes.
    ///
    /// # Errors
    /// A sink of a fixed size says so where they do not fit; nothing else happens then.
    fn expect(&self, codes: usize, scales: usize, zero_points: usize) -> Result<(), ArgumentError> {
        let _ = (codes, scales, zero_points);
        Ok(())
    }
    /// Takes codes (or, in dequantizing, values).
    ///
    /// # Errors
    /// Whatever the sink says; it ends the work.
    fn codes(&self, offset: usize, bytes: &[u8]) -> Result<(), Self::Error>;
    /// Takes scales.
    ///
    /// # Errors
    /// Whatever the sink says; it ends the work.
    fn scales(&self, offset: usize, bytes: &[u8]) -> Result<(), Self::Error>;
    /// Takes zero points; in a dialect that stores biases instead, these, as little-endian bytes of
    /// the scales' type. Called only where the scheme stores them.
    ///
    /// # Errors
    /// Whatever the sink says; it ends the work.
    fn zero_points(&self, offset: usize, bytes: &[u8]) -> Result<(), Self::Error>;
}

/// Gives the bytes of a tensor that is not in memory, to any thread, in any order.
///
/// What is needed at a time is some MiB per thread; bytes may be asked for twice.
pub trait Source: Sync {
    /// What can go wrong in reading them.
    type Error: Send;
    /// Fills `buffer` with the bytes from `offset` on.
    ///
    /// # Errors
    /// Whatever the source says; it ends the work.
    fn read(&self, offset: usize, buffer: &mut [u8]) -> Result<(), Self::Error>;
}

/// Why a tensor was not quantized or dequantized.
// Exhaustive: the C and Python libraries have a status of their own for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProcessError<E> {
    /// A buffer or a type that does not fit.
    #[error(transparent)]
    Argument(#[from] ArgumentError),
    /// The values hold NaN or infinities.
    #[error("{count} values are NaN or Inf, the first at position {first}")]
    NonFinite {
        /// Row-major position of the first.
        first: usize,
        /// How many in the whole tensor.
        count: u64,
    },
    /// A block has no usable parameters.
    #[error("block {block}: {source}")]
    Params {
        /// Row-major position of its scale.
        block: usize,
        /// What is wrong.
        source: ParamsError,
    },
    /// The sink's own error.
    #[error("{0}")]
    Sink(E),
    /// There is not enough memory.
    #[error("there is not enough memory")]
    NoMemory,
}

/// A scheme and a geometry, ready to be applied to tensors of one type and shape.
#[derive(Clone, Debug)]
pub struct TensorQuantizer {
    /// The kernels to use.
    pub backend: Backend,
    /// Integer type, mode, dialect.
    pub scheme: Scheme,
    /// The float type of the values.
    pub source: FloatType,
    /// Shape and blocks.
    pub blocks: Blocks,
    /// How scales are chosen. A search in blocks that lie apart, or in channels of more than a million
    /// elements, reads the tensor into memory.
    pub search: Search,
    /// How much errors in each element matter to a search; all the same where it is not given.
    pub importance: Option<Importance>,
}

impl TensorQuantizer {
    /// The scheme that values are encoded with: a search uses all codes of the integer type.
    pub fn encoding_scheme(&self) -> Scheme {
        match self.search {
            Search::None => self.scheme,
            Search::Mse => self.scheme.searched(),
        }
    }

    /// Bytes of codes.
    pub fn codes_len(&self) -> usize {
        self.scheme.dtype.storage_len(self.blocks.element_count())
    }

    /// The type that scales are stored in.
    pub fn scale_type(&self) -> FloatType {
        self.scheme.dialect.scale_type(self.source)
    }

    /// Bytes of scales.
    pub fn scales_len(&self) -> usize {
        let size = self.scale_type().size();
        self.blocks.scale_count().saturating_mul(size)
    }

    /// Bytes of zero points, or of biases in the type of the scales; 0 where the scheme stores
    /// neither.
    pub fn zero_points_len(&self) -> usize {
        let size = self.scheme.offset().size(self.scale_type());
        self.blocks.scale_count().saturating_mul(size)
    }
}

/// Cuts at multiples of [`STATS_CHUNK`].
fn chunks(elements: std::ops::Range<usize>) -> impl Iterator<Item = std::ops::Range<usize>> {
    let mut start = elements.start;
    std::iter::from_fn(move || {
        let end = (start / STATS_CHUNK + 1) * STATS_CHUNK;
        let chunk = start..end.min(elements.end);
        start = chunk.end;
        (!chunk.is_empty()).then_some(chunk)
    })
}

pub(crate) fn widen(bytes: &[u8], source: FloatType) -> Vec<f32> {
    match source {
        FloatType::F32 => values::widen::<f32>(bytes),
        FloatType::F16 => values::widen::<half::f16>(bytes),
        FloatType::Bf16 => values::widen::<half::bf16>(bytes),
    }
}
