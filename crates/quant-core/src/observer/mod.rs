//! The ranges of activations, from calibration data that is seen once and not kept.
//!
//! | observer | state | depends on order, or on how data is split |
//! |---|---|---|
//! | [`MinMax`], [`ChannelMinMax`] | a range and counts | no |
//! | [`Histogram`] | at most 8192 counts | no |
//! | [`MovingAverage`] | two ranges and counts | yes, by definition: it cannot be merged |
//!
//! From a histogram come the rules that clip: [`Histogram::percentile`], [`Histogram::entropy`],
//! [`Histogram::mse`]. [`Observer`] is any of these, chosen at run time by an [`ObserverConfig`].
//! [`ActivationRule`](crate::ActivationRule) makes scale and zero point of a range.
//!
//! ```
//! use quant_core::observer::{Observer, ObserverConfig};
//! use quant_core::{ActivationRule, FloatType, IntType, Mode};
//!
//! let config = ObserverConfig::from_name("percentile").unwrap();
//! let mut observer = Observer::new(config)?;
//! observer.observe(&[0.0_f32, 0.5, 2.0]);
//! observer.observe(&[0.25_f32, 4.0]);
//!
//! let range = observer.range(IntType::Uint8, Mode::Affine).unwrap();
//! let params = ActivationRule::Coremltools.params(
//!     &range, IntType::Uint8, Mode::Affine, FloatType::F16)?;
//! assert_eq!((range.max, params.zero_point()), (4.0, 0));
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```

mod clip;
mod histogram;
mod min_max;
mod moving_average;
#[cfg(feature = "serde")]
mod stored;

pub use histogram::Histogram;
pub use min_max::{ChannelMinMax, MinMax};
pub use moving_average::{Averaging, MovingAverage};

use crate::{Float, GeometryError, IntType, Mode, ValueRange};

/// Why there is no such observer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// See [`Histogram::new`].
    #[error("the number of bins is not a power of two from 128 to 8192")]
    Bins,
    /// A percentile outside (0, 100].
    #[error("the percentile is not above 0 and at most 100")]
    Percentile,
    /// An averaging constant outside (0, 1], a ratio outside [0, 1).
    #[error("the averaging constant is not in (0, 1], or the ratio not in [0, 1)")]
    Averaging,
}

/// Why two observers cannot become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MergeError {
    /// They are configured differently.
    #[error("the observers differ in kind, bins, percentile or channels")]
    Configuration,
    /// Moving averages are ordered by definition.
    #[error("a moving average depends on the order of the samples: two of them cannot be merged")]
    Ordered,
}

/// Why a tensor does not fit [`ChannelMinMax`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ObserveError {
    /// No such axis, or a shape too large.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    /// Another number of channels.
    #[error("{got} channels instead of {expected}")]
    Channels {
        /// In the tensor.
        got: usize,
        /// In the observer.
        expected: usize,
    },
    /// Another number of values.
    #[error("{got} values for a shape of {expected}")]
    Elements {
        /// As given.
        got: usize,
        /// The product of the shape.
        expected: usize,
    },
}

/// Which observer, with its settings.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(tag = "kind", rename_all = "kebab-case")
)]
pub enum ObserverConfig {
    /// [`MinMax`].
    MinMax,
    /// [`MovingAverage`].
    MovingAverage {
        /// How the averages move.
        averaging: Averaging,
    },
    /// [`Histogram::percentile`].
    Percentile {
        /// Bins of the histogram.
        bins: usize,
        /// Percent of the values to be kept, in (0, 100].
        percentile: f64,
    },
    /// [`Histogram::entropy`].
    Entropy {
        /// Bins of the histogram.
        bins: usize,
    },
    /// [`Histogram::mse`].
    Mse {
        /// Bins of the histogram.
        bins: usize,
    },
}

impl ObserverConfig {
    /// The bins of a histogram where nothing else is wanted, as TensorRT has them.
    pub const DEFAULT_BINS: usize = 2048;
    /// The percentile where nothing else is wanted, as onnxruntime has it.
    pub const DEFAULT_PERCENTILE: f64 = 99.999;

    /// One of each, with the usual settings: 2048 bins, 99.999 percent, [`Averaging::TORCH`].
    pub const ALL: [Self; 5] = [
        Self::MinMax,
        Self::MovingAverage {
            averaging: Averaging::TORCH,
        },
        Self::Percentile {
            bins: Self::DEFAULT_BINS,
            percentile: Self::DEFAULT_PERCENTILE,
        },
        Self::Entropy {
            bins: Self::DEFAULT_BINS,
        },
        Self::Mse {
            bins: Self::DEFAULT_BINS,
        },
    ];

    /// The lower-case name: `min-max`, `moving-average`, `percentile`, `entropy`, `mse`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::MinMax => "min-max",
            Self::MovingAverage { .. } => "moving-average",
            Self::Percentile { .. } => "percentile",
            Self::Entropy { .. } => "entropy",
            Self::Mse { .. } => "mse",
        }
    }

    /// The one with this name, with the usual settings.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|config| config.name() == name)
    }

    /// The same with so many bins; itself where there is no histogram.
    pub const fn with_bins(mut self, wanted: usize) -> Self {
        match &mut self {
            Self::Percentile { bins, .. } | Self::Entropy { bins } | Self::Mse { bins } => {
                *bins = wanted;
            }
            Self::MinMax | Self::MovingAverage { .. } => {}
        }
        self
    }

    /// The same that keeps so many percent of the values; itself where that is not asked.
    pub const fn with_percentile(mut self, wanted: f64) -> Self {
        if let Self::Percentile { percentile, .. } = &mut self {
            *percentile = wanted;
        }
        self
    }

    /// The same with averages that move so; itself where there are none.
    pub const fn with_averaging(mut self, wanted: Averaging) -> Self {
        if let Self::MovingAverage { averaging } = &mut self {
            *averaging = wanted;
        }
        self
    }

    /// The bins of the histogram, if there is one.
    pub const fn bins(&self) -> Option<usize> {
        match self {
            Self::Percentile { bins, .. } | Self::Entropy { bins } | Self::Mse { bins } => {
                Some(*bins)
            }
            Self::MinMax | Self::MovingAverage { .. } => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
enum Statistics {
    MinMax(MinMax),
    MovingAverage(MovingAverage),
    Histogram(Histogram),
}

impl Statistics {
    fn new(config: &ObserverConfig) -> Result<Self, ConfigError> {
        Ok(match *config {
            ObserverConfig::MinMax => Self::MinMax(MinMax::EMPTY),
            ObserverConfig::MovingAverage { averaging } => {
                Self::MovingAverage(MovingAverage::new(averaging)?)
            }
            ObserverConfig::Percentile { percentile, .. }
                if !(percentile > 0.0 && percentile <= 100.0) =>
            {
                return Err(ConfigError::Percentile);
            }
            ObserverConfig::Percentile { bins, .. }
            | ObserverConfig::Entropy { bins }
            | ObserverConfig::Mse { bins } => Self::Histogram(Histogram::new(bins)?),
        })
    }
}

/// The observer of one activation, chosen at run time.
///
/// A sample is what one run of the model gives. It may come in parts; only a [`MovingAverage`]
/// cares where it ends.
///
/// ```
/// use quant_core::observer::{MergeError, Observer, ObserverConfig};
/// let new = |name| Observer::new(ObserverConfig::from_name(name).unwrap()).unwrap();
/// let (mut all, mut more) = (new("mse"), new("mse"));
/// all.observe(&[1.0_f32, -2.0]);
/// more.observe(&[3.0_f32]);
/// all.merge(&more)?;
/// assert_eq!((all.samples(), all.values().count()), (2, 3));
/// assert_eq!(all.merge(&new("entropy")), Err(MergeError::Configuration));
/// # Ok::<(), MergeError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Observer {
    config: ObserverConfig,
    samples: u64,
    statistics: Statistics,
}

impl Observer {
    /// The most samples, and values, that a stored observer may have counted: far beyond what there
    /// is, so that it can go on counting.
    pub const MOST: u64 = 1 << 62;

    /// Of no samples.
    ///
    /// # Errors
    /// Settings out of range.
    pub fn new(config: ObserverConfig) -> Result<Self, ConfigError> {
        Ok(Self {
            config,
            samples: 0,
            statistics: Statistics::new(&config)?,
        })
    }

    /// Takes a whole sample, NaN and infinities included: these are counted and left out.
    pub fn observe<F: Float>(&mut self, values: &[F]) {
        self.observe_part(values);
        self.end_sample();
    }

    /// Takes a part of a sample, which [`end_sample`](Self::end_sample) ends.
    pub fn observe_part<F: Float>(&mut self, values: &[F]) {
        match &mut self.statistics {
            Statistics::MinMax(min_max) => min_max.observe(values),
            Statistics::MovingAverage(average) => average.observe(values),
            Statistics::Histogram(histogram) => histogram.observe(values),
        }
    }

    /// [`observe_part`](Self::observe_part) of values whose range was found by a faster search, and
    /// which `count` counts if there is a histogram: see [`Histogram::observe_with`].
    pub fn observe_part_with(&mut self, found: &MinMax, count: impl FnOnce(i32, &mut [u64])) {
        match &mut self.statistics {
            Statistics::MinMax(min_max) => min_max.merge(found),
            Statistics::MovingAverage(average) => average.observe_found(found),
            Statistics::Histogram(histogram) => histogram.observe_with(found, count),
        }
    }

    /// Counts what came since the last one as a sample.
    pub fn end_sample(&mut self) {
        self.samples += 1;
        if let Statistics::MovingAverage(average) = &mut self.statistics {
            average.end_sample();
        }
    }

    /// As if the samples of `other` had been observed here: the very same state, in whatever order
    /// and groups observers are merged.
    ///
    /// # Errors
    /// Another configuration; moving averages.
    pub fn merge(&mut self, other: &Self) -> Result<(), MergeError> {
        if self.config != other.config {
            return Err(MergeError::Configuration);
        }
        match (&mut self.statistics, &other.statistics) {
            (Statistics::MinMax(min_max), Statistics::MinMax(other)) => min_max.merge(other),
            (Statistics::Histogram(histogram), Statistics::Histogram(other)) => {
                histogram.merge(other)?;
            }
            _ => return Err(MergeError::Ordered),
        }
        self.samples += other.samples;
        Ok(())
    }

    /// The range that activations are to be quantized over, within that of the values. `None` as
    /// long as no value was finite; of moving averages, as long as no sample with one ended. Type and
    /// mode matter to percentile and mean squared error only.
    pub fn range(&self, dtype: IntType, mode: Mode) -> Option<ValueRange> {
        match (&self.statistics, self.config) {
            (Statistics::MinMax(min_max), _) => min_max.range(),
            (Statistics::MovingAverage(average), _) => average.range(),
            (Statistics::Histogram(histogram), ObserverConfig::Percentile { percentile, .. }) => {
                histogram.percentile(percentile, mode)
            }
            (Statistics::Histogram(histogram), ObserverConfig::Entropy { .. }) => {
                histogram.entropy()
            }
            (Statistics::Histogram(histogram), _) => histogram.mse(dtype, mode),
        }
    }

    /// What it was made with.
    pub const fn config(&self) -> &ObserverConfig {
        &self.config
    }

    /// Samples that ended.
    pub const fn samples(&self) -> u64 {
        self.samples
    }

    /// Count and exact range of all values.
    pub fn values(&self) -> MinMax {
        match &self.statistics {
            Statistics::MinMax(min_max) => *min_max,
            Statistics::MovingAverage(average) => average.whole(),
            Statistics::Histogram(histogram) => *histogram.values(),
        }
    }

    /// The histogram, if there is one.
    pub const fn histogram(&self) -> Option<&Histogram> {
        match &self.statistics {
            Statistics::Histogram(histogram) => Some(histogram),
            Statistics::MinMax(_) | Statistics::MovingAverage(_) => None,
        }
    }
}
