//! What tensors cannot be, because of their values or their shapes, and what is said of it.

use std::collections::BTreeMap;

use quant_core::ParamsError;
use quant_simd::{ProcessError, TensorQuantizer};

use super::Candidate;
use crate::error::{option, shortened};
use crate::facts::Facts;
use crate::report::Decision;
use crate::text::one_line;
use crate::values::position;
use crate::{Error, Note};

/// What was found to be of no use while candidates were measured.
#[derive(Default)]
pub(super) struct Unusable {
    /// By the place of the tensor: the first candidate that its values cannot have, and why.
    by_values: BTreeMap<usize, (Candidate, String)>,
    /// Candidates that fit no tensor, and why not, of the first that they were to fit.
    fit_none: Vec<(Candidate, Option<(usize, String)>)>,
}

impl Unusable {
    /// A tensor whose values cannot have such codes. Of blocks that were not asked for by name nothing is
    /// remembered.
    pub fn add(&mut self, tensor: usize, candidate: Option<Candidate>, reason: String) {
        if let Some(candidate) = candidate {
            self.by_values.entry(tensor).or_insert((candidate, reason));
        }
    }

    /// A candidate that quantizes no tensor.
    pub fn fits_none(&mut self, candidate: Candidate, decisions: &[Decision]) {
        let mut decisions = decisions.iter().enumerate();
        let first = decisions.find_map(|(tensor, decision)| match decision {
            Decision::Skip(reason) => Some((tensor, reason.clone())),
            Decision::Quantize(_) | Decision::Blocks(_) | Decision::LeaveAlone(_) => None,
        });
        self.fit_none.push((candidate, first));
    }

    /// Why a tensor cannot be any of the candidates, where its values are the reason.
    pub fn reason(&self, tensor: usize) -> Option<&str> {
        let (_, reason) = self.by_values.get(&tensor)?;
        Some(reason)
    }

    /// That a tensor has to be left in float.
    pub fn error(&self, tensor: usize, facts: &Facts, allows_float: bool) -> Option<Error> {
        let (candidate, reason) = self.by_values.get(&tensor)?;
        let exclude = option(&format!("exclude '^{}$'", regex::escape(&facts.name)));
        let add = match allows_float {
            true => String::new(),
            false => format!("add float to {}, or ", option("candidates")),
        };
        Some(Error::tensor(
            &facts.file,
            &facts.name,
            format!(
                "no candidate can quantize it; {candidate}: {reason}; {add}leave it in float with {exclude}"
            ),
        ))
    }

    /// What is to be said of a plan. `has_choice` tells by its place whether a tensor can be quantized.
    pub fn notes(&self, tensors: &[Facts], has_choice: impl Fn(usize) -> bool) -> Vec<Note> {
        let (fewer, none): (Vec<_>, Vec<_>) = self
            .by_values
            .iter()
            .partition(|(tensor, _)| has_choice(**tensor));
        let mut notes: Vec<Note> = self
            .fit_none
            .iter()
            .map(|one| useless(one, tensors))
            .collect();
        // Of each kind one line, of the first.
        for (found, is_left) in [(none, true), (fewer, false)] {
            let Some((tensor, (candidate, reason))) = found.first() else {
                continue;
            };
            let name = format!("`{}`", shortened(&tensors[**tensor].name));
            let line = match (is_left, found.len()) {
                (true, 1) => format!("{name} is left in float: no candidate can quantize it"),
                (true, count) => format!(
                    "{count} tensors are left in float, as no candidate can quantize them, such as {name}"
                ),
                (false, 1) => format!("some candidates cannot quantize {name}"),
                (false, count) => {
                    format!("some candidates cannot quantize {count} tensors, such as {name}")
                }
            };
            notes.push(Note::from(one_line(format!(
                "{line}; {candidate}: {reason}"
            ))));
        }
        notes
    }

    /// The candidates that fit no tensor, as the end of a sentence; empty where there are none.
    pub fn names(&self) -> String {
        let names: Vec<String> = self.fit_none.iter().map(|(it, _)| it.to_string()).collect();
        match &names[..] {
            [] => String::new(),
            [one] => format!(" ({one} fits no tensor)"),
            all => format!(" ({} fit no tensor)", all.join(", ")),
        }
    }
}

fn useless((candidate, first): &(Candidate, Option<(usize, String)>), all: &[Facts]) -> Note {
    let because = first.as_ref().map_or(String::new(), |(tensor, reason)| {
        format!(", such as `{}`: {reason}", shortened(&all[*tensor].name))
    });
    Note::from(one_line(format!(
        "the candidate {candidate} fits no tensor{because}"
    )))
}

/// Why values have no scale or zero point; `None` of any other failure.
pub(super) fn no_scale(
    failure: &ProcessError<Error>,
    quantizer: &TensorQuantizer,
    dtype: &str,
) -> Option<String> {
    let ProcessError::Params { block, source } = failure else {
        return None;
    };
    let is_of_values = matches!(
        source,
        ParamsError::ScaleOverflow | ParamsError::ScaleUnderflow | ParamsError::ZeroPointOverflow
    );
    let at = position(*block, &quantizer.blocks.scale_shape());
    is_of_values.then(|| format!("block {at:?}: {source} ({dtype})"))
}
