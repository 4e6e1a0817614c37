//! Errors of a search, weighed by the inputs of weights.

use quant_core::Search;
use quant_simd::Importance;

use crate::error::{option, shortened};
use crate::facts::{Axes, Facts};
use crate::report::Decision;
use crate::unmatched::{Known, Unmatched};
use crate::{Error, ExpertAxes, InputImportance, QuantizeOptions, text};

/// Gives the tensors that are searched what the options know of their inputs. What the file says nothing
/// of, or only that all inputs are 0, is searched with errors that count alike, and told.
///
/// # Errors
/// Importance of another model; where no tensor is searched.
pub(crate) fn apply(
    options: &QuantizeOptions,
    tensors: &[Facts],
    decisions: &mut [Decision],
) -> Result<Vec<Unmatched>, Error> {
    let Some(importance) = &options.importance else {
        return Ok(left_out(options, decisions));
    };
    let mut found = Found::default();
    let mut is_quantized = false;
    for (facts, decision) in tensors.iter().zip(decisions) {
        let quantizer = match decision {
            Decision::Quantize(quantizer) => quantizer,
            Decision::Blocks(_) => {
                is_quantized = true;
                continue;
            }
            Decision::LeaveAlone(_) | Decision::Skip(_) => continue,
        };
        is_quantized = true;
        if quantizer.search == Search::None {
            continue;
        }
        match of(importance, facts)? {
            None => found.unknown.push(&facts.name),
            Some(Weights::Zero) => found.zero.push(&facts.name),
            Some(Weights::Some(weights)) => {
                quantizer.importance = Some(weights);
                found.known += 1;
            }
        }
    }
    if is_quantized && found.is_empty() {
        return Err(Error::Option(format!(
            "{} has no effect without {}",
            option("importance"),
            option("search mse")
        )));
    }
    found.told(importance)
}

/// What a file says of the tensors that are searched.
#[derive(Default)]
struct Found<'t> {
    /// How many have weights.
    known: usize,
    /// It says nothing of these.
    unknown: Vec<&'t str>,
    /// All inputs of these are 0.
    zero: Vec<&'t str>,
}

impl Found<'_> {
    fn is_empty(&self) -> bool {
        self.known == 0 && self.unknown.is_empty() && self.zero.is_empty()
    }

    fn told(&self, importance: &InputImportance) -> Result<Vec<Unmatched>, Error> {
        match (self.zero.first(), self.unknown.first()) {
            (Some(first), _) if self.known == 0 => Err(Error::tensor(
                importance.path(),
                first,
                "all of its inputs are 0, and nothing else is known of what is quantized; calibrate with samples that reach it",
            )),
            (None, Some(first)) if self.known == 0 => Err(Error::file(
                importance.path(),
                format!(
                    "holds the importance of no tensor that is quantized, such as `{}`; it has that of `{}`",
                    shortened(first),
                    shortened(importance.names().next().unwrap_or_default())
                ),
            )),
            _ => {
                let whose = format!("{}: the tensor", option("importance"));
                let known = Known::new(
                    "name in the file, so that its errors count alike",
                    importance.names(),
                );
                let mut told = known.tell(&whose, &self.unknown);
                told.extend(self.zero.first().map(|first| {
                    let file = importance.path().display();
                    let which = match self.zero.len() {
                        1 => format!("`{}`", shortened(first)),
                        some => format!("{some} tensors, such as `{}`,", shortened(first)),
                    };
                    Unmatched::new(format!(
                        "{file}: the inputs of {which} are all 0, so that errors count alike there"
                    ))
                }));
                Ok(told)
            }
        }
    }
}

/// What weighed the errors, where anything did.
pub(crate) fn note(options: &QuantizeOptions, decisions: &[Decision]) -> Option<String> {
    let weighed = decisions.iter().filter(
        |decision| matches!(decision, Decision::Quantize(quantizer) if quantizer.importance.is_some()),
    );
    let (count, importance) = (weighed.count(), options.importance.as_ref()?);
    (count > 0).then(|| {
        let tensors = if count == 1 { "tensor" } else { "tensors" };
        let file = text::File(importance.path());
        format!("errors of {count} {tensors} were weighed by the importance in {file}")
    })
}

/// That a plan was made with importance, and is carried out without, where that makes a difference.
fn left_out(options: &QuantizeOptions, decisions: &[Decision]) -> Vec<Unmatched> {
    let plan = options.plan.as_ref();
    let file = plan.and_then(|plan| plan.importance.as_ref());
    let is_searched = |decision: &Decision| matches!(decision, Decision::Quantize(quantizer) if quantizer.search != Search::None);
    let file = file.filter(|_| decisions.iter().any(is_searched));
    let told = plan.zip(file).map(|(plan, file)| {
        let option = option(&format!("importance {file}"));
        Unmatched::new(format!(
            "{} was made with errors weighed by {file}, and here they count alike; give {option}",
            plan.shown().display()
        ))
    });
    told.into_iter().collect()
}

/// What a file says of the inputs of a tensor.
enum Weights {
    /// That all of them are 0.
    Zero,
    /// How much errors matter.
    Some(Importance),
}

/// What it says of one tensor; `None` where it says nothing, or the tensor has no axis of inputs.
fn of(importance: &InputImportance, facts: &Facts) -> Result<Option<Weights>, Error> {
    let Some(means) = importance.find(&facts.names()) else {
        return Ok(None);
    };
    let axis = match facts.axes {
        Axes::Agreed { input, .. } => input,
        Axes::Stack(ExpertAxes::OutputInput) => 2,
        Axes::Stack(ExpertAxes::InputOutput) => 1,
        Axes::Conflicting(_) => return Ok(None),
    };
    let rank = facts.shape.len() as isize;
    let axis = if axis < 0 { axis + rank } else { axis };
    let len = usize::try_from(axis)
        .ok()
        .and_then(|axis| facts.shape.get(axis));
    match len {
        Some(&len) if len == means.len() => Ok(Some(match means.iter().all(|&mean| mean == 0.0) {
            true => Weights::Zero,
            false => Weights::Some(Importance::new(&facts.shape, axis as usize, means)),
        })),
        Some(len) => Err(Error::tensor(
            &facts.file,
            &facts.name,
            format!(
                "{} has the importance of {} inputs for it, which has {len} along axis {axis}; it is of another model",
                importance.path().display(),
                means.len()
            ),
        )),
        None => Ok(None),
    }
}
