//! Plans that mix precisions: each tensor gets as many bits as serve the whole model best.

mod candidate;
mod compare;
mod curve;
mod divisions;
mod knapsack;
mod options;
mod problem;
mod summary;
mod unusable;

pub use candidate::{Candidate, Extent};
pub use compare::{Compared, FoundBy};
pub use curve::{Curve, CurvePoint};
pub use options::MixedOptions;
pub use summary::MixedSummary;

use std::path::PathBuf;

use quant_core::{IntType, Mode};
use quant_simd::{Sink, TensorQuantizer};

use self::problem::{By, Knapsack};
use self::summary::summary;
use self::unusable::{Unusable, no_scale};
use crate::error::{command, shortened};
use crate::execute::decide;
use crate::facts::Facts;
use crate::format::{Inserted, OpenModel};
use crate::plan::{PlannedTensor, TensorSpec, VERSION};
use crate::report::{Decision, quantize_tensor};
use crate::unmatched;
use crate::values::Tensor;
use crate::{Error, HintCommand, Job, Note, Plan, QuantizeOptions};

/// What a mixed plan keeps to.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum MixedTarget {
    /// So many bits per weight, scales and zero points included, over all tensors that can be quantized.
    Bits(f64),
    /// So many bytes of the files that the format writes; what is copied beside them does not count.
    Bytes(u64),
    /// At least so many dB of estimated SQNR, in as few bytes as possible.
    Sqnr(f64),
}

/// What an error is asked of.
// Exhaustive: whoever finds errors must say what is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// One tensor; it is asked of each as each candidate, so that it has to be fast.
    Tensor,
    /// A whole plan; it is asked of a few, and decides.
    Plan,
}

/// The error of a model, some of whose tensors, by their names, get their codes so and all others stay as
/// they are: what that does to its outputs, for instance. `None` where it is known of none of them.
pub type Damage<'d> =
    &'d mut dyn FnMut(Part, &[(&str, &TensorQuantizer)]) -> Result<Option<f64>, Error>;

/// Tensors of which each may be a large share of the model.
const FEW: usize = 64;
/// Tensors so few that a step of one of them is some percent of the model.
const VERY_FEW: usize = 16;

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
    /// What this does to the outputs, where that is known.
    damage: Option<f64>,
    /// `None` for one of the blocks that [divide](divisions) a tensor.
    candidate: Option<Candidate>,
}

/// The plan of least error that keeps to a target.
///
/// The error of a tensor is relative, squared errors by squared values. The loss of a plan is the sum of its
/// tensors' errors to the power of 3/4. It would be the sum of the errors, if they met at the end of a chain
/// of layers like noise, and that of their roots, if all went the same way; what is between says more of the
/// answers of trained models than either. The assignment is solved exactly, as a multiple-choice knapsack, but
/// for models where that would take too much memory. Where a loss says that little is gained, that says
/// little about outputs: so some tensors lose more than they would if all tensors were the same only where
/// the loss is less by 1.5 dB for it. Else no tensor loses more than in the best uniform plan within the
/// target. The summary says how far from the least loss it is. A target of SQNR is one of the sum of errors.
///
/// Where `damage` knows better, it says the error of a tensor, whose sum is the loss, and there are two more plans. In the end it
/// says which of all is taken, the one by the weights and the uniform ones that fit included.
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
    let mut mixed = mixed.clone();
    let given = !mixed.candidates.is_empty();
    work.tells_unused = given && mixed.tell_unused;
    if !given {
        mixed.candidates = Candidate::defaults(options.encoding());
    }
    for &candidate in &mixed.candidates {
        work.add(candidate, &mut damage)?;
    }
    let choices = work.alternatives.iter().filter(|all| !all.is_empty());
    let choices = choices.count();
    if !given && choices <= FEW {
        for candidate in Candidate::finer(options.encoding()) {
            work.add(candidate, &mut damage)?;
            mixed.candidates.push(candidate);
        }
    }
    if !given && choices <= VERY_FEW {
        for (dtype, mode) in Candidate::divided(options.encoding()) {
            work.add_divisions(dtype, mode, &mut damage)?;
        }
    }
    work.finish(&mixed, damage)
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
    /// Per tensor, whether a candidate was to quantize it, and could not.
    skipped: Vec<bool>,
    /// Whether candidates that fit no tensor are told.
    tells_unused: bool,
    allows_float: bool,
    /// What each candidate that fits some tensor has told: what one alone tells is of its own plan.
    warnings: Option<Vec<Note>>,
    unusable: Unusable,
}

impl<'w> Work<'w> {
    fn new(
        model: &'w dyn OpenModel,
        options: &'w QuantizeOptions,
        job: &'w Job<'w>,
    ) -> Result<Self, Error> {
        let tensors = model.facts(options, job, &mut Vec::new())?;
        if options.strict {
            unmatched::warnings(true, &model.unmatched(options))?;
        }
        Ok(Self {
            model,
            options,
            job,
            alternatives: tensors.iter().map(|_| Vec::new()).collect(),
            reasons: tensors.iter().map(|_| None).collect(),
            skipped: tensors.iter().map(|_| false).collect(),
            tensors,
            tells_unused: false,
            allows_float: false,
            warnings: None,
            unusable: Unusable::default(),
        })
    }

    /// Measures what a candidate makes of each tensor.
    fn add(&mut self, candidate: Candidate, damage: &mut Option<Damage<'_>>) -> Result<(), Error> {
        let Some(mut options) = candidate.options(self.options)? else {
            self.allows_float = true;
            return Ok(());
        };
        // Another candidate may fit where this one does not.
        options.strict = false;
        let (decided, report) = decide(self.model, Inserted::default(), &options, self.job)?;
        let (decided, report) = (decided.into_inner(), report.into_inner());
        let fits_some = report.tensors.iter().any(|tensor| tensor.scheme.is_some());
        match &mut self.warnings {
            _ if !fits_some => {}
            Some(warnings) => warnings.retain(|one| report.warnings.contains(one)),
            None => self.warnings = Some(report.warnings),
        }
        if self.tells_unused && !fits_some {
            self.unusable.fits_none(candidate, &decided.decisions);
        }
        for (index, decision) in decided.decisions.into_iter().enumerate() {
            self.job.check()?;
            let is_skip = matches!(decision, Decision::Skip(_));
            match decision {
                Decision::Quantize(quantizer) => {
                    self.consider(index, quantizer, Some(candidate), damage)?;
                }
                Decision::Blocks(_) => {
                    return Err(Error::Option(
                        "plans that mix precisions are not made for GGUF; give each tensor its `type` in a plan"
                            .into(),
                    ));
                }
                Decision::LeaveAlone(reason) | Decision::Skip(reason) => {
                    self.skipped[index] |= is_skip;
                    self.reasons[index] = Some(reason);
                }
            }
        }
        Ok(())
    }

    /// Measures a tensor in blocks of all sizes that divide its output channels.
    fn add_divisions(
        &mut self,
        dtype: IntType,
        mode: Mode,
        damage: &mut Option<Damage<'_>>,
    ) -> Result<(), Error> {
        // The smallest blocks fit wherever larger ones do.
        let smallest = Candidate::Codes(dtype, mode, Extent::Block(1));
        let Some(mut options) = smallest.options(self.options)? else {
            return Ok(());
        };
        options.strict = false;
        let (decided, _) = decide(self.model, Inserted::default(), &options, self.job)?;
        let decisions = decided.into_inner().decisions;
        for (index, decision) in decisions.into_iter().enumerate() {
            let Decision::Quantize(smallest) = decision else {
                continue;
            };
            let facts = &self.tensors[index];
            let divided =
                divisions::quantizers(facts, &smallest, &|one| self.stored_len(index, one));
            let fits = |one: &TensorQuantizer| self.model.supports(facts, one, &options).is_ok();
            let divided: Vec<_> = divided.into_iter().filter(fits).collect();
            for quantizer in divided {
                let is_known = self.alternatives[index].iter().any(|one| {
                    matches!(&one.decision, Decision::Quantize(known)
                        if known.scheme == quantizer.scheme && known.blocks == quantizer.blocks)
                });
                if !is_known {
                    self.job.check()?;
                    self.consider(index, quantizer, None, damage)?;
                }
            }
        }
        Ok(())
    }

    /// Measures one thing that a tensor can be.
    fn consider(
        &mut self,
        index: usize,
        quantizer: TensorQuantizer,
        candidate: Option<Candidate>,
        damage: &mut Option<Damage<'_>>,
    ) -> Result<(), Error> {
        let error = match self.measured(index, &quantizer)? {
            Ok(error) => error,
            Err(reason) => {
                self.unusable.add(index, candidate, reason);
                return self.job.check();
            }
        };
        let damage = match damage {
            Some(damage) => damage(Part::Tensor, &[(&self.tensors[index].name, &quantizer)])?,
            None => None,
        };
        if damage.is_none_or(f64::is_finite) {
            let bytes = self.stored_len(index, &quantizer);
            self.alternatives[index].push(Alternative {
                bytes: bytes as u64,
                decision: Decision::Quantize(quantizer),
                error,
                damage,
                candidate,
            });
        }
        Ok(())
    }

    fn stored_len(&self, index: usize, quantizer: &TensorQuantizer) -> usize {
        let facts = &self.tensors[index];
        self.model.stored_len(facts, quantizer, self.options)
    }

    /// Squared errors by squared values; or why these values cannot have such codes.
    fn measured(
        &self,
        index: usize,
        quantizer: &TensorQuantizer,
    ) -> Result<Result<f64, String>, Error> {
        let facts = &self.tensors[index];
        let done = quantize_tensor(quantizer, true, &self.model.data(index)?, &Nowhere);
        let stats = match done {
            Ok(stats) => stats,
            Err(failure) => {
                if let Some(reason) = no_scale(&failure, quantizer, &facts.dtype) {
                    return Ok(Err(reason));
                }
                let at = Tensor {
                    file: &facts.file,
                    name: &facts.name,
                    dtype: &facts.dtype,
                    shape: &facts.shape,
                };
                return Err(at.failed(failure, quantizer, &facts.name, true));
            }
        };
        let Some(stats) = stats.filter(|stats| stats.non_finite == 0) else {
            return Ok(Err(
                "some values would be infinite once they are restored".into()
            ));
        };
        Ok(Ok(match stats.noise == 0.0 {
            true => 0.0,
            false => stats.noise / stats.signal,
        }))
    }

    /// The tensors that have a choice, with float where that is one.
    fn places(&mut self) -> Result<Vec<usize>, Error> {
        let mut places = Vec::new();
        for (index, alternatives) in self.alternatives.iter_mut().enumerate() {
            if alternatives.is_empty() {
                let facts = &self.tensors[index];
                if let Some(error) = self.unusable.error(index, facts, self.allows_float)
                    && !self.allows_float
                {
                    return Err(error);
                }
                if let Some(reason) = self.unusable.reason(index) {
                    self.reasons[index] = Some(reason.to_owned());
                    self.skipped[index] = true;
                }
                if let (true, true, Some(reason)) = (
                    self.options.strict,
                    self.skipped[index],
                    &self.reasons[index],
                ) {
                    let name = shortened(&facts.name);
                    return Err(Error::strict(format!(
                        "no candidate can quantize `{name}`: {reason}"
                    )));
                }
                continue;
            }
            if self.allows_float {
                alternatives.push(Alternative {
                    decision: Decision::LeaveAlone("float is better here".into()),
                    bytes: self.tensors[index].bytes,
                    error: 0.0,
                    damage: Some(0.0),
                    candidate: Some(Candidate::Float),
                });
            }
            places.push(index);
        }
        Ok(places)
    }

    fn finish(
        mut self,
        mixed: &MixedOptions,
        damage: Option<Damage<'_>>,
    ) -> Result<(Plan, MixedSummary, Vec<Note>), Error> {
        let places = self.places()?;
        if places.is_empty() {
            return Err(self.nothing());
        }
        let problem = Knapsack {
            work: &self,
            places,
            by: match damage {
                Some(_) => By::Answers,
                None => By::Weights,
            },
        };
        let solved = problem.solve(mixed, damage)?;
        let decisions = problem.decisions(&solved.picks);
        let mut summary = summary(&problem, &solved, &decisions)?;
        summary.left = summary.left_of(mixed.target);
        summary.curve = problem.curve(mixed)?;
        let plan = self.plan(&decisions);
        let has_choice = |index: usize| problem.places.binary_search(&index).is_ok();
        let unusable = self.unusable.notes(&self.tensors, has_choice);
        let mut warnings = self.warnings.unwrap_or_default();
        let advice = self.model.advice(&decisions, self.options).into_iter();
        let advice: Vec<Note> = advice.map(Note::from).collect();
        warnings.retain(|one| !advice.contains(one));
        warnings.extend(advice);
        warnings.extend(unusable);
        Ok((plan, summary, warnings))
    }

    /// That no candidate quantizes any tensor.
    fn nothing(&self) -> Error {
        let tensors = self.tensors.iter().enumerate();
        let mut of_values = tensors
            .filter_map(|(index, facts)| self.unusable.error(index, facts, self.allows_float));
        of_values.next().unwrap_or_else(|| {
            Error::Option(format!(
                "no candidate quantizes any tensor of the model; {} with its type says why",
                command(HintCommand::Plan)
            ))
        })
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
            importance: self.options.importance_path(),
            // Candidates were asked for, none of all tensors.
            asked: None,
            tensors: tensors.collect(),
            path: PathBuf::new(),
        }
    }
}

/// Of an error by what it is an error of; infinite where there is none.
fn decibels(error: f64) -> f64 {
    match error == 0.0 {
        true => f64::INFINITY,
        false => -10.0 * error.log10(),
    }
}
