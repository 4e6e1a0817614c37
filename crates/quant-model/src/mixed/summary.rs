//! What a mixed plan comes to.

use super::compare::Solved;
use super::problem::Knapsack;
use super::{Compared, Curve, FoundBy, MixedTarget, decibels};
use crate::Error;
use crate::report::Decision;

/// What a mixed plan comes to.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct MixedSummary {
    /// Bits per weight, over all tensors that could be quantized.
    pub bits: f64,
    /// Bytes of the files that the format writes, as they will be: of safetensors the weights, their index,
    /// and the configuration where the format changes it; of Core AI programs an estimate, and of Core ML
    /// packages too many where different weights become equal.
    pub bytes: u64,
    /// `-10 log10` of the sum of the tensors' relative errors; infinite where there is none.
    pub sqnr_db: f64,
    /// No plan of these candidates within the target loses less by more than so many dB (or has fewer bytes
    /// by more than so many percent): 0 where it is proven to be the best.
    pub gap: f64,
    /// The share of the bits or bytes of the target that is left.
    pub left: f64,
    /// How it was found.
    pub found_by: FoundBy,
    /// What its answers were compared with, where that was done.
    pub compared: Option<Compared>,
    /// Plans of other sizes.
    pub curve: Curve,
}

impl MixedSummary {
    pub(super) fn left_of(&self, target: MixedTarget) -> f64 {
        let used = match target {
            MixedTarget::Bits(bits) => self.bits / bits,
            MixedTarget::Bytes(bytes) => self.bytes as f64 / bytes as f64,
            MixedTarget::Sqnr(_) => 1.0,
        };
        (1.0 - used).max(0.0)
    }
}

/// What a choice comes to.
pub(super) fn summary(
    problem: &Knapsack<'_>,
    solved: &Solved,
    decisions: &[Decision],
) -> Result<MixedSummary, Error> {
    Ok(MixedSummary {
        bits: problem.bits(&solved.picks),
        bytes: problem.file_bytes(&solved.picks, decisions)?,
        sqnr_db: decibels(problem.error(&solved.picks)),
        gap: solved.gap,
        left: 0.0,
        found_by: solved.found_by,
        compared: solved.compared,
        curve: Curve::default(),
    })
}
