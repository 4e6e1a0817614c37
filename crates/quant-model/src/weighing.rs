//! Errors of a search, weighed by the inputs of weights.

use quant_core::Search;
use quant_simd::Importance;

use crate::error::{option, shortened};
use crate::facts::{Axes, Facts};
use crate::report::Decision;
use crate::unmatched::{Known, Unmatched};
use crate::{Error, ExpertAxes, InputImportance, QuantizeOptions};

/// Gives the tensors that are searched what the options know of their inputs. What the file says nothing
/// of is searched with errors that count alike, and told.
///
/// # Errors
/// Importance of another model; where no tensor is searched.
pub(crate) fn apply(
    options: &QuantizeOptions,
    tensors: &[Facts],
    decisions: &mut [Decision],
) -> Result<Vec<Unmatched>, Error> {
    let Some(importance) = &options.importance else {
        return Ok(Vec::new());
    };
    let (mut known, mut unknown) = (0, Vec::new());
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
        quantizer.importance = of(importance, facts)?;
        match quantizer.importance {
            Some(_) => known += 1,
            None => unknown.push(facts.name.as_str()),
        }
    }
    match unknown.first() {
        None if known == 0 && is_quantized => Err(Error::Option(format!(
            "{} has no effect without {}",
            option("importance"),
            option("search mse")
        ))),
        Some(first) if known == 0 => Err(Error::file(
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
            Ok(known.tell(&whose, &unknown))
        }
    }
}

/// What it says of one tensor; `None` where it says nothing, or the tensor has no axis of inputs.
fn of(importance: &InputImportance, facts: &Facts) -> Result<Option<Importance>, Error> {
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
        Some(&len) if len == means.len() => {
            Ok(Some(Importance::new(&facts.shape, axis as usize, means)))
        }
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
