//! Plans of other sizes: what a little more or less would cost.

use super::{Candidate, Knapsack, MixedOptions, decibels};
use crate::Error;

/// A plan, by its size and its error.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct CurvePoint {
    /// Bits per weight, over all tensors that could be quantized.
    pub bits: f64,
    /// Bytes of the output's files, as [`MixedSummary`](super::MixedSummary) has them.
    pub bytes: u64,
    /// The estimated SQNR; infinite where nothing is lost.
    pub sqnr_db: f64,
}

/// Plans of a model, by their sizes.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Curve {
    /// The best plan for each of some sizes, the smallest first.
    pub best: Vec<CurvePoint>,
    /// Plans that give every tensor the same, as far as it can have it.
    pub uniform: Vec<(Candidate, CurvePoint)>,
}

impl Knapsack<'_> {
    /// As many plans as the options want; none, if they want none.
    pub(super) fn curve(&self, mixed: &MixedOptions) -> Result<Curve, Error> {
        let mut curve = Curve::default();
        if mixed.points == 0 {
            return Ok(curve);
        }
        let bytes = |pick: fn(u64, u64) -> u64| {
            let each = self.places.iter().map(|&place| {
                let all = self.alternatives(place).iter().map(|one| one.bytes);
                all.reduce(pick).unwrap_or(0)
            });
            each.sum::<u64>() as f64
        };
        let (least, most) = (bytes(Ord::min), bytes(Ord::max));
        for i in 0..mixed.points {
            self.work.job.check()?;
            let part = i as f64 / (mixed.points.max(2) - 1) as f64;
            // Equal factors: what matters is how many times smaller a model is.
            let budget = (least * (most / least).powf(part)).min(most) + 0.5;
            if let Some(chosen) = self.by_bytes(budget, None) {
                curve.best.push(self.point(&chosen.picks)?);
            }
        }
        curve.best.dedup();
        for &candidate in &mixed.candidates {
            // What cannot have it gets what loses least.
            let picks = self.uniform(candidate, |index| {
                let all = self.alternatives(self.places[index]).iter();
                let errors = all.map(|one| self.of(one)).enumerate();
                errors
                    .min_by(|a, b| a.1.total_cmp(&b.1))
                    .map_or(0, |(pick, _)| pick)
            });
            curve.uniform.push((candidate, self.point(&picks)?));
        }
        Ok(curve)
    }

    fn point(&self, picks: &[usize]) -> Result<CurvePoint, Error> {
        Ok(CurvePoint {
            bits: self.bits(picks),
            bytes: self.file_bytes(picks, &self.decisions(picks))?,
            sqnr_db: decibels(self.error(picks)),
        })
    }
}
