//! Two models, tensor by tensor.

use std::collections::BTreeMap;
use std::path::Path;

use quant_core::{ErrorStats, STATS_CHUNK};
use quant_model::stored::TensorView;
use quant_model::values::position;
use quant_model::{Error, Job};
use rayon::prelude::*;
use serde::Serialize;

use crate::formats::{format, open};

/// How two models differ.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Difference {
    /// Whether they do not differ at all.
    pub equal: bool,
    /// Per tensor, by name.
    pub tensors: Vec<TensorDifference>,
    /// What the user should know, a line each.
    #[serde(skip)]
    pub warnings: Vec<String>,
}

/// How two tensors of one name differ.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct TensorDifference {
    /// Their name.
    pub name: String,
    /// Whether they do not differ at all.
    pub equal: bool,
    /// Where they cannot be compared: why.
    pub reason: Option<String>,
    /// Whether the stored codes are the same bytes; `None` unless both are quantized alike.
    pub codes_equal: Option<bool>,
    /// Whether scales and zero points are the same bytes; `None` unless both are quantized alike.
    pub scales_equal: Option<bool>,
    /// Signal to noise between the values they stand for, in dB; `None` where these are equal.
    pub sqnr_db: Option<f64>,
    /// Largest absolute difference between finite values; `None` where there are none to compare.
    pub max_abs_error: Option<f64>,
    /// How many values are NaN or infinite in one of them, and not the same in the other: they are in
    /// none of the figures above. `None` where values were not compared.
    pub non_finite: Option<u64>,
    /// The index per axis of the first of these.
    pub first_non_finite: Option<Vec<usize>>,
}

/// Compares two models, quantized or not.
///
/// ```no_run
/// let (model, small) = ("model.safetensors".as_ref(), "small.safetensors".as_ref());
/// for tensor in quant_models::diff(model, small)?.tensors {
///     println!("{}: {:?} dB", tensor.name, tensor.sqnr_db);
/// }
/// # Ok::<(), quant_models::Error>(())
/// ```
///
/// # Errors
/// A model that cannot be read, or whose weights are not what was written; a Core ML package and a model of another format.
pub fn diff(a: &Path, b: &Path) -> Result<Difference, Error> {
    diff_with_progress(a, b, &Job::UNWATCHED)
}

/// The same, watched and stopped by `job`; its progress is in bytes of the first model.
///
/// # Errors
/// As [`diff`]; [`Error::Interrupted`].
pub fn diff_with_progress(a: &Path, b: &Path, job: &Job<'_>) -> Result<Difference, Error> {
    let (of_a, of_b) = (format(a).model(), format(b).model());
    let has_program = format(a).has_activations() || format(b).has_activations();
    if of_a != of_b && has_program {
        let problem = format!("{of_a}, and the other one is {of_b}; they cannot be compared");
        return Err(Error::file(a, problem));
    }
    let (path_a, path_b) = (a, b);
    open(a, job, |a| {
        open(b, job, |b| {
            let mut warnings = Vec::new();
            for (path, model) in [(path_a, a), (path_b, b)] {
                let told = model.check_written(job)?;
                warnings.extend(told.map(|told| format!("{}: {told}", path.display())));
            }
            let mut found = tensors(a.stored(job)?, b.stored(job)?, job)?;
            found.warnings = warnings;
            if let Some(reason) = a.structure().difference(&b.structure()) {
                found.equal = false;
                found.tensors.push(apart("(program)", &reason));
            }
            Ok(found)
        })
    })
}

/// Compares tensors of the same key.
fn tensors(
    a: Vec<TensorView<'_>>,
    b: Vec<TensorView<'_>>,
    job: &Job<'_>,
) -> Result<Difference, Error> {
    let mut pairs: BTreeMap<String, (Option<TensorView<'_>>, Option<TensorView<'_>>)> =
        BTreeMap::new();
    for tensor in a {
        let key = tensor.key.clone();
        pairs.entry(key).or_default().0 = Some(tensor);
    }
    for tensor in b {
        let key = tensor.key.clone();
        pairs.entry(key).or_default().1 = Some(tensor);
    }
    let tensors = pairs.into_values().map(|pair| match pair {
        (Some(a), Some(b)) => compare(&a, &b, job),
        (Some(a), None) => Ok(alone(&a, "only in the first")),
        (None, Some(b)) => Ok(alone(&b, "only in the second")),
        (None, None) => unreachable!("a pair holds what it was made for"),
    });
    let tensors = tensors.collect::<Result<Vec<_>, _>>()?;
    Ok(Difference {
        equal: tensors.iter().all(|tensor| tensor.equal),
        tensors,
        warnings: Vec::new(),
    })
}

fn apart(name: &str, reason: &str) -> TensorDifference {
    TensorDifference {
        name: name.into(),
        equal: false,
        reason: Some(reason.into()),
        codes_equal: None,
        scales_equal: None,
        sqnr_db: None,
        max_abs_error: None,
        non_finite: None,
        first_non_finite: None,
    }
}

/// One that has no other, and how it is stored where that may be the reason.
fn alone(tensor: &TensorView<'_>, reason: &str) -> TensorDifference {
    match &tensor.kind {
        Some(kind) => apart(&tensor.name, &format!("{reason}, {kind}")),
        None => apart(&tensor.name, reason),
    }
}

fn compare(
    a: &TensorView<'_>,
    b: &TensorView<'_>,
    job: &Job<'_>,
) -> Result<TensorDifference, Error> {
    job.check()?;
    if a.shape != b.shape {
        let reason = format!("shapes {:?} and {:?}", a.shape, b.shape);
        return Ok(apart(&a.name, &reason));
    }
    let mut found = apart(&a.name, "");
    found.reason = None;
    let mut same_bytes = a.bytes.same(&b.bytes)? && a.others.len() == b.others.len();
    for (a, b) in a.others.iter().zip(&b.others) {
        same_bytes = same_bytes && a.same(b)?;
    }
    match (&a.quantized, &b.quantized) {
        (Some(p), Some(q)) if p.record() == q.record() => {
            let scales = p.scales.same(&q.scales)? && p.zero_points.same(&q.zero_points)?;
            found.codes_equal = Some(same_bytes);
            found.scales_equal = Some(scales);
            found.equal = same_bytes && scales;
        }
        (None, None) => found.equal = same_bytes && a.dtype == b.dtype && a.kind == b.kind,
        _ => {}
    }
    if found.equal {
        (job.progress)(a.bytes.len() as u64);
        return Ok(found);
    }
    if a.float.is_none() || b.float.is_none() {
        found.reason = Some(match (a.dtype == b.dtype, a.kind == b.kind) {
            (true, true) => "different bytes".into(),
            (false, true) => format!("types {} and {}", a.dtype, b.dtype),
            _ => "stored in different ways".into(),
        });
        return Ok(found);
    }
    let values = compare_values(a, b, job)?;
    let stats = values.stats;
    found.sqnr_db = Some(stats.sqnr_db()).filter(|db| db.is_finite());
    found.max_abs_error = Some(stats.max_absolute).filter(|_| stats.count > stats.non_finite);
    found.non_finite = Some(values.apart);
    found.first_non_finite = values.first.map(|flat| position(flat, &a.shape));
    Ok(found)
}

/// How the values of two tensors differ.
#[derive(Default)]
struct Values {
    /// Of values that are finite in both.
    stats: ErrorStats,
    /// Values that are not finite in one of them, and not the same in the other.
    apart: u64,
    /// The first of these.
    first: Option<usize>,
}

impl Values {
    /// Those of a chunk that begins at element `start`.
    fn new(start: usize, left: &[f32], right: &[f32]) -> Self {
        let pairs = || left.iter().copied().zip(right.iter().copied());
        let mut values = Self {
            stats: ErrorStats::of_chunk(pairs()),
            ..Self::default()
        };
        if values.stats.non_finite == 0 {
            return values;
        }
        for (i, (a, b)) in pairs().enumerate() {
            if a.is_finite() && b.is_finite() {
                if !(a - b).is_finite() {
                    values.add_large(a.into(), b.into());
                }
            } else if a != b && !(a.is_nan() && b.is_nan()) {
                values.apart += 1;
                values.first = values.first.or(Some(start + i));
            }
        }
        values
    }

    /// A difference that f32 cannot hold is one nevertheless.
    fn add_large(&mut self, a: f64, b: f64) {
        let error = (a - b).abs();
        self.stats.non_finite -= 1;
        self.stats.signal += a * a;
        self.stats.noise += error * error;
        self.stats.absolute += error;
        self.stats.max_absolute = self.stats.max_absolute.max(error);
    }

    fn then(self, next: Self) -> Self {
        Self {
            stats: self.stats.then(next.stats),
            apart: self.apart + next.apart,
            first: self.first.or(next.first),
        }
    }
}

fn compare_values(a: &TensorView<'_>, b: &TensorView<'_>, job: &Job<'_>) -> Result<Values, Error> {
    let n = a.element_count();
    let starts: Vec<usize> = (0..n).step_by(STATS_CHUNK).collect();
    let chunks = starts.into_par_iter().map(|start| {
        job.check()?;
        let elements = start..(start + STATS_CHUNK).min(n);
        let (mut left, mut right) = (vec![0.0; elements.len()], vec![0.0; elements.len()]);
        let bytes = a.bytes.len() * elements.len() / n;
        a.values(elements.clone(), &mut left)?;
        b.values(elements, &mut right)?;
        (job.progress)(bytes as u64);
        Ok(Values::new(start, &left, &right))
    });
    let chunks = chunks.collect::<Result<Vec<_>, Error>>()?;
    Ok(chunks.into_iter().fold(Values::default(), Values::then))
}
