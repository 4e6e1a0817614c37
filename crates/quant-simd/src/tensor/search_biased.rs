//! Scales and biases of least squared error, and the fit of what a search has found to its codes.

use quant_core::{
    FitSums, Params, SEARCH_CANDIDATES, SEARCH_FITS, SEARCH_PIECE, Search, reference,
};

use super::TensorQuantizer;
use super::search::{Searcher, add_sums};
use super::work::Flaw;
use crate::Element;
use crate::dialects::mlx::BATCH;
use crate::dialects::mlx_search::SearchMlx;
use crate::kernels::fit::{Fit, FitBlock};
use crate::kernels::search::{ScorePairs, Scores};
use crate::memory::{self, NoMemory};

/// Weights where there are none.
const ONES: [f32; SEARCH_PIECE] = [1.0; SEARCH_PIECE];

impl<F: Element> Searcher<F> {
    /// What the search finds where a dialect stores biases.
    pub(super) fn search_biased(
        &mut self,
        quantizer: &TensorQuantizer,
        values: &[F],
        importance: Option<&[f32]>,
        plain: Params,
    ) -> Result<Params, NoMemory> {
        let (backend, scheme) = (quantizer.backend, quantizer.scheme);
        let range = backend.range(values);
        let mut candidates = [None; SEARCH_CANDIDATES];
        let mut scores = Scores::default();
        for (k, to) in candidates.iter_mut().enumerate() {
            *to = reference::search_candidate(k, &range, scheme, plain, false);
            // A scale of 1 for what is none.
            (scores.scales[k], scores.biases[k]) = to.map_or((1.0, 0.0), |it| it.exact());
        }
        let mut sums = [0.0; SEARCH_CANDIDATES];
        self.by_pieces(backend, values, importance, |values, importance| {
            backend.run(ScorePairs {
                values,
                importance: importance.unwrap_or(&ONES[..values.len()]),
                most: scheme.qmax(),
                scores: &mut scores,
            });
            add_sums(&mut sums, &scores);
        });
        let mut best: Option<(Params, f64)> = None;
        for (params, sum) in candidates.into_iter().zip(sums) {
            if let Some(params) = params
                && best.is_none_or(|(_, least)| sum < least)
            {
                best = Some((params, sum));
            }
        }
        let Some((winner, _)) = best else {
            return Ok(plain);
        };
        let found = self.fitted(quantizer, values, importance, winner);
        if found == plain {
            return Ok(plain);
        }
        self.better(quantizer, values, importance, found, plain)
    }

    /// Scales and biases of blocks of this size, which follow one another from element `start` on, as
    /// values are quantized with them; `None` where nothing is searched.
    pub fn search_pairs(
        &mut self,
        quantizer: &TensorQuantizer,
        values: &[F],
        start: usize,
        size: usize,
    ) -> Result<Option<[&[f32]; 2]>, Flaw> {
        if quantizer.search == Search::None {
            return Ok(None);
        }
        let blocks = values.len() / size;
        let mut all = self.important(quantizer, start..start + values.len())?;
        if let Some(all) = &mut all {
            memory::resize(all, blocks.next_multiple_of(BATCH) * size, 0.0)?;
        }
        let [mut scales, mut biases] = std::mem::take(&mut self.pairs);
        for row in [&mut scales, &mut biases] {
            memory::resize(row, blocks.next_multiple_of(BATCH), 0.0)?;
        }
        for first in (0..blocks).step_by(BATCH) {
            let batch = first * size..(first + BATCH) * size;
            let here = &values[batch.start..batch.end.min(values.len())];
            let important = all.as_ref().map(|all| &all[batch.clone()]);
            let pairs = (&mut scales[first..][..BATCH], &mut biases[first..][..BATCH]);
            let is_searched = self.search_pair_batch(quantizer, here, size, important, pairs)?;
            let is_searched = is_searched.unwrap_or([false; BATCH]);
            for (i, values) in here.chunks(size).enumerate() {
                if is_searched[i] {
                    continue;
                }
                let range = quantizer.backend.range(values);
                let plain = quantizer.scheme.params(&range, F::TYPE).map_err(|source| {
                    let block = start / size + first + i;
                    (block, source)
                })?;
                let important = important.map(|all| &all[i * size..][..size]);
                let found = self.search(quantizer, values, important, plain)?;
                (scales[first + i], biases[first + i]) = found.exact();
            }
        }
        self.importance = all.unwrap_or_default();
        self.pairs = [scales, biases];
        let [scales, biases] = &self.pairs;
        Ok(Some([scales, biases]))
    }

    /// The same for a batch, which may lack blocks: which of them were searched.
    fn search_pair_batch(
        &mut self,
        quantizer: &TensorQuantizer,
        values: &[F],
        size: usize,
        importance: Option<&[f32]>,
        (scales, biases): (&mut [f32], &mut [f32]),
    ) -> Result<Option<[bool; BATCH]>, NoMemory> {
        memory::resize(&mut self.wide, BATCH * size, 0.0)?;
        memory::resize(&mut self.restored, BATCH * size, 0.0)?;
        let (wide, lacking) = self.wide.split_at_mut(values.len());
        F::widen_slice(quantizer.backend, values, wide);
        lacking.fill(0.0);
        Ok(quantizer.backend.run(SearchMlx {
            values: &self.wide,
            importance,
            steps: quantizer.scheme.qmax() as f32,
            float: F::TYPE,
            restored: &mut self.restored,
            scales,
            biases,
        }))
    }

    /// Parameters fitted to the codes that they give.
    pub(super) fn fitted(
        &mut self,
        quantizer: &TensorQuantizer,
        values: &[F],
        importance: Option<&[f32]>,
        mut params: Params,
    ) -> Params {
        let (backend, codes) = (quantizer.backend, quantizer.scheme.searched());
        let zero_point = params.zero_point();
        for _ in 0..SEARCH_FITS {
            let (scale, bias) = params.exact();
            let mut total = FitSums::default();
            self.by_pieces(backend, values, importance, |values, importance| {
                let mut fit = Fit {
                    scale,
                    bias,
                    steps: (
                        (codes.qmin() - zero_point) as f32,
                        (codes.qmax() - zero_point) as f32,
                    ),
                    sums: [0.0; 5],
                };
                match params.bias() {
                    None => backend.run(FitBlock::<2> {
                        values,
                        importance,
                        fit: &mut fit,
                    }),
                    Some(_) => backend.run(FitBlock::<5> {
                        values,
                        importance,
                        fit: &mut fit,
                    }),
                }
                total.add(fit.sums);
            });
            match total.fit(params) {
                Some(fitted) => params = fitted,
                None => break,
            }
        }
        params
    }
}
