//! Packages that are laid out in other ways: without weights, with weights in the model itself, and
//! pipelines; ours beside what coremltools 9.0 wrote.

#[allow(dead_code)]
#[path = "../coreml/mod.rs"]
mod coreml;
mod folder;
mod pipelines;

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use coreml::{Item, MODEL, WEIGHTS, contents, describe, field, kept, layout, parse};
use folder::{Copy, digest, job, json, names, quantize};
use quant_core::Dialect;
use quant_models::{ActivationOptions, Config, DequantizeOptions, Error, QuantizeOptions};
use serde_json::Value;

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
            let options = QuantizeOptions::default()
                .with_config(Config::open(&file, Dialect::Coremltools).unwrap())
                .with_exact_selection(true);
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
        let options = QuantizeOptions::default()
            .with_activations(activations)
            .with_min_elements(100);
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
        let options = QuantizeOptions::default().with_activations(activations);
        quantize(&copy.input(), &copy.out(), &options)
    };
    let dry = run(activations.clone().with_dry_run(true));
    assert!(dry.unwrap().operations.iter().any(|one| one.skipped));
    assert!(!copy.out().exists());
    let strict = run(activations.clone().with_strict(true));
    assert!(matches!(strict, Err(Error::Strict { .. })), "{strict:?}");
    assert!(!copy.out().exists());
    run(activations).unwrap();
    assert!(copy.out().exists());
}
