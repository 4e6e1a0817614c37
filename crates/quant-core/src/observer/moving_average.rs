//! Moving averages of the smallest and largest value of each sample.

use super::{ConfigError, MinMax};
use crate::{Float, ValueRange};

/// How an average moves towards the bound of a new sample. Each step is rounded to f32; the
/// constants are f64, as Python has them, and rounded to f32 first.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
pub enum Averaging {
    /// `average + constant * (bound - average)`: torch's `MovingAverageMinMaxObserver`, which is
    /// also coremltools.optimize.torch's `moving_average_min_max`. Theirs is 0.01.
    Constant(f64),
    /// `average * ratio + bound * (1 - ratio)`: coremltools.optimize.torch's `EMAMinMaxObserver`,
    /// whose ratio is 0.9, and the `ema_decay` of TensorFlow's quantization, 0.999 there.
    Ratio(f64),
}

impl Averaging {
    /// torch's, with its constant of 0.01.
    pub const TORCH: Self = Self::Constant(0.01);
    /// The 0.9/0.1 form: `EMAMinMaxObserver` of coremltools.optimize.torch.
    pub const COREMLTOOLS: Self = Self::Ratio(0.9);

    /// A constant in (0, 1], or a ratio in [0, 1).
    pub(super) fn check(self) -> Result<(), ConfigError> {
        let usable = match self {
            Self::Constant(constant) => constant > 0.0 && constant <= 1.0,
            Self::Ratio(ratio) => (0.0..1.0).contains(&ratio),
        };
        usable.then_some(()).ok_or(ConfigError::Averaging)
    }

    fn step(self, average: f32, bound: f32) -> f32 {
        let next = match self {
            Self::Constant(constant) => average + constant as f32 * (bound - average),
            Self::Ratio(ratio) => average * ratio as f32 + bound * (1.0 - ratio) as f32,
        };
        if next.is_finite() {
            return next;
        }
        // Where the difference overflows, torch's average is infinite ever after. In f64 it does
        // not, and what comes out lies between the two.
        let (from, to) = (f64::from(average), f64::from(bound));
        let next = match self {
            Self::Constant(constant) => from + constant * (to - from),
            Self::Ratio(ratio) => from * ratio + to * (1.0 - ratio),
        };
        (next as f32).clamp(f32::MIN, f32::MAX)
    }
}

/// Moving averages of the minimum and of the maximum: the first sample sets them, each later one
/// moves them. A sample without finite values leaves them as they are.
///
/// Ordered by definition: the result depends on the order of the samples, and on what a sample is.
/// Hence two of them cannot be merged.
///
/// A sample may come in parts; it counts once it is [ended](Self::end_sample).
///
/// ```
/// use quant_core::observer::{Averaging, MovingAverage};
/// let mut observer = MovingAverage::new(Averaging::Constant(0.5))?;
/// for sample in [[-1.0_f32, 1.0], [-3.0, 2.0]] {
///     observer.observe(&sample);
///     observer.end_sample();
/// }
/// let range = observer.range().unwrap();
/// assert_eq!((range.min, range.max), (-2.0, 1.5));
/// # Ok::<(), quant_core::observer::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct MovingAverage {
    pub(super) averaging: Averaging,
    /// Of the minimum, of the maximum.
    pub(super) averages: Option<(f32, f32)>,
    /// Everything in ended samples.
    pub(super) ended: MinMax,
    /// The sample that is not ended yet.
    pub(super) sample: MinMax,
}

impl MovingAverage {
    /// Of no samples.
    ///
    /// # Errors
    /// A constant outside (0, 1], a ratio outside [0, 1).
    pub fn new(averaging: Averaging) -> Result<Self, ConfigError> {
        averaging.check()?;
        Ok(Self {
            averaging,
            averages: None,
            ended: MinMax::EMPTY,
            sample: MinMax::EMPTY,
        })
    }

    /// Takes values of the current sample.
    pub fn observe<F: Float>(&mut self, values: &[F]) {
        self.observe_found(&MinMax::from_values(values));
    }

    /// Takes values of the current sample that were found by a faster search.
    pub fn observe_found(&mut self, found: &MinMax) {
        self.sample.merge(found);
    }

    /// Ends the current sample: the averages move.
    pub fn end_sample(&mut self) {
        if let Some(ValueRange { min, max, .. }) = self.sample.range() {
            self.averages = Some(match self.averages {
                None => (min, max),
                Some((of_min, of_max)) => {
                    let of_min = self.averaging.step(of_min, min);
                    let of_max = self.averaging.step(of_max, max);
                    // Rounding may swap averages that are a few units in the last place apart.
                    // torch refuses such a range.
                    if of_min <= of_max {
                        (of_min, of_max)
                    } else {
                        (of_max, of_min)
                    }
                }
            });
        }
        self.ended.merge(&self.sample);
        self.sample = MinMax::EMPTY;
    }

    /// How the averages move.
    pub const fn averaging(&self) -> Averaging {
        self.averaging
    }

    /// Count and range of everything that was observed, averages aside.
    pub fn whole(&self) -> MinMax {
        let mut whole = self.ended;
        whole.merge(&self.sample);
        whole
    }

    /// The averages over the samples that ended, if one of these held finite values.
    pub fn range(&self) -> Option<ValueRange> {
        self.averages.map(|(min, max)| ValueRange {
            min: min + 0.0,
            max: max + 0.0,
            non_finite: self.ended.non_finite(),
        })
    }
}
