//! Second moments of what goes into a layer.

use rayon::prelude::*;

use super::linear::{GoOn, Part, add_product_of_columns, upper_of_inverse};

/// Rows of inputs that are multiplied at a time.
pub(super) const ROWS: usize = 1024;
/// Inputs whose products are one task. A constant, so that sums do not depend on the number of threads.
const TILE: usize = 256;

/// Sums of products of a layer's inputs: a symmetric matrix for each group of a convolution, or one for
/// all of a layer.
///
/// ```
/// let mut moments = quant_run::Moments::new(1, 2);
/// moments.add(0, &[1.0, 2.0, 0.0, 1.0]);
/// assert_eq!(moments.values(), [1.0, 2.0, 2.0, 5.0]);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    groups: usize,
    inputs: usize,
    /// Row-major, one group after the other.
    sums: Vec<f64>,
}

/// Moments that no inputs have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MomentsError {
    /// Another number of values than that of the matrices.
    #[error("{got} values for {groups} matrices of {inputs} by {inputs}")]
    Len {
        /// Values that there are.
        got: usize,
        /// Matrices.
        groups: usize,
        /// Their length.
        inputs: usize,
    },
    /// NaN, an infinity, or a negative number on the diagonal.
    #[error("values that are not finite, or squares below zero")]
    Invalid,
    /// The matrix is not that of any inputs.
    #[error("not the products of any inputs: the matrix is not symmetric and positive")]
    Indefinite,
}

/// What is needed to quantize one input after the other.
pub(super) struct Factor {
    /// The inputs in the order in which they are quantized.
    pub order: Vec<usize>,
    /// The damped moments in that order.
    pub matrix: Vec<f64>,
    /// The upper factor of their inverse.
    pub upper: Vec<f64>,
}

impl Moments {
    /// None yet, of so many groups of so many inputs each.
    pub fn new(groups: usize, inputs: usize) -> Self {
        Self {
            groups,
            inputs,
            sums: vec![0.0; groups * inputs * inputs],
        }
    }

    /// Given ones, row-major, one group after the other.
    ///
    /// # Errors
    /// Values that are not as many, not finite, not symmetric, or negative on a diagonal.
    ///
    /// ```
    /// use quant_run::Moments;
    /// assert!(Moments::from_values(1, 2, vec![1.0, 0.5, 0.5, 2.0]).is_ok());
    /// assert!(Moments::from_values(1, 2, vec![1.0, 0.5, 0.25, 2.0]).is_err());
    /// ```
    pub fn from_values(groups: usize, inputs: usize, sums: Vec<f64>) -> Result<Self, MomentsError> {
        let got = sums.len();
        let area = inputs.checked_mul(inputs);
        if area.and_then(|area| area.checked_mul(groups)) != Some(got) || got == 0 {
            return Err(MomentsError::Len {
                got,
                groups,
                inputs,
            });
        }
        for one in sums.chunks(inputs * inputs) {
            if one.iter().any(|value| !value.is_finite())
                || (0..inputs).any(|i| one[i * inputs + i] < 0.0)
            {
                return Err(MomentsError::Invalid);
            }
            // Sums in another precision need not be equal to the last bit.
            let largest = (0..inputs).map(|i| one[i * inputs + i]).fold(0.0, f64::max);
            let differs = |i: usize, j: usize| {
                (one[i * inputs + j] - one[j * inputs + i]).abs() > 1e-3 * largest
            };
            if (0..inputs).any(|i| (0..i).any(|j| differs(i, j))) {
                return Err(MomentsError::Indefinite);
            }
        }
        Ok(Self {
            groups,
            inputs,
            sums,
        })
    }

    /// Groups.
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// Inputs of each group.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Row-major, one group after the other.
    pub fn values(&self) -> &[f64] {
        &self.sums
    }

    /// Whether all inputs were 0, which say nothing of a weight.
    pub fn is_zero(&self) -> bool {
        self.sums.iter().all(|&sum| sum == 0.0)
    }

    /// Adds inputs of a group, row by row.
    ///
    /// # Panics
    /// If there is no such group, or no whole number of rows.
    pub fn add(&mut self, group: usize, rows: &[f32]) {
        let n = self.inputs;
        assert!(rows.len().is_multiple_of(n), "whole rows");
        let wide: Vec<f64> = rows.iter().map(|&value| value.into()).collect();
        let count = rows.len() / n;
        if count == 0 {
            return;
        }
        let sums = &mut self.sums[group * n * n..(group + 1) * n * n];
        let starts: Vec<usize> = (0..n).step_by(TILE).collect();
        let width = |start: usize| TILE.min(n - start);
        // Tiles above the diagonal, and on it; those below are the same.
        sums.par_chunks_mut(TILE * n)
            .zip(&starts)
            .for_each(|(band, &top)| {
                for &left in starts.iter().filter(|&&left| left >= top) {
                    let columns =
                        |start: usize| (&wide[start..], Part::new(count, width(start), n));
                    let tile = Part::new(width(top), width(left), n);
                    add_product_of_columns((&mut band[left..], tile), columns(top), columns(left));
                }
            });
        for i in 0..n {
            for j in 0..i {
                sums[i * n + j] = sums[j * n + i];
            }
        }
    }

    /// The factor of a group, after `damping` times the diagonal's mean was added to the diagonal; ten
    /// times as much each time that this is not enough. An input that was always zero counts as one of
    /// mean size that has nothing to do with the others.
    pub(super) fn factor(
        &self,
        group: usize,
        damping: f64,
        by_size: bool,
        go_on: GoOn<'_>,
    ) -> Result<Factor, MomentsError> {
        let n = self.inputs;
        let sums = &self.sums[group * n * n..(group + 1) * n * n];
        let diagonal: Vec<f64> = sums.iter().step_by(n + 1).copied().collect();
        let mut order: Vec<usize> = (0..n).collect();
        if by_size {
            // Of equal ones the first stays before the second.
            order.sort_by(|&a, &b| diagonal[b].total_cmp(&diagonal[a]));
        }
        let mean = diagonal.iter().sum::<f64>() / n as f64;
        let mean = if mean > 0.0 { mean } else { 1.0 };
        let mut damping = damping;
        for _ in 0..8 {
            if !go_on() {
                break;
            }
            let mut matrix = Vec::with_capacity(n * n);
            for &a in &order {
                matrix.extend(order.iter().map(|&b| match a == b {
                    true if diagonal[a] == 0.0 => mean,
                    true => diagonal[a] + damping * mean,
                    false => sums[a * n + b],
                }));
            }
            if let Some(upper) = upper_of_inverse(&matrix, n, go_on) {
                return Ok(Factor {
                    order,
                    matrix,
                    upper,
                });
            }
            damping = if damping > 0.0 { damping * 10.0 } else { 1e-6 };
        }
        Err(MomentsError::Indefinite)
    }
}
