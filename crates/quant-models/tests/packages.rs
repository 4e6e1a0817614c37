//! Core ML packages: what coremltools 9.0 wrote for each fixture, and ours beside it.

#[allow(dead_code)]
mod coreml;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use coreml::{WEIGHTS, describe, fixture, fixtures, kept, records};
use quant_core::Dialect;
use quant_models::{Config, Error, Job, QuantizeOptions, Report};
use serde_json::Value;
use sha2::{Digest, Sha256};

fn job(cancelled: &AtomicBool) -> Job<'_> {
    Job::UNWATCHED.with_force(true).with_cancel(cancelled)
}

fn quantize(input: &Path, output: &Path, options: &QuantizeOptions) -> Result<Report, Error> {
    let done = quant_models::quantize(input, output, options, &job(&AtomicBool::new(false)));
    kept(done, input, output)
}

fn digest(path: &Path) -> String {
    let bytes = fs::read(path).unwrap();
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn expected() -> Value {
    let text = fs::read(fixture("../expected.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// The lines that a list of their numbers stands for.
fn lines<'a>(expected: &'a Value, numbers: &Value) -> Vec<&'a str> {
    let numbers = numbers.as_array().unwrap().iter();
    let line = |number: &Value| expected["lines"][number.as_u64().unwrap() as usize].as_str();
    numbers.map(|number| line(number).unwrap()).collect()
}

/// The lines are the same, but for names of other variables than weights: coremltools gives these
/// anew when it saves.
fn same_operations(ours: &[String], theirs: &[&str], stable: bool) -> Result<(), String> {
    let theirs = theirs.to_vec();
    let ours: Vec<&str> = ours.iter().map(String::as_str).collect();
    let keep = |line: &&str| stable || line.contains("constexpr_") || line.contains('@');
    let (ours, theirs): (Vec<&str>, Vec<&str>) = (
        ours.into_iter().filter(keep).collect(),
        theirs.into_iter().filter(keep).collect(),
    );
    if ours.len() != theirs.len() {
        return Err(format!("{} lines, {} expected", ours.len(), theirs.len()));
    }
    let words = |line: &str| -> Vec<String> {
        line.split(|c: char| " ()<>:@=".contains(c))
            .map(str::to_owned)
            .collect()
    };
    let (mut there, mut back) = (BTreeMap::new(), BTreeMap::new());
    for (a, b) in ours.iter().zip(&theirs) {
        let differ = || Err(format!("{a}\n{b} expected"));
        let (left, right) = (words(a), words(b));
        if left.len() != right.len() {
            return differ();
        }
        for (x, y) in left.into_iter().zip(right) {
            let weight = x.ends_with("_quantized") || y.ends_with("_quantized");
            let same = *there.entry(x.clone()).or_insert(y.clone()) == y
                && *back.entry(y.clone()).or_insert(x.clone()) == x;
            if !same || weight && x != y || x != y && x.parse::<f64>().is_ok() {
                return differ();
            }
        }
    }
    Ok(())
}

#[test]
fn packages_are_what_coremltools_writes() {
    let (expected, folder) = (expected(), tempfile::tempdir().unwrap());
    let (out, floats) = (
        folder.path().join("out.mlpackage"),
        folder.path().join("floats.mlpackage"),
    );
    let (mut compared, mut refused) = (0, 0);
    for (name, cases) in expected["packages"].as_object().unwrap() {
        let input = fixture(&format!("{name}.mlpackage"));
        if let Some(functions) = cases["functions"].as_object() {
            quantize(&input, &out, &QuantizeOptions::default()).unwrap();
            let found = describe(&out);
            for (function, alone) in functions {
                let start = format!("function {function} ");
                let start = found
                    .iter()
                    .position(|line| line.starts_with(&start))
                    .unwrap();
                let alone = lines(&expected, alone);
                let own = &found[start + 2..start + 2 + alone.len()];
                assert_eq!(own, alone, "{name} {function}");
            }
            assert_eq!(
                records(&out),
                11,
                "what the functions share stands there once"
            );
            continue;
        }
        let stable = cases["stable"].as_bool().unwrap();
        for (key, case) in cases
            .as_object()
            .unwrap()
            .iter()
            .filter(|(key, _)| *key != "stable")
        {
            let file = folder.path().join("configuration.json");
            fs::write(&file, expected["configurations"][key].to_string()).unwrap();
            let options = QuantizeOptions::default()
                .with_config(Config::open(&file, Dialect::Coremltools).unwrap())
                .with_exact_selection(true);
            let result = quantize(&input, &out, &options);
            if let Some(error) = case["error"].as_str() {
                // A conflict of configurations, or an integer constant, ends coremltools' work; we
                // leave it alone and say so.
                let left_alone = error.contains("conflict") || error.contains("Only floating");
                match (left_alone, result) {
                    (true, Ok(report)) => assert!(report.tensors.iter().any(|tensor| {
                        tensor.skipped || tensor.reason.as_deref() == Some("type INT8")
                    })),
                    (false, Err(error)) => assert!(error.to_string().contains("iOS18"), "{error}"),
                    (_, result) => panic!("{name} {key}: {result:?}, but coremltools: {error}"),
                }
                refused += 1;
                continue;
            }
            result.unwrap_or_else(|error| panic!("{name} {key}: {error}"));
            assert_eq!(digest(&out.join(WEIGHTS)), case["weights"], "{name} {key}");
            same_operations(
                &describe(&out),
                &lines(&expected, &case["operations"]),
                stable,
            )
            .unwrap_or_else(|differ| panic!("{name} {key}:\n{differ}"));
            compared += 1;
            let Some(case) = case.get("decompressed") else {
                continue;
            };
            let cancelled = AtomicBool::new(false);
            let options = Default::default();
            let done = quant_models::dequantize(&out, &floats, &options, &job(&cancelled));
            kept(done, &out, &floats).unwrap();
            assert_eq!(
                digest(&floats.join(WEIGHTS)),
                case["weights"],
                "{name} {key}, back"
            );
            same_operations(
                &describe(&floats),
                &lines(&expected, &case["operations"]),
                stable,
            )
            .unwrap_or_else(|differ| panic!("{name} {key}, back:\n{differ}"));
        }
    }
    println!("{compared} packages are what coremltools writes; {refused} it refuses");
    assert!(compared >= 190 && refused >= 20, "{compared} {refused}");
    assert_eq!(
        fixtures().len(),
        expected["packages"].as_object().unwrap().len()
    );
}
