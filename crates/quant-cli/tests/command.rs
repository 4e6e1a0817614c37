//! The command, run as a process: its messages, its exit codes, and the folder afterwards.

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
fn damaged_files_are_refused() {
    let folder = Folder::new();
    folder.refuses(
        &["quantize", "m.safetensors"],
        1,
        &["m.safetensors", "cannot open"],
    );
    let path = folder.path("m.safetensors");
    let entry = |shape: &str, from: usize, to: usize| {
        format!(r#"{{"dtype":"F32","shape":{shape},"data_offsets":[{from},{to}]}}"#)
    };
    fs::write(&path, b"").unwrap();
    folder.refuses(
        &["quantize", "m.safetensors"],
        1,
        &["m.safetensors", "empty or truncated"],
    );
    fs::write(&path, u64::MAX.to_le_bytes()).unwrap();
    folder.refuses(&["inspect", "m.safetensors"], 1, &["limit"]);
    fs::write(&path, 500_u64.to_le_bytes()).unwrap();
    folder.refuses(&["quantize", "m.safetensors"], 1, &["truncated"]);
    for (text, data, words) in [
        (
            "not json".to_string(),
            0,
            &["not that of a safetensors file"][..],
        ),
        (
            format!(r#"{{"a":{}}}"#, entry("[4]", 0, 16)),
            8,
            &["`a`", "out of bounds"],
        ),
        (
            format!(r#"{{"a":{}}}"#, entry("[5]", 0, 16)),
            16,
            &["`a`", "[5]"],
        ),
        (
            format!(r#"{{"a":{}}}"#, entry("[4611686018427387904,4]", 0, 16)),
            16,
            &["`a`", "overflows"],
        ),
        (
            format!(
                r#"{{"a":{},"b":{}}}"#,
                entry("[4]", 0, 16),
                entry("[4]", 8, 24)
            ),
            24,
            &["overlap"],
        ),
        (
            format!(r#"{{"a":{0},"a":{0}}}"#, entry("[4]", 0, 16)),
            16,
            &["duplicate name `a`"],
        ),
        (
            format!(r#"{{"a":{}}}"#, entry("[4]", 0, 16)),
            20,
            &["20 bytes of data"],
        ),
    ] {
        header(&path, &text, data);
        for command in ["quantize", "inspect", "dequantize"] {
            folder.refuses(&[command, "m.safetensors"], 1, words);
        }
    }
}

#[test]
fn an_unknown_type_is_carried_along() {
    let folder = Folder::new();
    header(
        &folder.path("m.safetensors"),
        r#"{"a":{"dtype":"F99","shape":[3],"data_offsets":[0,5]}}"#,
        5,
    );
    assert!(
        folder
            .succeeds(&["quantize", "m.safetensors"])
            .contains("type F99")
    );
    folder.refuses(
        &["dequantize", "m.int8.safetensors"],
        1,
        &["no tensor that quant quantized"],
    );
    assert!(
        folder
            .succeeds(&["diff", "m.safetensors", "m.int8.safetensors"])
            .contains("0 of 1")
    );
}

#[test]
fn options_that_fit_nothing_are_refused() {
    let folder = Folder::new();
    small_model(&folder.path("m.safetensors"));
    let refuses = |options: &[&str], words: &[&str]| {
        let arguments = [&["quantize", "m.safetensors"], options].concat();
        folder.refuses(&arguments, 1, words);
    };
    refuses(
        &["--granularity", "per_block", "--block-size", "97"],
        &["`w`", "97", "axis 1"],
    );
    refuses(&["--axis", "2"], &["`w`", "axis 2 is out of range"]);
    for (options, words) in [
        (["--include", "("], ["--include '('", "regular expression"]),
        (["--backend", "abacus"], ["`abacus`", "quant backends"]),
    ] {
        let arguments = [&["quantize", "m.safetensors"], &options[..]].concat();
        folder.refuses(&arguments, 2, &words);
    }
    refuses(&["-o", "m.safetensors", "--force"], &["the input itself"]);
    folder.refuses(
        &["quantize", "m.safetensors", "--axis", "2", "--strict"],
        3,
        &["`w`", "axis 2"],
    );
}

#[test]
fn names_that_clash_are_refused() {
    let folder = Folder::new();
    let (w, s) = (f32_bytes(64 * 96, wave), f32_bytes(1, wave));
    let path = folder.path("m.safetensors");
    write(
        &path,
        &[
            ("w", Dtype::F32, &[64, 96], &w),
            ("w.scale", Dtype::F32, &[1], &s),
        ],
    );
    folder.refuses(&["quantize", "m.safetensors"], 1, &["`w`", "`w.scale`"]);
    folder.succeeds(&["quantize", "m.safetensors", "--exclude", "^w$"]);
}

#[test]
fn values_that_cannot_be_quantized_are_refused() {
    let folder = Folder::new();
    let path = folder.path("m.safetensors");
    let nan = f32_bytes(64 * 96, |i| {
        if i == 100 || i == 200 {
            f32::NAN
        } else {
            wave(i)
        }
    });
    write(&path, &[("w", Dtype::F32, &[64, 96], &nan)]);
    folder.refuses(
        &["quantize", "m.safetensors"],
        1,
        &["`w`", "2 of 6144", "[1, 4]", "--non-finite skip"],
    );
    let skip = ["quantize", "m.safetensors", "--non-finite", "skip"];
    folder.refuses(&[&skip[..], &["--strict"]].concat(), 3, &["`w`", "NaN"]);

    let f16 = |bits: u16| bits.to_le_bytes().repeat(64 * 96);
    for (bits, word) in [(0x7b00, "overflows"), (0x0001, "underflows")] {
        write(&path, &[("w", Dtype::F16, &[64, 96], &f16(bits))]);
        folder.refuses(
            &["quantize", "m.safetensors"],
            1,
            &["`w`", word, "use --dialect wide"],
        );
        folder.succeeds(&["quantize", "m.safetensors", "--dialect", "wide", "--force"]);
        fs::remove_file(folder.path("m.int8.safetensors")).unwrap();
    }
    let large = f32_bytes(64 * 96, |_| 3e38);
    write(&path, &[("w", Dtype::F32, &[64, 96], &large)]);
    folder.refuses(
        &["quantize", "m.safetensors"],
        1,
        &["`w`", "overflows", "--exclude '^w$'"],
    );
}

#[test]
fn outputs_are_replaced_only_by_force() {
    let folder = Folder::new();
    small_model(&folder.path("m.safetensors"));
    fs::write(folder.path("out"), "precious").unwrap();
    folder.refuses(
        &["quantize", "m.safetensors", "-o", "out"],
        1,
        &["out", "--force"],
    );
    assert_eq!(fs::read(folder.path("out")).unwrap(), b"precious");
    folder.refuses(
        &["quantize", "m.safetensors", "-o", "none/out"],
        1,
        &["none/out", "cannot create"],
    );
    // Nobody can create a file here, not even root.
    #[cfg(target_os = "linux")]
    folder.refuses(
        &["quantize", "m.safetensors", "-o", "/proc/out"],
        1,
        &["/proc/out", "cannot create"],
    );
    folder.succeeds(&["quantize", "m.safetensors", "-o", "out", "--force"]);
    folder.refuses(
        &["quantize", "out", "-o", "again"],
        1,
        &["out", "already quantized"],
    );
    assert_eq!(folder.names(), ["m.safetensors", "out"]);
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
    assert!(dry.contains("Nothing was written"), "{dry}");
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

/// Ctrl-C and a kill at many moments: no output or a whole one, and after Ctrl-C nothing else.
#[test]
fn a_killed_run_leaves_no_half_output() {
    let folder = Folder::new();
    let w = f32_bytes(2048 * 2048, wave);
    let path = folder.path("m.safetensors");
    write(&path, &[("w", Dtype::F32, &[2048, 2048], &w)]);
    folder.succeeds(&["quantize", "m.safetensors", "-o", "whole"]);
    let whole = fs::read(folder.path("whole")).unwrap();
    let mut ended_early = 0;
    for moment in 0..24 {
        for signal in ["-INT", "-KILL"] {
            let mut child = Command::new(env!("CARGO_BIN_EXE_quant"))
                .args(["quantize", "m.safetensors", "-o", "out", "--quiet"])
                .current_dir(folder.0.path())
                .stderr(std::process::Stdio::null())
                .spawn()
                .unwrap();
            std::thread::sleep(std::time::Duration::from_millis(2 * moment));
            let kill = Command::new("kill")
                .args([signal, &child.id().to_string()])
                .status();
            assert!(kill.is_ok());
            let status = child.wait().unwrap();
            ended_early += usize::from(!status.success());
            let mut names = folder.names();
            if signal == "-KILL" {
                names.retain(|name| !name.starts_with(".quant-"));
            }
            match fs::read(folder.path("out")) {
                Ok(bytes) => {
                    assert!(bytes == whole, "a half output");
                    assert_eq!(names, ["m.safetensors", "out", "whole"]);
                    fs::remove_file(folder.path("out")).unwrap();
                }
                Err(_) => assert_eq!(names, ["m.safetensors", "whole"]),
            }
            for name in folder
                .names()
                .iter()
                .filter(|name| name.starts_with(".quant-"))
            {
                fs::remove_file(folder.path(name)).unwrap();
            }
        }
    }
    assert!(ended_early > 0, "no run was hit");
}

/// A device without room, which Linux has ready.
#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_reported() {
    let folder = Folder::new();
    let w = f32_bytes(2048 * 512, wave);
    write(
        &folder.path("m.safetensors"),
        &[("w", Dtype::F32, &[2048, 512], &w)],
    );
    // A limit on the size of files makes the write fail as a full disk does.
    let script = format!(
        "trap '' XFSZ; ulimit -f 100; exec '{}' quantize m.safetensors",
        env!("CARGO_BIN_EXE_quant")
    );
    let output = Command::new("sh")
        .args(["-c", &script])
        .current_dir(folder.0.path())
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("m.int8.safetensors") && stderr.contains("cannot write"),
        "{stderr}"
    );
    assert_eq!(folder.names(), ["m.safetensors"]);
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_standard_error_changes_no_exit_code() {
    let status = Command::new(env!("CARGO_BIN_EXE_quant"))
        .args(["inspect", "no such model"])
        .stderr(fs::File::create("/dev/full").unwrap())
        .status();
    assert_eq!(status.unwrap().code(), Some(1));
}

/// An impossible report ends the work before there is an output; a folder that is missing is named
/// as it was given.
#[test]
fn places_that_are_not_there_are_named() {
    let folder = Folder::new();
    let w = f32_bytes(64 * 64, wave);
    write(
        &folder.path("m.safetensors"),
        &[("w", Dtype::F32, &[64, 64], &w)],
    );
    let report = ["quantize", "m.safetensors", "--report", "none/r.json"];
    folder.refuses(&report, 1, &["none/r.json", "not found"]);
    let output = ["quantize", "m.safetensors", "-o", "none/m.safetensors"];
    folder.refuses(&output, 1, &["none/m.safetensors", "not found"]);
    let said = folder.quant(&output).stderr;
    let said = String::from_utf8(said).unwrap();
    assert!(!said.contains(".quant-"), "{said}");
    folder.succeeds(&["quantize", "m.safetensors", "--report", "r.json"]);
    let names = ["m.int8.safetensors", "m.safetensors", "r.json"];
    assert_eq!(folder.names(), names);
    for (report, words) in [
        ("r.json", "exists already"),
        ("m.safetensors", "the report is the model itself"),
        ("./m.safetensors", "the report is the model itself"),
        ("o.safetensors", "the report is the model itself"),
        ("new/", "the name of a folder"),
    ] {
        let arguments = [
            "quantize",
            "m.safetensors",
            "-o",
            "o.safetensors",
            "--report",
            report,
        ];
        folder.refuses(&arguments, 1, &[report, words]);
    }
    folder.succeeds(&["quantize", "m.safetensors", "--report", "r.json", "--force"]);
}
