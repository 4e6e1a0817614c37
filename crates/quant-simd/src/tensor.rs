//! Whole tensors: block geometry, threads and kernels.

use std::cell::RefCell;
use std::ops::Range;

use quant_core::{
    Blocks, ErrorStats, FloatType, Params, ParamsError, STATS_CHUNK, Scheme, reference,
};
use rayon::prelude::*;

use crate::{Backend, portable};

/// Elements whose scales are held at once, where blocks follow one another.
const WINDOW: usize = 32 * STATS_CHUNK;

/// Takes the parts of a tensor as they are made, from any thread, in any order. Offsets are in
/// bytes from the start of the whole.
pub trait Sink: Sync {
    /// What can go wrong in taking them.
    type Error: Send;
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
    /// Takes zero points. Called only where the scheme stores them.
    ///
    /// # Errors
    /// Whatever the sink says; it ends the work.
    fn zero_points(&self, offset: usize, bytes: &[u8]) -> Result<(), Self::Error>;
}

/// Why a tensor was not quantized or dequantized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure<E> {
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
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

#[derive(Default)]
struct Scratch {
    values: Vec<f32>,
    became: Vec<f32>,
    codes: Vec<u8>,
    bytes: Vec<u8>,
}

/// The parameters of consecutive scales.
struct Window {
    first: usize,
    params: Vec<Params>,
}

impl TensorQuantizer {
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
        self.blocks.scale_count() * self.scale_type().size()
    }

    /// Bytes of zero points: none where the scheme stores none.
    pub fn zero_points_len(&self) -> usize {
        match self.scheme.stores_zero_point() {
            true => self.blocks.scale_count(),
            false => 0,
        }
    }

    /// Quantizes little-endian values into `sink`.
    ///
    /// # Errors
    /// Non-finite values, a block without usable parameters, or the sink's error; what the sink
    /// has taken by then is of no use.
    ///
    /// # Panics
    /// If `values` does not have the geometry's size.
    pub fn quantize<S: Sink>(
        &self,
        values: &[u8],
        sink: &S,
    ) -> Result<ErrorStats, Failure<S::Error>> {
        let n = self.blocks.element_count();
        assert_eq!(values.len(), n * self.source.size(), "the geometry's shape");
        if n == 0 {
            return Ok(ErrorStats::default());
        }
        // Blocks that follow one another need only the scales of the window at hand.
        let follow = self.blocks.is_linear();
        let window = if follow { WINDOW } else { n };
        let mut total = ErrorStats::default();
        let mut known: Option<(usize, Params)> = None;
        for start in (0..n).step_by(window) {
            let elements = start..(start + window).min(n);
            let scales = match follow {
                true => self.blocks.scale_of(start)..self.blocks.scale_of(elements.end - 1) + 1,
                false => 0..self.blocks.scale_count(),
            };
            let params = self
                .params(values, scales.clone(), known)
                .map_err(|failure| self.explain(values, failure))?;
            known = params.last().map(|&last| (scales.end - 1, last));
            self.put_params(scales.start, &params, sink)
                .map_err(Failure::Sink)?;
            let window = Window {
                first: scales.start,
                params,
            };
            let chunks: Vec<_> = chunks(elements).collect();
            let stats = chunks
                .into_par_iter()
                .map(|chunk| self.quantize_chunk(values, chunk, &window, sink))
                .collect::<Result<Vec<_>, _>>()
                .map_err(Failure::Sink)?;
            total = stats.into_iter().fold(total, ErrorStats::then);
        }
        Ok(total)
    }

    /// Parameters of `scales`; the first of them may be known from the window before.
    fn params(
        &self,
        values: &[u8],
        scales: Range<usize>,
        known: Option<(usize, Params)>,
    ) -> Result<Vec<Params>, (usize, ParamsError)> {
        let known = known.filter(|(scale, _)| *scale == scales.start);
        let unknown = scales.start + usize::from(known.is_some())..scales.end;
        let mut params: Vec<Params> = known.map(|(_, params)| params).into_iter().collect();
        if unknown.is_empty() {
            return Ok(params);
        }
        let elements = match self.blocks.is_linear() {
            true => self.blocks.elements_of(unknown.clone()),
            false => 0..self.blocks.element_count(),
        };
        let empty = || vec![quant_core::Range::EMPTY; unknown.len()];
        // Each thread has ranges of its own; merging them is exact in any order.
        let pieces: Vec<_> = pieces(elements, rayon::current_num_threads()).collect();
        let partial: Vec<_> = pieces
            .into_par_iter()
            .map(|piece| {
                let mut ranges = empty();
                for chunk in chunks(piece) {
                    self.with_values(values, chunk.clone(), |values| {
                        for run in self.blocks.runs(chunk.clone()) {
                            let local =
                                run.elements.start - chunk.start..run.elements.end - chunk.start;
                            let range = &mut ranges[run.scale - unknown.start];
                            *range = range.merge(portable::range(&values[local]));
                        }
                    });
                }
                ranges
            })
            .collect();
        let mut ranges = empty();
        for partial in partial {
            for (range, partial) in ranges.iter_mut().zip(partial) {
                *range = range.merge(partial);
            }
        }
        for (scale, range) in unknown.zip(&ranges) {
            let found = self.scheme.params(range, self.source);
            params.push(found.map_err(|source| (scale, source))?);
        }
        Ok(params)
    }

    /// The position of the first NaN or infinity, and how many there are in the whole tensor.
    ///
    /// # Panics
    /// If `values` does not have the geometry's size.
    pub fn non_finite(&self, values: &[u8]) -> Option<(usize, u64)> {
        let chunks: Vec<_> = chunks(0..self.blocks.element_count()).collect();
        let found = chunks.into_par_iter().filter_map(|chunk| {
            self.with_values(values, chunk.clone(), |values| {
                let mut bad = (0..values.len()).filter(|&i| !values[i].is_finite());
                let first = bad.next()?;
                Some((chunk.start + first, 1 + bad.count() as u64))
            })
        });
        found.reduce_with(|(a, m), (b, n)| (a.min(b), m + n))
    }

    /// Non-finite values are reported for the whole tensor, whichever block met them first.
    fn explain<E>(&self, values: &[u8], (block, source): (usize, ParamsError)) -> Failure<E> {
        match self.non_finite(values) {
            Some((first, count)) => Failure::NonFinite { first, count },
            None => Failure::Params { block, source },
        }
    }

    fn with_values<T>(
        &self,
        values: &[u8],
        elements: Range<usize>,
        f: impl FnOnce(&[f32]) -> T,
    ) -> T {
        let size = self.source.size();
        let bytes = &values[elements.start * size..elements.end * size];
        SCRATCH.with_borrow_mut(|scratch| {
            portable::widen(bytes, self.source, &mut scratch.values);
            f(&scratch.values)
        })
    }

    fn put_params<S: Sink>(
        &self,
        first: usize,
        params: &[Params],
        sink: &S,
    ) -> Result<(), S::Error> {
        let scales: Vec<f32> = params.iter().map(Params::scale).collect();
        let mut bytes = Vec::new();
        portable::narrow(&scales, self.scale_type(), &mut bytes);
        sink.scales(first * self.scale_type().size(), &bytes)?;
        if self.scheme.stores_zero_point() {
            let codes: Vec<u8> = params.iter().map(|p| p.zero_point() as u8).collect();
            sink.zero_points(first, &codes)?;
        }
        Ok(())
    }

    fn quantize_chunk<S: Sink>(
        &self,
        values: &[u8],
        elements: Range<usize>,
        window: &Window,
        sink: &S,
    ) -> Result<ErrorStats, S::Error> {
        let size = self.source.size();
        let bytes = &values[elements.start * size..elements.end * size];
        SCRATCH.with_borrow_mut(|scratch| {
            portable::widen(bytes, self.source, &mut scratch.values);
            scratch.codes.resize(elements.len(), 0);
            scratch.became.resize(elements.len(), 0.0);
            let mut clipped = 0;
            for run in self.blocks.runs(elements.clone()) {
                let local = run.elements.start - elements.start..run.elements.end - elements.start;
                let params = window.params[run.scale - window.first];
                let values = &scratch.values[local.clone()];
                let codes = &mut scratch.codes[local.clone()];
                clipped += portable::quantize(values, self.source, self.scheme, params, codes);
                portable::dequantize(codes, self.scheme, params, &mut scratch.became[local]);
            }
            let compared = scratch.values.iter().copied();
            let compared = compared.zip(scratch.became.iter().copied());
            let mut stats = ErrorStats::of_chunk(compared);
            stats.saturated = clipped;
            // Chunks start at even elements, so that two of them never share a packed byte.
            if self.scheme.dtype.bits() == 4 {
                scratch.bytes.resize(elements.len().div_ceil(2), 0);
                reference::pack(&scratch.codes, &mut scratch.bytes);
                sink.codes(elements.start / 2, &scratch.bytes)?;
            } else {
                sink.codes(elements.start, &scratch.codes)?;
            }
            Ok(stats)
        })
    }

    /// Dequantizes into `sink.codes` as little-endian values of type `target`. `zero_points` is
    /// empty where the scheme stores none.
    ///
    /// # Errors
    /// A scale or zero point that cannot be, or the sink's error.
    ///
    /// # Panics
    /// If a buffer does not have the geometry's size.
    pub fn dequantize<S: Sink>(
        &self,
        codes: &[u8],
        scales: &[u8],
        zero_points: &[u8],
        target: FloatType,
        sink: &S,
    ) -> Result<(), Failure<S::Error>> {
        let chunks: Vec<_> = chunks(0..self.blocks.element_count()).collect();
        chunks.into_par_iter().try_for_each(|chunk| {
            let mut values = vec![0.0; chunk.len()];
            self.dequantize_range(codes, scales, zero_points, chunk.clone(), &mut values)
                .map_err(|(block, source)| Failure::Params { block, source })?;
            SCRATCH.with_borrow_mut(|scratch| {
                portable::narrow(&values, target, &mut scratch.bytes);
                sink.codes(chunk.start * target.size(), &scratch.bytes)
                    .map_err(Failure::Sink)
            })
        })
    }

    /// Dequantizes some elements, which start at an even position, to f32.
    ///
    /// # Errors
    /// The block and what is wrong with its scale or zero point.
    ///
    /// # Panics
    /// If a buffer does not have the geometry's size, or the range starts at an odd position.
    pub fn dequantize_range(
        &self,
        codes: &[u8],
        scales: &[u8],
        zero_points: &[u8],
        elements: Range<usize>,
        values: &mut [f32],
    ) -> Result<(), (usize, ParamsError)> {
        assert_eq!(codes.len(), self.codes_len(), "the geometry's shape");
        assert_eq!(scales.len(), self.scales_len(), "the geometry's scales");
        assert_eq!(zero_points.len(), self.zero_points_len(), "the zero points");
        assert_eq!(elements.start % 2, 0, "an even start");
        let dtype = self.scheme.dtype;
        let stored = dtype.storage_len(elements.start)..dtype.storage_len(elements.end);
        let stored = &codes[stored];
        let mut unpacked = Vec::new();
        let codes = if dtype.bits() == 4 {
            unpacked.resize(elements.len(), 0);
            reference::unpack(stored, dtype, &mut unpacked);
            &unpacked
        } else {
            stored
        };
        let size = self.scale_type().size();
        let mut scale = Vec::new();
        for run in self.blocks.runs(elements.clone()) {
            let local = run.elements.start - elements.start..run.elements.end - elements.start;
            let bytes = &scales[run.scale * size..(run.scale + 1) * size];
            portable::widen(bytes, self.scale_type(), &mut scale);
            let zero_point = match zero_points.get(run.scale) {
                Some(&code) => dtype.value(code),
                None => 0,
            };
            let params = Params::new(self.scheme, scale[0], zero_point, self.scale_type())
                .map_err(|source| (run.scale, source))?;
            let codes = &codes[local.clone()];
            portable::dequantize(codes, self.scheme, params, &mut values[local]);
        }
        Ok(())
    }
}

/// Cuts at multiples of [`STATS_CHUNK`].
fn chunks(elements: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let mut start = elements.start;
    std::iter::from_fn(move || {
        let end = (start / STATS_CHUNK + 1) * STATS_CHUNK;
        let chunk = start..end.min(elements.end);
        start = chunk.end;
        (!chunk.is_empty()).then_some(chunk)
    })
}

/// Cuts into at most `count` pieces of equal length, none shorter than a chunk.
fn pieces(elements: Range<usize>, count: usize) -> impl Iterator<Item = Range<usize>> {
    let step = elements.len().div_ceil(count).max(STATS_CHUNK);
    let end = elements.end;
    elements
        .step_by(step)
        .map(move |start| start..(start + step).min(end))
}
