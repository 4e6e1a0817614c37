//! `quant run`, `quant calibrate --samples` and `quant evaluate`, run as processes.
#![cfg(feature = "run")]

mod evaluating;
mod gptq;
mod images;
#[path = "../kept/mod.rs"]
mod kept;
mod samples;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use quant_run::{Model, RunOptions, Tensor, Watch, read_arrays, write_npy, write_npz};
use serde_json::Value;
use tempfile::TempDir;

struct Room(TempDir);

impl Room {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn quant(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quant"));
        command.args(arguments).current_dir(self.0.path());
        let output = command.output().unwrap();
        if output.status.success() {
            kept::keep(self.0.path(), arguments);
        }
        output
    }

    fn done(&self, arguments: &[&str]) -> String {
        let output = self.quant(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {stderr}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Fails with one line that holds all of `words`, and writes nothing.
    fn refuses(&self, arguments: &[&str], words: &[&str]) {
        let before = self.names();
        let output = self.quant(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        for word in words {
            assert!(stderr.contains(word), "no `{word}` in: {stderr}");
        }
        assert_eq!(self.names(), before, "{arguments:?}");
    }

    fn names(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        names.sort();
        names
    }

    fn put(&self, name: &str, tensor: &Tensor) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, write_npy(tensor).unwrap()).unwrap();
    }

    /// Samples of a model with an input of this shape.
    fn samples(&self, shape: &[usize], count: usize) {
        for i in 0..count {
            self.put(&format!("samples/{i:03}.npy"), &sample(shape, i));
        }
    }
}

fn sample(shape: &[usize], seed: usize) -> Tensor {
    let len: usize = shape.iter().product();
    let values = (0..len).map(|i| ((i * 7919 + seed * 104_729) % 1009) as f32 / 504.5 - 1.0);
    Tensor::from_floats(shape, values.collect()).unwrap()
}

fn fixture(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../quant-models/tests/coreml");
    folder.join(name).to_string_lossy().into_owned()
}

/// A model or picture that `models/make.py` has made.
fn model(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/running/models");
    folder.join(name).to_string_lossy().into_owned()
}

fn json(room: &Room, name: &str) -> Value {
    serde_json::from_slice(&fs::read(room.path(name)).unwrap()).unwrap()
}

const NET: &str = "activations/conv_17_f16.mlpackage";
const NET_SHAPE: [usize; 4] = [1, 4, 8, 8];

#[test]
fn a_package_runs_once() {
    let room = Room::new();
    let net = fixture(NET);
    room.put("x.npy", &sample(&NET_SHAPE, 1));
    let text = room.done(&["run", &net, "--input", "x=x.npy", "-o", "y.npz"]);
    let outputs = read_arrays(&room.path("y.npz")).unwrap();
    let model = Model::open(net.as_ref(), RunOptions::default()).unwrap();
    assert_eq!(outputs.len(), model.outputs().len());
    for ((stored, tensor), name) in outputs.iter().zip(model.outputs()) {
        assert_eq!(stored.as_ref(), Some(name));
        assert!(
            tensor
                .floats()
                .unwrap()
                .iter()
                .all(|value| value.is_finite())
        );
        assert!(text.contains(name), "{text}");
    }
    // The one input needs no name; an npz file gives the same.
    let archive = write_npz(&[("x".into(), sample(&NET_SHAPE, 1))]).unwrap();
    fs::write(room.path("x.npz"), archive).unwrap();
    room.done(&[
        "run",
        &net,
        "--input",
        "x.npy",
        "-o",
        "again.npz",
        "--quiet",
    ]);
    room.done(&[
        "run",
        &net,
        "--input",
        "x.npz",
        "-o",
        "third.npz",
        "--quiet",
    ]);
    let first = fs::read(room.path("y.npz")).unwrap();
    assert_eq!(fs::read(room.path("again.npz")).unwrap(), first);
    assert_eq!(fs::read(room.path("third.npz")).unwrap(), first);
}

#[test]
fn bad_inputs_are_one_line_each() {
    let room = Room::new();
    let net = fixture(NET);
    room.put("x.npy", &sample(&NET_SHAPE, 1));
    room.put("short.npy", &sample(&[3], 1));
    fs::write(room.path("torn.npy"), b"\x93NUMPY\x01\x00\xff").unwrap();
    let run = |input: &str, words: &[&str]| {
        room.refuses(&["run", &net, "--input", input, "-o", "y.npz"], words);
    };
    run("x=short.npy", &["input `x`", "shape [3]", "[1, 4, 8, 8]"]);
    run("z=x.npy", &["input `z`", "it has x"]);
    run("x=torn.npy", &["torn.npy", "truncated"]);
    run("x=none.npy", &["none.npy"]);
    let mut values = sample(&NET_SHAPE, 1).floats().unwrap().to_vec();
    values[5] = f32::NAN;
    room.put("nan.npy", &Tensor::from_floats(&NET_SHAPE, values).unwrap());
    run("nan.npy", &["input `x`", "NaN at element 5"]);
    room.refuses(&["run", &net, "-o", "y.npz"], &["input `x`", "missing"]);
    room.refuses(
        &["run", &net, "--input", "x=x.npy", "-o", "y.txt"],
        &["y.txt", ".npz"],
    );
    let small = [
        "run", &net, "--input", "x=x.npy", "-o", "y.npz", "--memory", "64",
    ];
    room.refuses(&small, &["allow more"]);
    let functions = [
        "run",
        &net,
        "--input",
        "x=x.npy",
        "-o",
        "y.npz",
        "--function",
        "f",
    ];
    room.refuses(&functions, &["no function `f`", "main"]);
}

#[test]
fn bad_samples_are_one_line_each() {
    let room = Room::new();
    let net = fixture(NET);
    fs::create_dir(room.path("empty")).unwrap();
    let calibrate = |samples: &str, words: &[&str]| {
        let arguments = ["calibrate", &net, "--samples", samples, "-o", "r.json"];
        room.refuses(&arguments, words);
    };
    calibrate("empty", &["empty", "no samples in this folder"]);
    room.put("short/a.npy", &sample(&[3], 1));
    calibrate("short", &["a.npy", "shape [3]"]);
    let mut values = sample(&NET_SHAPE, 1).floats().unwrap().to_vec();
    values[5] = f32::NAN;
    room.put(
        "nan/a.npy",
        &Tensor::from_floats(&NET_SHAPE, values).unwrap(),
    );
    calibrate("nan", &["a.npy", "`x` is NaN at element 5"]);
    let archive =
        write_npz(&[("z".into(), sample(&[2], 0)), ("x".into(), sample(&[2], 0))]).unwrap();
    fs::create_dir(room.path("named")).unwrap();
    fs::write(room.path("named/a.npz"), archive).unwrap();
    calibrate("named", &["a.npz", "`z` is no input"]);
    room.refuses(&["calibrate", &net, "-o", "r.json"], &["give --samples"]);
}

/// Writes every float value of a run as recordings are written.
struct Record<'a>(&'a Room, usize);

impl Watch for Record<'_> {
    fn value(
        &mut self,
        _: &str,
        _: &str,
        name: &str,
        value: &Tensor,
    ) -> Result<(), quant_run::Error> {
        if value.floats().is_some() {
            self.0
                .put(&format!("recorded/{name}/{:03}.npy", self.1), value);
        }
        Ok(())
    }
}

#[test]
fn running_finds_the_ranges_of_recordings() {
    let room = Room::new();
    let net = fixture(NET);
    room.samples(&NET_SHAPE, 4);
    let model = Model::open(net.as_ref(), RunOptions::default()).unwrap();
    for i in 0..4 {
        let mut states = model.states().unwrap();
        let mut record = Record(&room, i);
        model
            .run(&[("x", sample(&NET_SHAPE, i))], &mut states, &mut record)
            .unwrap();
    }
    for observer in ["min-max", "moving-average", "percentile", "entropy", "mse"] {
        for threads in ["1", "2"] {
            let common = ["--observer", observer, "--force", "--quiet", "-o"];
            let run = [
                "calibrate",
                &net,
                "--samples",
                "samples",
                "--threads",
                threads,
            ];
            room.done(&[&run[..], &common, &["run.json"]].concat());
            room.done(&[&["calibrate", "recorded"], &common[..], &["all.json"]].concat());
            let read = |name: &str| -> Value {
                serde_json::from_slice(&fs::read(room.path(name)).unwrap()).unwrap()
            };
            let (found, all) = (read("run.json"), read("all.json"));
            let found = found["activations"].as_object().unwrap();
            assert!(found.len() >= 2, "{found:?}");
            for (name, range) in found {
                assert_eq!(range, &all["activations"][name], "{observer}: {name}");
            }
        }
    }
    // What quantization wants, it has.
    let wanted = room.done(&["activations", &net, "--list", "--json"]);
    let wanted: Value = serde_json::from_str(&wanted).unwrap();
    assert!(!wanted.to_string().is_empty());
    let small = [
        "activations",
        &net,
        "--ranges",
        "run.json",
        "-o",
        "small.mlpackage",
        "--strict",
    ];
    room.done(&small);
}

#[test]
fn evaluation_says_where_models_differ() {
    let room = Room::new();
    let net = fixture("activations/linear_17_f32.mlpackage");
    room.samples(&[4, 16], 3);
    let json = |second: &str| -> Value {
        let arguments = [
            "evaluate",
            &net,
            second,
            "--samples",
            "samples",
            "--json",
            "--threads",
            "1",
        ];
        let text = room.done(&arguments);
        assert_eq!(room.done(&arguments), text);
        serde_json::from_str(&text).unwrap()
    };
    let same = json(&net);
    assert_eq!(same["samples"], 3);
    assert_eq!(same["outputs"][0]["exact"], true);
    assert_eq!(same["outputs"][0]["top1"], 1.0);
    room.done(&[
        "calibrate",
        &net,
        "--samples",
        "samples",
        "-o",
        "r.json",
        "--quiet",
    ]);
    room.done(&[
        "activations",
        &net,
        "--ranges",
        "r.json",
        "-o",
        "small.mlpackage",
    ]);
    let differs = json("small.mlpackage");
    let db = differs["outputs"][0]["sqnr_db"].as_f64().unwrap();
    assert!((10.0..80.0).contains(&db), "{db}");
    let intermediates = differs["intermediates"].as_array().unwrap();
    assert_eq!(intermediates[0]["operation"], "input");
    assert!(intermediates.len() > 2, "{intermediates:?}");
    let names = ["evaluate", &net, &fixture(NET), "--samples", "samples"];
    room.refuses(&names, &["other outputs"]);
    fs::write(room.path("labels.csv"), "file,class\n000.npy,1\n").unwrap();
    let labels = [
        "evaluate",
        &net,
        &net,
        "--samples",
        "samples",
        "--labels",
        "labels.csv",
    ];
    room.refuses(&labels, &["labels.csv", "no label for 001.npy"]);
    // What never ends, and what never begins.
    let pipe = Command::new("mkfifo").arg(room.path("pipe")).status();
    assert!(pipe.unwrap().success());
    for endless in ["/dev/zero", "pipe", "samples"] {
        let labels = [&labels[..6], &[endless]].concat();
        room.refuses(&labels, &[endless, "not a file"]);
    }
    fs::write(room.path("labels.csv"), b"\xff\xfe").unwrap();
    room.refuses(&labels, &["labels.csv", "not text in UTF-8"]);
}
