//! From values to codes, scales and zero points.

use std::marker::PhantomData;
use std::ops::Range;

use half::{bf16, f16};
use quant_core::{Arrangement, ErrorStats, FloatType, STATS_CHUNK};

use super::encoder::Encoder;
use super::erased::{Erased, Refused, erased, erased_from, kept};
use super::param_stream::{Groups, KnownParams, ParamStream, RowParams, TwoGroupStream};
use super::params::PIECE;
use super::values::{Input, Pool, Values};
use super::work::{Flaw, PassError, each, fold, threads};
use super::{ProcessError, Sink, Source, TensorQuantizer, chunks};
use crate::columns::ColumnBounds;
use crate::{ArgumentError, Element, argument, dialects, memory};

/// Elements of a group that stay in the cache between the search for its range and its encoding.
const GROUP: usize = 1 << 20;
/// Elements of a row that has parameters in a table.
const ROW: usize = 1 << 16;
/// Chunks that one thread works through in order, so that a group that lies across two of them is
/// looked at twice only at the borders.
const UNIT: usize = 8;

/// Where the values are.
#[derive(Clone, Copy)]
enum Origin<'a> {
    Memory(&'a [u8]),
    Source(&'a dyn Source<Error = Refused>),
}

impl<'a> Origin<'a> {
    fn input<F: Element>(self) -> Input<'a, F, Refused> {
        match self {
            Self::Memory(bytes) => Input::Memory(Values::new(bytes)),
            Self::Source(source) => Input::Source(source),
        }
    }
}

impl TensorQuantizer {
    /// Quantizes little-endian values into `sink`, and returns its error statistics.
    ///
    /// # Errors
    /// Values, or a sink, of another size than the shape's. Non-finite values, a block without
    /// usable parameters, or the sink's error; what the sink has taken by then is of no use.
    pub fn quantize<S: Sink>(
        &self,
        values: &[u8],
        sink: &S,
    ) -> Result<ErrorStats, ProcessError<S::Error>> {
        let values = self.in_memory(values)?;
        self.announce(sink)?;
        erased(sink, |sink| self.quantize_from(values, sink, true))
    }

    /// [`quantize`](Self::quantize) without error statistics: it is faster.
    ///
    /// # Errors
    /// As `quantize`.
    pub fn quantize_unmeasured<S: Sink>(
        &self,
        values: &[u8],
        sink: &S,
    ) -> Result<(), ProcessError<S::Error>> {
        let values = self.in_memory(values)?;
        self.announce(sink)?;
        let outcome = erased(sink, |sink| self.quantize_from(values, sink, false));
        outcome.map(|_| ())
    }

    /// [`quantize`](Self::quantize) of values that are not in memory.
    ///
    /// # Errors
    /// As `quantize`; the source's error.
    pub fn quantize_source<S: Sink>(
        &self,
        values: &dyn Source<Error = S::Error>,
        sink: &S,
    ) -> Result<ErrorStats, ProcessError<S::Error>> {
        self.announce(sink)?;
        erased_from(values, sink, |values, sink| {
            self.quantize_from(Origin::Source(values), sink, true)
        })
    }

    /// [`quantize_unmeasured`](Self::quantize_unmeasured) of values that are not in memory.
    ///
    /// # Errors
    /// As `quantize`; the source's error.
    pub fn quantize_source_unmeasured<S: Sink>(
        &self,
        values: &dyn Source<Error = S::Error>,
        sink: &S,
    ) -> Result<(), ProcessError<S::Error>> {
        self.announce(sink)?;
        let outcome = erased_from(values, sink, |values, sink| {
            self.quantize_from(Origin::Source(values), sink, false)
        });
        outcome.map(|_| ())
    }

    fn in_memory<'a>(&self, values: &'a [u8]) -> Result<Origin<'a>, ArgumentError> {
        let count = self.blocks.element_count();
        argument::floats("values", values.len(), count, self.source)?;
        Ok(Origin::Memory(values))
    }

    fn announce(&self, sink: &impl Sink) -> Result<(), ArgumentError> {
        sink.expect(self.codes_len(), self.scales_len(), self.zero_points_len())
    }

    // Not generic, and never inlined: so the driver is compiled here.
    #[inline(never)]
    fn quantize_from(
        &self,
        values: Origin<'_>,
        sink: &Erased<'_>,
        measured: bool,
    ) -> Result<ErrorStats, ProcessError<Refused>> {
        if self.blocks.element_count() == 0 {
            return Ok(ErrorStats::default());
        }
        let stats = match self.source {
            FloatType::F32 => self.quantize_values::<f32, _>(values.input(), sink, measured),
            FloatType::F16 => self.quantize_values::<f16, _>(values.input(), sink, measured),
            FloatType::Bf16 => self.quantize_values::<bf16, _>(values.input(), sink, measured),
        };
        stats.map_err(|error| match error {
            // Non-finite values are reported for the whole tensor, whichever block met them first.
            PassError::Flaw(Flaw::Block(block, source)) => match self.find_non_finite(values) {
                Ok(Some((first, count))) => ProcessError::NonFinite { first, count },
                Ok(None) => ProcessError::Params { block, source },
                Err(error) => error.into(),
            },
            error @ (PassError::Flaw(_) | PassError::Sink(_)) => error.into(),
        })
    }

    /// The position of the first NaN or infinity, and how many there are in the whole tensor.
    ///
    /// # Errors
    /// Values of another size than the shape's.
    pub fn non_finite(&self, values: &[u8]) -> Result<Option<(usize, u64)>, ArgumentError> {
        let found = self.find_non_finite(self.in_memory(values)?);
        Ok(found.unwrap_or_else(|error| match error {
            PassError::Flaw(Flaw::NoMemory(lack)) => lack.end(),
            PassError::Flaw(Flaw::Block(..)) | PassError::Sink(_) => {
                unreachable!("memory refuses nothing")
            }
        }))
    }

    /// [`non_finite`](Self::non_finite) of values that are not in memory.
    ///
    /// # Errors
    /// The source's error.
    pub fn non_finite_source<E: Send>(
        &self,
        values: &dyn Source<Error = E>,
    ) -> Result<Option<(usize, u64)>, E> {
        kept(values, |values| {
            let found = self.find_non_finite(Origin::Source(values));
            found.map_err(|error| match error {
                PassError::Sink(refused) => refused,
                PassError::Flaw(Flaw::NoMemory(lack)) => lack.end(),
                PassError::Flaw(Flaw::Block(..)) => unreachable!("no block is looked at"),
            })
        })
    }

    #[inline(never)]
    fn find_non_finite(
        &self,
        values: Origin<'_>,
    ) -> Result<Option<(usize, u64)>, PassError<Refused>> {
        match self.source {
            FloatType::F32 => self.non_finite_values::<f32>(values.input()),
            FloatType::F16 => self.non_finite_values::<f16>(values.input()),
            FloatType::Bf16 => self.non_finite_values::<bf16>(values.input()),
        }
    }

    fn non_finite_values<F: Element>(
        &self,
        values: Input<'_, F, Refused>,
    ) -> Result<Option<(usize, u64)>, PassError<Refused>> {
        let n = self.blocks.element_count();
        let buffers = Pool::<Vec<F>>::default();
        let join = |a: Option<(usize, u64)>, b| match (a, b) {
            (Some((a, m)), Some((b, n))) => Some((Ord::min(a, b), m + n)),
            (a, b) => a.or(b),
        };
        let one = |found, i: usize| {
            let chunk = i * STATS_CHUNK..((i + 1) * STATS_CHUNK).min(n);
            buffers.with(|buffer| {
                let start = chunk.start;
                let values = values.window(chunk.clone(), buffer)?;
                let here = values.with(chunk, |values| {
                    let count = self.backend.range(values).non_finite;
                    if count == 0 {
                        return None;
                    }
                    let first = values
                        .iter()
                        .position(|value| !value.to_f32().is_finite())?;
                    Some((start + first, count))
                })?;
                Ok(join(found, here))
            })
        };
        fold(n.div_ceil(STATS_CHUNK), || Ok(None), one, join)
    }

    fn quantize_values<F: Element, S: Sink>(
        &self,
        values: Input<'_, F, S::Error>,
        sink: &S,
        measured: bool,
    ) -> Result<ErrorStats, PassError<S::Error>> {
        if let Some(size) = self.biased_block_size() {
            return self.by_biased_blocks(values, size, sink, measured);
        }
        match self.blocks.arrangement() {
            Arrangement::Rows { len } if len <= ROW && dialects::has_kernels(self.scheme) => {
                // All groups but the last along an axis are as large as the first.
                match self.blocks.group_of(0).len() <= GROUP {
                    true => self.by_units(values, sink, measured),
                    false => self.by_large_groups(values, len, sink, measured),
                }
            }
            Arrangement::Runs if self.blocks.group_of(0).len() <= GROUP => {
                self.by_units(values, sink, measured)
            }
            Arrangement::Runs | Arrangement::Rows { .. } | Arrangement::Scattered => {
                self.by_known_params(values, sink, measured)
            }
        }
    }

    /// Groups fit the cache: each is read from memory once.
    fn by_units<F: Element, S: Sink>(
        &self,
        values: Input<'_, F, S::Error>,
        sink: &S,
        measured: bool,
    ) -> Result<ErrorStats, PassError<S::Error>> {
        let n = self.blocks.element_count();
        let group = self.blocks.group_of(0).len();
        let units = Units::new(0..n, 4 * group);
        let buffers = Pool::<(Encoder, Vec<F>)>::default();
        let one = |unit: Range<usize>, (encoder, buffer): &mut (Encoder, Vec<F>)| {
            // Whole groups, and what a batch of blocks may look at beyond them.
            let past = self.blocks.group_of(unit.end - 1).end + PIECE;
            let reach = self.blocks.group_of(unit.start).start..past.min(n);
            let values = values.window(reach, buffer)?;
            let mut groups = Groups::new(self, values, unit.start)?;
            encoder.measured = measured;
            let stats = self.encode(values, unit, &mut groups, encoder, sink)?;
            groups.params.put(self, sink).map_err(PassError::Sink)?;
            Ok::<_, PassError<S::Error>>(stats)
        };
        let stats = each(units.count(), |i| {
            buffers.with(|buffers| one(units.get(i), buffers))
        })?;
        Ok(total(ErrorStats::default(), stats))
    }

    /// Groups of rows that do not fit the cache: their ranges first, then their codes.
    fn by_large_groups<F: Element, S: Sink>(
        &self,
        values: Input<'_, F, S::Error>,
        row: usize,
        sink: &S,
        measured: bool,
    ) -> Result<ErrorStats, PassError<S::Error>> {
        let n = self.blocks.element_count();
        let mut stats_so_far = ErrorStats::default();
        let (mut start, mut done) = (0, 0);
        let mut before: Option<RowParams> = None;
        let buffers = Pool::<(Encoder, Vec<F>)>::default();
        while start < n {
            let group = self.blocks.group_of(start);
            let slab = (GROUP / row).max(1) * row;
            let widened = |mut bounds: ColumnBounds, i: usize| {
                let start = group.start + i * slab;
                let slab = start..(start + slab).min(group.end);
                buffers.with(|(_, buffer)| {
                    let values = values.window(slab.clone(), buffer)?;
                    values.with(slab, |values| bounds.widen(self.backend, values, 0))?;
                    Ok::<_, PassError<S::Error>>(bounds)
                })
            };
            let new = || Ok(ColumnBounds::try_new(row)?);
            let slabs = group.len().div_ceil(slab);
            let bounds = fold(slabs, new, widened, ColumnBounds::merge)?;
            let params = self.row_params::<F>(group.start, row, &bounds)?;
            let params = self.search_large_rows::<F, S>(values, &group, row, params)?;
            self.put_params(self.blocks.scale_of(group.start), &params, sink)?;
            let kernel_params = RowParams::new::<F>(self, group.clone(), row, &params)?;
            // A chunk across two groups waits for the second one.
            let end = match group.end == n {
                true => n,
                false => group.end - group.end % STATS_CHUNK,
            };
            let known = (&before, &kernel_params);
            let units = Units::new(done..end, 1);
            let one = |unit: Range<usize>, (encoder, buffer): &mut (Encoder, Vec<F>)| {
                let values = values.window(unit.clone(), buffer)?;
                let param_stream = &mut TwoGroupStream(known);
                encoder.measured = measured;
                self.encode(values, unit, param_stream, encoder, sink)
            };
            let stats = each(units.count(), |i| {
                buffers.with(|buffers| one(units.get(i), buffers))
            })?;
            stats_so_far = total(stats_so_far, stats);
            (start, done) = (group.end, end);
            before = Some(kernel_params);
        }
        Ok(stats_so_far)
    }

    /// All ranges first, then all codes, run by run.
    fn by_known_params<F: Element, S: Sink>(
        &self,
        values: Input<'_, F, S::Error>,
        sink: &S,
        measured: bool,
    ) -> Result<ErrorStats, PassError<S::Error>> {
        let n = self.blocks.element_count();
        let empty = || memory::filled(self.blocks.scale_count(), quant_core::ValueRange::EMPTY);
        let piece = n.div_ceil(threads()).next_multiple_of(STATS_CHUNK);
        let partial = each(n.div_ceil(piece), |i| {
            let start = i * piece;
            let (mut ranges, mut buffer) = (empty()?, Vec::new());
            for chunk in chunks(start..(start + piece).min(n)) {
                let values = values.window(chunk.clone(), &mut buffer)?;
                values.with(chunk.clone(), |values| {
                    for run in self.blocks.runs(chunk.clone()) {
                        let local =
                            run.elements.start - chunk.start..run.elements.end - chunk.start;
                        let range = &mut ranges[run.scale];
                        *range = range.merge(self.backend.range(&values[local]));
                    }
                })?;
            }
            Ok::<_, PassError<S::Error>>(ranges)
        })?;
        let mut ranges = empty()?;
        for partial in partial {
            for (range, partial) in ranges.iter_mut().zip(partial) {
                *range = range.merge(partial);
            }
        }
        let mut params = memory::room(ranges.len())?;
        for (scale, range) in ranges.iter().enumerate() {
            let found = self.scheme.params(range, F::TYPE);
            params.push(found.map_err(|source| (scale, source))?);
        }
        let params = self.search_scattered::<F, S>(values, params)?;
        self.put_params(0, &params, sink)?;
        let units = Units::new(0..n, 1);
        let buffers = Pool::<(Encoder, Vec<F>)>::default();
        let one = |unit: Range<usize>, (encoder, buffer): &mut (Encoder, Vec<F>)| {
            let values = values.window(unit.clone(), buffer)?;
            let param_stream = &mut KnownParams::<F> {
                quantizer: self,
                params: &params,
                values: PhantomData,
            };
            encoder.measured = measured;
            self.encode(values, unit, param_stream, encoder, sink)
        };
        let stats = each(units.count(), |i| {
            buffers.with(|buffers| one(units.get(i), buffers))
        })?;
        Ok(total(ErrorStats::default(), stats))
    }

    /// Encodes some chunks, in order.
    fn encode<F: Element, S: Sink>(
        &self,
        values: Values<'_, F>,
        elements: Range<usize>,
        param_stream: &mut dyn ParamStream,
        encoder: &mut Encoder,
        sink: &S,
    ) -> Result<Vec<ErrorStats>, PassError<S::Error>> {
        let mut stats = Vec::new();
        let mut start = elements.start;
        for chunk in chunks(elements.clone()) {
            let end = chunk.end;
            let chunk_stats = encoder.encode(self, values, chunk, param_stream)?;
            memory::push(&mut stats, chunk_stats)?;
            if end - start >= UNIT * STATS_CHUNK || end == elements.end {
                encoder.put(self, start, sink).map_err(PassError::Sink)?;
                start = end;
            }
        }
        Ok(stats)
    }
}

/// Some chunks each, for one thread at a time, at least so many elements; all threads should have
/// some.
pub(super) struct Units {
    elements: Range<usize>,
    unit: usize,
}

impl Units {
    pub(super) fn new(elements: Range<usize>, least: usize) -> Self {
        let unit = least.max(UNIT * STATS_CHUNK);
        let fair = elements.len().div_ceil(4 * threads());
        let unit = unit
            .min(fair)
            .next_multiple_of(STATS_CHUNK)
            .max(STATS_CHUNK);
        Self { elements, unit }
    }

    pub(super) fn count(&self) -> usize {
        self.elements.len().div_ceil(self.unit)
    }

    pub(super) fn get(&self, i: usize) -> Range<usize> {
        let start = self.elements.start + i * self.unit;
        start..(start + self.unit).min(self.elements.end)
    }
}

/// All statistics in the order of the tensor.
pub(super) fn total(before: ErrorStats, of_units: Vec<Vec<ErrorStats>>) -> ErrorStats {
    let stats = of_units.into_iter().flatten();
    stats.fold(before, ErrorStats::then)
}
