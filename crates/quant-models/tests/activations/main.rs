//! Activations of Core ML packages: what coremltools 9.0 made of each fixture, and ours beside it.

#[path = "../coreml/mod.rs"]
#[allow(dead_code)]
mod coreml;
mod wanted;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use coreml::{MODEL, WEIGHTS, describe, kept};
use quant_core::Dialect;
use quant_models::{
    ActivationOptions, ActivationRange, Config, Error, Job, OperationReport, QuantizeOptions,
    Ranges, Report, WantedActivation,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

fn package(name: &str) -> PathBuf {
    coreml::fixture(&format!("../activations/{name}.mlpackage"))
}

fn expected() -> Value {
    let text = fs::read(coreml::fixture("../expected_activations.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

fn lines(expected: &Value, numbers: &Value) -> Vec<String> {
    let numbers = numbers.as_array().unwrap().iter();
    let line = |number: &Value| expected["lines"][number.as_u64().unwrap() as usize].as_str();
    numbers
        .map(|number| line(number).unwrap().to_owned())
        .collect()
}

fn digest(path: &Path) -> String {
    let digest = Sha256::digest(fs::read(path).unwrap());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn job(cancelled: &AtomicBool) -> Job<'_> {
    Job::UNWATCHED.with_force(true).with_cancel(cancelled)
}

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn options(&self, ranges: &Value, configuration: &Value) -> ActivationOptions {
        let (file, config) = (self.path("ranges.json"), self.path("configuration.json"));
        fs::write(&file, ranges.to_string()).unwrap();
        fs::write(&config, configuration.to_string()).unwrap();
        ActivationOptions::open(&file)
            .unwrap()
            .with_config(Config::open(&config, Dialect::Coremltools).unwrap())
    }

    fn quantize(&self, input: &Path, options: &ActivationOptions) -> Result<Report, Error> {
        let (out, flag) = (self.path("out.mlpackage"), AtomicBool::new(false));
        let done = quant_models::quantize_activations(input, &out, options, &job(&flag));
        kept(done, input, &out)
    }

    fn described(&self) -> Vec<String> {
        describe(&self.path("out.mlpackage"))
    }
}

fn ranges(of: &[(&str, f32, f32)]) -> Ranges {
    let of = of
        .iter()
        .map(|&(name, min, max)| (name.into(), ActivationRange { min, max }));
    Ranges {
        version: 1,
        activations: of.collect(),
    }
}

fn options(of: &[(&str, f32, f32)]) -> ActivationOptions {
    let folder = Folder::new();
    let file = folder.path("ranges.json");
    fs::write(&file, json!({"version": 1, "activations": {}}).to_string()).unwrap();
    ActivationOptions::open(&file)
        .unwrap()
        .with_ranges(ranges(of))
}

fn operation<'r>(report: &'r Report, name: &str) -> &'r OperationReport {
    let mut operations = report.operations.iter();
    operations.find(|operation| operation.name == name).unwrap()
}

fn wanted(input: &Path, options: &ActivationOptions) -> Vec<WantedActivation> {
    let wanted = quant_models::wanted_activations(input, options).unwrap();
    assert!(wanted.warnings.is_empty(), "{:?}", wanted.warnings);
    wanted.activations
}

#[test]
fn packages_are_what_coremltools_makes() {
    let (expected, folder) = (expected(), Folder::new());
    let (mut compared, mut refused) = (0, 0);
    let same = |name: &str, found: &[String], case: &Value| {
        let wanted = lines(&expected, &case["operations"]);
        for (ours, theirs) in found.iter().zip(&wanted) {
            assert_eq!(ours, theirs, "{name}");
        }
        assert_eq!(found.len(), wanted.len(), "{name}");
        let weights = digest(&folder.path("out.mlpackage").join(WEIGHTS));
        assert_eq!(weights, case["weights"], "{name}");
    };
    for (name, cases) in expected["packages"].as_object().unwrap() {
        let input = package(name);
        for (key, case) in cases.as_object().unwrap() {
            let configuration = &expected["configurations"][key];
            let options = folder.options(&expected["ranges"][name], configuration);
            let report = folder.quantize(&input, &options).unwrap();
            if case["error"].is_string() {
                refused += 1;
                continue;
            }
            same(&format!("{name} {key}"), &folder.described(), case);
            compared += 1;
            assert_eq!(
                report.operations.iter().any(|operation| operation.skipped),
                name.starts_with("partial"),
                "{name}"
            );
            let Some(both) = case.get("both") else {
                continue;
            };
            let weights = QuantizeOptions::default()
                .with_activations(options)
                .with_min_elements(
                    expected["weights"]["global_config"]["weight_threshold"]
                        .as_u64()
                        .unwrap() as usize,
                );
            let (out, flag) = (folder.path("out.mlpackage"), AtomicBool::new(false));
            let done = quant_models::quantize(&input, &out, &weights, &job(&flag));
            kept(done, &input, &out).unwrap();
            same(
                &format!("{name} {key} and weights"),
                &folder.described(),
                both,
            );
            compared += 1;
        }
    }
    println!("{compared} packages are what coremltools makes; {refused} it refuses");
    assert!(compared >= 85 && refused == 9, "{compared} {refused}");
}

/// coremltools fails on models with blocks within operations.
#[test]
fn nested_blocks_are_quantized_too() {
    let (expected, folder) = (expected(), Folder::new());
    let options = folder.options(
        &expected["ranges"]["nested_18_f16"],
        &expected["configurations"]["int8"],
    );
    let report = folder
        .quantize(&package("nested_18_f16"), &options)
        .unwrap();
    let names: Vec<_> = report
        .operations
        .iter()
        .map(|operation| &*operation.name)
        .collect();
    assert_eq!(names, ["before", "inner", "pool", "after"]);
    assert!(
        report
            .operations
            .iter()
            .all(|operation| operation.reason.is_none())
    );
    let described = folder.described();
    let after = |start: &str| {
        let mut lines = described
            .iter()
            .skip_while(|line| !line.contains(start))
            .skip(1);
        lines
            .find(|line| !line.trim_start().starts_with("const"))
            .unwrap()
            .trim_start()
            .to_owned()
    };
    // In its block: what it takes stands before it, what it gives after its activation.
    let inner = described
        .iter()
        .find(|line| line.contains("conv") && line.contains("-> inner:"));
    assert!(inner.unwrap().starts_with("  conv ") && inner.unwrap().contains(" x(dequantize_"));
    assert!(after("-> relu_0:").starts_with("quantize input(relu_0)"));
    let pool = described
        .iter()
        .find(|line| line.contains("avg_pool"))
        .unwrap();
    assert!(pool.starts_with("  avg_pool ") && pool.contains(" x(dequantize_"));
    // The block's result is not another one.
    assert!(
        described.iter().any(|line| line == " gives pool"),
        "{described:#?}"
    );
}

/// coremltools stores a scale of 0 there, which Core ML refuses.
#[test]
fn a_range_of_zeros_has_the_scale_one() {
    let (expected, folder) = (expected(), Folder::new());
    for key in ["int8_linear", "uint8"] {
        let options = folder.options(
            &expected["ranges"]["zeros_18_f16"],
            &expected["configurations"][key],
        );
        let report = folder.quantize(&package("zeros_18_f16"), &options).unwrap();
        let quantized = &operation(&report, "first").quantized[0];
        assert_eq!(
            (&*quantized.activation, quantized.scale),
            ("x", 1.0),
            "{key}"
        );
        let described = folder.described();
        assert!(
            described
                .iter()
                .any(|line| line.contains("_scale_0> val<10[]=bytes:003c>"))
        );
    }
}

#[test]
fn the_report_says_what_was_left_in_float_and_why() {
    let folder = Folder::new();
    let mut given = options(&[
        ("x", -1.0, 1.0),
        ("a", -2.0, 2.0),
        ("b", -2.0, 2.0),
        ("relu_0", 0.0, 3.0),
        ("nowhere", 0.0, 1.0),
        ("also_nowhere", 0.0, 1.0),
    ]);
    let report = folder.quantize(&package("add_18_f16"), &given).unwrap();
    let warned = |name: &str| {
        let text = format!("`{name}` matches no activation");
        report
            .warnings
            .iter()
            .any(|warning| warning.to_string().contains(&text))
    };
    assert!(
        warned("nowhere") && warned("also_nowhere"),
        "{:?}",
        report.warnings
    );
    assert_eq!(report.warnings.len(), 2);
    let sum = operation(&report, "sum");
    let inputs: Vec<_> = sum
        .quantized
        .iter()
        .map(|one| one.input.as_deref())
        .collect();
    assert_eq!(inputs, [Some("x"), Some("y")]);
    assert_eq!(sum.reason.as_deref(), Some("no range for `sum`"));
    let twice = operation(&report, "twice");
    assert!(twice.skipped && twice.quantized.is_empty());
    let shifted = operation(&report, "shifted");
    assert_eq!(shifted.reason.as_deref(), Some("its input y is constant"));
    assert!(!shifted.skipped);
    let json = serde_json::to_value(sum).unwrap();
    assert_eq!(json["quantized"][0]["dtype"], "int8");

    given.strict = true;
    let error = folder.quantize(&package("add_18_f16"), &given).unwrap_err();
    assert!(matches!(error, Error::Strict { .. }), "{error}");
    given.strict = false;
    given.exclude = vec![regex::Regex::new("^sum$").unwrap()];
    let report = folder.quantize(&package("add_18_f16"), &given).unwrap();
    assert_eq!(
        operation(&report, "sum").reason.as_deref(),
        Some("excluded by name")
    );
    given.exclude = vec![regex::Regex::new(".").unwrap()];
    let error = folder.quantize(&package("add_18_f16"), &given).unwrap_err();
    assert!(error.to_string().contains("no operation"), "{error}");
}

#[test]
fn what_cannot_be_done_is_refused() {
    let folder = Folder::new();
    let refuses = |input: &Path, options: &ActivationOptions, words: &[&str]| {
        let error = folder.quantize(input, options).unwrap_err().to_string();
        assert_eq!(error.lines().count(), 1, "{error}");
        for word in words {
            assert!(error.contains(word), "no `{word}` in: {error}");
        }
        assert!(!folder.path("out.mlpackage").exists());
    };
    let x = options(&[("x", -1.0, 1.0)]);
    let older = coreml::fixture("linear_16_f16.mlpackage");
    refuses(
        &older,
        &x,
        &["model.mlmodel", "since iOS17", "minimum_deployment_target"],
    );
    let strange = options(&[("input.1", -1.0, 1.0)]);
    let words = ["ranges.json", "holds no activation of the model", "`x`"];
    refuses(&package("linear_18_f16"), &strange, &words);
    let large = options(&[("x", -1.0, 1e6)]);
    refuses(
        &package("linear_18_f16"),
        &large,
        &["ranges.json", "activation `x`", "range -1 to 1000000"],
    );
    let mut four = x.clone();
    four.scheme.dtype = quant_core::IntType::Int4;
    refuses(
        &package("linear_18_f16"),
        &four,
        &["int4", "int8 and uint8"],
    );
    refuses(Path::new("model.safetensors"), &x, &["no Core ML package"]);
}

/// Every byte that the passes do not touch is there, in its order.
#[test]
fn the_rest_of_the_model_stays() {
    let folder = Folder::new();
    let input = package("conv_18_f16");
    let given = options(&[("x", -1.0, 1.0)]);
    let report = folder.quantize(&input, &given).unwrap();
    let done = report
        .operations
        .iter()
        .filter(|operation| !operation.quantized.is_empty());
    assert_eq!(done.count(), 1);
    let (old, new) = (describe(&input), folder.described());
    let added: Vec<_> = new.iter().filter(|line| !old.contains(line)).collect();
    assert_eq!(added.len(), 6, "{added:#?}");
    let model = fs::read(input.join(MODEL)).unwrap();
    let written = fs::read(folder.path("out.mlpackage").join(MODEL)).unwrap();
    let shared = model
        .iter()
        .zip(&written)
        .take_while(|(a, b)| a == b)
        .count();
    let tail = model
        .iter()
        .rev()
        .zip(written.iter().rev())
        .take_while(|(a, b)| a == b)
        .count();
    assert!(
        shared > 100 && tail > 3000 && shared + tail < written.len(),
        "{shared} {tail}"
    );
    assert_eq!(
        fs::read(input.join("Manifest.json")).unwrap(),
        fs::read(folder.path("out.mlpackage/Manifest.json")).unwrap()
    );
}

/// Again, on what has been quantized: nothing is quantized twice.
#[test]
fn a_quantized_package_stays_as_it_is() {
    let (expected, folder) = (expected(), Folder::new());
    let given = folder.options(
        &expected["ranges"]["conv_18_f16"],
        &expected["configurations"]["int8"],
    );
    folder.quantize(&package("conv_18_f16"), &given).unwrap();
    let once = folder.path("once.mlpackage");
    fs::rename(folder.path("out.mlpackage"), &once).unwrap();
    let error = folder.quantize(&once, &given).unwrap_err().to_string();
    assert!(error.contains("no operation"), "{error}");
}

/// coremltools reshapes codes although what gives them and what takes them have other parameters: the
/// values would be others.
#[test]
fn a_reshape_stays_float_between_other_parameters() {
    let (expected, folder) = (expected(), Folder::new());
    let (mut ranges, configuration) = (
        expected["ranges"]["consumers_18_f16"].clone(),
        &expected["configurations"]["int8"],
    );
    let codes = |folder: &Folder| {
        let described = folder.described();
        let reshape = described.iter().find(|line| line.starts_with("reshape "));
        reshape.unwrap().contains(":21[1,512]")
    };
    let input = package("consumers_18_f16");
    folder
        .quantize(&input, &folder.options(&ranges, configuration))
        .unwrap();
    assert!(codes(&folder));
    ranges["activations"]["flat"]["max"] = json!(1000.0);
    folder
        .quantize(&input, &folder.options(&ranges, configuration))
        .unwrap();
    assert!(!codes(&folder));
}
