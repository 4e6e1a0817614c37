//! The list of activations that need ranges.

use std::path::Path;

use crate::{Folder, coreml, expected, options, package, wanted};
use quant_models::{ActivationOptions, Error};
use serde_json::json;

/// With ranges for them nothing is missing; without one of them, something is.
#[test]
fn what_is_listed_is_what_wants_ranges() {
    let (expected, folder) = (expected(), Folder::new());
    let quantized = |input: &Path, names: &[&str]| {
        let given: Vec<_> = names.iter().map(|&name| (name, -1.0, 1.0)).collect();
        let report = folder.quantize(input, &options(&given))?;
        let skipped = report.operations.iter().any(|one| one.skipped);
        let done = report.operations.iter().map(|one| one.quantized.len());
        Ok::<_, Error>((skipped, done.sum::<usize>(), report.warnings))
    };
    let ours = expected["ranges"].as_object().unwrap();
    let weights = ["control_18_f16", "functions_18_f16", "stateful_18_f16"];
    let weights = weights.map(|name| coreml::fixture(&format!("{name}.mlpackage")));
    let mut listed = 0;
    for input in ours.keys().map(|name| package(name)).chain(weights) {
        let package_name = input.file_stem().unwrap().to_str().unwrap();
        let found = wanted(&input, &ActivationOptions::default());
        let names: Vec<_> = found.iter().map(|one| &*one.name).collect();
        if names.is_empty() {
            assert!(package_name.starts_with("quantized"), "{package_name}");
            continue;
        }
        let (skipped, done, warnings) = quantized(&input, &names).unwrap();
        assert!(!skipped && warnings.is_empty(), "{package_name} {names:?}");
        // More ranges do not quantize more.
        let all = ours
            .get(package_name)
            .and_then(|case| case["activations"].as_object());
        let all = all.into_iter().flatten().map(|(name, _)| &**name);
        let all: Vec<_> = all.chain(names.clone()).collect();
        assert_eq!(quantized(&input, &all).unwrap().1, done, "{package_name}");
        for name in &names {
            let rest: Vec<_> = names
                .iter()
                .filter(|other| *other != name)
                .copied()
                .collect();
            if let Ok((skipped, fewer, _)) = quantized(&input, &rest) {
                assert!(skipped && fewer < done, "{package_name} {name}");
            }
        }
        listed += names.len();
    }
    println!("{listed} activations are listed");
    assert!(listed > 60, "{listed}");
}

#[test]
fn a_listed_activation_says_where_it_is() {
    let found = wanted(&package("add_18_f16"), &ActivationOptions::default());
    let names: Vec<_> = found.iter().map(|one| &*one.name).collect();
    // In the order of the program; neither constants, nor `out`, which the model gives.
    let wants = "x a b sum relu_0 shifted three four c difference d";
    assert_eq!(names.join(" "), wants);
    let sum = serde_json::to_value(&found[3]).unwrap();
    let taken_by = |input: &str| json!({"operation": "add", "name": "twice", "input": input});
    assert_eq!(
        sum,
        json!({
            "name": "sum", "function": null, "shape": [1, 8, 8, 8], "given_by": "add",
            "taken_by": [taken_by("x"), taken_by("y")]
        })
    );
    assert_eq!(found[0].given_by, None);
    let functions = coreml::fixture("functions_18_f16.mlpackage");
    let found = wanted(&functions, &ActivationOptions::default());
    let found: Vec<_> = found
        .iter()
        .map(|one| (one.function.as_deref().unwrap(), &*one.name))
        .collect();
    let names = ["x", "first", "second"];
    let both = ["one", "two"].map(|function| names.map(|name| (function, name)));
    assert_eq!(found, both.concat());
    let excluded = ActivationOptions::default().with_exclude(vec![regex::Regex::new(".").unwrap()]);
    assert_eq!(wanted(&package("add_18_f16"), &excluded), []);
    let older = coreml::fixture("linear_16_f16.mlpackage");
    for (input, words) in [
        (&*older, "since iOS17"),
        (Path::new("model.safetensors"), "no Core ML package"),
    ] {
        let error = quant_models::wanted_activations(input, &ActivationOptions::default());
        assert!(error.unwrap_err().to_string().contains(words));
    }
}
