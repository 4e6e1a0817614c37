//! Scales of least squared error, for the blocks of a tensor.

use std::ops::Range;

use quant_core::{
    ErrorStats, FloatType, OffsetKind, Params, SEARCH_PIECE, SEARCH_SCALES, STATS_CHUNK, Search,
    reference,
};

use super::params::PIECE;
use super::values::Input;
use super::work::{PassError, each};
use super::{Sink, TensorQuantizer};
use crate::Element;
use crate::kernels::error::ErrorSums;
use crate::kernels::search::ScoreScales;
use crate::memory::{self, NoMemory};
use crate::param_layout::EncodeSpec;

/// What a search needs room for.
pub(super) struct Searcher<F> {
    /// A block whose elements do not follow one another.
    gathered: Vec<F>,
    wide: Vec<f32>,
    codes: Vec<u8>,
    restored: Vec<f32>,
}

impl<F> Default for Searcher<F> {
    fn default() -> Self {
        Self {
            gathered: Vec::new(),
            wide: Vec::new(),
            codes: Vec::new(),
            restored: Vec::new(),
        }
    }
}

impl<F: Element> Searcher<F> {
    /// What the search finds for a block, see [`reference::search`].
    pub fn search(
        &mut self,
        quantizer: &TensorQuantizer,
        values: &[F],
        plain: Params,
    ) -> Result<Params, NoMemory> {
        let (backend, scheme) = (quantizer.backend, quantizer.scheme);
        match quantizer.search {
            Search::Mse if scheme.offset() == OffsetKind::Bias => {
                return Ok(reference::search(values, scheme, plain, None));
            }
            Search::Mse => {}
            Search::None => return Ok(plain),
        }
        if plain.scale() == 0.0 {
            return Ok(plain);
        }
        let is_candidate = |scale: f32| (SEARCH_SCALES.0..=SEARCH_SCALES.1).contains(&scale);
        if !is_candidate(plain.scale()) {
            return self.search_rarely(quantizer, values, plain);
        }
        memory::resize(&mut self.wide, SEARCH_PIECE, 0.0)?;
        let zero_point = plain.zero_point();
        let scores = F::score_scales(
            backend,
            ScoreScales {
                values,
                importance: None,
                scale: plain.scale(),
                scale_type: plain.scale_type(),
                steps: (
                    (scheme.qmin() - zero_point) as f32,
                    (scheme.qmax() - zero_point) as f32,
                ),
                wide: &mut self.wide,
            },
        );
        let mut best = 0;
        for (k, &sum) in scores.sums.iter().enumerate() {
            if sum < scores.sums[best] && is_candidate(scores.scales[k]) {
                best = k;
            }
        }
        if best == 0 {
            return Ok(plain);
        }
        let scale = scores.scales[best];
        let found = Params::new(scheme, scale, zero_point, plain.scale_type());
        let Ok(found) = found else { return Ok(plain) };
        let sums = (scores.sums[best], scores.sums[0]);
        if is_surely_better(quantizer, (found, plain), sums, values.len()) {
            return Ok(found);
        }
        self.better(quantizer, values, found, plain)
    }

    /// What was found, if the restored values lose less by it.
    fn better(
        &mut self,
        quantizer: &TensorQuantizer,
        values: &[F],
        found: Params,
        plain: Params,
    ) -> Result<Params, NoMemory> {
        let by_found = self.noise(quantizer, values, found)?;
        let by_plain = self.noise(quantizer, values, plain)?;
        let better = by_found.non_finite < by_plain.non_finite
            || by_found.non_finite == by_plain.non_finite && by_found.noise < by_plain.noise;
        Ok(if better { found } else { plain })
    }

    /// A plain scale that is no candidate itself.
    #[cold]
    fn search_rarely(
        &mut self,
        quantizer: &TensorQuantizer,
        values: &[F],
        plain: Params,
    ) -> Result<Params, NoMemory> {
        Ok(reference::search(values, quantizer.scheme, plain, None))
    }

    /// What a block loses with these parameters.
    fn noise(
        &mut self,
        quantizer: &TensorQuantizer,
        values: &[F],
        params: Params,
    ) -> Result<ErrorStats, NoMemory> {
        memory::resize(&mut self.codes, PIECE, 0)?;
        memory::resize(&mut self.restored, PIECE, 0.0)?;
        let backend = quantizer.backend;
        let (spec, place) = EncodeSpec::new::<F>(quantizer.scheme, params);
        let mut stats = ErrorStats::default();
        for chunk in values.chunks(STATS_CHUNK) {
            let mut sums = ErrorSums::wide();
            for values in chunk.chunks(PIECE) {
                let restored = &mut self.restored[..values.len()];
                let codes = &mut self.codes[..values.len()];
                F::encode(backend, values, spec, place, codes, restored);
                F::add_errors(backend, values, restored, &mut sums);
            }
            stats = stats.then(sums.stats());
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
        let runs = quantizer.blocks.runs(start..start + row);
        for (run, params) in runs.zip(params) {
            let columns = run.elements.start - start..run.elements.end - start;
            *params = self.search_columns(quantizer, values, row, columns, *params)?;
        }
        Ok(())
    }

    fn search_columns(
        &mut self,
        quantizer: &TensorQuantizer,
        values: &[F],
        row: usize,
        columns: Range<usize>,
        plain: Params,
    ) -> Result<Params, NoMemory> {
        let mut gathered = std::mem::take(&mut self.gathered);
        gathered.clear();
        memory::reserve(&mut gathered, values.len() / row * columns.len())?;
        for row in values.chunks(row) {
            gathered.extend_from_slice(&row[columns.clone()]);
        }
        let found = self.search(quantizer, &gathered, plain);
        self.gathered = gathered;
        found
    }
}

/// Whether the sums of squared errors of two parameters differ by more than everything that tells them
/// from what the dialect loses: quotients and restored values that are rounded to the type of the
/// scales, and sums in f32.
fn is_surely_better(
    quantizer: &TensorQuantizer,
    (found, plain): (Params, Params),
    (sum, plain_sum): (f64, f64),
    count: usize,
) -> bool {
    let (scheme, scale_type) = (quantizer.scheme, found.scale_type());
    let fine = 1.0 / f64::from(1_u32 << 20);
    let unit = match scale_type {
        FloatType::F32 => fine,
        FloatType::F16 => 3.0 / f64::from(1_u32 << 11) + fine,
        FloatType::Bf16 => return false,
    };
    if quantizer.source != scale_type || scheme.adds_zero_point_first() {
        return false;
    }
    let zero_point = plain.zero_point();
    let steps = (scheme.qmax() - zero_point).max(zero_point - scheme.qmin()) as f32;
    if !scale_type.round(found.scale() * steps).is_finite() {
        return false;
    }
    // By the triangle inequality, of errors as vectors.
    let away = |scale: f32| (count as f64).sqrt() * f64::from(scale) * f64::from(steps) * unit;
    let most = sum.sqrt() * 1.001 + away(found.scale());
    let least = plain_sum.sqrt() * 0.999 - away(plain.scale());
    most < least
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
        let found = values.with(group.clone(), |values| {
            each(runs.len(), |i| {
                let columns = runs[i].start - group.start..runs[i].end - group.start;
                let mut searcher = Searcher::default();
                searcher.search_columns(self, values, row, columns, params[i])
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
        let mut ends = memory::filled(params.len(), 0)?;
        ends.copy_from_slice(&starts[..params.len()]);
        values.with(0..n, |values| {
            for run in self.blocks.runs(0..n) {
                let to = ends[run.scale]..ends[run.scale] + run.elements.len();
                ends[run.scale] = to.end;
                together[to].copy_from_slice(&values[run.elements]);
            }
        })?;
        let found = each(params.len(), |block| {
            let values = &together[starts[block]..starts[block + 1]];
            Searcher::default().search(self, values, params[block])
        });
        Ok(found?)
    }
}
