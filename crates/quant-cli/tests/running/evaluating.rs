//! Evaluation: whose error, and its page.

use std::fs;

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
