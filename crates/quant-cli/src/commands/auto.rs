//! `quant quantize --auto`: nothing to decide.

use clap::Args;
use quant_core::Search;
use quant_models::{
    Candidate, ComputeUnit, Encoding, Error, Job, MixedOptions, MixedTarget, Note, Plan,
    QuantizeOptions, plan_mixed,
};
use serde_json::{Value, json};
use std::path::Path;

use crate::mixed::{becomes, decibels, told};
use crate::needs::said;
use crate::terminal::{count, warn};

#[derive(Args)]
pub struct AutoFlags {
    /// Decide everything: each tensor gets the fewest bytes with which the model keeps --quality, in
    /// precisions that run well on the --target; scales are searched
    ///
    /// What `quant plan --target-sqnr` with --search mse makes, carried out at once. The quality is an
    /// estimate from the weights: `quant evaluate` measures it.
    #[arg(long)]
    auto: bool,
    /// With --auto: the estimated signal to quantization noise that is kept
    #[arg(long, allow_hyphen_values = true, value_name = "DB", default_value = "30dB", value_parser = above_zero)]
    quality: f64,
}

fn above_zero(given: &str) -> Result<f64, String> {
    let number = decibels(given).ok().filter(|&number| number > 0.0);
    number.ok_or_else(|| "give a number of dB above 0, such as 40dB".into())
}

/// What was decided.
pub struct Decided {
    /// For people, in two lines.
    pub text: String,
    /// For programs.
    pub value: Value,
    /// What the plan says, some of which carrying it out says again.
    pub warnings: Vec<Note>,
}

impl AutoFlags {
    /// Whether everything is to be decided.
    pub fn is_wanted(&self) -> bool {
        self.auto
    }

    /// Puts a plan into the options.
    ///
    /// # Errors
    /// As a mixed plan.
    pub fn decide(
        &self,
        model: &Path,
        options: &mut QuantizeOptions,
        job: &Job<'_>,
    ) -> Result<Decided, Error> {
        options.search = Search::Mse;
        let candidates = usable(model, options, candidates(options), job)?;
        let target = MixedTarget::Sqnr(self.quality);
        let mixed = MixedOptions::new(target)
            .with_candidates(candidates)
            .with_tell_unused(false);
        let (plan, summary, warnings) = plan_mixed(model, options, &mixed, job, None)?;
        let counts = counts(&plan);
        let named = counts.iter().map(|(what, count)| format!("{count} {what}"));
        let named: Vec<String> = named.collect();
        let tensors = count(plan.tensors.len(), "tensor");
        let decided = Decided {
            text: format!(
                "of {tensors}: {}\n{}",
                named.join(", "),
                told(&summary, mixed.target)
            ),
            value: json!({
                "quality_db": self.quality,
                "estimated_sqnr_db": summary.sqnr_db.is_finite().then_some(summary.sqnr_db),
                "bits_per_weight": summary.bits,
                "tensors": counts.iter().cloned().collect::<serde_json::Map<_, _>>(),
            }),
            warnings,
        };
        options.plan = Some(plan);
        Ok(decided)
    }
}

/// What runs well on the target, as Apple's guide to coremltools says: 4 bits per channel on the Neural
/// Engine, in blocks on the GPU. On the CPU all weights become floats when the model is loaded.
fn candidates(options: &QuantizeOptions) -> Vec<Candidate> {
    let named = |names: &[&str]| {
        let parsed = names.iter().map(|name| name.parse().expect("a candidate"));
        parsed.collect()
    };
    match options.target {
        Some(ComputeUnit::NeuralEngine) => named(&["int4", "int8", "float"]),
        Some(ComputeUnit::Gpu) => named(&["int4:block32", "int8", "float"]),
        Some(ComputeUnit::Cpu) | None => Candidate::defaults(options.encoding),
    }
}

/// The candidates that the model's format and version can say.
fn usable(
    model: &Path,
    options: &QuantizeOptions,
    candidates: Vec<Candidate>,
    job: &Job<'_>,
) -> Result<Vec<Candidate>, Error> {
    if options.encoding == Encoding::Gguf {
        let problem = "--auto mixes precisions, which is not done for GGUF; give --type";
        return Err(Error::Option(problem.into()));
    }
    let (mut usable, mut refused) = (Vec::new(), None);
    for candidate in candidates {
        let Some(mut one) = candidate.options(options)? else {
            usable.push(candidate);
            continue;
        };
        // Another candidate may fit where this one does not.
        one.strict = false;
        match quant_models::plan(model, &one, job) {
            Ok(_) => usable.push(candidate),
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(error) => refused = refused.or(Some((candidate, error))),
        }
    }
    let is_codes = |candidate: &Candidate| *candidate != Candidate::Float;
    match refused {
        Some((_, error)) if !usable.iter().any(is_codes) => Err(error),
        Some((candidate, error)) => {
            warn(&[format!("without {candidate}: {}", error.told(&said))]);
            Ok(usable)
        }
        None => Ok(usable),
    }
}

/// How many tensors are what.
fn counts(plan: &Plan) -> Vec<(String, Value)> {
    let mut counts: Vec<(String, usize)> = Vec::new();
    for tensor in &plan.tensors {
        let what = becomes(tensor);
        match counts.iter_mut().find(|(other, _)| *other == what) {
            Some((_, count)) => *count += 1,
            None => counts.push((what, 1)),
        }
    }
    counts
        .into_iter()
        .map(|(what, count)| (what, json!(count)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::above_zero;

    #[test]
    fn a_quality_has_a_unit_or_none() {
        for (given, number) in [
            ("40dB", Some(40.0)),
            ("35.5", Some(35.5)),
            ("28 DB", Some(28.0)),
            ("0", None),
            ("-3dB", None),
            ("nan", None),
            ("dB", None),
            ("40%", None),
        ] {
            assert_eq!(above_zero(given).ok(), number, "{given}");
        }
    }
}
