//! Which candidate each tensor gets: the least error within bytes, or the fewest bytes within an error.

use std::collections::HashSet;

use super::knapsack::{Choice, Chosen, solve, total};
use super::{Alternative, Candidate, MixedTarget, Work};
use crate::Error;
use crate::error::{one_line, option};
use crate::io::DataKey;
use crate::report::Decision;

/// Bytes of a file that a quantized tensor takes at most besides its codes, scales and zero points, where
/// the format does not know it: names, alignment, an operation. Without and with zero points.
const BESIDES: (u64, u64) = (256, 480);
/// How often a size is corrected by what the file would really have.
const CORRECTIONS: u32 = 16;
/// How many steps of single tensors are tried to fill what a size has left.
const FILLINGS: usize = 64;
/// The share of a size that is not worth another correction.
const NEAR: f64 = 1e-4;

/// What the error of an alternative is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// That of the weights.
    Weights,
    /// That of the answers; of the weights, where it is not known.
    Answers,
}

/// Of errors of weights, where 1 is for those that add up like noise, and 1/2 for those that all go the same
/// way. Of trained models, what is between says more than either.
const POWER: f64 = 0.75;

/// The tensors that have a choice.
pub(super) struct Knapsack<'p> {
    pub work: &'p Work<'p>,
    pub places: Vec<usize>,
    pub by: By,
}

impl Knapsack<'_> {
    pub fn alternatives(&self, place: usize) -> &[Alternative] {
        &self.work.alternatives[place]
    }

    /// The error of one of them.
    pub fn of(&self, one: &Alternative) -> f64 {
        match self.by {
            By::Weights => one.error,
            By::Answers => one.damage.unwrap_or(one.error),
        }
    }

    /// What adds up to a plan's loss. By the weights it is the error to the power of [`POWER`], from roots,
    /// which are the same on every machine.
    pub fn cost(&self, one: &Alternative) -> f64 {
        let error = self.of(one);
        match self.by {
            By::Weights => (error * error.sqrt()).sqrt(),
            By::Answers => error,
        }
    }

    /// A ratio of losses as one of errors, in dB.
    pub fn decibels(&self, ratio: f64) -> f64 {
        let power = match self.by {
            By::Weights => POWER,
            By::Answers => 1.0,
        };
        10.0 / power * ratio.log10()
    }

    pub fn items(&self, choice: impl Fn(&Alternative) -> Choice) -> Vec<Vec<Choice>> {
        let places = self.places.iter();
        let items = places.map(|&place| self.alternatives(place).iter().map(&choice).collect());
        items.collect()
    }

    /// The least loss within bytes; where `most` is given, of no tensor more than that.
    pub fn by_bytes(&self, bytes: f64, most: Option<&[f64]>) -> Option<Chosen> {
        let places = self.places.iter().enumerate();
        let allowed: Vec<Vec<usize>> = places
            .map(|(index, &place)| {
                let all = self.alternatives(place).iter().enumerate();
                all.filter(|(_, one)| most.is_none_or(|most| self.of(one) <= most[index]))
                    .map(|(pick, _)| pick)
                    .collect()
            })
            .collect();
        let items = self.places.iter().zip(&allowed).map(|(&place, allowed)| {
            let all = self.alternatives(place);
            let choices = allowed.iter().map(|&pick| Choice {
                weight: all[pick].bytes as f64,
                cost: self.cost(&all[pick]),
            });
            choices.collect()
        });
        let mut chosen = solve(&items.collect::<Vec<_>>(), bytes)?;
        for (pick, allowed) in chosen.picks.iter_mut().zip(&allowed) {
            *pick = allowed[*pick];
        }
        Some(chosen)
    }

    pub fn elements(&self) -> f64 {
        let counts = self.places.iter();
        counts
            .map(|&place| self.work.tensors[place].element_count() as f64)
            .sum()
    }

    pub fn picked(&self, picks: &[usize], what: impl Fn(&Alternative) -> f64) -> f64 {
        let picked = self.places.iter().zip(picks);
        picked
            .map(|(&place, &pick)| what(&self.alternatives(place)[pick]))
            .sum()
    }

    /// Bits per weight.
    pub fn bits(&self, picks: &[usize]) -> f64 {
        8.0 * self.picked(picks, |one| one.bytes as f64) / self.elements()
    }

    pub fn loss(&self, picks: &[usize]) -> f64 {
        self.picked(picks, |one| self.cost(one))
    }

    pub fn error(&self, picks: &[usize]) -> f64 {
        self.picked(picks, |one| self.of(one))
    }

    /// Whether a plan keeps to a budget of bits or bytes.
    pub fn fits(&self, picks: &[usize], target: MixedTarget) -> Result<bool, Error> {
        Ok(match target {
            MixedTarget::Bits(bits) => {
                self.picked(picks, |one| one.bytes as f64) <= self.budget(bits)
            }
            MixedTarget::Bytes(bytes) => self.file_bytes(picks, &self.decisions(picks))? <= bytes,
            MixedTarget::Sqnr(_) => false,
        })
    }

    /// What fits a budget of bits or bytes, if anything does.
    pub fn within(
        &self,
        target: MixedTarget,
        most: Option<&[f64]>,
    ) -> Result<Option<Chosen>, Error> {
        match target {
            MixedTarget::Bits(bits) => Ok(self.by_bytes(self.budget(bits), most)),
            MixedTarget::Bytes(bytes) => self.within_file(bytes, most),
            MixedTarget::Sqnr(_) => Ok(None),
        }
    }

    fn budget(&self, bits: f64) -> f64 {
        (bits * self.elements() / 8.0).floor()
    }

    /// The same for every tensor; what cannot have it gets what `or` says of its index.
    pub fn uniform(&self, candidate: Candidate, or: impl Fn(usize) -> usize) -> Vec<usize> {
        let places = self.places.iter().enumerate();
        let picks = places.map(|(index, &place)| {
            let mut all = self.alternatives(place).iter();
            all.position(|one| one.candidate == Some(candidate))
                .unwrap_or_else(|| or(index))
        });
        picks.collect()
    }

    /// The fewest bytes with at most the error that an SQNR allows.
    pub fn by_error(&self, db: f64) -> Result<(Vec<usize>, f64), Error> {
        let items = self.items(|one| Choice {
            weight: self.of(one),
            cost: one.bytes as f64,
        });
        let chosen = solve(&items, 10_f64.powf(-db / 10.0)).ok_or_else(|| {
            let best = self.places.iter().map(|&place| {
                let errors = self.alternatives(place).iter().map(|one| self.of(one));
                errors.fold(f64::INFINITY, f64::min)
            });
            let best = -10.0 * best.sum::<f64>().log10();
            Error::Option(format!(
                "an SQNR of {db} dB cannot be had: the best that the candidates allow is {best:.2} dB; give a lower one, or better candidates with {}",
                option("candidates")
            ))
        })?;
        let bytes = total(&items, &chosen.picks, |choice| choice.cost);
        Ok((chosen.picks, 100.0 * (bytes - chosen.bound) / bytes))
    }

    /// What fits a file of so many bytes.
    fn within_file(&self, bytes: u64, most: Option<&[f64]>) -> Result<Option<Chosen>, Error> {
        let before = self
            .places
            .iter()
            .map(|&place| self.work.tensors[place].bytes);
        let rest = self.work.model.bytes()? as f64 - before.sum::<u64>() as f64;
        // What a tensor takes besides its codes depends on what it becomes, so that budgets are tried:
        // smaller ones until a plan fits, or larger ones until none does, then some between the largest
        // that fits and the smallest that does not.
        let (mut budget, mut too_small, mut too_large) = (bytes as f64 - rest, None, None);
        let (mut step, mut best) = (0.0, None);
        for _ in 0..CORRECTIONS {
            self.work.job.check()?;
            let chosen = self.by_bytes(budget, most);
            let real = match &chosen {
                Some(Chosen { picks, .. }) => self.file_bytes(picks, &self.decisions(picks))?,
                None => 0,
            };
            if real > bytes {
                too_large = Some(budget);
                step = f64::max(2.0 * step, (real - bytes) as f64);
            } else {
                too_small = Some(budget);
                best = chosen.or(best);
                step = f64::max(2.0 * step, (bytes - real) as f64);
            }
            budget = match (too_small, too_large) {
                (Some(from), Some(to)) if to - from > bytes as f64 * NEAR => {
                    f64::midpoint(from, to)
                }
                (None, Some(to)) => to - step,
                (Some(from), None) if step > bytes as f64 * NEAR => from + step,
                _ => break,
            };
        }
        // The smallest plan of all may be a hair within the size.
        if best.is_none() && most.is_none() {
            let picks = self.lightest();
            if self.file_bytes(&picks, &self.decisions(&picks))? <= bytes {
                let bound = self.loss(&picks);
                best = Some(Chosen { picks, bound });
            }
        }
        if let Some(best) = &mut best {
            self.fill(&mut best.picks, bytes)?;
        }
        Ok(best)
    }

    /// Gives what a budget that was only tried has left to single tensors, those first whose error shrinks
    /// most by it.
    fn fill(&self, picks: &mut [usize], bytes: u64) -> Result<(), Error> {
        let mut real = self.file_bytes(picks, &self.decisions(picks))?;
        let mut steps = Vec::new();
        for (index, &place) in self.places.iter().enumerate() {
            let all = self.alternatives(place);
            let now = &all[picks[index]];
            for (pick, one) in all.iter().enumerate() {
                let more = one.bytes.saturating_sub(now.bytes);
                let less = self.cost(now) - self.cost(one);
                if less > 0.0 && real + more <= bytes {
                    steps.push((less, index, pick));
                }
            }
        }
        steps.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        for (_, index, pick) in steps.into_iter().take(FILLINGS) {
            self.work.job.check()?;
            let all = self.alternatives(self.places[index]);
            let before = picks[index];
            if self.of(&all[pick]) >= self.of(&all[before]) {
                continue;
            }
            picks[index] = pick;
            match self.file_bytes(picks, &self.decisions(picks))? {
                size if size <= bytes => real = size,
                _ => picks[index] = before,
            }
            if (bytes - real) as f64 <= bytes as f64 * NEAR {
                break;
            }
        }
        Ok(())
    }

    /// The fewest bytes for each tensor; of as many, the least error.
    fn lightest(&self) -> Vec<usize> {
        let lightest = self.places.iter().map(|&place| {
            let all = self.alternatives(place).iter().enumerate();
            all.min_by(|(_, a), (_, b)| {
                a.bytes
                    .cmp(&b.bytes)
                    .then(self.of(a).total_cmp(&self.of(b)))
            })
            .map_or(0, |(pick, _)| pick)
        });
        lightest.collect()
    }

    pub fn too_little(&self, target: MixedTarget) -> Error {
        let target = match target {
            MixedTarget::Bits(bits) => format!("{bits} bits per weight"),
            MixedTarget::Bytes(bytes) => format!("{bytes} bytes"),
            MixedTarget::Sqnr(db) => format!("{db} dB"),
        };
        let lightest = self.lightest();
        let bits = self.bits(&lightest);
        let file = self.file_bytes(&lightest, &self.decisions(&lightest));
        let file = file.map_or(String::new(), |bytes| format!(", files of {bytes} bytes"));
        Error::Option(one_line(format!(
            "{target} are too few: the smallest that the candidates allow{} is {bits:.3} bits per weight{file}; give more, or smaller candidates with {}",
            self.work.unusable.names(),
            option("candidates")
        )))
    }

    /// One per tensor of the model.
    pub fn decisions(&self, picks: &[usize]) -> Vec<Decision> {
        let mut decisions: Vec<Decision> = self
            .work
            .reasons
            .iter()
            .map(|reason| Decision::LeaveAlone(reason.clone().unwrap_or_default()))
            .collect();
        for (&place, &pick) in self.places.iter().zip(picks) {
            decisions[place] = self.alternatives(place)[pick].decision.clone();
        }
        decisions
    }

    pub fn file_bytes(&self, picks: &[usize], decisions: &[Decision]) -> Result<u64, Error> {
        let Work {
            model,
            options,
            job,
            tensors,
            ..
        } = self.work;
        if let Some(bytes) = model.bytes_of(decisions, options, job)? {
            return Ok(bytes);
        }
        // What several functions share stands in the file once, as often as it becomes something else.
        let data = self.places.iter().map(|&place| model.data(place));
        let data = data.collect::<Result<Vec<_>, Error>>()?;
        let (mut records, mut made) = (HashSet::new(), HashSet::new());
        let (mut before, mut after) = (0, 0);
        for ((&place, &pick), data) in self.places.iter().zip(picks).zip(&data) {
            let key = Some(data.key()).filter(|key| matches!(key, DataKey::File(..)));
            let is_new = |known: bool| key.is_none() || known;
            if is_new(records.insert(key.clone())) {
                before += tensors[place].bytes;
            }
            if is_new(made.insert((key.clone(), pick))) {
                after += self.alternatives(place)[pick].bytes;
            }
        }
        let besides = decisions.iter().map(|decision| match decision {
            Decision::Quantize(quantizer) => {
                let is_new = quantizer.scheme.dtype.bits() < 8;
                match is_new && !quantizer.scheme.stores_zero_point() {
                    true => BESIDES.0,
                    false => BESIDES.1,
                }
            }
            _ => 0,
        });
        let besides: u64 = besides.sum();
        Ok((model.bytes()? + after + besides).saturating_sub(before))
    }
}
