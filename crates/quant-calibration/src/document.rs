//! `ranges.json` as calibration writes it: ranges, and what merging and plotting need.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use quant_core::observer::{Histogram, Observer, ObserverConfig};
use quant_core::{ActivationRule, FloatType, ValueRange};
use quant_model::error::command;
use quant_model::io::read_bounded;
use quant_model::ranges::{LARGEST, VERSION};
use quant_model::{ActivationRange, AtomicFile, Error, HintCommand, Job, sniff};
use rayon::prelude::*;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;

use super::memory::Memory;
use super::settings::CalibrationSettings;

/// The ranges of a model's activations, and how they were found: `ranges.json`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Calibration {
    /// The observer and the arithmetic that they were found with.
    pub settings: CalibrationSettings,
    /// By the name of the activation.
    pub activations: BTreeMap<String, Calibrated>,
    /// Activations of integers or truth values, which were passed over, and their types.
    pub passed_over: BTreeMap<String, String>,
}

/// What was found about one activation.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Calibrated {
    /// The range to quantize over; `None` where no value was finite.
    pub range: Option<ActivationRange>,
    /// The range of all finite values.
    pub observed: Option<ActivationRange>,
    /// Tensors that were seen.
    pub samples: u64,
    /// Values that were seen, non-finite ones included.
    pub elements: u64,
    /// How many of them were NaN or infinite.
    pub non_finite: u64,
    /// coremltools' scale and zero point for the range, or why there are none.
    pub params: Result<(f32, i32), String>,
    /// What the values looked like, if the observer makes one.
    pub histogram: Option<Histogram>,
}

/// The fields of an activation, in their order.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ActivationDocument {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    min: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max: Option<f64>,
    observed_min: Option<f64>,
    observed_max: Option<f64>,
    samples: u64,
    elements: u64,
    non_finite: u64,
    scale: Option<f64>,
    zero_point: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    histogram: Option<StoredHistogram>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredHistogram {
    exponent: i32,
    first: usize,
    /// A negative number stands for so many empty bins.
    counts: Vec<i64>,
}

#[derive(Deserialize)]
struct Document {
    version: u32,
    #[serde(flatten)]
    settings: CalibrationSettings,
    #[serde(deserialize_with = "unique")]
    activations: BTreeMap<String, Box<RawValue>>,
    #[serde(default, deserialize_with = "unique")]
    without_range: BTreeMap<String, Box<RawValue>>,
    #[serde(default)]
    passed_over: BTreeMap<String, String>,
}

/// Entries whose names differ. Their text is kept as it is: parsed, it would take many times as much.
fn unique<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, Box<RawValue>>, D::Error> {
    struct Entries;

    impl<'de> Visitor<'de> for Entries {
        type Value = BTreeMap<String, Box<RawValue>>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("activations by their names")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
            let mut found = BTreeMap::new();
            while let Some((name, entry)) = entries.next_entry::<String, Box<RawValue>>()? {
                if found.contains_key(&name) {
                    let problem = format!("activation `{name}`: appears twice");
                    return Err(de::Error::custom(problem));
                }
                found.insert(name, entry);
            }
            Ok(found)
        }
    }

    deserializer.deserialize_map(Entries)
}

impl Calibrated {
    /// What an observer has found.
    pub(crate) fn from_observer(observer: &Observer, settings: &CalibrationSettings) -> Self {
        let values = observer.values();
        let range = observer.range(settings.dtype, settings.mode);
        Self {
            range: range.map(bounds),
            observed: values.range().map(bounds),
            samples: observer.samples(),
            elements: values.count(),
            non_finite: values.non_finite(),
            params: params(range, settings),
            histogram: observer.histogram().cloned(),
        }
    }

    /// The share of finite values in bins that lie wholly outside the range. `None` without a
    /// histogram.
    pub fn clipped(&self) -> Option<f64> {
        let (histogram, range) = (self.histogram.as_ref()?, self.range?);
        let observed = self.observed?;
        let counts = histogram.counts().iter().enumerate();
        let outside = counts.filter(|&(bin, _)| {
            // A bin may begin at the largest value itself.
            let below = histogram.edge(bin + 1) <= range.min.into() && observed.min < range.min;
            let above = histogram.edge(bin) >= range.max.into() && observed.max > range.max;
            below || above
        });
        let outside: u64 = outside.map(|(_, count)| count).sum();
        Some(outside as f64 / (self.elements - self.non_finite) as f64)
    }

    fn stored(&self) -> ActivationDocument {
        let [min, max] = ends(self.range);
        let [observed_min, observed_max] = ends(self.observed);
        let params = self.params.as_ref().ok();
        ActivationDocument {
            min,
            max,
            observed_min,
            observed_max,
            samples: self.samples,
            elements: self.elements,
            non_finite: self.non_finite,
            scale: params.map(|&(scale, _)| scale.into()),
            zero_point: params.map(|&(_, zero_point)| zero_point),
            histogram: self.histogram.as_ref().map(StoredHistogram::from_histogram),
        }
    }

    fn from_stored(
        stored: ActivationDocument,
        settings: &CalibrationSettings,
    ) -> Result<Self, String> {
        let observer = observer(&stored, settings)?;
        let range = match observer {
            // A moving average is not to be had again; its range is what counts.
            None => range(stored.min, stored.max)?,
            Some(ref observer) => observer.range(settings.dtype, settings.mode).map(bounds),
        };
        if ends(range) != [stored.min, stored.max] {
            return Err("its range is not that of its statistics; calibrate again".into());
        }
        let observed = range_of(stored.observed_min, stored.observed_max, "observed ")?;
        if range.is_some() != observed.is_some() {
            return Err("a range without values, or none with them".into());
        }
        if stored.non_finite > stored.elements {
            return Err("more non-finite values than values".into());
        }
        let as_range = range.map(|range| ValueRange {
            min: range.min,
            max: range.max,
            non_finite: 0,
        });
        Ok(Self {
            range,
            observed,
            samples: stored.samples,
            elements: stored.elements,
            non_finite: stored.non_finite,
            params: params(as_range, settings),
            histogram: observer.and_then(|observer| observer.histogram().cloned()),
        })
    }

    /// The observer that found this.
    pub(crate) fn observer(&self, settings: &CalibrationSettings) -> Result<Observer, String> {
        observer(&self.stored(), settings)?.ok_or_else(|| {
            "moving averages depend on the order of the samples: two of them cannot be merged"
                .into()
        })
    }
}

/// The observer of these statistics; none of a moving average.
fn observer(
    stored: &ActivationDocument,
    settings: &CalibrationSettings,
) -> Result<Option<Observer>, String> {
    let values = json!({
        "count": stored.elements,
        "non_finite": stored.non_finite,
        "min": stored.observed_min,
        "max": stored.observed_max,
    });
    let statistics = match (settings.observer, &stored.histogram) {
        (ObserverConfig::MinMax, None) => json!({ "min-max": values }),
        (ObserverConfig::MovingAverage { .. }, None) => return Ok(None),
        (ObserverConfig::MinMax | ObserverConfig::MovingAverage { .. }, Some(_)) => {
            return Err("a histogram, which this observer has not".into());
        }
        (_, None) => return Err("no histogram, which this observer has".into()),
        (observer, Some(histogram)) => {
            let bins = observer.bins().unwrap_or_default();
            json!({"histogram": {
                "bins": bins,
                "exponent": histogram.exponent,
                "values": values,
                "first": histogram.first,
                "counts": histogram.counts(bins)?,
            }})
        }
    };
    let observer = json!({
        "config": settings.observer,
        "samples": stored.samples,
        "statistics": statistics,
    });
    serde_json::from_value(observer)
        .map(Some)
        .map_err(|error| error.to_string())
}

impl StoredHistogram {
    fn from_histogram(histogram: &Histogram) -> Self {
        let counts = histogram.counts();
        let first = counts.iter().position(|&count| count > 0).unwrap_or(0);
        let end = counts.iter().rposition(|&count| count > 0);
        let mut runs: Vec<i64> = Vec::new();
        for &count in &counts[first..end.map_or(first, |last| last + 1)] {
            match (count, runs.last_mut()) {
                (0, Some(run)) if *run < 0 => *run -= 1,
                (0, _) => runs.push(-1),
                // There are no more values than addresses of their bytes.
                _ => runs.push(count as i64),
            }
        }
        Self {
            exponent: histogram.exponent(),
            first,
            counts: runs,
        }
    }

    fn counts(&self, bins: usize) -> Result<Vec<u64>, String> {
        let mut counts = Vec::new();
        for &run in &self.counts {
            match u64::try_from(run) {
                Ok(count) => counts.push(count),
                Err(_) if run.unsigned_abs() <= bins as u64 => {
                    counts.resize(counts.len() + run.unsigned_abs() as usize, 0);
                }
                Err(_) => return Err("more counts than bins".into()),
            }
            if counts.len() > bins {
                return Err("more counts than bins".into());
            }
        }
        Ok(counts)
    }
}

impl Calibration {
    /// Of observers, by the names of their activations.
    pub(crate) fn from_observers(
        settings: CalibrationSettings,
        observers: &[(String, Observer)],
        job: &Job<'_>,
    ) -> Result<Self, Error> {
        // The search for a range takes its time.
        let calibrated = observers.par_iter().map(|(name, observer)| {
            job.check()?;
            Ok((name.clone(), Calibrated::from_observer(observer, &settings)))
        });
        let activations: Result<_, Error> = calibrated.collect();
        Ok(Self {
            settings,
            activations: activations?,
            passed_over: BTreeMap::new(),
        })
    }

    /// Reads a document that calibration wrote.
    ///
    /// # Errors
    /// The file cannot be read; is not JSON, of another version, or without what calibration writes;
    /// an activation whose fields contradict each other. The message names the file, and the
    /// activation where there is one.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let calibrate = command(HintCommand::Calibrate);
        let bytes = read_bounded(path, LARGEST, &format!("give what {calibrate} wrote"))?;
        Self::parse(&bytes).map_err(|problem| Error::file(path, problem))
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let document: Document = serde_json::from_slice(bytes).map_err(|error| {
            let calibrate = command(HintCommand::Calibrate);
            let problem = format!("not a document that {calibrate} writes: {error}");
            sniff::instead(bytes, problem)
        })?;
        if document.version != VERSION {
            return Err(format!(
                "version {} of ranges, where {VERSION} is known; this quant is too old for it",
                document.version
            ));
        }
        let settings = document.settings;
        Observer::new(settings.observer).map_err(|error| error.to_string())?;
        let mut memory = Memory::new(settings.observer);
        let mut names = document
            .activations
            .keys()
            .chain(document.without_range.keys());
        names.try_for_each(|name| memory.add(name))?;
        let mut activations = BTreeMap::new();
        for (with_range, entries) in [
            (true, document.activations),
            (false, document.without_range),
        ] {
            let bad = |name: &str, problem: &str| format!("activation `{name}`: {problem}");
            let found = entries.into_par_iter().map(|(name, value)| {
                let found = serde_json::from_str::<ActivationDocument>(value.get())
                    .map_err(|error| error.to_string())
                    .and_then(|stored| Calibrated::from_stored(stored, &settings));
                match found {
                    Ok(found) => Ok((name, found)),
                    Err(problem) => Err(bad(&name, &problem)),
                }
            });
            // The first error in the order of names, not in that of threads.
            let found: Vec<Result<(String, Calibrated), String>> = found.collect();
            for found in found {
                let (name, found) = found?;
                if found.range.is_some() != with_range {
                    return Err(bad(&name, "stands in the wrong place"));
                }
                if activations.contains_key(&name) {
                    return Err(bad(&name, "appears twice"));
                }
                activations.insert(name, found);
            }
        }
        Ok(Self {
            settings,
            activations,
            passed_over: document.passed_over,
        })
    }

    pub(crate) fn with_passed_over(mut self, passed_over: &BTreeMap<String, String>) -> Self {
        self.passed_over.clone_from(passed_over);
        self
    }

    /// The document: a line for each activation, in the order of names.
    pub(crate) fn to_json(&self) -> String {
        let settings = json!(self.settings);
        let places = [("activations", true), ("without_range", false)];
        let mut text = format!(
            "{{\n\"version\": {VERSION},\n\"observer\": {},\n\"quantization\": {}",
            settings["observer"], settings["quantization"],
        );
        for (place, with_range) in places {
            let entries = self.activations.iter();
            let lines: Vec<String> = entries
                .filter(|(_, found)| found.range.is_some() == with_range)
                .map(|(name, found)| format!("\n{}: {}", json!(name), json!(found.stored())))
                .collect();
            if with_range || !lines.is_empty() {
                text += &format!(",\n\"{place}\": {{{}\n}}", lines.join(","));
            }
        }
        if !self.passed_over.is_empty() {
            text += &format!(",\n\"passed_over\": {}", json!(self.passed_over));
        }
        text + "\n}\n"
    }

    /// Writes the document: whole, or not at all.
    pub(crate) fn write(&self, file: AtomicFile, job: &Job<'_>) -> Result<(), Error> {
        job.check()?;
        file.commit(self.to_json().as_bytes())
    }

    /// What the user should know, a line each.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for (name, dtype) in &self.passed_over {
            let name = quant_model::error::one_line(quant_model::error::shortened(name));
            let dtype = quant_model::error::one_line(quant_model::error::shortened(dtype));
            warnings.push(format!(
                "activation `{name}`: passed over, since its type is {dtype}; only floats are quantized"
            ));
        }
        for (name, found) in &self.activations {
            let name = quant_model::printable(name);
            let (elements, non_finite) = (found.elements, found.non_finite);
            match (&found.range, &found.params) {
                (None, _) => warnings.push(format!(
                    "activation `{name}`: none of its {elements} values is finite; it has no range"
                )),
                (Some(_), Err(problem)) => warnings.push(format!(
                    "activation `{name}`: no scale for its range: {problem}"
                )),
                _ => {}
            }
            if non_finite > 0 && found.range.is_some() {
                warnings.push(format!(
                    "activation `{name}`: {non_finite} of {elements} values are NaN or infinite; they are left out"
                ));
            }
        }
        warnings
    }
}

fn params(range: Option<ValueRange>, settings: &CalibrationSettings) -> Result<(f32, i32), String> {
    let range = range.ok_or("no finite value")?;
    // The rule computes in f16 whatever the activation's type.
    ActivationRule::Coremltools
        .params(&range, settings.dtype, settings.mode, FloatType::F16)
        .map(|params| (params.scale(), params.zero_point()))
        .map_err(|error| error.to_string())
}

fn bounds(range: ValueRange) -> ActivationRange {
    ActivationRange {
        min: range.min,
        max: range.max,
    }
}

/// As f64 of the same value: no reader of decimal numbers can make another f32 of that.
fn ends(range: Option<ActivationRange>) -> [Option<f64>; 2] {
    [
        range.map(|range| range.min.into()),
        range.map(|range| range.max.into()),
    ]
}

fn range(min: Option<f64>, max: Option<f64>) -> Result<Option<ActivationRange>, String> {
    range_of(min, max, "")
}

fn range_of(
    min: Option<f64>,
    max: Option<f64>,
    which: &str,
) -> Result<Option<ActivationRange>, String> {
    match (min, max) {
        (None, None) => Ok(None),
        (Some(min), Some(max)) => {
            let range = ActivationRange {
                min: min as f32,
                max: max as f32,
            };
            match range.min.is_finite() && range.max.is_finite() && range.min <= range.max {
                true => Ok(Some(range)),
                false => Err(format!("invalid {which}range: {min} to {max}")),
            }
        }
        _ => Err(format!(
            "one bound of its {which}range, where there are two"
        )),
    }
}
