//! Scales of least squared error, for many blocks at a time.

use quant_core::{FloatType, Mode};

use super::TensorQuantizer;
use super::params::PIECE;
use super::search::{Margin, Searcher, may_overflow, weight};
use crate::Element;
use crate::kernels::block_params::FindBlockRanges;
use crate::kernels::blocks::{BATCH, Ranges};
use crate::kernels::fit::{FitBatch, Row};
use crate::kernels::search::{ScoreScales, Scores, SumNoise, has_all_candidates};
use crate::memory::{self, NoMemory};
use crate::param_layout::{EncodeSpec, ParamLayout};
use crate::param_source::BLOCKS;
use crate::params::{BlockParams, CodeRange, Division, EXACT_SCALES, SCALE};

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
        let sums = self.fit_batch(quantizer, values, importance, params)?;
        let Some(scales) = self.found_scales(quantizer, division) else {
            return Ok(None);
        };
        let size = values.len() / BATCH;
        let plain = &params.floats[SCALE];
        let mut is_found = [false; BATCH];
        let mut unsure = false;
        let margin = Margin::new(quantizer);
        let shift = CodeRange::new(quantizer.scheme).shift;
        for block in (0..BATCH).filter(|&block| scales[block] != plain[block]) {
            let weight = match importance {
                None => size as f64,
                Some(all) => weight(&all[block * size..][..size]),
            };
            is_found[block] = margin.as_ref().is_some_and(|margin| {
                let of_found = (scales[block], f64::from(sums[0].0[block]));
                let of_plain = (plain[block], f64::from(sums[1].0[block]));
                let zero_point = params.zero_points[block] + shift;
                margin.proves_better(zero_point, of_found, of_plain, weight)
            });
            // All are compared where one is not sure.
            if !is_found[block] {
                unsure = true;
                break;
            }
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

    /// Fits the best candidates; gives the sums of squared errors of these and of the plain scales.
    fn fit_batch(
        &mut self,
        quantizer: &TensorQuantizer,
        values: &[F],
        importance: Option<&[f32]>,
        params: &BlockParams<BLOCKS>,
    ) -> Result<[Row; 2], NoMemory> {
        if self.found.is_empty() {
            self.found = memory::filled(1, BlockParams::default())?;
        }
        let mut sums = [Row([0.0; BATCH]); 2];
        let scheme = quantizer.scheme;
        let (codes, shift) = (scheme.searched(), CodeRange::new(scheme).shift);
        quantizer.backend.run(FitBatch {
            values: &self.wide[..values.len()],
            importance,
            scores: &self.scores,
            zero_points: &params.zero_points[..BATCH],
            codes: (codes.qmin() - shift, codes.qmax() - shift),
            scale_type: quantizer.scale_type(),
            found: &mut self.found[0],
            sums: &mut sums,
        });
        Ok(sums)
    }

    /// The scales that were found, if all of them allow the division of the plain ones.
    fn found_scales(
        &self,
        quantizer: &TensorQuantizer,
        division: Division,
    ) -> Option<[f32; BATCH]> {
        let mut scales = [0.0; BATCH];
        scales.copy_from_slice(&self.found[0].floats[SCALE][..BATCH]);
        let is_f16 = quantizer.scale_type() == FloatType::F16;
        let serves = |scale: f32| match division {
            Division::Exact => (EXACT_SCALES.0..=EXACT_SCALES.1).contains(&scale.abs()),
            Division::Half => is_f16 || FloatType::F16.round(scale) == scale,
            Division::Divide => true,
        };
        scales.iter().all(|&scale| serves(scale)).then_some(scales)
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
        let scales = [plain, &self.found[0]].map(|params| &params.floats[SCALE][..BATCH]);
        let mut scales = scales.into_iter().flatten();
        if scales.any(|&scale| may_overflow::<F>(quantizer, scale)) {
            return Ok(false);
        }
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
            backend.run(SumNoise {
                values: &self.wide[..values.len()],
                dequantized: restored,
                importance,
                sums,
            });
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
