//! Recordings in a temporary folder, and the command at work there.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use tempfile::TempDir;

pub struct Folder(TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quant"));
        command
            .arg("calibrate")
            .args(arguments)
            .current_dir(self.0.path());
        command
    }

    /// What stands in the output, which is removed.
    pub fn calibrated(&self, arguments: &str) -> String {
        let _ = fs::remove_file(self.path("out.json"));
        let arguments: Vec<&str> = arguments.split(' ').chain(["-o", "out.json"]).collect();
        let output = self.command(&arguments).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {stderr}");
        fs::read_to_string(self.path("out.json")).unwrap()
    }

    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    /// It failed, with one line that holds all of `words`.
    pub fn check_refusal(&self, output: &Output, words: &[&str]) {
        self.check_failure(output, 1, words);
    }

    /// It ended with that status, and one line that holds all of `words`.
    pub fn check_failure(&self, output: &Output, status: i32, words: &[&str]) {
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{words:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        for word in words {
            assert!(stderr.contains(word), "no `{word}` in: {stderr}");
        }
    }
}

/// An array as NumPy writes it.
pub fn npy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let header =
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}          \n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

pub fn npy_f32(values: &[f32]) -> Vec<u8> {
    npy("<f4", &format!("({},)", values.len()), &f32_bytes(values))
}

pub fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

/// Values with a peak, tails, and few outliers, other ones for each `seed`.
pub fn values(seed: usize, len: usize) -> Vec<f32> {
    let mut state = seed as u64 + 1;
    let mut uniform = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 40) as f32 / (1 << 24) as f32
    };
    (0..len)
        .map(|i| {
            let value = uniform() + uniform() + uniform() - 1.3;
            match i % 997 {
                996 => value * 9.0 * (seed + 1) as f32,
                _ => value,
            }
        })
        .collect()
}
