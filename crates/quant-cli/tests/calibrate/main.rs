//! `quant calibrate`, run as a process, beside the reference observers.

#[path = "../recordings/mod.rs"]
mod recordings;
mod refused;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::process::Stdio;

use quant_core::observer::{Averaging, Observer, ObserverConfig};
use quant_core::{ActivationRule, FloatType, IntType, Mode};
use recordings::{Folder, f32_bytes, npy, npy_f32, values};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::Value;

impl Folder {
    /// Fails with one line that holds all of `words`, and leaves the folder as it was.
    fn refuses(&self, arguments: &str, words: &[&str]) {
        let before = self.names();
        let arguments: Vec<&str> = arguments.split(' ').collect();
        let output = self.command(&arguments).output().unwrap();
        self.check_refusal(&output, words);
        assert_eq!(self.names(), before, "{arguments:?}");
    }
}

fn safetensors(tensors: &[(&str, Dtype, &[u8])]) -> Vec<u8> {
    let views: BTreeMap<&str, TensorView<'_>> = tensors
        .iter()
        .map(|(name, dtype, data)| {
            let shape = vec![8 * data.len() / dtype.bitsize()];
            (*name, TensorView::new(*dtype, shape, data).unwrap())
        })
        .collect();
    safetensors::serialize(views, None).unwrap()
}

/// Every observer, with options that are not the usual ones.
fn observers() -> [(&'static str, ObserverConfig); 6] {
    [
        ("min-max", ObserverConfig::MinMax),
        (
            "moving-average",
            ObserverConfig::MovingAverage {
                averaging: Averaging::TORCH,
            },
        ),
        (
            "moving-average --averaging ratio=0.9",
            ObserverConfig::MovingAverage {
                averaging: Averaging::Ratio(0.9),
            },
        ),
        (
            "percentile --bins 512 --percentile 99.9",
            ObserverConfig::Percentile {
                bins: 512,
                percentile: 99.9,
            },
        ),
        ("entropy", ObserverConfig::Entropy { bins: 2048 }),
        ("mse --bins 1024", ObserverConfig::Mse { bins: 1024 }),
    ]
}

/// Six samples of two activations; one of the samples has nothing finite, one is empty.
fn recorded(folder: &Folder) -> [Vec<Vec<f32>>; 2] {
    let mut conv: Vec<Vec<f32>> = (0..4).map(|i| values(i, 5000 + 100 * i)).collect();
    conv[1][7] = f32::NAN;
    conv[2][9] = f32::NEG_INFINITY;
    conv.push(vec![f32::NAN; 3]);
    conv.push(Vec::new());
    let relu: Vec<Vec<f32>> = (0..6)
        .map(|i| values(i + 10, 300).iter().map(|x| x.max(0.0)).collect())
        .collect();
    for (i, (conv, relu)) in conv.iter().zip(&relu).enumerate() {
        let (conv, relu) = (f32_bytes(conv), f32_bytes(relu));
        let file = safetensors(&[("conv.1", Dtype::F32, &conv), ("relu", Dtype::F32, &relu)]);
        folder.write(&format!("data/{i}.safetensors"), &file);
    }
    [conv, relu]
}

#[test]
fn every_observer_finds_what_the_reference_finds() {
    let folder = Folder::new();
    let recorded = recorded(&folder);
    for (name, config) in observers() {
        for (dtype, mode) in [
            (IntType::Int8, Mode::Symmetric),
            (IntType::Uint8, Mode::Affine),
        ] {
            let text = folder.calibrated(&format!(
                "data --observer {name} --dtype {} --mode {}",
                dtype.name(),
                mode.name()
            ));
            let document: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(document["observer"]["kind"], config.name());
            for (activation, samples) in ["conv.1", "relu"].iter().zip(&recorded) {
                let mut observer = Observer::new(config).unwrap();
                for sample in samples {
                    observer.observe(sample);
                }
                let found = &document["activations"][activation];
                let range = observer.range(dtype, mode).unwrap();
                let number = |key: &str| found[key].as_f64().unwrap();
                assert_eq!(number("min"), f64::from(range.min), "{name} {activation}");
                assert_eq!(number("max"), f64::from(range.max), "{name} {activation}");
                let observed = observer.values();
                let exact = observed.range().unwrap();
                assert_eq!(number("observed_min"), f64::from(exact.min));
                assert_eq!(number("observed_max"), f64::from(exact.max));
                assert_eq!(found["samples"], 6);
                assert_eq!(found["elements"], observed.count());
                assert_eq!(found["non_finite"], observed.non_finite());
                let params = ActivationRule::Coremltools
                    .params(&range, dtype, mode, FloatType::F16)
                    .unwrap();
                assert_eq!(number("scale"), f64::from(params.scale()));
                assert_eq!(found["zero_point"], params.zero_point());
                match observer.histogram() {
                    None => assert!(found.get("histogram").is_none()),
                    Some(histogram) => {
                        let stored = &found["histogram"];
                        assert_eq!(stored["exponent"], histogram.exponent());
                        let first = stored["first"].as_u64().unwrap();
                        let mut counts = vec![0; first as usize];
                        for run in stored["counts"].as_array().unwrap() {
                            match run.as_i64().unwrap() {
                                run if run < 0 => counts.resize(counts.len() + (-run) as usize, 0),
                                count => counts.push(count as u64),
                            }
                        }
                        counts.resize(histogram.counts().len(), 0);
                        assert_eq!(counts, histogram.counts(), "{name} {activation}");
                    }
                }
            }
        }
    }
}

#[test]
fn any_partition_merges_to_the_same_bytes() {
    let folder = Folder::new();
    recorded(&folder);
    let all: Vec<String> = (0..6).map(|i| format!("data/{i}.safetensors")).collect();
    for (name, config) in observers() {
        let options = format!("--observer {name} --mode affine");
        if let ObserverConfig::MovingAverage { .. } = config {
            continue;
        }
        let whole = folder.calibrated(&format!("data {options}"));
        for partition in 1..1 << 5 {
            let mut parts = Vec::new();
            for (part, in_a) in [("a.json", true), ("b.json", false)] {
                let files: Vec<&str> = (0..6)
                    .filter(|i| (partition >> i & 1 == 1) == in_a)
                    .map(|i| all[i].as_str())
                    .collect();
                let text = folder.calibrated(&format!("{} {options}", files.join(" ")));
                folder.write(part, text.as_bytes());
                parts.push(part);
            }
            if partition % 2 == 0 {
                parts.reverse();
            }
            let merged = folder.calibrated(&format!("--merge {}", parts.join(" ")));
            assert_eq!(merged, whole, "{name}, {partition:b}");
        }
        // A tree of more than two.
        for (i, file) in all.iter().enumerate() {
            let text = folder.calibrated(&format!("{file} {options}"));
            folder.write(&format!("{i}.json"), text.as_bytes());
        }
        let merged = folder.calibrated("--merge 5.json 2.json 3.json");
        folder.write("a.json", merged.as_bytes());
        let merged = folder.calibrated("--merge 4.json a.json 0.json 1.json");
        assert_eq!(merged, whole, "{name}");
    }
}

#[test]
fn threads_and_backends_make_no_difference() {
    let folder = Folder::new();
    for i in 0..3 {
        let (a, b) = (
            f32_bytes(&values(i, 2_500_001)),
            f32_bytes(&values(i + 5, 999)),
        );
        let file = safetensors(&[("a", Dtype::F32, &a), ("b", Dtype::F32, &b)]);
        folder.write(&format!("data/{i}.safetensors"), &file);
    }
    for (name, _) in observers() {
        let one = folder.calibrated(&format!("data --observer {name} --threads 1"));
        let many = folder.calibrated(&format!("data --observer {name} --threads 5"));
        let scalar = folder.calibrated(&format!("data --observer {name} --backend scalar"));
        assert!(one == many && one == scalar, "{name}");
    }
}

#[test]
fn files_and_streams_of_any_type_give_the_same() {
    let folder = Folder::new();
    // Values that f16 holds.
    let samples: Vec<Vec<f32>> = (0..5)
        .map(|i| {
            values(i, 700)
                .iter()
                .map(|x| (x * 16.0).round() / 16.0)
                .collect()
        })
        .collect();
    let halves = |sample: &[f32]| -> Vec<u8> {
        let halves = sample.iter().map(|&x| half::f16::from_f32(x));
        halves.flat_map(|half| half.to_le_bytes()).collect()
    };
    let swapped = |sample: &[f32]| -> Vec<u8> {
        sample
            .iter()
            .flat_map(|x| f64::from(*x).to_be_bytes())
            .collect()
    };
    let doubles = |sample: &[f32]| -> Vec<u8> {
        sample
            .iter()
            .flat_map(|x| f64::from(*x).to_le_bytes())
            .collect()
    };
    let arrays = [
        npy_f32(&samples[0]),
        npy("<f2", "(70, 10)", &halves(&samples[1])),
        npy(">f8", "(700,)", &swapped(&samples[2])),
        npy("<f8", "(1, 700, 1)", &doubles(&samples[3])),
        npy("<f4", "(7, 100)", &f32_bytes(&samples[4])),
    ];
    for (i, array) in arrays.iter().enumerate() {
        folder.write(&format!("data/features.1/{i}.npy"), array);
        folder.write(&format!("loose/{i}.npy"), array);
        folder.write(
            &format!("tensors/{i}.safetensors"),
            &safetensors(&[("features.1", Dtype::F32, &f32_bytes(&samples[i]))]),
        );
    }
    folder.write("data/notes.txt", b"not a recording");
    for (name, _) in observers() {
        let expected = folder.calibrated(&format!("tensors --observer {name}"));
        assert!(expected.contains("\"features.1\""));
        let of = |data: &str| folder.calibrated(&format!("{data} --observer {name}"));
        assert_eq!(of("data"), expected, "{name}");
        assert_eq!(of("loose --name features.1"), expected, "{name}");

        fs::remove_file(folder.path("out.json")).unwrap();
        let arguments = format!("- --name features.1 -o out.json --observer {name}");
        let mut child = folder
            .command(&arguments.split(' ').collect::<Vec<_>>())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(&arrays.concat())
            .unwrap();
        assert!(child.wait().unwrap().success());
        let streamed = fs::read_to_string(folder.path("out.json")).unwrap();
        assert_eq!(streamed, expected, "{name}");
    }
    let own_names = folder.calibrated("loose");
    let document: Value = serde_json::from_str(&own_names).unwrap();
    let names: Vec<&String> = document["activations"]
        .as_object()
        .unwrap()
        .keys()
        .collect();
    assert_eq!(names, ["0", "1", "2", "3", "4"]);
}

#[test]
fn an_activation_without_finite_values_has_no_range() {
    let folder = Folder::new();
    folder.write("nan.npy", &npy_f32(&[f32::NAN; 9]));
    folder.write("big.npy", &npy_f32(&[-1.0, 1e6]));
    folder.write("good.npy", &npy_f32(&[-1.0, f32::INFINITY, 2.0]));
    let output = folder
        .command(&["nan.npy", "big.npy", "good.npy", "-o", "out.json"])
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    for line in [
        "`nan`: none of its 9 values is finite",
        "`good`: 1 of 3 values are NaN or infinite",
        "`big`: no scale for its range",
    ] {
        assert!(stderr.contains(line), "no {line} in {stderr}");
    }
    let text = fs::read_to_string(folder.path("out.json")).unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["without_range"]["nan"]["non_finite"], 9);
    assert_eq!(document["activations"]["good"]["max"], 2.0);
    assert_eq!(document["activations"]["big"]["scale"], Value::Null);
    assert_eq!(document["activations"].as_object().unwrap().len(), 2);
    folder.write("one.json", text.as_bytes());
    assert_eq!(folder.calibrated("--merge one.json"), text);
}

#[test]
fn help_has_examples() {
    let help = |arguments: &[&str]| {
        let mut quant = std::process::Command::new(env!("CARGO_BIN_EXE_quant"));
        let output = quant.args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let all = help(&["--help"]);
    for (command, example) in [
        (
            "calibrate",
            "quant calibrate --merge a.json b.json -o ranges.json",
        ),
        ("plot", "quant plot ranges.json -o ranges.html"),
    ] {
        let of_command = help(&[command, "--help"]);
        assert!(of_command.contains(example), "{of_command}");
        let line = all.lines().find(|line| line.trim().starts_with(command));
        let about = of_command.lines().next().unwrap();
        assert!(line.is_some_and(|line| line.ends_with(about)), "{all}");
    }
}
