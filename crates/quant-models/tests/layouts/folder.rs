//! A copy of a layout, and what is done with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use quant_models::{DequantizeOptions, Error, Job, QuantizeOptions, Report};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::coreml::{MODEL, WEIGHTS, fixture, kept, layout};

pub fn job(cancelled: &AtomicBool) -> Job<'_> {
    Job::UNWATCHED.with_force(true).with_cancel(cancelled)
}

pub fn quantize(input: &Path, output: &Path, options: &QuantizeOptions) -> Result<Report, Error> {
    let done = quant_models::quantize(input, output, options, &job(&AtomicBool::new(false)));
    kept(done, input, output)
}

pub fn digest(path: &Path) -> String {
    let bytes = fs::read(path).unwrap();
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn json(name: &str) -> Value {
    let text = fs::read(fixture("..").join(name)).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// A layout to be changed.
pub struct Copy(TempDir);

impl Copy {
    pub fn of(name: &str) -> Self {
        let copy = Self(tempfile::tempdir().unwrap());
        layout(name, &copy.input());
        copy
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn input(&self) -> PathBuf {
        self.path("in.mlpackage")
    }

    pub fn out(&self) -> PathBuf {
        self.path("out.mlpackage")
    }

    pub fn edit(&self, edit: impl FnOnce(Vec<u8>) -> Vec<u8>) {
        let path = self.input().join(MODEL);
        fs::write(&path, edit(fs::read(&path).unwrap())).unwrap();
    }

    pub fn quantize(&self) -> Report {
        quantize(&self.input(), &self.out(), &QuantizeOptions::default()).unwrap()
    }

    pub fn dequantize(&self) -> PathBuf {
        let (floats, flag) = (self.path("floats.mlpackage"), AtomicBool::new(false));
        let options = DequantizeOptions::default();
        let done = quant_models::dequantize(&self.out(), &floats, &options, &job(&flag));
        kept(done, &self.out(), &floats).unwrap();
        floats
    }

    pub fn weights(&self) -> String {
        digest(&self.out().join(WEIGHTS))
    }
}

pub fn names(package: &Path) -> Vec<String> {
    let found = quant_models::inspect(package, true).unwrap();
    found
        .tensors
        .into_iter()
        .map(|tensor| tensor.name)
        .collect()
}
