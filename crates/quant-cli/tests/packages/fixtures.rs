//! What tests of packages want of a folder beside what all tests do.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::folder::Folder;

pub const WEIGHTS: &str = "Data/com.apple.CoreML/weights/weight.bin";

impl Folder {
    /// With a copy of a fixture that has activations as `m.mlpackage`, and its ranges as `ranges.json`.
    pub fn with_ranges(fixture: &str) -> Self {
        let folder = Self::with_package(&format!("../activations/{fixture}"));
        let expected = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../quant-models/tests/coreml/expected_activations.json");
        let expected: Value = serde_json::from_slice(&fs::read(expected).unwrap()).unwrap();
        let ranges = expected["ranges"][fixture].to_string();
        fs::write(folder.path("ranges.json"), ranges).unwrap();
        folder
    }
}
