//! What was done with each tensor.

use quant_core::ErrorStats;
use quant_simd::{Failure, Sink, TensorQuantizer};
use serde::Serialize;

use crate::{Consumer, Error, OperationReport, SchemeRecord};

/// What was done.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Per tensor, in the order of the files.
    pub tensors: Vec<TensorReport>,
    /// Per operation whose activations could be quantized, in the order of the program.
    pub operations: Vec<OperationReport>,
    /// What the user should know, a line each.
    pub warnings: Vec<String>,
    /// Bytes of the input files.
    pub bytes_before: u64,
    /// Bytes of the output files; `None` after a dry run.
    pub bytes_after: Option<u64>,
}

impl Report {
    /// An error if nothing may be skipped, and something is.
    pub(crate) fn check_strict(&self, strict: bool) -> Result<(), Error> {
        let tensors = self.tensors.iter().filter(|tensor| tensor.skipped);
        let operations = self.operations.iter().filter(|operation| operation.skipped);
        let tensors = tensors.map(|tensor| (&tensor.name, &tensor.reason));
        let operations = operations.map(|operation| (&operation.name, &operation.reason));
        let mut skipped = tensors.chain(operations);
        match (strict, skipped.next()) {
            (true, Some((name, reason))) => Err(Error::Strict {
                count: 1 + skipped.count(),
                tensor: name.clone(),
                reason: reason.clone().unwrap_or_default(),
            }),
            _ => Ok(()),
        }
    }
}

/// What was done with one tensor.
#[derive(Clone, Debug, Serialize)]
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
}

impl TensorReport {
    pub(crate) fn new(
        name: &str,
        dtype: &str,
        shape: &[usize],
        bytes_before: u64,
        decision: &Decision,
    ) -> Self {
        let (bytes_after, scheme, reason) = match decision {
            Decision::Quantize(quantizer) => (
                (quantizer.codes_len() + quantizer.scales_len() + quantizer.zero_points_len())
                    as u64,
                Some(SchemeRecord::of(quantizer)),
                None,
            ),
            Decision::LeaveAlone(reason) | Decision::Skip(reason) => {
                (bytes_before, None, Some(reason.clone()))
            }
        };
        Self {
            name: name.into(),
            dtype: dtype.into(),
            shape: shape.to_vec(),
            bytes_before,
            bytes_after,
            scheme,
            reason,
            skipped: matches!(decision, Decision::Skip(_)),
            consumers: Vec::new(),
            sqnr_db: None,
            mean_abs_error: None,
            max_abs_error: None,
            saturated: None,
        }
    }

    /// Leaves the error open where it was not measured.
    pub(crate) fn set_stats(&mut self, stats: Option<&ErrorStats>) {
        let Some(stats) = stats else { return };
        self.sqnr_db = Some(stats.sqnr_db()).filter(|db| db.is_finite());
        self.mean_abs_error = Some(stats.mean_absolute());
        self.max_abs_error = Some(stats.max_absolute);
        self.saturated = Some(stats.saturated);
    }
}

/// What is to be done with a tensor.
#[derive(Clone, Debug)]
pub(crate) enum Decision {
    Quantize(TensorQuantizer),
    /// With the reason.
    LeaveAlone(String),
    /// It was selected, but cannot be quantized: with the reason.
    Skip(String),
}

/// Quantizes; measures what that loses only if `stats` are wanted.
pub(crate) fn quantize_tensor<S: Sink>(
    quantizer: &TensorQuantizer,
    stats: bool,
    values: &[u8],
    sink: &S,
) -> Result<Option<ErrorStats>, Failure<S::Error>> {
    match stats {
        true => quantizer.quantize(values, sink).map(Some),
        false => quantizer.quantize_unmeasured(values, sink).map(|()| None),
    }
}
