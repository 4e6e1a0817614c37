//! How far apart two answers are, and whether they name the same class.

use crate::Tensor;
use crate::ops::total;

/// How one value of a model differs from the same value of another, over all samples.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Score {
    /// The name of the value.
    pub name: String,
    /// The kind of the operation that computes it, in the first model.
    pub kind: String,
    /// Values compared.
    pub elements: u64,
    /// Squares of the first model's values.
    signal: f64,
    /// Squares of the differences.
    noise: f64,
    /// Squares of the second model's values.
    other: f64,
    product: f64,
    /// The greatest difference; NaN where a value of either model is NaN.
    pub max_error: f64,
}

impl Score {
    pub(crate) fn new(name: String, kind: String) -> Self {
        Self {
            name,
            kind,
            ..Self::default()
        }
    }

    /// Signal to quantization noise in decibels; infinite where nothing differs.
    ///
    /// ```
    /// assert!(quant_run::Score::default().sqnr_db().is_nan());
    /// ```
    pub fn sqnr_db(&self) -> f64 {
        match (self.signal, self.noise) {
            (0.0, 0.0) => f64::NAN,
            (_, 0.0) => f64::INFINITY,
            (signal, noise) => 10.0 * (signal / noise).log10(),
        }
    }

    /// The cosine of the angle between both.
    ///
    /// ```
    /// assert!(quant_run::Score::default().cosine().is_nan());
    /// ```
    pub fn cosine(&self) -> f64 {
        self.product / (self.signal * self.other).sqrt()
    }

    pub(crate) fn add(&mut self, a: &[f32], b: &[f32]) {
        self.elements += a.len() as u64;
        self.signal += total(a, |x| x * x);
        self.other += total(b, |x| x * x);
        for (&x, &y) in a.iter().zip(b) {
            let (x, y) = (f64::from(x), f64::from(y));
            let error = x - y;
            // What is infinite in both does not differ.
            if x != y {
                self.noise += error * error;
                // A maximum would pass over NaN.
                if error.is_nan() || error.abs() > self.max_error {
                    self.max_error = error.abs();
                }
            }
            self.product += x * y;
        }
    }
}

/// How an output of two models agrees.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct OutputScore {
    /// The difference of its values.
    pub score: Score,
    /// Rows whose greatest element is the same one, none of them with a NaN; `None` without rows of
    /// classes.
    pub top1: Option<f64>,
    /// Rows whose five greatest elements contain the other's greatest; `None` below six classes.
    pub top5: Option<f64>,
    /// The share of samples whose greatest element is that of the label, for each of the models.
    pub accuracy: Option<[f64; 2]>,
}

/// Classes of an output: its rows along the last axis.
pub(crate) fn rows(tensor: &Tensor) -> Option<(&[f32], usize)> {
    let classes = *tensor.shape().last()?;
    let values = tensor.floats()?;
    (tensor.shape().len() >= 2 && classes >= 2).then_some((values, classes))
}

/// The first of the greatest elements; `None` beside a NaN, which answers nothing.
fn best(row: &[f32]) -> Option<usize> {
    let mut best = 0;
    for (i, value) in row.iter().enumerate() {
        if value.is_nan() {
            return None;
        }
        if *value > row[best] {
            best = i;
        }
    }
    Some(best)
}

/// Agreement of one output, counted.
#[derive(Default)]
pub(crate) struct Agreement {
    rows: u64,
    top1: u64,
    top5: u64,
    classes: usize,
    right: [u64; 2],
    labelled: u64,
}

impl Agreement {
    pub fn add(&mut self, a: &Tensor, b: &Tensor, label: Option<i64>) {
        let (Some((a, classes)), Some((b, _))) = (rows(a), rows(b)) else {
            return;
        };
        self.classes = classes;
        for (x, y) in a.chunks_exact(classes).zip(b.chunks_exact(classes)) {
            let (top, other) = (best(x), best(y));
            self.rows += 1;
            if let (Some(top), Some(other)) = (top, other) {
                self.top1 += u64::from(top == other);
                let above = y.iter().filter(|&&value| value > y[top]).count();
                self.top5 += u64::from(above < 5);
            }
            if let Some(label) = label {
                self.labelled += 1;
                let is_right = |best: Option<usize>| best.is_some_and(|best| best as i64 == label);
                self.right[0] += u64::from(is_right(top));
                self.right[1] += u64::from(is_right(other));
            }
        }
    }

    pub fn of_output(&self, score: Score) -> OutputScore {
        let share = |count: u64, all: u64| (all > 0).then(|| count as f64 / all as f64);
        let right = self.right.map(|right| share(right, self.labelled));
        OutputScore {
            score,
            top1: share(self.top1, self.rows),
            top5: share(self.top5, self.rows).filter(|_| self.classes > 5),
            accuracy: match right {
                [Some(first), Some(second)] => Some([first, second]),
                _ => None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Agreement, Score};
    use crate::Tensor;

    #[test]
    fn nan_is_a_difference() {
        for [a, b] in [[1.0, f32::NAN], [f32::NAN, 1.0], [f32::NAN; 2]] {
            let mut score = Score::default();
            score.add(&[0.5, a, 2.0], &[0.5, b, 1.0]);
            assert!(score.max_error.is_nan(), "{a} {b}");
            assert!(score.sqnr_db().is_nan());
        }
        let mut score = Score::default();
        score.add(&[f32::INFINITY, 2.0], &[f32::INFINITY, 1.5]);
        assert_eq!(score.max_error, 0.5);
    }

    #[test]
    fn nan_agrees_with_nothing() {
        let answers = Tensor::from_floats(&[2, 2], vec![1.0, 2.0, f32::NAN, 3.0]).unwrap();
        let mut agreement = Agreement::default();
        agreement.add(&answers, &answers, Some(1));
        let output = agreement.of_output(Score::default());
        assert_eq!(output.top1, Some(0.5));
        assert_eq!(output.accuracy, Some([0.5; 2]));
    }
}
