//! Which candidate each tensor gets: the least error within bytes, or the fewest bytes within an error.

use std::collections::HashSet;

use super::knapsack::{Choice, Chosen, solve, total};
use super::{Alternative, MixedTarget, Work};
use crate::Error;
use crate::error::{one_line, option};
use crate::io::DataKey;
use crate::report::Decision;

/// Bytes of a file that a quantized tensor takes at most besides its codes, scales and zero points, where
/// the format does not know it: names, alignment, an operation. Without and with zero points.
const BESIDES: (u64, u64) = (256, 480);
/// How often a size is corrected by what the file would really have.
const CORRECTIONS: u32 = 16;
/// The share of a size that is not worth another correction.
const NEAR: f64 = 1e-4;

/// The tensors that have a choice.
pub(super) struct Knapsack<'p> {
    pub work: &'p Work<'p>,
    pub places: Vec<usize>,
}

impl Knapsack<'_> {
    pub fn alternatives(&self, place: usize) -> &[Alternative] {
        &self.work.alternatives[place]
    }

    pub fn items(&self, choice: impl Fn(&Alternative) -> Choice) -> Vec<Vec<Choice>> {
        let places = self.places.iter();
        let items = places.map(|&place| self.alternatives(place).iter().map(&choice).collect());
        items.collect()
    }

    /// Errors within bytes.
    pub fn by_bytes(&self, bytes: f64) -> Option<Chosen> {
        let items = self.items(|one| Choice {
            weight: one.bytes as f64,
            cost: one.error,
        });
        solve(&items, bytes)
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

    /// An alternative for each tensor that has a choice, and the summary's gap.
    pub fn solve(&self, target: MixedTarget) -> Result<(Vec<usize>, f64), Error> {
        let chosen = match target {
            MixedTarget::Bits(bits) => {
                let bytes = (bits * self.elements() / 8.0).floor();
                let chosen = self.by_bytes(bytes);
                chosen.ok_or_else(|| self.too_little(&format!("{bits} bits per weight")))?
            }
            MixedTarget::Bytes(bytes) => self.within_file(bytes)?,
            MixedTarget::Sqnr(db) => return self.by_error(db),
        };
        let error = self.picked(&chosen.picks, |one| one.error);
        let gap = match chosen.bound < error && chosen.bound > 0.0 {
            true => 10.0 * (error / chosen.bound).log10(),
            false if chosen.bound < error => f64::INFINITY,
            false => 0.0,
        };
        Ok((chosen.picks, gap))
    }

    /// The fewest bytes with at most the error that an SQNR allows.
    fn by_error(&self, db: f64) -> Result<(Vec<usize>, f64), Error> {
        let items = self.items(|one| Choice {
            weight: one.error,
            cost: one.bytes as f64,
        });
        let chosen = solve(&items, 10_f64.powf(-db / 10.0)).ok_or_else(|| {
            let best = self.places.iter().map(|&place| {
                let errors = self.alternatives(place).iter().map(|one| one.error);
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
    fn within_file(&self, bytes: u64) -> Result<Chosen, Error> {
        let before = self
            .places
            .iter()
            .map(|&place| self.work.tensors[place].bytes);
        let rest = self.work.model.bytes()? as f64 - before.sum::<u64>() as f64;
        // What a tensor takes besides its codes depends on what it becomes, so that budgets are tried:
        // smaller ones until a plan fits, then some between the largest that fits and the smallest that
        // does not.
        let (mut budget, mut too_small, mut too_large) = (bytes as f64 - rest, None, None);
        let (mut step, mut best) = (0.0, None);
        for _ in 0..CORRECTIONS {
            self.work.job.check()?;
            let chosen = self.by_bytes(budget);
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
            }
            budget = match (too_small, too_large) {
                (Some(from), Some(to)) if to - from > bytes as f64 * NEAR => {
                    f64::midpoint(from, to)
                }
                (None, Some(to)) => to - step,
                _ => break,
            };
        }
        best.ok_or_else(|| self.too_little(&format!("{bytes} bytes")))
    }

    fn too_little(&self, target: &str) -> Error {
        let lightest: Vec<usize> = self
            .places
            .iter()
            .map(|&place| {
                let all = self.alternatives(place).iter().enumerate();
                all.min_by_key(|(_, one)| one.bytes)
                    .map_or(0, |(pick, _)| pick)
            })
            .collect();
        let bytes = self.picked(&lightest, |one| one.bytes as f64);
        let bits = 8.0 * bytes / self.elements();
        let file = self.file_bytes(&lightest, &self.decisions(&lightest));
        let file = file.map_or(String::new(), |bytes| format!(", a file of {bytes} bytes"));
        Error::Option(one_line(format!(
            "{target} are too few: the smallest that the candidates allow is {bits:.3} bits per weight{file}; give more, or smaller candidates with {}",
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
