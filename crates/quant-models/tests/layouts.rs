//! Packages that are laid out in other ways: without weights, with weights in the model itself, and
//! pipelines; ours beside what coremltools 9.0 wrote.

#[allow(dead_code)]
mod coreml;

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use coreml::{Item, MODEL, WEIGHTS, contents, describe, field, fixture, kept, layout, parse};
use quant_core::Dialect;
use quant_models::{
    ActivationOptions, Config, DequantizeOptions, Error, Job, QuantizeOptions, Report,
};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

fn job(cancelled: &AtomicBool) -> Job<'_> {
    Job {
        force: true,
        progress: &|_| {},
        cancelled,
    }
}

fn quantize(input: &Path, output: &Path, options: &QuantizeOptions) -> Result<Report, Error> {
    let done = quant_models::quantize(input, output, options, &job(&AtomicBool::new(false)));
    kept(done, input, output)
}

fn digest(path: &Path) -> String {
    let bytes = fs::read(path).unwrap();
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn json(name: &str) -> Value {
    let text = fs::read(fixture("..").join(name)).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// Lines of a list of their numbers.
fn lines(expected: &Value, numbers: &Value) -> Vec<String> {
    let numbers = numbers.as_array().unwrap().iter();
    let line = |number: &Value| expected["lines"][number.as_u64().unwrap() as usize].as_str();
    numbers
        .map(|number| line(number).unwrap().to_owned())
        .collect()
}

/// Files, folders, weight files and operations are those that coremltools wrote; where these are not
/// stable, but for casts, which it moves and renames.
fn check(package: &Path, expected: &Value, case: &Value, stable: bool, what: &str) {
    assert_eq!(
        contents(package),
        lines(expected, &case["contents"]),
        "{what}"
    );
    for (file, expected) in case["weights"].as_object().unwrap() {
        assert_eq!(&digest(&package.join(file)), expected, "{what} {file}");
    }
    let keep = |line: &String| stable || !line.contains("cast");
    let ours = describe(package).into_iter().filter(keep);
    let theirs = lines(expected, &case["operations"]);
    let theirs = theirs.into_iter().filter(keep);
    assert_eq!(
        ours.collect::<Vec<_>>(),
        theirs.collect::<Vec<_>>(),
        "{what}"
    );
}

#[test]
fn layouts_are_what_coremltools_writes() {
    let expected = json("expected_layouts.json");
    let configurations = json("expected.json")["configurations"].clone();
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let (input, out, floats) = (
        place("in.mlpackage"),
        place("out.mlpackage"),
        place("floats.mlpackage"),
    );
    let (mut compared, mut refused) = (0, 0);
    let packages = expected["packages"].as_object().unwrap().iter();
    for (name, cases) in packages.filter(|(name, _)| !name.contains('/')) {
        let _ = fs::remove_dir_all(&input);
        layout(name, &input);
        let stable = cases["stable"].as_bool().unwrap_or(true);
        let cases = cases.as_object().unwrap().iter();
        for (key, case) in cases.filter(|(key, _)| *key != "stable") {
            let what = format!("{name} {key}");
            let file = place("configuration.json");
            fs::write(&file, configurations[key].to_string()).unwrap();
            let options = QuantizeOptions {
                config: Some(Config::open(&file, Dialect::Coremltools).unwrap()),
                exact_selection: true,
                ..QuantizeOptions::default()
            };
            let result = quantize(&input, &out, &options);
            if case["error"].is_string() {
                let error = result.expect_err(&what).to_string();
                assert!(error.contains("iOS18"), "{what}: {error}");
                refused += 1;
                continue;
            }
            result.unwrap_or_else(|error| panic!("{what}: {error}"));
            check(&out, &expected, case, stable, &what);
            compared += 1;
            if let Some(case) = case.get("decompressed")
                && describe(&out)
                    .iter()
                    .any(|line| line.contains("constexpr_"))
            {
                let flag = AtomicBool::new(false);
                let options = DequantizeOptions::default();
                let done = quant_models::dequantize(&out, &floats, &options, &job(&flag));
                kept(done, &out, &floats).unwrap();
                check(&floats, &expected, case, stable, &format!("{what}, back"));
                compared += 1;
            }
        }
    }
    println!("{compared} packages are what coremltools writes; {refused} it refuses");
    assert!(compared > 50 && refused > 5, "{compared} {refused}");
}

#[test]
fn activations_of_layouts_are_what_coremltools_makes() {
    let expected = json("expected_layouts.json");
    let folder = Copy::of("relu_17_f16");
    for (name, ranges) in expected["ranges"].as_object().unwrap() {
        let folder = Copy::of(name);
        let file = folder.path("ranges.json");
        fs::write(&file, ranges.to_string()).unwrap();
        let activations = ActivationOptions::open(&file).unwrap();
        let cases = &expected["packages"][format!("{name}/activations")];
        let flag = AtomicBool::new(false);
        let (input, out) = (folder.input(), folder.out());
        let done = quant_models::quantize_activations(&input, &out, &activations, &job(&flag));
        kept(done, &input, &out).unwrap();
        check(&out, &expected, &cases["activations"], true, name);
        let options = QuantizeOptions {
            activations: Some(activations),
            min_elements: 100,
            ..QuantizeOptions::default()
        };
        quantize(&input, &out, &options).unwrap();
        check(&out, &expected, &cases["both"], true, name);
    }
    // Without an operation that takes a pair: an error, and nothing is written.
    let options = ActivationOptions::default();
    let flag = AtomicBool::new(false);
    let (input, out) = (folder.input(), folder.out());
    quant_models::quantize_activations(&input, &out, &options, &job(&flag)).unwrap_err();
    assert!(!out.exists());
}

/// A layout to be changed.
struct Copy(TempDir);

impl Copy {
    fn of(name: &str) -> Self {
        let copy = Self(tempfile::tempdir().unwrap());
        layout(name, &copy.input());
        copy
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn input(&self) -> std::path::PathBuf {
        self.path("in.mlpackage")
    }

    fn out(&self) -> std::path::PathBuf {
        self.path("out.mlpackage")
    }

    fn edit(&self, edit: impl FnOnce(Vec<u8>) -> Vec<u8>) {
        let path = self.input().join(MODEL);
        fs::write(&path, edit(fs::read(&path).unwrap())).unwrap();
    }

    fn quantize(&self) -> Report {
        quantize(&self.input(), &self.out(), &QuantizeOptions::default()).unwrap()
    }

    fn dequantize(&self) -> std::path::PathBuf {
        let (floats, flag) = (self.path("floats.mlpackage"), AtomicBool::new(false));
        let options = DequantizeOptions::default();
        let done = quant_models::dequantize(&self.out(), &floats, &options, &job(&flag));
        kept(done, &self.out(), &floats).unwrap();
        floats
    }

    fn weights(&self) -> String {
        digest(&self.out().join(WEIGHTS))
    }
}

fn names(package: &Path) -> Vec<String> {
    let found = quant_models::inspect(package, true).unwrap();
    found
        .tensors
        .into_iter()
        .map(|tensor| tensor.name)
        .collect()
}

const STAGES: [&str; 8] = [
    "0/wide_weight_0",
    "0/wide_bias_0",
    "1/wide_weight_0",
    "1/wide_bias_0",
    "1/deep_weight_0",
    "1/deep_bias_0",
    "2/last_weight_0",
    "2/last_bias_0",
];

#[test]
fn pipelines_are_listed_compared_and_restored() {
    let copy = Copy::of("pipeline_18_f16");
    assert_eq!(names(&copy.input()), STAGES);
    let report = copy.quantize();
    assert!(report.warnings.is_empty(), "{:?}", report.warnings);
    let reported = report.tensors.iter().map(|tensor| tensor.name.as_str());
    assert_eq!(reported.collect::<Vec<_>>(), STAGES);
    let quantized = report.tensors.iter().filter(|one| one.scheme.is_some());
    assert_eq!(quantized.count(), 4);
    assert_eq!(names(&copy.out())[2], "1/wide_weight_0_quantized");
    assert!(
        quant_models::diff(&copy.input(), &copy.input())
            .unwrap()
            .equal
    );
    let apart = quant_models::diff(&copy.input(), &copy.out()).unwrap();
    assert!(!apart.equal && apart.tensors.len() == 8);
    assert!(
        apart.tensors.iter().all(|one| one.reason.is_none()),
        "{apart:?}"
    );
    let floats = copy.dequantize();
    let back = quant_models::diff(&copy.out(), &floats).unwrap();
    assert!(
        back.tensors
            .iter()
            .all(|one| one.max_abs_error.unwrap_or(0.0) == 0.0 && one.reason.is_none()),
        "{back:?}"
    );
    assert_eq!(contents(&floats), contents(&copy.input()));
}

/// Of a pipeline, a model of another kind stays as it is, and is named.
#[test]
fn other_models_of_a_pipeline_stay() {
    let copy = Copy::of("pipeline_16_f16");
    let report = copy.quantize();
    let told = report
        .warnings
        .iter()
        .find(|line| line.contains("neural network"));
    assert!(told.unwrap().contains("`1`"), "{:?}", report.warnings);
    let models = |package: &Path| {
        let bytes = fs::read(package.join(MODEL)).unwrap();
        let pipeline = only(&bytes, 202);
        all(&pipeline, 1)
    };
    let (before, after) = (models(&copy.input()), models(&copy.out()));
    assert_eq!(before.len(), 4);
    assert!(before[1] == after[1] && before[3] == after[3] && before[0] != after[0]);
}

fn all(bytes: &[u8], number: u32) -> Vec<Vec<u8>> {
    let fields = parse(bytes).into_iter();
    let found = fields.filter_map(|(other, item)| match item {
        Item::Bytes(bytes) if other == number => Some(bytes.to_vec()),
        _ => None,
    });
    found.collect()
}

fn only(bytes: &[u8], number: u32) -> Vec<u8> {
    let mut found = all(bytes, number);
    assert_eq!(found.len(), 1);
    found.remove(0)
}

/// Pipelines within pipelines, of every kind, with names and without.
#[test]
fn nested_pipelines_are_quantized() {
    let plain = Copy::of("pipeline_18_f16");
    plain.quantize();
    let weights = |copy: &Copy| {
        let files = contents(&copy.out()).into_iter();
        let files = files.filter(|file| file.ends_with(".bin"));
        files
            .map(|file| digest(&copy.out().join(file)))
            .collect::<Vec<_>>()
    };
    let version = field(1, &Item::Number(9));
    let around = |model: &[u8], names: &[&str], kind: u32| {
        let mut pipeline = field(1, &Item::Bytes(model));
        for name in names {
            pipeline.extend(field(2, &Item::Bytes(name.as_bytes())));
        }
        let body = match kind {
            202 => field(202, &Item::Bytes(&pipeline)),
            kind => field(kind, &Item::Bytes(&field(1, &Item::Bytes(&pipeline)))),
        };
        [version.clone(), body].concat()
    };
    let copy = Copy::of("pipeline_18_f16");
    copy.edit(|model| around(&around(&model, &["inner"], 200), &[], 201));
    assert_eq!(names(&copy.input())[4], "0/inner/1/deep_weight_0");
    copy.quantize();
    assert_eq!(weights(&copy), weights(&plain));
    let read = |copy: &Copy| fs::read(copy.out().join(MODEL)).unwrap();
    let expected = around(&around(&read(&plain), &["inner"], 200), &[], 201);
    assert!(read(&copy) == expected, "all around it is byte for byte");

    // The version of what is around a program that needs a higher one rises with it.
    let copy = Copy::of("pipeline_16_f16");
    let version = |bytes: &[u8]| match parse(bytes)[0] {
        (1, Item::Number(version)) => version,
        _ => panic!("no version"),
    };
    copy.edit(|model| {
        let old = [field(1, &Item::Number(5)), model[2..].to_vec()].concat();
        assert_eq!(version(&old), 5);
        old
    });
    let report = copy.quantize();
    assert!(report.warnings.iter().any(|line| line.contains("iOS16")));
    assert_eq!(version(&read(&copy)), 7);
}

#[test]
fn pipelines_without_programs_are_refused() {
    let copy = Copy::of("pipeline_16_f16");
    copy.edit(|model| {
        let network = all(&only(&model, 202), 1).remove(1);
        field(202, &Item::Bytes(&field(1, &Item::Bytes(&network))))
    });
    let options = QuantizeOptions::default();
    let error = quantize(&copy.input(), &copy.out(), &options).unwrap_err();
    let error = error.to_string();
    for words in ["a pipeline", "neural network", "mlprogram"] {
        assert!(error.contains(words), "{error}");
    }
    assert!(!error.contains("field"), "{error}");
    let deep = |depth: usize| {
        let mut model = field(500, &Item::Bytes(&[]));
        for _ in 0..depth {
            model = field(202, &Item::Bytes(&field(1, &Item::Bytes(&model))));
        }
        model
    };
    for depth in [40, 60, 20_000] {
        copy.edit(|_| deep(depth));
        let error = quantize(&copy.input(), &copy.out(), &options).unwrap_err();
        let deep = error.to_string().contains("50 deep");
        assert_eq!(deep, depth > 50, "{error}");
        assert_eq!(error.to_string().lines().count(), 1);
    }
}

/// The message with every message at the end of `path` passed through `change`.
fn at(bytes: &[u8], path: &[u32], change: &dyn Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let Some((&next, rest)) = path.split_first() else {
        return change(bytes);
    };
    let fields = parse(bytes).into_iter();
    let changed = fields.flat_map(|(number, item)| match item {
        Item::Bytes(inner) if number == next => {
            field(number, &Item::Bytes(&at(inner, rest, change)))
        }
        item => field(number, &item),
    });
    changed.collect()
}

/// Packed numbers, in several pieces, or one by one: all of these are the same list.
#[test]
fn lists_of_floats_are_read_however_they_are_written() {
    let packed = Copy::of("inline_17_f32");
    packed.quantize();
    let path = [&OPERATION[..], &[5, 2, 3, 1, 1]].concat();
    for pieces in [1, 3] {
        let copy = Copy::of("inline_17_f32");
        copy.edit(|model| {
            at(&model, &path, &|list| {
                let [(1, Item::Bytes(values))] = parse(list)[..] else {
                    return list.to_vec();
                };
                if pieces == 3 {
                    let (a, b) = values.split_at(values.len() / 8 * 4);
                    return [field(1, &Item::Bytes(a)), field(1, &Item::Bytes(b))].concat();
                }
                let one = |value: &[u8]| [&[1 << 3 | 5][..], value].concat();
                values.chunks(4).flat_map(one).collect()
            })
        });
        assert!(
            fs::read(copy.input().join(MODEL)).unwrap()
                != fs::read(packed.input().join(MODEL)).unwrap()
        );
        assert_eq!(names(&copy.input()), names(&packed.input()));
        copy.quantize();
        assert_eq!(copy.weights(), packed.weights());
    }
}

/// From the model to the values of operations: program, function, block, operation.
const OPERATION: [u32; 6] = [502, 2, 2, 3, 2, 3];

/// Where the manifest names no folder of weights, the result's does.
#[test]
fn a_new_weight_file_is_in_the_manifest() {
    for folder_exists in [false, true] {
        let copy = Copy::of("inline_16_f16");
        let manifest = copy.input().join("Manifest.json");
        let mut document: Value = serde_json::from_slice(&fs::read(&manifest).unwrap()).unwrap();
        let items = document["itemInfoEntries"].as_object_mut().unwrap();
        items.retain(|_, item| item["name"] != "weights");
        fs::write(&manifest, document.to_string()).unwrap();
        if !folder_exists {
            fs::remove_dir(copy.input().join(WEIGHTS).parent().unwrap()).unwrap();
        }
        copy.quantize();
        let text = fs::read(copy.out().join("Manifest.json")).unwrap();
        let document: Value = serde_json::from_slice(&text).unwrap();
        let items = document["itemInfoEntries"].as_object().unwrap();
        let mut paths: Vec<_> = items
            .values()
            .map(|item| item["path"].as_str().unwrap())
            .collect();
        paths.sort();
        assert_eq!(
            paths,
            ["com.apple.CoreML/model.mlmodel", "com.apple.CoreML/weights"]
        );
        assert!(items.contains_key(document["rootModelIdentifier"].as_str().unwrap()));
        let plain = Copy::of("inline_16_f16");
        plain.quantize();
        assert_eq!(copy.weights(), plain.weights());
    }
}

/// Folders that hold nothing are in the output of every command.
#[test]
fn empty_folders_are_kept() {
    for name in ["relu_17_f16", "inline_16_f16", "pipeline_18_f16"] {
        let copy = Copy::of(name);
        for inner in ["empty", "Data/a/b/c", "Data/com.apple.CoreML/weights/none"] {
            fs::create_dir_all(copy.input().join(inner)).unwrap();
        }
        copy.quantize();
        let mut expected = contents(&copy.input());
        if name == "inline_16_f16" {
            expected.push(WEIGHTS.into());
            expected.sort();
        }
        assert_eq!(contents(&copy.out()), expected, "{name}");
        if name != "relu_17_f16" {
            assert_eq!(contents(&copy.dequantize()), expected, "{name}");
        }
    }
}

/// What stands in the model is the same as what stands in a weight file.
#[test]
fn weights_in_the_model_are_compared() {
    let copy = Copy::of("inline_17_f32");
    assert!(
        quant_models::diff(&copy.input(), &copy.input())
            .unwrap()
            .equal
    );
    copy.quantize();
    let apart = quant_models::diff(&copy.input(), &copy.out()).unwrap();
    let (same, other): (Vec<_>, Vec<_>) = apart.tensors.iter().partition(|one| one.equal);
    assert_eq!((same.len(), other.len()), (3, 2), "{apart:?}");
    assert!(other.iter().all(|one| one.sqnr_db.unwrap() > 30.0));
}

/// Options of activations within those of weights count as they do alone.
#[test]
fn options_within_options_count() {
    let copy = Copy::of("pipeline_18_f16");
    let ranges = &json("expected_layouts.json")["ranges"]["pipeline_18_f16"];
    let mut ranges = ranges.clone();
    ranges["activations"]
        .as_object_mut()
        .unwrap()
        .remove("relu_0");
    fs::write(copy.path("ranges.json"), ranges.to_string()).unwrap();
    let activations = ActivationOptions::open(&copy.path("ranges.json")).unwrap();
    let run = |activations: ActivationOptions| {
        let options = QuantizeOptions {
            activations: Some(activations),
            ..QuantizeOptions::default()
        };
        quantize(&copy.input(), &copy.out(), &options)
    };
    let dry = run(ActivationOptions {
        dry_run: true,
        ..activations.clone()
    });
    assert!(dry.unwrap().operations.iter().any(|one| one.skipped));
    assert!(!copy.out().exists());
    let strict = run(ActivationOptions {
        strict: true,
        ..activations.clone()
    });
    assert!(matches!(strict, Err(Error::Strict { .. })), "{strict:?}");
    assert!(!copy.out().exists());
    run(activations).unwrap();
    assert!(copy.out().exists());
}
