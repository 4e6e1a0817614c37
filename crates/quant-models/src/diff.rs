//! Two models, tensor by tensor.

use std::collections::BTreeMap;
use std::path::Path;

use quant_core::{ErrorStats, STATS_CHUNK};
use rayon::prelude::*;
use serde::Serialize;

use crate::stored::Stored;
use crate::{Error, Model, coreml};

/// How two models differ.
#[derive(Clone, Debug, Serialize)]
pub struct Difference {
    /// Whether they do not differ at all.
    pub equal: bool,
    /// Per tensor, by name.
    pub tensors: Vec<TensorDifference>,
}

/// How two tensors of one name differ.
#[derive(Clone, Debug, Serialize)]
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
    /// Largest absolute difference between the values.
    pub max_abs_error: Option<f64>,
}

/// Compares two models of one format, quantized or not.
///
/// # Errors
/// A model that cannot be read, or two of different formats.
pub fn diff(a: &Path, b: &Path) -> Result<Difference, Error> {
    match (coreml::is_package(a), coreml::is_package(b)) {
        (true, true) => coreml::diff::diff(a, b),
        (false, false) => {
            let (a, b) = (Model::open(a)?, Model::open(b)?);
            let (a, b) = (a.stored()?, b.stored()?);
            of(named(a), named(b))
        }
        (is_package, _) => {
            let problem = match is_package {
                true => "a Core ML package, and the other one is not; they cannot be compared",
                false => "not a Core ML package, and the other one is; they cannot be compared",
            };
            Err(Error::file(a, problem))
        }
    }
}

fn named(all: Vec<Stored<'_>>) -> impl Iterator<Item = (String, Stored<'_>)> {
    all.into_iter().map(|tensor| (tensor.name.clone(), tensor))
}

/// Compares tensors of the same key.
pub(crate) fn of<'a>(
    a: impl Iterator<Item = (String, Stored<'a>)>,
    b: impl Iterator<Item = (String, Stored<'a>)>,
) -> Result<Difference, Error> {
    let mut pairs: BTreeMap<String, (Option<Stored<'_>>, Option<Stored<'_>>)> = BTreeMap::new();
    for (key, tensor) in a {
        pairs.entry(key).or_default().0 = Some(tensor);
    }
    for (key, tensor) in b {
        pairs.entry(key).or_default().1 = Some(tensor);
    }
    let tensors = pairs.into_values().map(|pair| match pair {
        (Some(a), Some(b)) => compare(&a, &b),
        (Some(a), None) => Ok(apart(&a.name, "only in the first")),
        (None, Some(b)) => Ok(apart(&b.name, "only in the second")),
        (None, None) => unreachable!("a pair holds what it was made for"),
    });
    let tensors = tensors.collect::<Result<Vec<_>, _>>()?;
    Ok(Difference {
        equal: tensors.iter().all(|tensor| tensor.equal),
        tensors,
    })
}

pub(crate) fn apart(name: &str, reason: &str) -> TensorDifference {
    TensorDifference {
        name: name.into(),
        equal: false,
        reason: Some(reason.into()),
        codes_equal: None,
        scales_equal: None,
        sqnr_db: None,
        max_abs_error: None,
    }
}

fn compare(a: &Stored<'_>, b: &Stored<'_>) -> Result<TensorDifference, Error> {
    if a.shape != b.shape {
        let reason = format!("shapes {:?} and {:?}", a.shape, b.shape);
        return Ok(apart(&a.name, &reason));
    }
    let mut found = apart(&a.name, "");
    found.reason = None;
    let same_bytes = a.bytes == b.bytes && a.others == b.others;
    match (&a.quantized, &b.quantized) {
        (Some(p), Some(q)) if p.record() == q.record() => {
            let scales = p.scales == q.scales && p.zero_points == q.zero_points;
            found.codes_equal = Some(same_bytes);
            found.scales_equal = Some(scales);
            found.equal = same_bytes && scales;
        }
        (None, None) => found.equal = same_bytes && a.dtype == b.dtype && a.kind == b.kind,
        _ => {}
    }
    if found.equal {
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
    let n = a.element_count();
    let starts: Vec<usize> = (0..n).step_by(STATS_CHUNK).collect();
    let stats = starts.into_par_iter().map(|start| {
        let elements = start..(start + STATS_CHUNK).min(n);
        let (mut left, mut right) = (vec![0.0; elements.len()], vec![0.0; elements.len()]);
        a.values(elements.clone(), &mut left)?;
        b.values(elements, &mut right)?;
        Ok(ErrorStats::of_chunk(left.into_iter().zip(right)))
    });
    let stats = stats.collect::<Result<Vec<_>, Error>>()?;
    let stats = stats
        .into_iter()
        .fold(ErrorStats::default(), ErrorStats::then);
    found.sqnr_db = Some(stats.sqnr_db()).filter(|db| db.is_finite());
    found.max_abs_error = Some(stats.max_absolute);
    Ok(found)
}
