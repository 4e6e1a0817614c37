//! Activations, with ranges that are given.

use std::fs;

use serde_json::Value;

use crate::fixtures::WEIGHTS;
use crate::folder::{Folder, tensor};

const RANGES: [&str; 2] = ["--ranges", "ranges.json"];

#[test]
fn activations_are_quantized() {
    let folder = Folder::with_ranges("consumers_18_f16");
    let (text, stderr) = folder.said(&[&["activations", "m.mlpackage"], &RANGES[..]].concat());
    assert_eq!(stderr, "");
    assert!(text.contains("stem  conv      x `x` int8 scale "), "{text}");
    assert!(
        text.contains("activations of 7 of 7 operations quantized"),
        "{text}"
    );
    assert!(
        text.trim_end().ends_with("m.activations.mlpackage"),
        "{text}"
    );
    assert_eq!(
        folder.names(),
        ["m.activations.mlpackage", "m.mlpackage", "ranges.json"]
    );
    let weights = |name: &str| fs::read(folder.path(name).join(WEIGHTS)).unwrap();
    assert_eq!(weights("m.mlpackage"), weights("m.activations.mlpackage"));

    let (help, _) = folder.said(&["activations", "--help"]);
    assert!(
        help.contains("quant activations Model.mlpackage --ranges ranges.json"),
        "{help}"
    );

    let again = [&["activations", "m.mlpackage"], &RANGES[..]].concat();
    folder.refuses(&again, 1, &["--force"]);
    let forced = [
        &again[..],
        &["--force", "--quiet", "--dtype", "uint8", "--mode", "affine"],
    ]
    .concat();
    assert_eq!(folder.said(&forced), (String::new(), String::new()));
    let report = folder.json(&[&again[..], &["--dry-run", "-o", "other.mlpackage"]].concat());
    assert_eq!(
        (&report["output"], &report["bytes_after"]),
        (&Value::Null, &Value::Null)
    );
    let stem = &report["operations"][0];
    assert_eq!(
        (&stem["name"], &stem["operation"]),
        (&"stem".into(), &"conv".into())
    );
    let places: Vec<_> = stem["quantized"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["input"])
        .collect();
    assert_eq!(places, [&Value::from("x"), &Value::Null]);
    assert!(!folder.names().contains(&"other.mlpackage".into()));
}

/// A row per activation; with ranges for these, all is quantized.
#[test]
fn activations_that_need_a_range_are_listed() {
    let folder = Folder::with_package("../activations/partial_18_f16");
    let list = ["activations", "m.mlpackage", "--list"];
    let (text, stderr) = folder.said(&list);
    assert_eq!(stderr, "");
    assert!(
        text.lines().any(|line| line
            == "relu_0  [1, 8, 8, 8]  produced by relu      consumed by conv `a`, conv `b`, max_pool `c`, exp `d`"),
        "{text}"
    );
    assert!(text.contains("x       [1, 4, 8, 8]  an input  "), "{text}");
    assert!(text.ends_with("9 activations need a range\n"), "{text}");

    let listed = folder.json(&list);
    assert_eq!(listed["version"], 1);
    let activations = listed["activations"].as_array().unwrap();
    assert_eq!(activations.len(), 9);
    assert_eq!(activations[0]["taken_by"][0]["operation"], "conv");
    let range = serde_json::json!({"min": 0, "max": 1});
    let ranges: serde_json::Map<String, Value> = activations
        .iter()
        .map(|one| (one["name"].as_str().unwrap().to_owned(), range.clone()))
        .collect();
    let ranges = serde_json::json!({"version": 1, "activations": ranges});
    fs::write(folder.path("ranges.json"), ranges.to_string()).unwrap();
    let (text, _) =
        folder.said(&[&["activations", "m.mlpackage", "--strict"], &RANGES[..]].concat());
    assert!(
        text.contains("activations of 7 of 7 operations quantized\n"),
        "{text}"
    );

    let (text, _) = folder.said(&[&list[..], &["--include", "^stem$"]].concat());
    assert!(text.ends_with("2 activations need a range\n"), "{text}");
    let (text, _) = folder.said(&[&list[..], &["--exclude", "."]].concat());
    assert!(text.starts_with("no activation needs a range"), "{text}");
    for arguments in [
        &["activations", "m.mlpackage"][..],
        &[&list[..], &RANGES[..]].concat(),
        &[&list[..], &["--force"]].concat(),
        &[&list[..], &["-o", "out.mlpackage"]].concat(),
    ] {
        assert_eq!(folder.quant(arguments).status.code(), Some(2));
    }
    let older = Folder::with_package("linear_16_f16");
    older.refuses(&list, 1, &["since iOS17"]);
}

#[test]
fn what_has_no_range_is_listed() {
    let folder = Folder::with_ranges("partial_18_f16");
    let command = [&["activations", "m.mlpackage"], &RANGES[..]].concat();
    let (text, _) = folder.said(&command);
    assert!(text.contains("SKIPPED: no range for `relu_0`"), "{text}");
    assert!(text.contains("quant activations --list"), "{text}");
    folder.refuses(
        &[&command[..], &["--strict", "--force"]].concat(),
        3,
        &["no range for"],
    );
    let report = folder.json(&[&command[..], &["--force", "--exclude", "stem"]].concat());
    assert_eq!(report["operations"][0]["reason"], "excluded by name");
}

#[test]
fn what_lists_the_operations_is_named() {
    let folder = Folder::with_ranges("linear_18_f16");
    let options = [&["activations", "m.mlpackage"], &RANGES[..]].concat();
    for option in ["--include", "--exclude"] {
        let wrong = [&options[..], &["--force", "--strict", option, "zzzzzzz"]].concat();
        folder.refuses(&wrong, 3, &["`quant activations --list` lists them"]);
    }
}

#[test]
fn weights_and_activations_in_one_command() {
    let folder = Folder::with_ranges("consumers_18_f16");
    let quantize = ["quantize", "m.mlpackage", "--min-elements", "100"];
    let report = folder.json(&[&quantize[..], &RANGES, &["-o", "both.mlpackage"]].concat());
    assert!(tensor(&report, "head_weight_0")["scheme"].is_object());
    assert_eq!(report["operations"].as_array().unwrap().len(), 7);
    let options = [
        &quantize[..],
        &RANGES,
        &["-o", "uint8.mlpackage", "--activation-dtype", "uint8"],
    ]
    .concat();
    let (text, _) = folder.said(&options);
    assert!(
        text.contains("x `x` uint8 scale") && text.contains("head_weight_0"),
        "{text}"
    );

    // The other commands work on what came out.
    let listed = folder.json(&["inspect", "both.mlpackage", "--values"]);
    assert_eq!(tensor(&listed, "head_weight_0_quantized")["dtype"], "int8");
    folder.said(&["diff", "both.mlpackage", "both.mlpackage"]);
    let differ = folder.quant(&["diff", "m.mlpackage", "both.mlpackage", "--json"]);
    let found: Value = serde_json::from_slice(&differ.stdout).unwrap();
    assert!(tensor(&found, "head_weight_0")["sqnr_db"].is_number());
    assert!(
        tensor(&found, "(program)")["reason"]
            .as_str()
            .unwrap()
            .contains("quantize")
    );
    let (_, stderr) = folder.said(&["dequantize", "both.mlpackage", "-o", "floats.mlpackage"]);
    assert!(stderr.contains("activations stay quantized"), "{stderr}");
    let floats = folder.json(&["inspect", "floats.mlpackage"]);
    assert_eq!(
        tensor(&floats, "head_weight_0_quantized")["dtype"],
        "FLOAT16"
    );
    let program = folder.quant(&["diff", "both.mlpackage", "floats.mlpackage"]);
    assert!(!String::from_utf8_lossy(&program.stdout).contains("(program)"));
}

#[test]
fn bad_ranges_are_refused() {
    let folder = Folder::with_ranges("linear_18_f16");
    let refuses = |text: &str, words: &[&str]| {
        fs::write(folder.path("bad.json"), text).unwrap();
        let words = [&["bad.json"], words].concat();
        for command in ["activations", "quantize"] {
            folder.refuses(&[command, "m.mlpackage", "--ranges", "bad.json"], 1, &words);
        }
    };
    refuses("x", &["not a document of ranges"]);
    let range = |range: &str| format!(r#"{{"version": 1, "activations": {{"x": {range}}}}}"#);
    refuses(&range(r#"{"min": NaN, "max": 0}"#), &["activation `x`"]);
    refuses(
        &range(r#"{"min": 1, "max": 0}"#),
        &["activation `x`", "min 1 is above max 0"],
    );
    refuses(
        &range(r#"{"min": 0, "max": 1e6}"#),
        &["activation `x`", "range 0 to 1000000"],
    );
    refuses(
        r#"{"version": 1, "activations": {}}"#,
        &["no activation of the model"],
    );
    folder.refuses(
        &["activations", "m.mlpackage", "--ranges", "none.json"],
        1,
        &["none.json", "cannot open"],
    );
    let older = Folder::with_package("linear_16_f16");
    fs::write(older.path("r.json"), range(r#"{"min": 0, "max": 1}"#)).unwrap();
    older.refuses(
        &["activations", "m.mlpackage", "--ranges", "r.json"],
        1,
        &["since iOS17"],
    );
    fs::write(older.path("m.safetensors"), "").unwrap();
    older.refuses(
        &["quantize", "m.safetensors", "--ranges", "r.json"],
        1,
        &["no Core ML package"],
    );
    let output = older.quant(&["quantize", "m.mlpackage", "--activation-mode", "affine"]);
    assert_eq!(output.status.code(), Some(2));
}
