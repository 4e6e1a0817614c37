//! Which of several plans is taken.

use std::fmt;

use super::knapsack::Chosen;
use super::problem::{By, Knapsack};
use super::{Alternative, Candidate, Damage, MixedOptions, MixedTarget, Part};
use crate::Error;
use crate::report::Decision;

/// How many times as large the loss of the best uniform plan is where the gain is clear: by the weights, that
/// is 1.5 dB.
const CLEAR: f64 = 1.3;

/// How a mixed plan was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FoundBy {
    /// From the errors of the weights.
    Weights,
    /// From what tensors do to the outputs one by one.
    Answers,
    /// It gives every tensor the same, as far as it can have it.
    Uniform(Candidate),
}

impl fmt::Display for FoundBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Weights => f.write_str("the plan by the weights"),
            Self::Answers => f.write_str("the plan by the answers of single tensors"),
            Self::Uniform(candidate) => write!(f, "{candidate} for all tensors"),
        }
    }
}

/// What was measured with all weights of a plan quantized.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Compared {
    /// How many plans were compared.
    pub plans: usize,
    /// The SQNR of the outputs of the best of them; infinite where nothing is lost.
    pub sqnr_db: f64,
}

/// The plan that is taken.
pub(super) struct Solved {
    pub picks: Vec<usize>,
    pub gap: f64,
    pub found_by: FoundBy,
    pub compared: Option<Compared>,
}

/// Plans that keep to a target, by one kind of error.
struct Proposed {
    /// That of least loss.
    free: Chosen,
    /// That of least loss among those in which no tensor loses more than in the best uniform one.
    steady: Option<Vec<usize>>,
    /// Those that give every tensor the same, the best one first.
    uniform: Vec<(Candidate, Vec<usize>)>,
}

impl Knapsack<'_> {
    /// An alternative for each tensor that has a choice.
    ///
    /// With `damage`, plans by the answers, the one by the weights, and all uniform ones that fit are
    /// compared by what all their weights do to the outputs, and the best is taken: what tensors do one by one
    /// need not add up.
    pub fn solve(&self, mixed: &MixedOptions, damage: Option<Damage<'_>>) -> Result<Solved, Error> {
        if let MixedTarget::Sqnr(db) = mixed.target {
            let (picks, gap) = self.by_error(db)?;
            return Ok(Solved {
                picks,
                gap,
                found_by: self.found_by(),
                compared: None,
            });
        }
        let proposed = self.proposed(mixed)?;
        let bound = proposed.free.bound;
        let (picks, found_by, compared) = match damage {
            None => (self.taken(proposed), self.found_by(), None),
            Some(damage) => {
                let plans = self.plans(mixed, proposed)?;
                let ((found_by, picks), compared) = self.least_damage(plans, damage)?;
                (picks, found_by, Some(compared))
            }
        };
        let loss = self.loss(&picks);
        let gap = match bound < loss && bound > 0.0 {
            true => self.decibels(loss / bound),
            false if bound < loss => f64::INFINITY,
            false => 0.0,
        };
        Ok(Solved {
            picks,
            gap,
            found_by,
            compared,
        })
    }

    fn found_by(&self) -> FoundBy {
        match self.by {
            By::Weights => FoundBy::Weights,
            By::Answers => FoundBy::Answers,
        }
    }

    fn proposed(&self, mixed: &MixedOptions) -> Result<Proposed, Error> {
        let target = mixed.target;
        let free = self.within(target, None)?;
        let free = free.ok_or_else(|| self.too_little(target))?;
        let uniform = self.uniform_plans(mixed, &free.picks)?;
        let steady = self.steady(target, uniform.first().map(|(_, picks)| picks))?;
        Ok(Proposed {
            free,
            steady,
            uniform,
        })
    }

    /// What some tensors lose so that others gain more hangs on how well errors add up: no more than
    /// roughly, so that little is gained in truth where it seems little. So the plan in which no tensor
    /// loses more than in the best uniform one is taken, unless the freest has clearly less of a loss.
    fn taken(&self, proposed: Proposed) -> Vec<usize> {
        let Proposed {
            free,
            steady,
            uniform,
        } = proposed;
        let is_little = |it: &Vec<usize>| self.loss(it) <= CLEAR * self.loss(&free.picks);
        let steady = steady.filter(|_| uniform.first().is_some_and(|(_, it)| is_little(it)));
        steady.unwrap_or(free.picks)
    }

    /// All that are compared, each once.
    fn plans(
        &self,
        mixed: &MixedOptions,
        proposed: Proposed,
    ) -> Result<Vec<(FoundBy, Vec<usize>)>, Error> {
        let weights = Knapsack {
            work: self.work,
            places: self.places.clone(),
            by: By::Weights,
        };
        let by_weights = weights.taken(weights.proposed(mixed)?);
        let own = [proposed.free.picks].into_iter().chain(proposed.steady);
        let uniform = proposed.uniform.into_iter();
        let all = own.map(|picks| (FoundBy::Answers, picks));
        let all = all.chain([(FoundBy::Weights, by_weights)]);
        let all = all.chain(uniform.map(|(candidate, picks)| (FoundBy::Uniform(candidate), picks)));
        let mut plans: Vec<(FoundBy, Vec<usize>)> = Vec::new();
        for (found_by, picks) in all {
            if plans.iter().all(|(_, known)| *known != picks) {
                plans.push((found_by, picks));
            }
        }
        Ok(plans)
    }

    /// Those that give every tensor the same and keep to the target, the best one first. What cannot have it
    /// stays in float, as it does without a plan; or is as it was chosen.
    fn uniform_plans(
        &self,
        mixed: &MixedOptions,
        chosen: &[usize],
    ) -> Result<Vec<(Candidate, Vec<usize>)>, Error> {
        let is_float = |one: &Alternative| one.candidate == Some(Candidate::Float);
        let float_or_chosen = |index: usize| {
            let mut all = self.alternatives(self.places[index]).iter();
            all.position(is_float).unwrap_or(chosen[index])
        };
        let mut plans: Vec<(Candidate, Vec<usize>)> = Vec::new();
        for &candidate in &mixed.candidates {
            let with_float = self.uniform(candidate, float_or_chosen);
            let with_chosen = self.uniform(candidate, |index| chosen[index]);
            for picks in [with_float, with_chosen] {
                let is_new = plans.iter().all(|(_, known)| *known != picks);
                if is_new && self.fits(&picks, mixed.target)? {
                    plans.push((candidate, picks));
                }
            }
        }
        plans.sort_by(|(_, a), (_, b)| self.loss(a).total_cmp(&self.loss(b)));
        Ok(plans)
    }

    /// The best plan in which no tensor loses more than in a uniform one.
    fn steady(
        &self,
        target: MixedTarget,
        uniform: Option<&Vec<usize>>,
    ) -> Result<Option<Vec<usize>>, Error> {
        let Some(uniform) = uniform else {
            return Ok(None);
        };
        let places = self.places.iter().zip(uniform);
        let most = places.map(|(&place, &pick)| self.of(&self.alternatives(place)[pick]));
        let best = self.within(target, Some(&most.collect::<Vec<_>>()))?;
        let best = best.map_or_else(|| uniform.clone(), |best| best.picks);
        // Sizes of files are known from plans alone, and not all are tried.
        Ok(Some(match self.loss(&best) <= self.loss(uniform) {
            true => best,
            false => uniform.clone(),
        }))
    }

    /// Of some plans, the one that does least to the outputs, the first of equal ones.
    fn least_damage(
        &self,
        mut plans: Vec<(FoundBy, Vec<usize>)>,
        damage: Damage<'_>,
    ) -> Result<((FoundBy, Vec<usize>), Compared), Error> {
        let (mut best, mut least) = (0, f64::INFINITY);
        for (index, (_, picks)) in plans.iter().enumerate() {
            self.work.job.check()?;
            let mut quantized = Vec::new();
            for (&place, &pick) in self.places.iter().zip(picks) {
                if let Decision::Quantize(quantizer) = &self.alternatives(place)[pick].decision {
                    quantized.push((self.work.tensors[place].name.as_str(), quantizer));
                }
            }
            // Where nothing is quantized, nothing is lost.
            let error = damage(Part::Plan, &quantized)?.unwrap_or(0.0);
            if error < least {
                (best, least) = (index, error);
            }
        }
        let compared = Compared {
            plans: plans.len(),
            sqnr_db: super::decibels(least),
        };
        Ok((plans.swap_remove(best), compared))
    }
}
