//! A temporary folder, models in it, and the command at work there.
#![allow(dead_code, reason = "not every test uses all of it")]

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

#[path = "../kept/mod.rs"]
mod kept;

pub struct Folder(TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// With a copy of a fixture as `m.mlpackage`.
    pub fn with_package(fixture: &str) -> Self {
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
        let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    pub fn command<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quant"));
        command.args(arguments).current_dir(self.0.path());
        command
    }

    pub fn quant<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Output {
        let output = self.command(arguments).output().unwrap();
        if output.status.success() {
            kept::keep(self.0.path(), arguments);
        }
        output
    }

    /// What is printed, and what is said beside it; the exit status is 0.
    pub fn said(&self, arguments: &[&str]) -> (String, String) {
        let output = self.quant(arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{arguments:?}: {stderr}");
        (String::from_utf8(output.stdout).unwrap(), stderr)
    }

    pub fn json(&self, arguments: &[&str]) -> Value {
        let (text, _) = self.said(&[arguments, &["--json"]].concat());
        serde_json::from_str(&text).unwrap()
    }

    /// What is printed; the exit status is 0.
    pub fn succeeds(&self, arguments: &[&str]) -> String {
        self.said(arguments).0
    }

    /// Fails with one line that holds all of `words`, and leaves the folder as it was.
    pub fn refuses(&self, arguments: &[&str], status: i32, words: &[&str]) {
        let before = self.names();
        let output = self.quant(arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            output.status.code(),
            Some(status),
            "{arguments:?}: {stderr}"
        );
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        for word in words {
            assert!(
                stderr.contains(word),
                "{arguments:?}: no `{word}` in: {stderr}"
            );
        }
        assert_eq!(self.names(), before, "{arguments:?}");
    }

    /// A safetensors file of these tensors: name, type, shape, data.
    pub fn model(&self, file: &str, tensors: &[(&str, &str, &[usize], &[u8])]) {
        let mut header = serde_json::Map::new();
        let mut data: Vec<u8> = Vec::new();
        for (name, dtype, shape, bytes) in tensors {
            let from = data.len();
            data.extend(*bytes);
            let entry = serde_json::json!({"dtype": dtype, "shape": shape, "data_offsets": [from, data.len()]});
            header.insert((*name).to_owned(), entry);
        }
        let header = Value::Object(header).to_string();
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        fs::write(self.path(file), bytes).unwrap();
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).unwrap()),
        }
    }
}

pub fn f32_bytes(n: usize, value: impl Fn(usize) -> f32) -> Vec<u8> {
    (0..n).flat_map(|i| value(i).to_le_bytes()).collect()
}

pub fn wave(i: usize) -> f32 {
    ((i * 7919) % 1009) as f32 / 500.0 - 1.0
}

/// An npy file of f32.
pub fn npy(values: &[f32]) -> Vec<u8> {
    let shape = values.len();
    let header =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({shape},), }}          \n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(f32_bytes(shape, |i| values[i]));
    bytes
}

/// What a report says of one tensor.
pub fn tensor<'a>(report: &'a Value, name: &str) -> &'a Value {
    let tensors = report["tensors"].as_array().unwrap();
    tensors
        .iter()
        .find(|tensor| tensor["name"] == name)
        .unwrap()
}
