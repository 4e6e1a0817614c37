//! Scales and biases of least squared error, and the fit of what a search has found to its codes.

use quant_core::{FitSums, Params, SEARCH_CANDIDATES, SEARCH_FITS, SEARCH_PIECE, reference};

use super::TensorQuantizer;
use super::search::Searcher;
use crate::Element;
use crate::kernels::fit::{Fit, FitBlock};
use crate::kernels::search::{ScorePairs, Scores};
use crate::memory::NoMemory;

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
        for (piece, values) in values.chunks(SEARCH_PIECE).enumerate() {
            let wide = &mut self.wide[..values.len()];
            F::widen_slice(backend, values, wide);
            backend.run(ScorePairs {
                values: wide,
                importance: match importance {
                    Some(all) => &all[piece * SEARCH_PIECE..][..values.len()],
                    None => &ONES[..values.len()],
                },
                most: scheme.qmax(),
                scores: &mut scores,
            });
            for (sum, more) in sums.iter_mut().zip(scores.sums) {
                *sum += f64::from(more);
            }
        }
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
            for (piece, values) in values.chunks(SEARCH_PIECE).enumerate() {
                let wide = &mut self.wide[..values.len()];
                F::widen_slice(backend, values, wide);
                let mut fit = Fit {
                    scale,
                    bias,
                    steps: (
                        (codes.qmin() - zero_point) as f32,
                        (codes.qmax() - zero_point) as f32,
                    ),
                    sums: [0.0; 5],
                };
                backend.run(FitBlock {
                    values: wide,
                    importance: importance.map(|all| &all[piece * SEARCH_PIECE..][..values.len()]),
                    fit: &mut fit,
                });
                total.add(fit.sums);
            }
            match total.fit(params) {
                Some(fitted) => params = fitted,
                None => break,
            }
        }
        params
    }
}
