//! Observers, each behind a lock: several Python threads may give values to one.

use std::sync::{Mutex, MutexGuard, PoisonError};

use numpy::PyReadonlyArray1;
use pyo3::prelude::*;
use quant_core::observer::{Averaging, ChannelMinMax, Observer, ObserverConfig};
use quant_core::{ActivationRule, IntType, Mode, ValueRange};
use quant_simd::Backend;

use crate::errors::Raised;
use crate::floats::{Floats, with_floats};

type Bounds = Option<(f32, f32)>;

fn bounds(range: Option<ValueRange>) -> Bounds {
    range.map(|range| (range.min, range.max))
}

fn locked<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn broken(error: impl ToString) -> Raised {
    Raised::new("OptionError", error)
}

/// The state of an observer of whole tensors.
#[pyclass(frozen, module = "linquant._native")]
pub struct ObserverState(Mutex<Observer>);

#[pymethods]
impl ObserverState {
    /// `averaging` is `constant` or `ratio`, and a number.
    #[new]
    #[pyo3(signature = (kind, *, bins=None, percentile=None, averaging=None))]
    fn new(
        kind: &str,
        bins: Option<usize>,
        percentile: Option<f64>,
        averaging: Option<(String, f64)>,
    ) -> PyResult<Self> {
        let config = ObserverConfig::from_name(kind);
        let mut config = config.ok_or_else(|| Raised::internal("an observer"))?;
        if let Some(bins) = bins {
            config = config.with_bins(bins);
        }
        match &mut config {
            ObserverConfig::Percentile {
                percentile: kept, ..
            } => {
                *kept = percentile.unwrap_or(*kept);
            }
            ObserverConfig::MovingAverage { averaging: kept } => {
                *kept = match averaging {
                    None => *kept,
                    Some((kind, by)) if kind == "constant" => Averaging::Constant(by),
                    Some((_, by)) => Averaging::Ratio(by),
                };
            }
            _ => {}
        }
        let observer = Observer::new(config).map_err(Raised::from)?;
        Ok(Self(Mutex::new(observer)))
    }

    /// A state from its JSON.
    #[staticmethod]
    fn from_json(text: &str) -> PyResult<Self> {
        let observer = serde_json::from_str(text).map_err(broken)?;
        Ok(Self(Mutex::new(observer)))
    }

    fn to_json(&self) -> PyResult<String> {
        Ok(serde_json::to_string(&*locked(&self.0)).map_err(broken)?)
    }

    /// Takes a sample.
    fn observe(
        &self,
        py: Python<'_>,
        values: PyReadonlyArray1<'_, u8>,
        source: &str,
    ) -> PyResult<()> {
        let values = Floats::new(values.as_slice()?, source)?;
        py.detach(|| {
            let mut observer = locked(&self.0);
            with_floats!(values, values => Backend::detect().observe(values, &mut observer));
        });
        Ok(())
    }

    fn merge(&self, py: Python<'_>, other: &Self) -> PyResult<()> {
        // Not both locks at a time: two threads may merge two observers into each other.
        let merged = py.detach(|| {
            let other = locked(&other.0).clone();
            locked(&self.0).merge(&other)
        });
        Ok(merged.map_err(Raised::from)?)
    }

    fn range(&self, py: Python<'_>, dtype: &str, mode: &str) -> PyResult<Bounds> {
        let dtype = dtype.parse().map_err(Raised::from)?;
        let mode = mode.parse().map_err(Raised::from)?;
        let range = py.detach(|| {
            let observer = locked(&self.0).clone();
            observer.range(dtype, mode)
        });
        Ok(bounds(range))
    }

    /// Values seen, and how many of these were NaN or infinite.
    fn counts(&self) -> (u64, u64) {
        let values = locked(&self.0).values();
        (values.count(), values.non_finite())
    }

    fn samples(&self) -> u64 {
        locked(&self.0).samples()
    }

    /// The exact range.
    fn observed(&self) -> Bounds {
        bounds(locked(&self.0).values().range())
    }

    /// Counts per bin, the first edge and the width of a bin.
    fn histogram(&self) -> Option<(Vec<u64>, f64, f64)> {
        let observer = locked(&self.0);
        let histogram = observer.histogram()?;
        Some((
            histogram.counts().to_vec(),
            histogram.edge(0),
            histogram.bin_width(),
        ))
    }

    fn same(&self, other: &Self) -> bool {
        let other = locked(&other.0).clone();
        *locked(&self.0) == other
    }
}

/// The state of an observer of each channel.
#[pyclass(frozen, module = "linquant._native")]
pub struct ChannelState(Mutex<ChannelMinMax>);

#[pymethods]
impl ChannelState {
    #[new]
    fn new(channels: usize) -> PyResult<Self> {
        // What is not there would end the process.
        let room = Vec::<ValueRange>::new().try_reserve_exact(channels.saturating_mul(4));
        if room.is_err() {
            let problem = format!("{channels} channels take more memory than there is");
            return Err(Raised::new("MemoryLimitError", problem).into());
        }
        Ok(Self(Mutex::new(ChannelMinMax::new(channels))))
    }

    #[staticmethod]
    fn from_json(text: &str) -> PyResult<Self> {
        let state = serde_json::from_str(text).map_err(broken)?;
        Ok(Self(Mutex::new(state)))
    }

    fn to_json(&self) -> PyResult<String> {
        Ok(serde_json::to_string(&*locked(&self.0)).map_err(broken)?)
    }

    fn observe(
        &self,
        py: Python<'_>,
        values: PyReadonlyArray1<'_, u8>,
        source: &str,
        shape: Vec<usize>,
        axis: isize,
    ) -> PyResult<()> {
        let values = Floats::new(values.as_slice()?, source)?;
        let observed = py.detach(|| {
            let mut state = locked(&self.0);
            let backend = Backend::detect();
            with_floats!(values, values => backend.observe_channels(values, &shape, axis, &mut state))
        });
        Ok(observed.map_err(Raised::from)?)
    }

    fn merge(&self, other: &Self) -> PyResult<()> {
        let other = locked(&other.0).clone();
        Ok(locked(&self.0).merge(&other).map_err(Raised::from)?)
    }

    /// Per channel: values, non-finite ones, and the range of the others.
    fn channels(&self) -> Vec<(u64, u64, Bounds)> {
        let state = locked(&self.0);
        let told = state.channels().iter();
        told.map(|it| (it.count(), it.non_finite(), bounds(it.range())))
            .collect()
    }

    fn same(&self, other: &Self) -> bool {
        let other = locked(&other.0).clone();
        *locked(&self.0) == other
    }
}

/// Scale and zero point of an activation with this range.
#[pyfunction]
pub fn activation_params(
    min: f32,
    max: f32,
    dtype: &str,
    mode: &str,
    rule: &str,
    source: &str,
) -> PyResult<(f32, i32)> {
    let range = ValueRange {
        min,
        max,
        non_finite: 0,
    };
    let rule: ActivationRule = rule.parse().map_err(Raised::from)?;
    let dtype: IntType = dtype.parse().map_err(Raised::from)?;
    let mode: Mode = mode.parse().map_err(Raised::from)?;
    let source = source.parse().map_err(Raised::from)?;
    let params = rule
        .params(&range, dtype, mode, source)
        .map_err(Raised::from)?;
    Ok((params.scale(), params.zero_point()))
}
