//! Ranges of values that are at hand, such as those of a model that runs.

use quant_core::observer::MinMax;
use quant_core::observer::Observer;
use quant_simd::Backend;

use super::check_settings;
use super::observing::Observers;
use super::values::Values;
use crate::{AtomicFile, Calibration, CalibrationSettings, Error, Job};

/// Observers that are given values directly, sample by sample.
///
/// The ranges are those that [`crate::calibrate`] finds in recordings of the same values.
#[derive(Debug)]
pub struct DirectCalibration {
    settings: CalibrationSettings,
    backend: Backend,
    observers: Observers,
}

impl std::fmt::Debug for Observers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Observers").finish_non_exhaustive()
    }
}

impl DirectCalibration {
    /// Observers of nothing yet.
    ///
    /// # Errors
    /// Settings out of range.
    pub fn new(settings: CalibrationSettings, backend: Backend) -> Result<Self, Error> {
        check_settings(&settings)?;
        Ok(Self {
            settings,
            backend,
            observers: Observers::new(settings.observer, backend),
        })
    }

    /// One sample of an activation.
    ///
    /// # Errors
    /// Settings out of range.
    pub fn observe(&mut self, activation: &str, values: &[f32]) -> Result<(), Error> {
        let index = self.observers.index(activation)?;
        let observer = self.observers.get(index);
        match self.settings.observer.bins() {
            Some(_) => Values::F32(values).observe_part(self.backend, observer),
            None => {
                let range: MinMax = Values::F32(values).min_max(self.backend);
                observer.observe_part_with(&range, |_, _| {});
            }
        }
        observer.end_sample();
        Ok(())
    }

    /// Whether nothing was observed.
    pub fn is_empty(&self) -> bool {
        self.observers.stored().is_empty()
    }

    /// Finds the ranges and writes them to `file`.
    ///
    /// # Errors
    /// See [`AtomicFile::commit`]; [`Error::Interrupted`].
    pub fn write(&self, file: AtomicFile, job: &Job<'_>) -> Result<Calibration, Error> {
        let found: Vec<(String, Observer)> = self.observers.stored();
        let calibration = Calibration::of(self.settings, &found, job)?;
        calibration.write(file, job)?;
        Ok(calibration)
    }
}
