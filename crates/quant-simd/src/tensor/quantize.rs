//! From values to codes, scales and zero points.

use std::ops::Range;

use half::{bf16, f16};
use quant_core::{Arrangement, ErrorStats, FloatType, Params, ParamsError, STATS_CHUNK};
use rayon::prelude::*;

use super::segments::{Groups, KnownParams, RowTerms, Segments, TwoGroups};
use super::values::Values;
use super::{Failure, Sink, TensorQuantizer, chunks};
use crate::Element;
use crate::columns::ColumnBounds;
use crate::kernels::error::ErrorSums;
use crate::kernels::pack::Pack;

/// Elements that are encoded at a time; together with what they become they fit the first cache.
pub(super) const PIECE: usize = 2048;
/// Elements of a group that stay in the cache between the search for its range and its encoding.
const GROUP: usize = 1 << 20;
/// Elements of a row that has terms in a table.
const ROW: usize = 1 << 16;
/// Chunks that one thread works through in order, so that a group that lies across two of them is
/// looked at twice only at the borders.
const UNIT: usize = 8;

/// A block without usable parameters, or the sink's own error.
enum Trouble<E> {
    Block(usize, ParamsError),
    Sink(E),
}

impl<E> From<(usize, ParamsError)> for Trouble<E> {
    fn from((block, source): (usize, ParamsError)) -> Self {
        Self::Block(block, source)
    }
}

impl TensorQuantizer {
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
        let stats = match self.source {
            FloatType::F32 => self.quantize_values::<f32, S>(Values::new(values), sink),
            FloatType::F16 => self.quantize_values::<f16, S>(Values::new(values), sink),
            FloatType::Bf16 => self.quantize_values::<bf16, S>(Values::new(values), sink),
        };
        stats.map_err(|trouble| match trouble {
            Trouble::Sink(error) => Failure::Sink(error),
            // Non-finite values are reported for the whole tensor, whichever block met them first.
            Trouble::Block(block, source) => match self.non_finite(values) {
                Some((first, count)) => Failure::NonFinite { first, count },
                None => Failure::Params { block, source },
            },
        })
    }

    /// The position of the first NaN or infinity, and how many there are in the whole tensor.
    ///
    /// # Panics
    /// If `values` does not have the geometry's size.
    pub fn non_finite(&self, values: &[u8]) -> Option<(usize, u64)> {
        let n = self.blocks.element_count();
        assert_eq!(values.len(), n * self.source.size(), "the geometry's shape");
        match self.source {
            FloatType::F32 => self.non_finite_values::<f32>(Values::new(values)),
            FloatType::F16 => self.non_finite_values::<f16>(Values::new(values)),
            FloatType::Bf16 => self.non_finite_values::<bf16>(Values::new(values)),
        }
    }

    fn non_finite_values<F: Element>(&self, values: Values<'_, F>) -> Option<(usize, u64)> {
        let chunks: Vec<_> = chunks(0..self.blocks.element_count()).collect();
        let found = chunks.into_par_iter().filter_map(|chunk| {
            let start = chunk.start;
            values.with(chunk, |values| {
                let count = self.backend.range(values).non_finite;
                let first = values
                    .iter()
                    .position(|value| !value.to_f32().is_finite())?;
                Some((start + first, count))
            })
        });
        found.reduce_with(|(a, m), (b, n)| (a.min(b), m + n))
    }

    fn quantize_values<F: Element, S: Sink>(
        &self,
        values: Values<'_, F>,
        sink: &S,
    ) -> Result<ErrorStats, Trouble<S::Error>> {
        match self.blocks.arrangement() {
            Arrangement::Rows { len } if len <= ROW => {
                // All groups but the last along an axis are as large as the first.
                match self.blocks.group_of(0).len() <= GROUP {
                    true => self.by_units(values, sink),
                    false => self.by_large_groups(values, len, sink),
                }
            }
            Arrangement::Runs if self.blocks.group_of(0).len() <= GROUP => {
                self.by_units(values, sink)
            }
            _ => self.by_known_params(values, sink),
        }
    }

    /// Groups fit the cache: each is read from memory once.
    fn by_units<F: Element, S: Sink>(
        &self,
        values: Values<'_, F>,
        sink: &S,
    ) -> Result<ErrorStats, Trouble<S::Error>> {
        let n = self.blocks.element_count();
        let group = self.blocks.group_of(0).len();
        let chunks_per_unit = UNIT.max((4 * group).div_ceil(STATS_CHUNK));
        let unit = chunks_per_unit * STATS_CHUNK;
        // Every thread should have some.
        let fair = n.div_ceil(4 * rayon::current_num_threads());
        let unit = unit.min(fair.next_multiple_of(STATS_CHUNK));
        let units: Vec<_> = (0..n)
            .step_by(unit)
            .map(|start| start..(start + unit).min(n))
            .collect();
        let stats = units.into_par_iter().map(|unit| {
            let mut groups = Groups::new(self, values, unit.start);
            let mut encoder = Encoder::default();
            let mut of_unit = Vec::new();
            for chunk in chunks(unit) {
                of_unit.push(encoder.encode(self, values, chunk, &mut groups, sink)?);
                groups.put(sink).map_err(Trouble::Sink)?;
            }
            Ok(of_unit)
        });
        // In the order of the tensor, and the first trouble of all.
        let stats: Vec<Result<Vec<_>, Trouble<S::Error>>> = stats.collect();
        let mut total = ErrorStats::default();
        for of_unit in stats {
            total = of_unit?.into_iter().fold(total, ErrorStats::then);
        }
        Ok(total)
    }

    /// Groups of rows that do not fit the cache: their ranges first, then their codes.
    fn by_large_groups<F: Element, S: Sink>(
        &self,
        values: Values<'_, F>,
        row: usize,
        sink: &S,
    ) -> Result<ErrorStats, Trouble<S::Error>> {
        let n = self.blocks.element_count();
        let mut total = ErrorStats::default();
        let (mut start, mut done) = (0, 0);
        let mut before: Option<RowTerms> = None;
        while start < n {
            let group = self.blocks.group_of(start);
            let slab = (GROUP / row).max(1) * row;
            let slabs: Vec<_> = group.clone().step_by(slab).collect();
            let bounds = slabs.into_par_iter().fold(
                || ColumnBounds::new(row),
                |mut bounds, start| {
                    let slab = start..(start + slab).min(group.end);
                    values.with(slab, |values| bounds.widen(self.backend, values, 0));
                    bounds
                },
            );
            let bounds = bounds.reduce(|| ColumnBounds::new(row), ColumnBounds::merge);
            let params = self.row_params::<F>(group.start, row, &bounds)?;
            self.put_params(self.blocks.scale_of(group.start), &params, sink)
                .map_err(Trouble::Sink)?;
            let terms = RowTerms::new::<F>(self, group.clone(), row, &params);
            // A chunk across two groups waits for the second one.
            let end = match group.end == n {
                true => n,
                false => group.end - group.end % STATS_CHUNK,
            };
            let known = (&before, &terms);
            let chunks: Vec<_> = chunks(done..end).collect();
            let stats = chunks.into_par_iter().map(|chunk| {
                let mut encoder = Encoder::default();
                encoder.encode(self, values, chunk, &mut TwoGroups(known), sink)
            });
            let stats: Vec<Result<_, Trouble<S::Error>>> = stats.collect();
            for of_chunk in stats {
                total = total.then(of_chunk?);
            }
            (start, done) = (group.end, end);
            before = Some(terms);
        }
        Ok(total)
    }

    /// All ranges first, then all codes, run by run.
    fn by_known_params<F: Element, S: Sink>(
        &self,
        values: Values<'_, F>,
        sink: &S,
    ) -> Result<ErrorStats, Trouble<S::Error>> {
        let n = self.blocks.element_count();
        let empty = || vec![quant_core::Range::EMPTY; self.blocks.scale_count()];
        let threads = rayon::current_num_threads();
        let piece = n.div_ceil(threads).next_multiple_of(STATS_CHUNK);
        let pieces: Vec<_> = (0..n).step_by(piece).collect();
        let partial = pieces.into_par_iter().map(|start| {
            let mut ranges = empty();
            for chunk in chunks(start..(start + piece).min(n)) {
                values.with(chunk.clone(), |values| {
                    for run in self.blocks.runs(chunk.clone()) {
                        let local =
                            run.elements.start - chunk.start..run.elements.end - chunk.start;
                        let range = &mut ranges[run.scale];
                        *range = range.merge(self.backend.range(&values[local]));
                    }
                });
            }
            ranges
        });
        let partial: Vec<_> = partial.collect();
        let mut ranges = empty();
        for partial in partial {
            for (range, partial) in ranges.iter_mut().zip(partial) {
                *range = range.merge(partial);
            }
        }
        let mut params = Vec::new();
        for (scale, range) in ranges.iter().enumerate() {
            let found = self.scheme.params(range, F::TYPE);
            params.push(found.map_err(|source| (scale, source))?);
        }
        self.put_params(0, &params, sink).map_err(Trouble::Sink)?;
        let chunks: Vec<_> = chunks(0..n).collect();
        let stats = chunks.into_par_iter().map(|chunk| {
            let mut encoder = Encoder::default();
            encoder.encode(self, values, chunk, &mut KnownParams(self, &params), sink)
        });
        let stats: Vec<Result<_, Trouble<S::Error>>> = stats.collect();
        let mut total = ErrorStats::default();
        for of_chunk in stats {
            total = total.then(of_chunk?);
        }
        Ok(total)
    }

    /// Parameters of the scales of a row, whose columns have these bounds.
    pub(super) fn row_params<F: Element>(
        &self,
        start: usize,
        row: usize,
        bounds: &ColumnBounds,
    ) -> Result<Vec<Params>, (usize, ParamsError)> {
        let mut columns = vec![quant_core::Range::EMPTY; row];
        bounds.merge_into(&mut columns);
        let mut params = Vec::new();
        for run in self.blocks.runs(start..start + row) {
            let columns = &columns[run.elements.start - start..run.elements.end - start];
            let range = columns
                .iter()
                .copied()
                .fold(quant_core::Range::EMPTY, |a, b| a.merge(b));
            let found = self.scheme.params(&range, F::TYPE);
            params.push(found.map_err(|source| (run.scale, source))?);
        }
        Ok(params)
    }

    pub(super) fn put_params<S: Sink>(
        &self,
        first: usize,
        params: &[Params],
        sink: &S,
    ) -> Result<(), S::Error> {
        if params.is_empty() {
            return Ok(());
        }
        let mut bytes = Vec::with_capacity(params.len() * self.scale_type().size());
        for params in params {
            let scale = params.scale();
            match self.scale_type() {
                FloatType::F32 => bytes.extend(scale.to_le_bytes()),
                FloatType::F16 => bytes.extend(f16::from_f32(scale).to_le_bytes()),
                FloatType::Bf16 => bytes.extend(bf16::from_f32(scale).to_le_bytes()),
            }
        }
        sink.scales(first * self.scale_type().size(), &bytes)?;
        if self.scheme.stores_zero_point() {
            let codes: Vec<u8> = params.iter().map(|p| p.zero_point() as u8).collect();
            sink.zero_points(first, &codes)?;
        }
        Ok(())
    }
}

/// What a thread needs for a chunk.
#[derive(Default)]
struct Encoder {
    codes: Vec<u8>,
    packed: Vec<u8>,
    became: Vec<f32>,
}

impl Encoder {
    /// Encodes a chunk, packs it, and adds up its errors.
    fn encode<F: Element, S: Sink>(
        &mut self,
        quantizer: &TensorQuantizer,
        values: Values<'_, F>,
        chunk: Range<usize>,
        segments: &mut impl Segments,
        sink: &S,
    ) -> Result<ErrorStats, Trouble<S::Error>> {
        let (backend, dtype) = (quantizer.backend, quantizer.scheme.dtype);
        self.codes.resize(chunk.len(), 0);
        self.became.resize(PIECE, 0.0);
        let mut sums = ErrorSums::default();
        let mut clipped = 0;
        values
            .with(chunk.clone(), |values| {
                for (piece, values) in values.chunks(PIECE).enumerate() {
                    let piece = piece * PIECE;
                    let mut at = 0;
                    while at < values.len() {
                        let position = chunk.start + piece + at;
                        let (count, coding, place) = segments.at(position, values.len() - at)?;
                        let codes = &mut self.codes[piece + at..][..count];
                        let became = &mut self.became[at..][..count];
                        let values = &values[at..][..count];
                        let encoded = F::encode(backend, values, coding, place, codes, became);
                        if encoded.non_finite > 0 {
                            let block = quantizer.blocks.scale_of(position);
                            return Err((block, ParamsError::NonFinite));
                        }
                        clipped += encoded.clipped;
                        at += count;
                    }
                    F::add_errors(backend, values, &self.became[..values.len()], &mut sums);
                }
                Ok(())
            })
            .map_err(|trouble: (usize, ParamsError)| Trouble::from(trouble))?;
        // Chunks start at even elements, so that two of them never share a packed byte.
        let (offset, stored) = match dtype.bits() {
            4 => {
                self.packed.resize(chunk.len().div_ceil(2), 0);
                backend.run(Pack {
                    codes: &self.codes,
                    packed: &mut self.packed,
                });
                (chunk.start / 2, &self.packed)
            }
            _ => (chunk.start, &self.codes),
        };
        sink.codes(offset, stored).map_err(Trouble::Sink)?;
        let mut stats = sums.stats();
        stats.saturated = clipped;
        Ok(stats)
    }
}
