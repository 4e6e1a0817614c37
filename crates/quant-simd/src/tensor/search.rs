//! Scales of least squared error, for the blocks of a tensor.

use std::ops::Range;

use half::f16;
use quant_core::{
    ErrorStats, FloatType, OffsetKind, Params, SEARCH_CANDIDATES, SEARCH_PIECE, SEARCH_SCALES,
    STATS_CHUNK, Scheme, Search, reference,
};

use super::params::PIECE;
use super::values::Input;
use super::work::{PassError, each};
use super::{Sink, TensorQuantizer};
use crate::kernels::error::ErrorSums;
use crate::kernels::search::{AddNoise, ScoreScales, Scores, lane_sum};
use crate::memory::{self, NoMemory};
use crate::param_layout::EncodeSpec;
use crate::param_source::BLOCKS;
use crate::params::BlockParams;
use crate::{Backend, Element};

/// What a search needs room for.
pub(super) struct Searcher<F> {
    /// A block whose elements do not follow one another.
    gathered: Vec<F>,
    /// How much errors in the elements of a block, or a batch, matter.
    pub(super) importance: Vec<f32>,
    /// Values as f32.
    pub(super) wide: Vec<f32>,
    pub(super) codes: Vec<u8>,
    pub(super) restored: Vec<f32>,
    /// One.
    pub(super) found: Vec<BlockParams<BLOCKS>>,
    pub(super) scores: Vec<Scores>,
    /// Scales and biases.
    pub(super) pairs: [Vec<f32>; 2],
}

impl<F> Default for Searcher<F> {
    fn default() -> Self {
        Self {
            gathered: Vec::new(),
            importance: Vec::new(),
            wide: Vec::new(),
            codes: Vec::new(),
            restored: Vec::new(),
            found: Vec::new(),
            scores: Vec::new(),
            pairs: [Vec::new(), Vec::new()],
        }
    }
}

impl<F: Element> Searcher<F> {
    /// What the search finds for a block of elements that follow one another from `start` on, see
    /// [`reference::search`].
    pub fn search_run(
        &mut self,
        quantizer: &TensorQuantizer,
        values: &[F],
        start: usize,
        plain: Params,
    ) -> Result<Params, NoMemory> {
        let all = self.important(quantizer, start..start + values.len())?;
        let found = self.search(quantizer, values, all.as_deref(), plain);
        self.importance = all.unwrap_or_default();
        found
    }

    /// How much errors in these elements matter, in the memory that is there for it.
    pub(super) fn important(
        &mut self,
        quantizer: &TensorQuantizer,
        elements: Range<usize>,
    ) -> Result<Option<Vec<f32>>, NoMemory> {
        let Some(importance) = quantizer
            .importance
            .as_ref()
            .filter(|_| quantizer.search != Search::None)
        else {
            return Ok(None);
        };
        let mut all = std::mem::take(&mut self.importance);
        importance.fill(elements, &mut all)?;
        Ok(Some(all))
    }

    pub(super) fn search(
        &mut self,
        quantizer: &TensorQuantizer,
        values: &[F],
        importance: Option<&[f32]>,
        plain: Params,
    ) -> Result<Params, NoMemory> {
        let (backend, scheme) = (quantizer.backend, quantizer.scheme);
        if quantizer.search == Search::None || plain.scale() == 0.0 && plain.bias().is_none() {
            return Ok(plain);
        }
        memory::resize(&mut self.wide, PIECE, 0.0)?;
        if scheme.offset() == OffsetKind::Bias {
            return self.search_biased(quantizer, values, importance, plain);
        }
        if !is_candidate(plain.scale()) {
            return Ok(reference::search(values, scheme, plain, importance));
        }
        let codes = scheme.searched();
        let is_below = [is_searched_below_zero(backend, scheme, values)];
        let mut sums = [0.0; SEARCH_CANDIDATES];
        let mut scores = [Scores::default()];
        self.by_pieces(backend, values, importance, |values, importance| {
            backend.run(ScoreScales {
                values,
                importance,
                plain: &[plain.scale()],
                is_below: &is_below,
                zero_points: &[plain.zero_point()],
                codes: (codes.qmin(), codes.qmax()),
                scale_type: plain.scale_type(),
                scores: &mut scores,
            });
            add_sums(&mut sums, &scores[0]);
        });
        let scales = scores[0].scales;
        let best = first_best(&scales, &sums);
        let winner = plain.with_scale(scales[best]);
        let found = self.fitted(quantizer, values, importance, winner);
        if found == plain {
            return Ok(plain);
        }
        let weight = importance.map_or(values.len() as f64, weight);
        let is_proven = Margin::new(quantizer).is_some_and(|margin| {
            let (of_found, of_plain) = ((found.scale(), sums[best]), (plain.scale(), sums[0]));
            margin.proves_better(plain.zero_point(), of_found, of_plain, weight)
        });
        if is_proven {
            return Ok(found);
        }
        self.better(quantizer, values, importance, found, plain)
    }

    /// Hands the values of a block out as f32, in pieces, with their weights.
    pub(super) fn by_pieces(
        &mut self,
        backend: Backend,
        values: &[F],
        importance: Option<&[f32]>,
        mut take: impl FnMut(&[f32], Option<&[f32]>),
    ) {
        for (piece, values) in values.chunks(SEARCH_PIECE).enumerate() {
            let wide = &mut self.wide[..values.len()];
            F::widen_slice(backend, values, wide);
            let start = piece * SEARCH_PIECE;
            take(wide, importance.map(|all| &all[start..][..wide.len()]));
        }
    }

    /// What was found, if the restored values lose less by it.
    pub(super) fn better(
        &mut self,
        quantizer: &TensorQuantizer,
        values: &[F],
        importance: Option<&[f32]>,
        found: Params,
        plain: Params,
    ) -> Result<Params, NoMemory> {
        let by_found = self.noise(quantizer, values, importance, found)?;
        let by_plain = self.noise(quantizer, values, importance, plain)?;
        let better = by_found.non_finite < by_plain.non_finite
            || by_found.non_finite == by_plain.non_finite && by_found.noise < by_plain.noise;
        Ok(if better { found } else { plain })
    }

    /// What a block loses with these parameters.
    fn noise(
        &mut self,
        quantizer: &TensorQuantizer,
        values: &[F],
        importance: Option<&[f32]>,
        params: Params,
    ) -> Result<ErrorStats, NoMemory> {
        memory::resize(&mut self.codes, PIECE, 0)?;
        memory::resize(&mut self.restored, PIECE, 0.0)?;
        let backend = quantizer.backend;
        let (spec, place) = EncodeSpec::new::<F>(quantizer.encoding_scheme(), params);
        let may_overflow = may_overflow::<F>(quantizer, params.scale());
        let mut stats = ErrorStats::default();
        for (chunk, values) in values.chunks(STATS_CHUNK).enumerate() {
            let mut sums = ErrorSums::wide();
            let mut lanes = [[0.0; 16]];
            for (piece, values) in values.chunks(PIECE).enumerate() {
                let restored = &mut self.restored[..values.len()];
                let codes = &mut self.codes[..values.len()];
                F::encode(backend, values, spec, place, codes, restored);
                if may_overflow {
                    mark_overflows::<F>(restored);
                }
                F::add_errors(backend, values, restored, &mut sums);
                if let Some(importance) = importance {
                    let start = chunk * STATS_CHUNK + piece * PIECE;
                    let wide = &mut self.wide[..values.len()];
                    F::widen_slice(backend, values, wide);
                    drop_non_finite(wide, restored);
                    backend.run(AddNoise {
                        values: wide,
                        dequantized: restored,
                        importance: Some(&importance[start..start + values.len()]),
                        lanes: &mut lanes,
                    });
                }
            }
            let mut of_chunk = sums.stats();
            if importance.is_some() {
                of_chunk.noise = lane_sum(&lanes[0]);
            }
            stats = stats.then(of_chunk);
        }
        Ok(stats)
    }

    /// Replaces the parameters of a group of rows, of so many elements each.
    pub fn search_rows(
        &mut self,
        quantizer: &TensorQuantizer,
        values: &[F],
        (start, row): (usize, usize),
        params: &mut [Params],
    ) -> Result<(), NoMemory> {
        if quantizer.search == Search::None {
            return Ok(());
        }
        let all = self.important(quantizer, start..start + values.len())?;
        let runs = quantizer.blocks.runs(start..start + row);
        for (run, params) in runs.zip(params) {
            let columns = run.elements.start - start..run.elements.end - start;
            let group = (values, all.as_deref(), row);
            *params = self.search_columns(quantizer, group, columns, *params)?;
        }
        self.importance = all.unwrap_or_default();
        Ok(())
    }

    fn search_columns(
        &mut self,
        quantizer: &TensorQuantizer,
        (values, importance, row): (&[F], Option<&[f32]>, usize),
        columns: Range<usize>,
        plain: Params,
    ) -> Result<Params, NoMemory> {
        let mut gathered = std::mem::take(&mut self.gathered);
        gather(values, row, &columns, &mut gathered)?;
        let mut matter = Vec::new();
        if let Some(importance) = importance {
            gather(importance, row, &columns, &mut matter)?;
        }
        let matter = importance.map(|_| &matter[..]);
        let found = self.search(quantizer, &gathered, matter, plain);
        self.gathered = gathered;
        found
    }
}

/// Adds what a piece comes to.
pub(super) fn add_sums(sums: &mut [f64; SEARCH_CANDIDATES], of_piece: &Scores) {
    for (sum, more) in sums.iter_mut().zip(of_piece.sums) {
        *sum += f64::from(more);
    }
}

/// The first candidate of the least sum.
fn first_best(scales: &[f32], sums: &[f64]) -> usize {
    let mut best = 0;
    for (k, &sum) in sums.iter().enumerate() {
        if sum < sums[best] && is_candidate(scales[k]) {
            best = k;
        }
    }
    best
}

/// Whether the squared errors of a scale neither overflow nor vanish.
fn is_candidate(scale: f32) -> bool {
    (SEARCH_SCALES.0..=SEARCH_SCALES.1).contains(&scale.abs())
}

/// Some columns of all rows.
fn gather<T: Copy>(
    values: &[T],
    row: usize,
    columns: &Range<usize>,
    to: &mut Vec<T>,
) -> Result<(), NoMemory> {
    to.clear();
    memory::reserve(to, values.len() / row * columns.len())?;
    for row in values.chunks(row) {
        to.extend_from_slice(&row[columns.clone()]);
    }
    Ok(())
}

/// Whether restored values may overflow the type of the values, while their own type, that of the scales,
/// holds them: a scale below zero has one code more, for a value that is larger than any there was.
pub(super) fn may_overflow<F: Element>(quantizer: &TensorQuantizer, scale: f32) -> bool {
    let codes = quantizer.encoding_scheme();
    let steps = (codes.qmax() - codes.qmin()) as f32;
    quantizer.scale_type() != F::TYPE && !F::TYPE.round(scale.abs() * steps).is_finite()
}

/// Makes what overflows the type of the values infinite.
fn mark_overflows<F: Element>(restored: &mut [f32]) {
    for restored in restored {
        if !F::TYPE.round(*restored).is_finite() {
            *restored = f32::INFINITY;
        }
    }
}

/// Errors that are not finite are counted, and add nothing. Without a branch, the compiler makes
/// vectors of it.
fn drop_non_finite(values: &[f32], restored: &mut [f32]) {
    for (&value, restored) in values.iter().zip(restored) {
        *restored = match (value - *restored).is_finite() {
            true => *restored,
            false => value,
        };
    }
}

/// The sum of weights, in lanes: one addition after the other takes as long as a search.
pub(super) fn weight(importance: &[f32]) -> f64 {
    let (whole, rest) = importance.as_chunks::<16>();
    let mut lanes = [0.0; 16];
    for weights in whole {
        for (lane, &weight) in lanes.iter_mut().zip(weights) {
            *lane += f64::from(weight);
        }
    }
    lane_sum(&lanes) + rest.iter().map(|&it| f64::from(it)).sum::<f64>()
}

/// Whether the candidates of a block are below zero.
fn is_searched_below_zero<F: Element>(backend: Backend, scheme: Scheme, values: &[F]) -> bool {
    scheme.has_signed_scales() && {
        let range = backend.range(values);
        range.max > -range.min
    }
}

/// When sums of squared errors differ by more than everything that tells them from what the dialect
/// loses: quotients and restored values that are rounded to the type of the scales, and sums in f32.
pub(super) struct Margin {
    /// What a value is rounded by.
    unit: f64,
    /// The smallest and the largest code.
    codes: (i32, i32),
    /// The largest value that can be stored.
    largest: f64,
}

impl Margin {
    /// `None` if no difference is enough.
    pub fn new(quantizer: &TensorQuantizer) -> Option<Self> {
        let (scheme, scale_type) = (quantizer.encoding_scheme(), quantizer.scale_type());
        let fine = 1.0 / f64::from(1_u32 << 20);
        let (unit, largest) = match scale_type {
            FloatType::F32 => (fine, f32::MAX.into()),
            FloatType::F16 => (3.0 / f64::from(1_u32 << 11) + fine, f16::MAX.into()),
            FloatType::Bf16 => return None,
        };
        let codes = (scheme.qmin(), scheme.qmax());
        let serves = quantizer.source == scale_type && !scheme.adds_zero_point_first();
        serves.then_some(Self {
            unit,
            codes,
            largest,
        })
    }

    /// Scales of blocks with this zero point, and sums of squared errors that `weight` is the sum of the
    /// weights of.
    pub fn proves_better(
        &self,
        zero_point: i32,
        (found, sum): (f32, f64),
        (plain, plain_sum): (f32, f64),
        weight: f64,
    ) -> bool {
        let steps = f64::from((self.codes.1 - zero_point).max(zero_point - self.codes.0));
        let most_value = |scale: f32| f64::from(scale.abs()) * steps;
        if most_value(found) > self.largest {
            return false;
        }
        // By the triangle inequality, of errors as vectors.
        let away = |scale: f32| weight.sqrt() * most_value(scale) * self.unit;
        let most = sum.sqrt() * 1.001 + away(found);
        let least = plain_sum.sqrt() * 0.999 - away(plain);
        most < least
    }
}

impl TensorQuantizer {
    /// [`Searcher::search_rows`] for a group that does not fit the cache, on all threads. All of it is
    /// read into memory.
    pub(super) fn search_large_rows<F: Element, S: Sink>(
        &self,
        values: Input<'_, F, S::Error>,
        group: &Range<usize>,
        row: usize,
        params: Vec<Params>,
    ) -> Result<Vec<Params>, PassError<S::Error>> {
        if self.search == Search::None {
            return Ok(params);
        }
        let mut buffer = Vec::new();
        let values = values.window(group.clone(), &mut buffer)?;
        let mut runs = Vec::new();
        for run in self.blocks.runs(group.start..group.start + row) {
            memory::push(&mut runs, run.elements)?;
        }
        let all = Searcher::<F>::default().important(self, group.clone())?;
        let found = values.with(group.clone(), |values| {
            each(runs.len(), |i| {
                let columns = runs[i].start - group.start..runs[i].end - group.start;
                let mut searcher = Searcher::default();
                let group = (values, all.as_deref(), row);
                searcher.search_columns(self, group, columns, params[i])
            })
        })?;
        Ok(found?)
    }

    /// The same for blocks that lie anywhere.
    pub(super) fn search_scattered<F: Element, S: Sink>(
        &self,
        values: Input<'_, F, S::Error>,
        params: Vec<Params>,
    ) -> Result<Vec<Params>, PassError<S::Error>> {
        if self.search == Search::None {
            return Ok(params);
        }
        let n = self.blocks.element_count();
        // Where each block starts in a copy in which it is together.
        let mut starts: Vec<usize> = memory::filled(params.len() + 1, 0)?;
        for run in self.blocks.runs(0..n) {
            starts[run.scale + 1] += run.elements.len();
        }
        for block in 0..params.len() {
            starts[block + 1] += starts[block];
        }
        let mut buffer = Vec::new();
        let values = values.window(0..n, &mut buffer)?;
        let mut together = memory::filled(n, F::zeroed())?;
        let all = Searcher::<F>::default().important(self, 0..n)?;
        let mut matter = memory::filled(all.as_ref().map_or(0, Vec::len), 0.0)?;
        let mut ends = memory::filled(params.len(), 0)?;
        ends.copy_from_slice(&starts[..params.len()]);
        values.with(0..n, |values| {
            for run in self.blocks.runs(0..n) {
                let to = ends[run.scale]..ends[run.scale] + run.elements.len();
                ends[run.scale] = to.end;
                if let Some(all) = &all {
                    matter[to.clone()].copy_from_slice(&all[run.elements.clone()]);
                }
                together[to].copy_from_slice(&values[run.elements]);
            }
        })?;
        let found = each(params.len(), |block| {
            let block_elements = starts[block]..starts[block + 1];
            let matter = all.as_ref().map(|_| &matter[block_elements.clone()]);
            let values = &together[block_elements];
            Searcher::default().search(self, values, matter, params[block])
        });
        Ok(found?)
    }
}
