//! What was done with each tensor.

use std::cmp::Reverse;
use std::collections::HashMap;

use quant_core::ErrorStats;
use quant_simd::{ProcessError, Sink, TensorQuantizer};
use serde::Serialize;

use crate::block_quantizer::BlockQuantizer;
use crate::error::{one_line, shortened};
use crate::facts::Facts;
use crate::io::Data;
use crate::unmatched::{self, Unmatched};
use crate::{Consumer, Error, Note, OperationReport, SchemeRecord};

/// Reasons that a message lists at most.
const REASONS: usize = 5;

/// What was done.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// Per tensor, in the order of the files.
    pub tensors: Vec<TensorReport>,
    /// Per operation whose activations could be quantized, in the order of the program.
    pub operations: Vec<OperationReport>,
    /// What the user should know, a line each.
    pub warnings: Vec<Note>,
    /// What was chosen where the options leave a choice, a line each.
    pub notes: Vec<Note>,
    /// The small files beside the weights that were copied.
    pub copied: Vec<String>,
    /// Bytes of the input files.
    pub bytes_before: u64,
    /// Bytes of the output's weights, or of the package; `None` after a dry run.
    pub bytes_after: Option<u64>,
}

impl Report {
    /// Adds what the user should know, a line each.
    #[doc(hidden)]
    pub fn warn(&mut self, lines: impl IntoIterator<Item = String>) {
        self.warnings.extend(lines.into_iter().map(Note::from));
    }

    /// Says what fell short: names and patterns that match nothing, and that nothing was quantized.
    ///
    /// # Errors
    /// With `strict`, the first of these, or that something was skipped.
    #[doc(hidden)]
    pub fn check(&mut self, strict: bool, unmatched: &[Unmatched]) -> Result<(), Error> {
        if strict {
            self.check_skipped()?;
        }
        self.warnings
            .extend(unmatched::warnings(strict, unmatched)?);
        match self.nothing() {
            Some(nothing) if strict => Err(Error::strict(nothing)),
            nothing => {
                let skipped = self.skipped_most();
                self.warn(nothing.or(skipped));
                Ok(())
            }
        }
    }

    fn check_skipped(&self) -> Result<(), Error> {
        let tensors = self.tensors.iter().filter(|tensor| tensor.skipped);
        let operations = self.operations.iter().filter(|operation| operation.skipped);
        let tensors = tensors.map(|tensor| (&tensor.name, &tensor.reason));
        let operations = operations.map(|operation| (&operation.name, &operation.reason));
        let mut skipped = tensors.chain(operations);
        match skipped.next() {
            None => Ok(()),
            Some((name, reason)) => {
                let which = match skipped.count() {
                    0 => "one selected tensor or operation could not be quantized,".to_owned(),
                    more => format!(
                        "{} selected tensors or operations could not be quantized, the first is",
                        more + 1
                    ),
                };
                let reason = reason.as_deref().unwrap_or_default();
                let name = shortened(name);
                Err(Error::strict(format!("{which} `{name}`: {reason}")))
            }
        }
    }

    /// That more tensors were skipped than quantized: a result hardly smaller than its model.
    fn skipped_most(&self) -> Option<String> {
        let done = self.tensors.iter().filter(|tensor| tensor.scheme.is_some());
        let mut skipped = self.tensors.iter().filter(|tensor| tensor.skipped);
        let (done, all) = (done.count(), skipped.clone().count());
        let first = skipped.next().filter(|_| all > done)?;
        Some(format!(
            "most of what was selected is not quantized: {all} of {} tensors, such as `{}`: {}",
            all + done,
            shortened(&first.name),
            first.reason.as_deref().unwrap_or_default()
        ))
    }

    /// That nothing was quantized, and why, the most frequent reason first.
    fn nothing(&self) -> Option<String> {
        let mut weights = self.tensors.iter().map(|tensor| tensor.scheme.is_some());
        let mut operations = self.operations.iter().map(|one| !one.quantized.is_empty());
        if weights.any(|done| done) || operations.any(|done| done) {
            return None;
        }
        let tensors = self.tensors.iter().map(|tensor| &tensor.reason);
        let operations = self.operations.iter().map(|operation| &operation.reason);
        let reasons = tensors.chain(operations).flatten();
        let mut counts: Vec<(String, usize)> = Vec::new();
        let mut places = HashMap::new();
        for reason in reasons {
            let reason = kind(reason);
            let place = *places.entry(reason.clone()).or_insert(counts.len());
            match counts.get_mut(place) {
                Some((_, count)) => *count += 1,
                None => counts.push((reason, 1)),
            }
        }
        counts.sort_by_key(|(_, count)| Reverse(*count));
        let more = counts.len().saturating_sub(REASONS);
        let told = counts.iter().take(REASONS);
        let told = told.map(|(reason, count)| format!("{count} x {}", shortened(reason)));
        let mut told: Vec<String> = told.collect();
        if more > 0 {
            told.push(format!("{more} other reasons"));
        }
        let why = match told.is_empty() {
            true => "the model holds no tensors that could be".into(),
            false => told.join("; "),
        };
        Some(one_line(format!("nothing was quantized: {why}")))
    }
}

/// A reason without the number of elements, which differs from tensor to tensor.
fn kind(reason: &str) -> String {
    match reason.split_once(" elements, not more than ") {
        Some((_, least)) => format!("not more than {least} elements"),
        None => reason.to_owned(),
    }
}

/// What was done with one tensor.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct TensorReport {
    /// Its name.
    pub name: String,
    /// Its type in the input.
    pub dtype: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Bytes before.
    pub bytes_before: u64,
    /// Bytes after, scales and zero points included.
    pub bytes_after: u64,
    /// How it was quantized; `None` where it was left alone.
    pub scheme: Option<SchemeRecord>,
    /// What found its codes, where this was not rounding: `gptq`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Why it was left alone.
    pub reason: Option<String>,
    /// Whether it was left alone although it was selected.
    pub skipped: bool,
    /// What it feeds, in a format that says so.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub consumers: Vec<Consumer>,
    /// Signal to noise in dB; `None` without any error, or where nothing was quantized.
    pub sqnr_db: Option<f64>,
    /// Mean absolute error.
    pub mean_abs_error: Option<f64>,
    /// Largest absolute error.
    pub max_abs_error: Option<f64>,
    /// Values that were clipped.
    pub saturated: Option<u64>,
    /// Values that are infinite once they are restored, if there are any: they are in none of the
    /// errors above.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub non_finite: Option<u64>,
}

impl TensorReport {
    /// What is known before the work; `stored_len` says how many bytes what is quantized takes.
    #[doc(hidden)]
    pub fn new(
        facts: Facts,
        decision: &Decision,
        stored_len: impl FnOnce(&Facts, &TensorQuantizer) -> usize,
    ) -> Self {
        let (bytes_after, scheme, reason) = match decision {
            Decision::Quantize(quantizer) => (
                stored_len(&facts, quantizer) as u64,
                Some(SchemeRecord::from_quantizer(quantizer)),
                None,
            ),
            Decision::Blocks(quantizer) => (
                quantizer.blocks_len() as u64,
                Some(quantizer.record()),
                None,
            ),
            Decision::LeaveAlone(reason) | Decision::Skip(reason) => {
                (facts.bytes, None, Some(reason.clone()))
            }
        };
        Self {
            name: facts.name,
            dtype: facts.dtype,
            shape: facts.shape,
            bytes_before: facts.bytes,
            bytes_after,
            scheme,
            method: None,
            reason,
            skipped: matches!(decision, Decision::Skip(_)),
            consumers: facts.consumers,
            sqnr_db: None,
            mean_abs_error: None,
            max_abs_error: None,
            saturated: None,
            non_finite: None,
        }
    }

    /// Leaves the error open where it was not measured.
    #[doc(hidden)]
    pub fn set_stats(&mut self, stats: Option<&ErrorStats>) {
        let Some(stats) = stats else { return };
        self.sqnr_db = Some(stats.sqnr_db()).filter(|db| db.is_finite());
        let compared = stats.count > stats.non_finite;
        self.mean_abs_error = compared.then(|| stats.mean_absolute());
        self.max_abs_error = compared.then_some(stats.max_absolute);
        self.saturated = Some(stats.saturated);
        self.non_finite = Some(stats.non_finite).filter(|&values| values > 0);
    }
}

/// What is to be done with a tensor.
#[derive(Clone, Debug)]
pub enum Decision {
    /// With these settings.
    Quantize(TensorQuantizer),
    /// Into blocks of ggml's types.
    Blocks(BlockQuantizer),
    /// With the reason.
    LeaveAlone(String),
    /// It was selected, but cannot be quantized: with the reason.
    Skip(String),
}

/// Quantizes; measures the error only if `stats` are wanted.
pub fn quantize_tensor<S: Sink<Error = Error>>(
    quantizer: &TensorQuantizer,
    stats: bool,
    values: &Data<'_>,
    sink: &S,
) -> Result<Option<ErrorStats>, ProcessError<Error>> {
    match (values, stats) {
        (Data::Memory(values), true) => quantizer.quantize(values, sink).map(Some),
        (Data::Memory(values), false) => quantizer.quantize_unmeasured(values, sink).map(|()| None),
        (values, true) => quantizer.quantize_source(values, sink).map(Some),
        (values, false) => quantizer
            .quantize_source_unmeasured(values, sink)
            .map(|()| None),
    }
}
