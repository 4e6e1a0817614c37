//! What the ranges of a document were found with.

use quant_core::observer::{Averaging, ObserverConfig};
use quant_core::{ActivationRule, IntType, Mode};
use serde::{Deserialize, Serialize};

/// The observer of every activation, and what the ranges are for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "SettingsDocument", into = "SettingsDocument")]
#[non_exhaustive]
pub struct CalibrationSettings {
    /// Which observer, with its settings.
    pub observer: ObserverConfig,
    /// Type of the codes: int8 or uint8. It matters to scales and zero points, and to the range of
    /// [`ObserverConfig::Mse`].
    pub dtype: IntType,
    /// Of the codes. It matters to scales and zero points, and to the ranges of
    /// [`ObserverConfig::Percentile`] and [`ObserverConfig::Mse`].
    pub mode: Mode,
}

impl CalibrationSettings {
    /// Ranges that this observer finds, for these codes.
    pub const fn new(observer: ObserverConfig, dtype: IntType, mode: Mode) -> Self {
        Self {
            observer,
            dtype,
            mode,
        }
    }
}

/// As it stands in documents.
#[derive(Serialize, Deserialize)]
pub(crate) struct SettingsDocument {
    observer: ObserverConfig,
    quantization: Quantization,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Quantization {
    dtype: String,
    mode: String,
    rule: ActivationRule,
}

impl From<CalibrationSettings> for SettingsDocument {
    fn from(settings: CalibrationSettings) -> Self {
        Self {
            observer: settings.observer,
            quantization: Quantization {
                dtype: settings.dtype.name().into(),
                mode: settings.mode.name().into(),
                rule: ActivationRule::Coremltools,
            },
        }
    }
}

impl TryFrom<SettingsDocument> for CalibrationSettings {
    type Error = String;

    fn try_from(stored: SettingsDocument) -> Result<Self, String> {
        let Quantization { dtype, mode, rule } = stored.quantization;
        if rule != ActivationRule::Coremltools {
            return Err(format!("rule `{}` of scales", rule.name()));
        }
        let dtypes = [IntType::Int8, IntType::Uint8].into_iter();
        let modes = [Mode::Symmetric, Mode::Affine].into_iter();
        Ok(Self {
            observer: stored.observer,
            dtype: dtypes
                .clone()
                .find(|known| known.name() == dtype)
                .ok_or_else(|| format!("dtype `{dtype}`"))?,
            mode: modes
                .clone()
                .find(|known| known.name() == mode)
                .ok_or_else(|| format!("mode `{mode}`"))?,
        })
    }
}

impl CalibrationSettings {
    /// In words, such as `percentile 99.999 of 2048 bins, int8 symmetric`.
    pub fn describe(&self) -> String {
        let observer = match self.observer {
            ObserverConfig::MovingAverage { averaging } => match averaging {
                Averaging::Constant(constant) => format!("moving-average, constant {constant}"),
                Averaging::Ratio(ratio) => format!("moving-average, ratio {ratio}"),
            },
            ObserverConfig::Percentile { bins, percentile } => {
                format!("percentile {percentile} of {bins} bins")
            }
            other => match other.bins() {
                Some(bins) => format!("{} of {bins} bins", other.name()),
                None => other.name().into(),
            },
        };
        format!("{observer}, {} {}", self.dtype.name(), self.mode.name())
    }
}
