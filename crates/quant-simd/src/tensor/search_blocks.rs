//! Scales of least squared error, for many blocks at a time.

use quant_core::{Mode, Params};

use super::TensorQuantizer;
use super::params::PIECE;
use super::search::{Searcher, is_surely_better, lane_sum, weight};
use crate::Element;
use crate::kernels::blocks::{BATCH, FindBlockRanges, Ranges};
use crate::kernels::search::{AddNoise, ScoreScales, Scores, has_all_candidates};
use crate::memory::{self, NoMemory};
use crate::param_layout::{BLOCKS, EncodeSpec, ParamLayout};
use crate::params::{BlockParams, CodeRange, Division, KernelParams, SCALE};

impl<F: Element> Searcher<F> {
    /// What the search finds for a batch of blocks, whose plain parameters are given and replaced. `None`
    /// if they have to be searched one by one.
    pub fn search_batch(
        &mut self,
        quantizer: &TensorQuantizer,
        values: &[F],
        start: usize,
        division: Division,
        params: &mut BlockParams<BLOCKS>,
    ) -> Result<Option<Division>, NoMemory> {
        let all = self.important(quantizer, start..start + values.len())?;
        let found = self.search_blocks(quantizer, values, all.as_deref(), division, params);
        self.importance = all.unwrap_or_default();
        found
    }

    fn search_blocks(
        &mut self,
        quantizer: &TensorQuantizer,
        values: &[F],
        importance: Option<&[f32]>,
        division: Division,
        params: &mut BlockParams<BLOCKS>,
    ) -> Result<Option<Division>, NoMemory> {
        let plain = &params.floats[SCALE][..BATCH];
        if !plain.iter().all(|&scale| has_all_candidates(scale)) {
            return Ok(None);
        }
        self.score(quantizer, values, importance, params)?;
        let (scheme, scale_type) = (quantizer.scheme, quantizer.scale_type());
        let size = values.len() / BATCH;
        if self.found.is_empty() {
            self.found = memory::filled(1, BlockParams::default())?;
        }
        let found = &mut self.found[0];
        let mut unsure = false;
        let mut is_found = [false; BATCH];
        for (block, scores) in self.scores.iter().enumerate() {
            let (scale, zero_point) = params.params_of(block, scheme);
            let Ok(of_plain) = Params::new(scheme, scale, zero_point, scale_type) else {
                return Ok(None);
            };
            let best = scores.best();
            let of_found = of_plain.with_scale(scores.scales[best]);
            let (terms, of_block) = KernelParams::new(scheme.searched(), F::TYPE, of_found);
            if of_block != division {
                return Ok(None);
            }
            found.set(block, terms);
            // All are compared where one is not sure.
            if best == 0 || unsure {
                continue;
            }
            let weight = match importance {
                None => size as f64,
                Some(all) => weight(&all[block * size..][..size]),
            };
            let sums = [best, 0].map(|k| f64::from(scores.sums[k]));
            is_found[block] =
                is_surely_better(quantizer, (of_found, of_plain), sums.into(), weight);
            unsure |= !is_found[block];
        }
        if unsure {
            let both = (division, &*params);
            if !self.compare(quantizer, values, importance, both, &mut is_found)? {
                return Ok(None);
            }
        }
        for block in (0..BATCH).filter(|&block| is_found[block]) {
            params.set(block, self.found[0].of(block));
        }
        Ok(Some(division))
    }

    /// The errors of all candidates of each block.
    fn score(
        &mut self,
        quantizer: &TensorQuantizer,
        values: &[F],
        importance: Option<&[f32]>,
        params: &BlockParams<BLOCKS>,
    ) -> Result<(), NoMemory> {
        let (backend, scheme) = (quantizer.backend, quantizer.scheme);
        memory::resize(&mut self.wide, PIECE, 0.0)?;
        memory::resize(&mut self.scores, BATCH, Scores::default())?;
        let wide = &mut self.wide[..values.len()];
        F::widen_slice(backend, values, wide);
        let mut is_below = [false; BATCH];
        if scheme.has_signed_scales() {
            let mut found = Ranges::default();
            backend.run(FindBlockRanges {
                values: wide,
                block_size: values.len() / BATCH,
                mode: Mode::Affine,
                found: &mut found,
            });
            for (block, is_below) in is_below.iter_mut().enumerate() {
                *is_below = found.max[block] > -found.min[block];
            }
        }
        let (codes, shift) = (scheme.searched(), CodeRange::new(scheme).shift);
        backend.run(ScoreScales {
            values: wide,
            importance,
            plain: &params.floats[SCALE][..BATCH],
            is_below: &is_below,
            zero_points: &params.zero_points[..BATCH],
            codes: (codes.qmin() - shift, codes.qmax() - shift),
            scale_type: quantizer.scale_type(),
            scores: &mut self.scores,
        });
        Ok(())
    }

    /// Which blocks lose less by what was found than by their plain parameters; `false` if some block
    /// loses more than can be told.
    fn compare(
        &mut self,
        quantizer: &TensorQuantizer,
        values: &[F],
        importance: Option<&[f32]>,
        (division, plain): (Division, &BlockParams<BLOCKS>),
        is_found: &mut [bool; BATCH],
    ) -> Result<bool, NoMemory> {
        memory::resize(&mut self.codes, PIECE, 0)?;
        memory::resize(&mut self.restored, PIECE, 0.0)?;
        let (backend, size) = (quantizer.backend, values.len() / BATCH);
        let spec = EncodeSpec {
            scheme: quantizer.encoding_scheme(),
            division,
            scale_type: quantizer.scale_type(),
        };
        let restored = &mut self.restored[..values.len()];
        let codes = &mut self.codes[..values.len()];
        let mut noise = [[0.0; BATCH]; 2];
        for (params, sums) in [plain, &self.found[0]].into_iter().zip(&mut noise) {
            let place = ParamLayout::PerBlock(params.rows(), size, true);
            F::encode(backend, values, spec, place, codes, restored);
            let mut lanes = [[0.0; 16]; BATCH];
            backend.run(AddNoise {
                values: &self.wide[..values.len()],
                dequantized: restored,
                importance,
                lanes: &mut lanes,
            });
            for (sum, lanes) in sums.iter_mut().zip(lanes) {
                *sum = lane_sum(lanes);
            }
        }
        let [of_plain, of_found] = noise;
        for block in 0..BATCH {
            if !(of_plain[block].is_finite() && of_found[block].is_finite()) {
                return Ok(false);
            }
            is_found[block] |= of_found[block] < of_plain[block];
        }
        Ok(true)
    }
}
