//! Evaluation: whose error, and its page.

use std::fs;

use quant_run::Tensor;
use serde_json::Value;

use super::{Room, fixture};

/// A float model, and the same with weights of 4 bits and activations of 8.
fn models(room: &Room) -> (String, &'static str) {
    let net = fixture("activations/linear_17_f32.mlpackage");
    room.samples(&[4, 16], 3);
    let ranges = ["calibrate", &net, "--samples", "samples", "-o", "r.json"];
    room.done(&ranges);
    let options = [
        "--dtype",
        "int8",
        "--min-elements",
        "0",
        "--ranges",
        "r.json",
    ];
    let quantize = ["quantize", &net, "-o", "small.mlpackage"];
    room.done(&[&quantize[..], &options].concat());
    (net, "small.mlpackage")
}

#[test]
fn weights_and_activations_apart() {
    let room = Room::new();
    let (net, small) = models(&room);
    let decibels = |first: &str, second: &str, more: &[&str]| -> f64 {
        let evaluate = ["evaluate", first, second, "--samples", "samples", "--json"];
        let text = room.done(&[&evaluate[..], more].concat());
        let found: Value = serde_json::from_str(&text).unwrap();
        found["outputs"][0]["sqnr_db"].as_f64().unwrap()
    };
    // Weights alone, made by quantizing nothing else.
    let quantize = ["quantize", &net, "--dtype", "int8", "--min-elements", "0"];
    room.done(&[&quantize[..], &["-o", "weights.mlpackage"]].concat());
    let weights = decibels(&net, "weights.mlpackage", &[]);
    let only_weights = decibels(&net, small, &["--only", "weights"]);
    assert!(
        (weights - only_weights).abs() < 1e-3,
        "{weights} {only_weights}"
    );
    let only_activations = decibels(&net, small, &["--only", "activations"]);
    let both = decibels(&net, small, &[]);
    assert!(both < only_weights && both < only_activations + 3.0);
    assert!(only_activations.is_finite());
    let evaluate = [
        "evaluate",
        &net,
        "weights.mlpackage",
        "--samples",
        "samples",
    ];
    let none = [&evaluate[..], &["--only", "activations"]].concat();
    room.refuses(
        &none,
        &["weights.mlpackage", "no activation of it is quantized"],
    );
}

#[test]
fn the_report_is_a_page() {
    let room = Room::new();
    let (net, small) = models(&room);
    let evaluate = ["evaluate", &net, small, "--samples", "samples", "--report"];
    let report = |name: &str, more: &[&str]| [&evaluate[..], &[name], more].concat().join("\n");
    let words = |text: &str| text.split('\n').map(str::to_owned).collect::<Vec<_>>();
    let done = |name: &str, more: &[&str]| {
        let words = words(&report(name, more));
        room.done(&words.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let refused = |name: &str, problem: &str| {
        let words = words(&report(name, &[]));
        let arguments: Vec<&str> = words.iter().map(String::as_str).collect();
        room.refuses(&arguments, &[name, problem]);
    };
    done("error.html", &[]);
    let page = fs::read_to_string(room.path("error.html")).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"));
    assert_eq!(page.matches("<svg").count(), 1);
    assert!(
        page.contains("small.mlpackage") && page.contains("<td>linear</td>"),
        "{page}"
    );
    refused("error.html", "exists already");
    done("error.html", &["--force"]);
    refused("error.txt", "ends with .html");
    refused("small.mlpackage/Data/error.html", "small.mlpackage");
    refused("none/error.html", "none");
}

#[test]
fn labels_are_classes_one_for_each_sample() {
    let room = Room::new();
    let (net, small) = models(&room);
    let samples = ["evaluate", &net, small, "--samples", "samples"];
    let with = |labels: &str, text: &str| {
        fs::write(room.path(labels), text).unwrap();
        [&samples[..], &["--labels", labels]].concat().join("\n")
    };
    let refused = |text: &str, words: &[&str]| {
        let line = with("labels.csv", text);
        room.refuses(&line.split('\n').collect::<Vec<_>>(), words);
    };
    refused("0\n1\n", &["labels.csv", "2 labels for 3 samples"]);
    refused("0\n1\n0\n1\n", &["labels.csv", "4 labels for 3 samples"]);
    refused("0\n99\n0\n", &["001.npy", "label 99", "classes 0 to "]);
    refused("0\n0\n-1\n", &["002.npy", "label -1"]);
    // Only the first samples are wanted: the other labels are for the others.
    let line = with("labels.csv", "0\n1\n0\n") + "\n--samples-limit\n2";
    room.done(&line.split('\n').collect::<Vec<_>>());
}

#[test]
fn what_is_not_finite_is_said() {
    let room = Room::new();
    let (net, small) = models(&room);
    room.put(
        "large/a.npy",
        &Tensor::from_floats(&[4, 16], vec![3e38; 64]).unwrap(),
    );
    let output = room.quant(&["evaluate", &net, small, "--samples", "large", "--json"]);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let warnings = document["warnings"].as_array().unwrap();
    let first = warnings[0].as_str().unwrap();
    assert!(first.contains(&net) && first.contains("a.npy"), "{first}");
    assert!(first.contains("operation `"), "{first}");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains(first), "{stderr}");
}
