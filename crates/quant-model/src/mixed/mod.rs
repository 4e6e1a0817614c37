//! Plans that mix precisions: each tensor gets as many bits as serve the whole model best.

mod candidate;
mod curve;
mod knapsack;

pub use candidate::{Candidate, Extent};
pub use curve::{Curve, CurvePoint};

use std::collections::HashSet;
use std::path::PathBuf;

use quant_simd::{Sink, TensorQuantizer};

use self::knapsack::{Choice, Chosen, solve, total};
use crate::error::{one_line, option};
use crate::execute::decide;
use crate::facts::Facts;
use crate::format::{Inserted, OpenModel};
use crate::io::DataKey;
use crate::plan::{PlannedTensor, TensorSpec, VERSION};
use crate::report::{Decision, quantize_tensor};
use crate::values::Tensor;
use crate::{Error, Job, Note, Plan, QuantizeOptions};

/// Bytes of a file that a quantized tensor takes at most besides its codes, scales and zero points, where
/// the format does not know it: names, alignment, an operation. Core ML packages take 200 to 230 where
/// there are no zero points, which operations before iOS18 always have, and up to 460 where there are.
const BESIDES: (u64, u64) = (256, 480);
/// How often a size is corrected by what the file would really have.
const CORRECTIONS: u32 = 16;
/// The share of a size that is not worth another correction.
const NEAR: f64 = 1e-4;

/// What a mixed plan keeps to.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum MixedTarget {
    /// So many bits per weight, scales and zero points included, over all tensors that can be quantized.
    Bits(f64),
    /// So many bytes of the output's files.
    Bytes(u64),
    /// At least so many dB of estimated SQNR, in as few bytes as possible.
    Sqnr(f64),
}

/// How precisions are mixed.
#[derive(Clone, Debug, PartialEq)]
pub struct MixedOptions {
    /// What the plan keeps to.
    pub target: MixedTarget,
    /// What each tensor may be.
    pub candidates: Vec<Candidate>,
    /// How many sizes the summary's curve has.
    pub points: usize,
}

/// What a mixed plan comes to.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct MixedSummary {
    /// Bits per weight, over all tensors that could be quantized.
    pub bits: f64,
    /// Bytes of the output's files: exact for safetensors, an estimate for packages.
    pub bytes: u64,
    /// `-10 log10` of the sum of the tensors' relative errors; infinite where there is none.
    pub sqnr_db: f64,
    /// No plan of these candidates within the target has a better SQNR (or fewer bytes) than by so many
    /// dB (or percent): 0 where that is proven to be the best.
    pub gap: f64,
    /// Plans of other sizes.
    pub curve: Curve,
}

/// The error that a tensor has by what makes its codes, in place of that of its values: what it does to a
/// model's outputs, for instance. `None` where nothing better is known.
pub type Damage<'d> = &'d mut dyn FnMut(&str, &TensorQuantizer) -> Result<Option<f64>, Error>;

/// Takes what is made and forgets it.
struct Nowhere;

impl Sink for Nowhere {
    type Error = Error;
    fn codes(&self, _: usize, _: &[u8]) -> Result<(), Error> {
        Ok(())
    }
    fn scales(&self, _: usize, _: &[u8]) -> Result<(), Error> {
        Ok(())
    }
    fn zero_points(&self, _: usize, _: &[u8]) -> Result<(), Error> {
        Ok(())
    }
}

/// What one tensor can be.
struct Alternative {
    decision: Decision,
    bytes: u64,
    /// Squared errors by squared values.
    error: f64,
    candidate: Candidate,
}

/// The plan of least error that keeps to a target.
///
/// The error of a plan is the sum of its tensors' relative errors, squared errors by squared values: so
/// they add up at the end of a chain of layers whose inputs are like noise. The assignment is solved
/// exactly, as a multiple-choice knapsack, but for models where that would take too much memory; the
/// summary says how far from the best it could be. Where `damage` knows better, it says the error of a
/// tensor.
///
/// # Errors
/// As [`plan`](crate::execute::plan); a target that no plan of the candidates reaches; values that
/// cannot be quantized.
pub fn plan_mixed(
    model: &dyn OpenModel,
    options: &QuantizeOptions,
    mixed: &MixedOptions,
    job: &Job<'_>,
    mut damage: Option<Damage<'_>>,
) -> Result<(Plan, MixedSummary, Vec<Note>), Error> {
    let mut work = Work::new(model, options, job)?;
    for &candidate in &mixed.candidates {
        work.add(candidate, &mut damage)?;
    }
    work.finish(mixed)
}

struct Work<'w> {
    model: &'w dyn OpenModel,
    options: &'w QuantizeOptions,
    job: &'w Job<'w>,
    tensors: Vec<Facts>,
    /// Per tensor.
    alternatives: Vec<Vec<Alternative>>,
    /// Per tensor, why no candidate quantizes it.
    reasons: Vec<Option<String>>,
    allows_float: bool,
    warnings: Vec<Note>,
}

impl<'w> Work<'w> {
    fn new(
        model: &'w dyn OpenModel,
        options: &'w QuantizeOptions,
        job: &'w Job<'w>,
    ) -> Result<Self, Error> {
        let tensors = model.facts(options, job, &mut Vec::new())?;
        Ok(Self {
            model,
            options,
            job,
            alternatives: tensors.iter().map(|_| Vec::new()).collect(),
            reasons: tensors.iter().map(|_| None).collect(),
            tensors,
            allows_float: false,
            warnings: Vec::new(),
        })
    }

    /// Measures what a candidate makes of each tensor.
    fn add(&mut self, candidate: Candidate, damage: &mut Option<Damage<'_>>) -> Result<(), Error> {
        let Some(options) = candidate.options(self.options)? else {
            self.allows_float = true;
            return Ok(());
        };
        let (decided, report) = decide(self.model, Inserted::default(), &options, self.job)?;
        for warning in report.warnings {
            if !self.warnings.contains(&warning) {
                self.warnings.push(warning);
            }
        }
        for (index, decision) in decided.decisions.into_iter().enumerate() {
            self.job.check()?;
            match &decision {
                Decision::Quantize(quantizer) => {
                    let name = &self.tensors[index].name;
                    let known = match damage {
                        Some(damage) => damage(name, quantizer)?,
                        None => None,
                    };
                    let error = match known {
                        None => self.measured(index, quantizer)?,
                        known => known.filter(|error| error.is_finite()),
                    };
                    if let Some(error) = error {
                        let bytes = quantizer.codes_len()
                            + quantizer.scales_len()
                            + quantizer.zero_points_len();
                        self.alternatives[index].push(Alternative {
                            decision,
                            bytes: bytes as u64,
                            error,
                            candidate,
                        });
                    }
                }
                Decision::Blocks(_) => {
                    return Err(Error::Option(
                        "plans that mix precisions are not made for GGUF; give each tensor its `type` in a plan"
                            .into(),
                    ));
                }
                Decision::LeaveAlone(reason) | Decision::Skip(reason) => {
                    self.reasons[index] = Some(reason.clone());
                }
            }
        }
        Ok(())
    }

    /// Squared errors by squared values; `None` where some are infinite once they are restored.
    fn measured(&self, index: usize, quantizer: &TensorQuantizer) -> Result<Option<f64>, Error> {
        let facts = &self.tensors[index];
        let done = quantize_tensor(quantizer, true, &self.model.data(index)?, &Nowhere);
        let stats = done.map_err(|failure| {
            let at = Tensor {
                file: &facts.file,
                name: &facts.name,
                dtype: &facts.dtype,
                shape: &facts.shape,
            };
            at.failed(failure, quantizer, &facts.name, true)
        })?;
        let Some(stats) = stats.filter(|stats| stats.non_finite == 0) else {
            return Ok(None);
        };
        Ok(Some(match stats.noise == 0.0 {
            true => 0.0,
            false => stats.noise / stats.signal,
        }))
    }

    fn finish(mut self, mixed: &MixedOptions) -> Result<(Plan, MixedSummary, Vec<Note>), Error> {
        let mut places = Vec::new();
        for (index, alternatives) in self.alternatives.iter_mut().enumerate() {
            if alternatives.is_empty() {
                continue;
            }
            if self.allows_float {
                alternatives.push(Alternative {
                    decision: Decision::LeaveAlone("float is better here".into()),
                    bytes: self.tensors[index].bytes,
                    error: 0.0,
                    candidate: Candidate::Float,
                });
            }
            places.push(index);
        }
        if places.is_empty() {
            return Err(Error::Option(
                "no candidate quantizes any tensor of the model; `quant plan` with its type says why"
                    .into(),
            ));
        }
        let problem = Knapsack {
            work: &self,
            places,
        };
        let (picks, gap) = problem.solve(mixed.target)?;
        let decisions = problem.decisions(&picks);
        let mut summary = problem.summary(&picks, &decisions, gap)?;
        summary.curve = problem.curve(mixed)?;
        let plan = self.plan(&decisions);
        Ok((plan, summary, self.warnings))
    }

    fn plan(&self, decisions: &[Decision]) -> Plan {
        let tensors = self.tensors.iter().zip(decisions);
        let tensors = tensors.map(|(facts, decision)| {
            let (quantize, reason) = match decision {
                Decision::Quantize(quantizer) => {
                    (Some(TensorSpec::from_quantizer(quantizer)), None)
                }
                Decision::Blocks(quantizer) => (Some(TensorSpec::of_blocks(quantizer)), None),
                Decision::LeaveAlone(reason) | Decision::Skip(reason) => {
                    (None, Some(reason.clone()))
                }
            };
            PlannedTensor {
                name: facts.name.clone(),
                dtype: Some(facts.dtype.clone()),
                shape: Some(facts.shape.clone()),
                quantize,
                reason,
            }
        });
        Plan {
            version: VERSION,
            format: self.options.encoding(),
            tensors: tensors.collect(),
            path: PathBuf::new(),
        }
    }
}

/// The tensors that have a choice.
struct Knapsack<'p> {
    work: &'p Work<'p>,
    places: Vec<usize>,
}

impl Knapsack<'_> {
    fn alternatives(&self, place: usize) -> &[Alternative] {
        &self.work.alternatives[place]
    }

    fn items(&self, choice: impl Fn(&Alternative) -> Choice) -> Vec<Vec<Choice>> {
        let places = self.places.iter();
        let items = places.map(|&place| self.alternatives(place).iter().map(&choice).collect());
        items.collect()
    }

    /// Errors within bytes.
    fn by_bytes(&self, bytes: f64) -> Option<Chosen> {
        let items = self.items(|one| Choice {
            weight: one.bytes as f64,
            cost: one.error,
        });
        solve(&items, bytes)
    }

    fn elements(&self) -> f64 {
        let counts = self.places.iter();
        counts
            .map(|&place| self.work.tensors[place].element_count() as f64)
            .sum()
    }

    fn picked(&self, picks: &[usize], what: impl Fn(&Alternative) -> f64) -> f64 {
        let picked = self.places.iter().zip(picks);
        picked
            .map(|(&place, &pick)| what(&self.alternatives(place)[pick]))
            .sum()
    }

    /// An alternative for each tensor that has a choice, and the summary's gap.
    fn solve(&self, target: MixedTarget) -> Result<(Vec<usize>, f64), Error> {
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
    fn decisions(&self, picks: &[usize]) -> Vec<Decision> {
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

    fn file_bytes(&self, picks: &[usize], decisions: &[Decision]) -> Result<u64, Error> {
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

    fn summary(
        &self,
        picks: &[usize],
        decisions: &[Decision],
        gap: f64,
    ) -> Result<MixedSummary, Error> {
        let bytes = self.picked(picks, |one| one.bytes as f64);
        let error = self.picked(picks, |one| one.error);
        Ok(MixedSummary {
            bits: 8.0 * bytes / self.elements(),
            bytes: self.file_bytes(picks, decisions)?,
            sqnr_db: match error == 0.0 {
                true => f64::INFINITY,
                false => -10.0 * error.log10(),
            },
            gap,
            curve: Curve::default(),
        })
    }
}
