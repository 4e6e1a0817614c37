//! A package to be damaged, byte by byte or field by field.

use std::fs;
use std::path::{Path, PathBuf};

use quant_models::{Error, Job, QuantizeOptions, Report};
use tempfile::TempDir;

use crate::coreml::{MODEL, WEIGHTS, fixture, kept};
pub use crate::coreml::{along, field};

pub struct Package {
    pub folder: TempDir,
}

impl Package {
    /// A copy of a fixture, to be damaged.
    pub fn of(name: &str) -> Self {
        let package = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        let from = fixture(name);
        for inner in ["Manifest.json", MODEL, WEIGHTS] {
            let to = package.path().join(inner);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(from.join(inner), to).unwrap();
        }
        package
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("in.mlpackage")
    }

    pub fn out(&self) -> PathBuf {
        self.folder.path().join("out.mlpackage")
    }

    pub fn edit(&self, inner: &str, edit: impl FnOnce(&mut Vec<u8>)) {
        let path = self.path().join(inner);
        let mut bytes = fs::read(&path).unwrap();
        edit(&mut bytes);
        fs::write(&path, bytes).unwrap();
    }

    pub fn quantize(&self) -> Result<Report, Error> {
        run(&self.path(), &self.out(), &QuantizeOptions::default())
    }

    /// One line that holds all of `words`, and nothing but the input left.
    pub fn refuses(&self, words: &[&str]) {
        let error = self.quantize().expect_err("an error").to_string();
        assert_eq!(error.lines().count(), 1, "{error}");
        for word in words {
            assert!(error.contains(word), "no `{word}` in: {error}");
        }
        assert_eq!(
            fs::read_dir(self.folder.path()).unwrap().count(),
            1,
            "{error}"
        );
        let found = quant_models::inspect(&self.path(), true);
        assert!(
            found.is_err(),
            "inspect reads what quantize refuses: {error}"
        );
    }
}

pub fn run(input: &Path, output: &Path, options: &QuantizeOptions) -> Result<Report, Error> {
    let job = Job::UNWATCHED;
    kept(
        quant_models::quantize(input, output, options, &job),
        input,
        output,
    )
}

/// From the model to the values of operations: program, function, block, operation.
pub const OPERATION: [u32; 6] = [502, 2, 2, 3, 2, 3];

pub fn random_from(mut state: u64) -> impl FnMut() -> usize {
    move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as usize
    }
}
