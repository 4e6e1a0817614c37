//! How much errors matter, element by element.

use std::ops::Range;
use std::sync::Arc;

use crate::memory::{self, NoMemory};

/// How much an error in each element matters: a weight for each index of one axis.
///
/// Weights are divided by their mean and bounded to 2^-16 .. 2^16, so that no weighted sum of squares
/// overflows or vanishes. Weights that are all zero count as equal.
///
/// ```
/// use quant_simd::Importance;
/// let importance = Importance::new(&[2, 3], 1, &[1.0, 4.0, 1.0]);
/// assert_eq!(importance.of_elements(0..6), [0.5, 2.0, 0.5, 0.5, 2.0, 0.5]);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Importance {
    weights: Arc<[f32]>,
    /// Elements that follow one another with the same index.
    inner: usize,
}

/// Weights are between this and its reciprocal.
const LEAST: f64 = 1.0 / 65_536.0;

impl Importance {
    /// For a tensor of a shape, of whose axis each index has a weight.
    ///
    /// # Panics
    /// If the shape has no such axis, or this is not as long as `weights`; if a weight is negative or not
    /// finite.
    pub fn new(shape: &[usize], axis: usize, weights: &[f64]) -> Self {
        assert_eq!(shape[axis], weights.len(), "one weight for each index");
        let valid = weights.iter().all(|it| it.is_finite() && *it >= 0.0);
        assert!(valid, "finite weights of at least 0");
        let largest = weights.iter().fold(0.0, |a: f64, &b| a.max(b));
        let scaled = weights.iter().map(|weight| weight / largest);
        let mean = scaled.clone().sum::<f64>() / weights.len() as f64;
        let weights = scaled.map(|weight| match mean > 0.0 {
            true => (weight / mean).clamp(LEAST, 1.0 / LEAST) as f32,
            false => 1.0,
        });
        Self {
            weights: weights.collect(),
            inner: shape[axis + 1..].iter().product(),
        }
    }

    /// The weights of some elements.
    pub fn of_elements(&self, elements: Range<usize>) -> Vec<f32> {
        let mut found = Vec::new();
        let filled = self.fill(elements, &mut found);
        filled.unwrap_or_else(|lack| lack.end());
        found
    }

    /// The same, in place of what `to` has.
    pub(super) fn fill(&self, elements: Range<usize>, to: &mut Vec<f32>) -> Result<(), NoMemory> {
        to.clear();
        memory::reserve(to, elements.len())?;
        let mut at = elements.start;
        while at < elements.end {
            let index = at / self.inner % self.weights.len();
            if self.inner == 1 {
                let rest = &self.weights[index..];
                let count = rest.len().min(elements.end - at);
                to.extend_from_slice(&rest[..count]);
                at += count;
                continue;
            }
            let end = ((at / self.inner + 1) * self.inner).min(elements.end);
            to.resize(to.len() + end - at, self.weights[index]);
            at = end;
        }
        Ok(())
    }
}
