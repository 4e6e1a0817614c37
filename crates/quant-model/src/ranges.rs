//! `ranges.json`: the ranges of activations, as calibration has found them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::io::read_bounded;
use crate::{Error, sniff};

/// The version of the document that is read and written.
pub const VERSION: u32 = 1;
/// More than any document holds: a histogram of 2^20 bins for each of some hundred activations.
pub const LARGEST: u64 = 1 << 30;

/// The ranges of a model's activations, by their names in the model.
///
/// As JSON: `{"version": 1, "activations": {"NAME": {"min": -1.5, "max": 2.0}}}`. What else stands
/// in there is not read; calibration writes more, and `Calibration` reads it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ranges {
    /// Of the document: 1.
    pub version: u32,
    /// Per activation.
    #[serde(deserialize_with = "activations")]
    pub activations: BTreeMap<String, ActivationRange>,
}

/// The range of one activation: finite, and `min` is not above `max`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActivationRange {
    /// The smallest value.
    pub min: f32,
    /// The largest value.
    pub max: f32,
}

impl Ranges {
    /// Reads a document.
    ///
    /// # Errors
    /// The file cannot be read, is not JSON or of another version; a range that is not finite, or
    /// whose bounds are the wrong way round; an activation that appears twice. The message
    /// names the file, and the activation where there is one.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let bytes = read_bounded(path, LARGEST, "give the ranges that calibration wrote")?;
        Self::parse(&bytes).map_err(|problem| Error::file(path, problem))
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let ranges: Self = serde_json::from_slice(bytes)
            .map_err(|error| sniff::instead(bytes, format!("not a document of ranges: {error}")))?;
        if ranges.version != VERSION {
            return Err(format!(
                "version {} of ranges, where {VERSION} is known; this quant is too old for it",
                ranges.version
            ));
        }
        Ok(ranges)
    }
}

/// Activations one by one, so that what is wrong with one names it.
fn activations<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, ActivationRange>, D::Error> {
    struct Activations;

    impl<'de> Visitor<'de> for Activations {
        type Value = BTreeMap<String, ActivationRange>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("activations by their names")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
            let mut found = BTreeMap::new();
            while let Some(name) = entries.next_key::<String>()? {
                let bad = |problem: &dyn fmt::Display| {
                    de::Error::custom(format!("activation `{name}`: {problem}"))
                };
                let range: ActivationRange = entries.next_value().map_err(|error| bad(&error))?;
                let ActivationRange { min, max } = range;
                if !(min.is_finite() && max.is_finite()) {
                    return Err(bad(&format_args!(
                        "its range is not finite: {min} to {max}"
                    )));
                }
                if min > max {
                    return Err(bad(&format_args!("min {min} is above max {max}")));
                }
                if found.insert(name.clone(), range).is_some() {
                    return Err(bad(&"appears twice"));
                }
            }
            Ok(found)
        }
    }

    deserializer.deserialize_map(Activations)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> String {
        let problem = Ranges::parse(text.as_bytes()).expect_err("an error");
        assert_eq!(problem.lines().count(), 1, "{problem}");
        problem
    }

    fn one(range: &str) -> String {
        format!(r#"{{"version": 1, "activations": {{"conv_1": {range}}}}}"#)
    }

    #[test]
    fn a_document_is_read_and_written() {
        let text = r#"{"version": 1, "observer": {"kind": "min-max"}, "activations":
            {"x": {"min": -1.5, "max": 2, "samples": 3}, "y": {"max": 0.0, "min": 0.0}}}"#;
        let ranges = Ranges::parse(text.as_bytes()).unwrap();
        let x = ActivationRange {
            min: -1.5,
            max: 2.0,
        };
        assert_eq!(ranges.activations["x"], x);
        assert_eq!(ranges.activations.len(), 2);
        let again = serde_json::to_vec(&ranges).unwrap();
        assert_eq!(Ranges::parse(&again).unwrap(), ranges);
    }

    #[test]
    fn bad_ranges_are_named() {
        for range in [
            r#"{"min": NaN, "max": 1}"#,
            r#"{"min": 0, "max": Infinity}"#,
            r#"{"min": 0, "max": 1e999}"#,
            r#"{"min": 0, "max": 1e39}"#,
            r#"{"min": 1, "max": 0}"#,
            r#"{"min": 1}"#,
            r#"{"min": null, "max": 0}"#,
            r#""wide""#,
            r#"{"min": 0, "max": 1}, "conv_1": {"min": 0, "max": 1}"#,
        ] {
            let problem = problem(&one(range));
            assert!(
                problem.contains("activation `conv_1`"),
                "{range}: {problem}"
            );
        }
        assert!(problem(&one(r#"{"min": 1, "max": 0}"#)).contains("min 1 is above max 0"));
    }

    #[test]
    fn other_documents_are_refused() {
        assert!(problem("").contains("the file is empty"));
        assert!(problem("[]").contains("not a document of ranges"));
        assert!(problem(r#"{"version": 1}"#).contains("`activations`"));
        assert!(problem(r#"{"version": 2, "activations": {}}"#).contains("version 2 of ranges"));
    }
}
