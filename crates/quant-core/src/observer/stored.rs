//! Observers as they are stored: plain fields, checked when they come back.
//!
//! An f32 is stored as the f64 of the same value, so that a reader of decimal numbers that is off
//! by a bit of f64 still gives the same f32; a bound that is not there is none, since not every
//! format has infinities.

use alloc::vec::Vec;

use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize, Serializer};

use super::{Averaging, ObserverConfig, Statistics, histogram};
use crate::ValueRange;

/// Why a stored observer is none.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("stored observer: {0}")]
pub struct Invalid(&'static str);

fn check(holds: bool, what: &'static str) -> Result<(), Invalid> {
    holds.then_some(()).ok_or(Invalid(what))
}

/// Stores an observer as the structure of its name here.
macro_rules! stored {
    ($($name:ident),+) => {$(
        impl Serialize for super::$name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                $name::from(self.clone()).serialize(serializer)
            }
        }

        impl<'de> Deserialize<'de> for super::$name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let stored = $name::deserialize(deserializer)?;
                stored.try_into().map_err(D::Error::custom)
            }
        }
    )+};
}

stored!(MinMax, MovingAverage, Histogram, Observer);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MinMax {
    count: u64,
    non_finite: u64,
    min: Option<f64>,
    max: Option<f64>,
}

impl From<super::MinMax> for MinMax {
    fn from(min_max: super::MinMax) -> Self {
        let range = min_max.range();
        Self {
            count: min_max.count(),
            non_finite: min_max.non_finite(),
            min: range.map(|range| range.min.into()),
            max: range.map(|range| range.max.into()),
        }
    }
}

impl TryFrom<MinMax> for super::MinMax {
    type Error = Invalid;

    fn try_from(stored: MinMax) -> Result<Self, Invalid> {
        let MinMax {
            count, non_finite, ..
        } = stored;
        let range = match bounds(stored.min, stored.max)? {
            Some((min, max)) => ValueRange {
                min,
                max,
                non_finite,
            },
            None => ValueRange {
                non_finite,
                ..ValueRange::EMPTY
            },
        };
        check(non_finite <= count, "more non-finite values than values")?;
        check(count <= super::Observer::MOST, "more values than can be")?;
        let none = non_finite == count;
        check(none == range.is_empty(), "bounds without values, or none")?;
        Ok(Self::from_range(count, range))
    }
}

fn bounds(min: Option<f64>, max: Option<f64>) -> Result<Option<(f32, f32)>, Invalid> {
    let (min, max) = match (min, max) {
        (Some(min), Some(max)) => (min as f32, max as f32),
        (None, None) => return Ok(None),
        _ => return Err(Invalid("one bound of two")),
    };
    let finite = min.is_finite() && max.is_finite();
    check(finite && min <= max, "bounds that are no range")?;
    Ok(Some((min, max)))
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MovingAverage {
    averaging: Averaging,
    min: Option<f64>,
    max: Option<f64>,
    ended: super::MinMax,
    sample: super::MinMax,
}

impl From<super::MovingAverage> for MovingAverage {
    fn from(average: super::MovingAverage) -> Self {
        Self {
            averaging: average.averaging,
            min: average.averages.map(|(min, _)| min.into()),
            max: average.averages.map(|(_, max)| max.into()),
            ended: average.ended,
            sample: average.sample,
        }
    }
}

impl TryFrom<MovingAverage> for super::MovingAverage {
    type Error = Invalid;

    fn try_from(stored: MovingAverage) -> Result<Self, Invalid> {
        let valid = stored.averaging.check().is_ok();
        check(valid, "an averaging constant out of range")?;
        let averages = bounds(stored.min, stored.max)?;
        let seen = stored.ended.range().is_some();
        check(seen == averages.is_some(), "averages of nothing, or none")?;
        Ok(Self {
            averaging: stored.averaging,
            averages,
            ended: stored.ended,
            sample: stored.sample,
        })
    }
}

/// The counts of a histogram without the empty bins at its ends.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Histogram {
    bins: usize,
    exponent: i32,
    values: super::MinMax,
    first: usize,
    counts: Vec<u64>,
}

impl From<super::Histogram> for Histogram {
    fn from(histogram: super::Histogram) -> Self {
        let counts = &histogram.counts;
        let first = counts.iter().position(|&count| count > 0);
        let last = counts.iter().rposition(|&count| count > 0);
        let occupied = first.unwrap_or(0)..last.map_or(0, |last| last + 1);
        Self {
            bins: counts.len(),
            exponent: histogram.exponent,
            values: histogram.values,
            first: occupied.start,
            counts: counts[occupied].to_vec(),
        }
    }
}

impl TryFrom<Histogram> for super::Histogram {
    type Error = Invalid;

    fn try_from(stored: Histogram) -> Result<Self, Invalid> {
        let mut histogram = Self::new(stored.bins).map_err(|_| Invalid("the number of bins"))?;
        let abs_max = stored.values.range().map_or(0.0, |range| range.abs_max());
        let exponent = histogram::exponent_of(abs_max, stored.bins);
        check(stored.exponent == exponent, "the width of the bins")?;
        let end = stored.first.checked_add(stored.counts.len());
        let place = end.and_then(|end| histogram.counts.get_mut(stored.first..end));
        place
            .ok_or(Invalid("more counts than bins"))?
            .copy_from_slice(&stored.counts);
        let mut counts = stored.counts.iter();
        let total = counts.try_fold(0_u64, |total, &count| total.checked_add(count));
        let finite = stored.values.count() - stored.values.non_finite();
        check(total == Some(finite), "counts that do not add up")?;
        histogram.exponent = exponent;
        histogram.values = stored.values;
        Ok(histogram)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Observer {
    config: ObserverConfig,
    samples: u64,
    statistics: Statistics,
}

impl From<super::Observer> for Observer {
    fn from(observer: super::Observer) -> Self {
        Self {
            config: observer.config,
            samples: observer.samples,
            statistics: observer.statistics,
        }
    }
}

impl TryFrom<Observer> for super::Observer {
    type Error = Invalid;

    fn try_from(stored: Observer) -> Result<Self, Invalid> {
        let fresh = Statistics::new(&stored.config).map_err(|_| Invalid("the settings"))?;
        let fits = match (&fresh, &stored.statistics) {
            (Statistics::MinMax(_), Statistics::MinMax(_)) => true,
            (Statistics::MovingAverage(fresh), Statistics::MovingAverage(stored)) => {
                fresh.averaging == stored.averaging
            }
            (Statistics::Histogram(fresh), Statistics::Histogram(stored)) => {
                fresh.counts.len() == stored.counts.len()
            }
            _ => false,
        };
        check(fits, "statistics of another observer")?;
        check(stored.samples <= Self::MOST, "more samples than can be")?;
        Ok(Self {
            config: stored.config,
            samples: stored.samples,
            statistics: stored.statistics,
        })
    }
}
