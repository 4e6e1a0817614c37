//! A folder with a copy of a fixture, and the command at work there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

#[path = "../kept/mod.rs"]
mod kept;

pub const WEIGHTS: &str = "Data/com.apple.CoreML/weights/weight.bin";

pub struct Folder(TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A folder with a copy of a fixture as `m.mlpackage`.
    pub fn with(fixture: &str) -> Self {
        let folder = Self::new();
        let from = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../quant-models/tests/coreml/packages")
            .join(format!("{fixture}.mlpackage"));
        copy(&from, &folder.path("m.mlpackage"));
        folder
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    pub fn quant(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quant"));
        command.args(arguments).current_dir(self.0.path());
        let output = command.output().unwrap();
        if output.status.success() {
            kept::keep(self.0.path(), arguments);
        }
        output
    }

    /// The ranges of a fixture, as `ranges.json`.
    pub fn with_ranges(fixture: &str) -> Self {
        let folder = Self::with(&format!("../activations/{fixture}"));
        let expected = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../quant-models/tests/coreml/expected_activations.json");
        let expected: Value = serde_json::from_slice(&fs::read(expected).unwrap()).unwrap();
        let ranges = expected["ranges"][fixture].to_string();
        fs::write(folder.path("ranges.json"), ranges).unwrap();
        folder
    }

    /// What is printed, and what is said beside it.
    pub fn succeeds(&self, arguments: &[&str]) -> (String, String) {
        let output = self.quant(arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{arguments:?}: {stderr}");
        (String::from_utf8(output.stdout).unwrap(), stderr)
    }

    pub fn json(&self, arguments: &[&str]) -> Value {
        let (text, _) = self.succeeds(&[arguments, &["--json"]].concat());
        serde_json::from_str(&text).unwrap()
    }

    pub fn refuses(&self, arguments: &[&str], code: i32, words: &[&str]) {
        let before = self.names();
        let output = self.quant(arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        for word in words {
            assert!(stderr.contains(word), "no `{word}` in: {stderr}");
        }
        assert_eq!(self.names(), before, "{arguments:?}");
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name())),
            false => {
                fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
            }
        }
    }
}

/// What a report says of one tensor.
pub fn tensor<'a>(report: &'a Value, name: &str) -> &'a Value {
    let tensors = report["tensors"].as_array().unwrap();
    tensors
        .iter()
        .find(|tensor| tensor["name"] == name)
        .unwrap()
}
