//! The command, run as a process: its messages, its exit codes, and the folder afterwards.

mod inputs;
mod written;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use safetensors::tensor::{Dtype, TensorView};
use tempfile::TempDir;

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    fn quant(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_quant"))
            .args(arguments)
            .current_dir(self.0.path())
            .output()
            .unwrap()
    }

    /// Fails with one line that holds all of `words`, and leaves the folder as it was.
    fn refuses(&self, arguments: &[&str], code: i32, words: &[&str]) {
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

    fn succeeds(&self, arguments: &[&str]) -> String {
        let output = self.quant(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {stderr}");
        String::from_utf8(output.stdout).unwrap()
    }
}

fn f32_bytes(n: usize, value: impl Fn(usize) -> f32) -> Vec<u8> {
    (0..n).flat_map(|i| value(i).to_le_bytes()).collect()
}

fn wave(i: usize) -> f32 {
    ((i * 7919) % 1009) as f32 / 500.0 - 1.0
}

fn write(path: &Path, tensors: &[(&str, Dtype, &[usize], &[u8])]) {
    let views: BTreeMap<&str, TensorView<'_>> = tensors
        .iter()
        .map(|(name, dtype, shape, data)| {
            (
                *name,
                TensorView::new(*dtype, shape.to_vec(), data).unwrap(),
            )
        })
        .collect();
    let metadata = [("author".to_string(), "somebody".to_string())].into();
    fs::write(path, safetensors::serialize(views, Some(metadata)).unwrap()).unwrap();
}

/// `w` of 64 x 96, and `b` of 64.
fn small_model(path: &Path) {
    let (w, b) = (f32_bytes(64 * 96, wave), f32_bytes(64, wave));
    write(
        path,
        &[
            ("w", Dtype::F32, &[64, 96], &w),
            ("b", Dtype::F32, &[64], &b),
        ],
    );
}

fn header(path: &Path, header: &str, data: usize) {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    fs::write(path, bytes).unwrap();
}

#[test]
fn any_backend_and_number_of_threads_writes_the_same_file() {
    let folder = Folder::new();
    let backends = folder.succeeds(&["backends"]);
    let backends: Vec<&str> = backends.lines().collect();
    assert!(backends.contains(&"scalar"), "{backends:?}");
    // Each number of threads, and each backend.
    let mut runs: Vec<(&str, &str)> = ["1", "3"].map(|threads| (threads, backends[0])).to_vec();
    runs.extend(backends.iter().map(|&backend| ("2", backend)));
    let n = 300 * 1001;
    let (w, ids) = (f32_bytes(n, wave), [7; 16]);
    let path = folder.path("m.safetensors");
    write(
        &path,
        &[
            ("w", Dtype::F32, &[300, 1001], &w),
            ("ids", Dtype::I64, &[2], &ids),
        ],
    );
    for dtype in ["int8", "uint8", "int4", "uint4"] {
        for granularity in ["per-tensor", "per-channel", "per-block"] {
            for mode in ["linear_symmetric", "affine"] {
                let mut files = Vec::new();
                for (threads, backend) in &runs {
                    folder.succeeds(&[
                        "quantize",
                        "m.safetensors",
                        "-o",
                        "q",
                        "--force",
                        "--quiet",
                        "--dtype",
                        dtype,
                        "--granularity",
                        granularity,
                        "--mode",
                        mode,
                        "--threads",
                        threads,
                        "--backend",
                        backend,
                    ]);
                    files.push(fs::read(folder.path("q")).unwrap());
                }
                assert!(
                    files.iter().all(|file| *file == files[0]),
                    "{dtype} {granularity} {mode}"
                );
                let bytes = &files[0];
                let file = safetensors::SafeTensors::deserialize(bytes).unwrap();
                assert_eq!(file.tensor("ids").unwrap().data(), ids);
                let (_, header) = safetensors::SafeTensors::read_metadata(bytes).unwrap();
                assert_eq!(header.metadata().as_ref().unwrap()["author"], "somebody");
                folder.succeeds(&["dequantize", "q", "-o", "f", "--force"]);
                folder.succeeds(&["diff", "q", "q"]);
                assert_eq!(
                    folder.quant(&["diff", "q", "m.safetensors"]).status.code(),
                    Some(1)
                );
            }
        }
    }
}

#[test]
fn sharded_models_keep_their_shards() {
    let folder = Folder::new();
    let model = folder.path("model");
    fs::create_dir(&model).unwrap();
    let (u, v) = (f32_bytes(64 * 96, wave), f32_bytes(48 * 96, wave));
    write(
        &model.join("a.safetensors"),
        &[("u", Dtype::F32, &[64, 96], &u)],
    );
    write(
        &model.join("b.safetensors"),
        &[("v", Dtype::F32, &[48, 96], &v)],
    );
    let index = r#"{"metadata":{"total_size":43008},"weight_map":{"u":"a.safetensors","v":"b.safetensors"}}"#;
    fs::write(model.join("model.safetensors.index.json"), index).unwrap();
    folder.succeeds(&["quantize", "model"]);
    folder.succeeds(&["quantize", "model", "--force", "--dtype", "int8"]);
    folder.refuses(&["quantize", "model"], 1, &["model.int8", "--force"]);
    let index = fs::read(folder.path("model.int8/model.safetensors.index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
    assert_eq!(index["weight_map"]["u.scale"], "a.safetensors");
    assert_eq!(index["weight_map"]["v"], "b.safetensors");
    assert_eq!(index["metadata"]["total_size"], 64 * 100 + 48 * 100);
    assert_eq!(folder.names(), ["model", "model.int8"]);
    let listed = folder.succeeds(&["inspect", "model.int8", "--json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed["tensors"].as_array().unwrap().len(), 2);
    folder.succeeds(&["dequantize", "model.int8", "-o", "back"]);
    assert_eq!(
        folder.quant(&["diff", "model", "back"]).status.code(),
        Some(1)
    );

    fs::write(
        model.join("model.safetensors.index.json"),
        r#"{"weight_map":{"u":"../x"}}"#,
    )
    .unwrap();
    folder.refuses(&["inspect", "model"], 1, &["plain file name"]);
    fs::remove_file(model.join("model.safetensors.index.json")).unwrap();
    folder.refuses(
        &["inspect", "model"],
        1,
        &["safetensors files without an index"],
    );
}

#[test]
fn the_report_is_complete() {
    let folder = Folder::new();
    small_model(&folder.path("m.safetensors"));
    let dry = folder.succeeds(&["quantize", "m.safetensors", "--dry-run"]);
    assert!(dry.contains("No model was written"), "{dry}");
    assert_eq!(folder.names(), ["m.safetensors"]);
    let text = folder.succeeds(&["quantize", "m.safetensors", "--json", "--report", "r.json"]);
    assert_eq!(text, fs::read_to_string(folder.path("r.json")).unwrap());
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["version"], 1);
    let tensors = report["tensors"].as_array().unwrap();
    let w = tensors.iter().find(|tensor| tensor["name"] == "w").unwrap();
    assert_eq!(
        (&w["bytes_after"], &w["scheme"]["dtype"]),
        (&(6144 + 256).into(), &"int8".into())
    );
    assert!((40.0..60.0).contains(&w["sqnr_db"].as_f64().unwrap()));
    let b = tensors.iter().find(|tensor| tensor["name"] == "b").unwrap();
    assert_eq!(
        (&b["reason"], &b["skipped"]),
        (&"rank 1".into(), &false.into())
    );
}
