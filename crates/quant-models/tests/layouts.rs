//! Packages that are laid out in other ways: without weights, with weights in the model itself, and
//! pipelines; ours beside what coremltools 9.0 wrote.

#[allow(dead_code)]
mod coreml;

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use coreml::{contents, describe, fixture, layout};
use quant_core::Dialect;
use quant_models::{Config, Error, Job, QuantizeOptions, Report};
use serde_json::Value;
use sha2::{Digest, Sha256};

fn job(cancelled: &AtomicBool) -> Job<'_> {
    Job {
        force: true,
        progress: &|_| {},
        cancelled,
    }
}

fn quantize(input: &Path, output: &Path, options: &QuantizeOptions) -> Result<Report, Error> {
    quant_models::quantize(input, output, options, &job(&AtomicBool::new(false)))
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
    for (name, cases) in expected["packages"].as_object().unwrap() {
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
                quant_models::dequantize(&out, &floats, &Default::default(), &job(&flag)).unwrap();
                check(&floats, &expected, case, stable, &format!("{what}, back"));
                compared += 1;
            }
        }
    }
    println!("{compared} packages are what coremltools writes; {refused} it refuses");
    assert!(compared > 50 && refused > 5, "{compared} {refused}");
}
