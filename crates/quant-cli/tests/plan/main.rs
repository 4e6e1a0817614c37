//! Plans: made, changed by hand, carried out, and refused where they do not fit.

#[path = "../folder/mod.rs"]
mod folder;
mod importance;
mod mixed;
mod sizes;
mod unusable;
mod words;

use std::fs;

use serde_json::{Value, json};

use folder::{Folder, f32_bytes, wave};

/// A model of three weights and a bias, as `m.safetensors`.
fn model() -> Folder {
    let folder = Folder::new();
    let values = f32_bytes(64 * 64, wave);
    let weight = &[64, 64][..];
    folder.model(
        "m.safetensors",
        &[
            ("embed.weight", "F32", weight, &values),
            ("fc1.bias", "F32", &[64], &values[..256]),
            ("fc1.weight", "F32", weight, &values),
            ("fc2.weight", "F32", weight, &values),
        ],
    );
    folder
}

fn read(folder: &Folder, name: &str) -> Value {
    serde_json::from_slice(&fs::read(folder.path(name)).unwrap()).unwrap()
}

fn write(folder: &Folder, name: &str, plan: &Value) {
    fs::write(folder.path(name), plan.to_string()).unwrap();
}

fn entry<'p>(plan: &'p mut Value, name: &str) -> &'p mut Value {
    let tensors = plan["tensors"].as_array_mut().unwrap();
    let found = tensors.iter_mut().find(|tensor| tensor["name"] == name);
    found.unwrap_or_else(|| panic!("no {name}"))
}

/// All files of a file or folder, in order.
fn bytes(folder: &Folder, name: &str) -> Vec<Vec<u8>> {
    let path = folder.path(name);
    let Ok(entries) = fs::read_dir(&path) else {
        return vec![fs::read(path).unwrap()];
    };
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    let inner = names
        .iter()
        .map(|inner| format!("{name}/{}", inner.to_str().unwrap()));
    inner.flat_map(|inner| bytes(folder, &inner)).collect()
}

#[test]
fn a_plan_and_its_execution_are_quantization() {
    let folder = model();
    for options in [
        &[][..],
        &["--dtype", "uint4", "--mode", "affine", "--dialect", "f32"],
        &["--dtype", "uint4", "--dialect", "wide"],
        &["--granularity", "per-block", "--exclude", "embed"],
        &["--granularity", "per-tensor", "--include", "fc"],
        &["--block", "16,0"],
    ] {
        let quantize = ["quantize", "m.safetensors", "-o", "direct", "--force"];
        folder.succeeds(&[&quantize[..], options].concat());
        let plan = [
            "plan",
            "m.safetensors",
            "-o",
            "plan.json",
            "--force",
            "--quiet",
        ];
        folder.succeeds(&[&plan[..], options].concat());
        folder.succeeds(&[
            "quantize",
            "m.safetensors",
            "--plan",
            "plan.json",
            "-o",
            "planned",
            "--force",
        ]);
        assert_eq!(bytes(&folder, "direct"), bytes(&folder, "planned"));
    }
}

#[test]
fn so_it_is_for_packages() {
    for (fixture, options) in [
        ("linear_18_f16", &["--dtype", "int4"][..]),
        ("linear_18_f16", &["--granularity", "per-block"]),
        ("linear_16_f16", &["--mode", "affine"]),
        ("linear_16_f16", &["--granularity", "per-tensor"]),
        ("functions_18_f16", &[]),
    ] {
        let folder = Folder::with_package(fixture);
        let direct = ["quantize", "m.mlpackage", "-o", "direct.mlpackage"];
        folder.succeeds(&[&direct[..], options].concat());
        let plan = ["plan", "m.mlpackage", "-o", "plan.json"];
        let said = folder.succeeds(&[&plan[..], options].concat());
        assert!(said.contains("to be quantized\nplan.json"), "{said}");
        let planned = [
            "quantize",
            "m.mlpackage",
            "--plan",
            "plan.json",
            "-o",
            "planned.mlpackage",
        ];
        folder.succeeds(&planned);
        let [a, b] = ["direct.mlpackage", "planned.mlpackage"].map(|name| bytes(&folder, name));
        assert_eq!(a, b, "{fixture} {options:?}");
    }
}

#[test]
fn a_plan_says_why_and_is_printed_without_an_output() {
    let folder = model();
    let printed = folder.succeeds(&["plan", "m.safetensors", "--exclude", "embed"]);
    let mut plan: Value = serde_json::from_str(&printed).unwrap();
    let embed = entry(&mut plan, "embed.weight");
    assert_eq!(embed["quantize"], Value::Null);
    assert_eq!(embed["reason"], "excluded by name");
    assert_eq!(entry(&mut plan, "fc1.bias")["reason"], "rank 1");
    assert_eq!(
        entry(&mut plan, "fc1.weight")["quantize"],
        json!({"dtype": "int8", "mode": "symmetric", "dialect": "coremltools", "blocks": [1, 64]})
    );
    assert_eq!(folder.names(), ["m.safetensors"]);
}

#[test]
fn a_plan_is_changed_by_hand() {
    let folder = model();
    folder.succeeds(&["plan", "m.safetensors", "-o", "plan.json"]);
    let mut plan = read(&folder, "plan.json");
    entry(&mut plan, "embed.weight")["quantize"] = Value::Null;
    entry(&mut plan, "fc1.weight")["quantize"] = json!({"bits": 4, "group_size": 32});
    entry(&mut plan, "fc2.weight")["quantize"]["dtype"] = json!("uint2");
    // What a plan does not name stays as it is.
    plan["tensors"].as_array_mut().unwrap().remove(1);
    write(&folder, "plan.json", &plan);
    let arguments = ["quantize", "m.safetensors", "--plan", "plan.json", "--json"];
    let report: Value = serde_json::from_str(&folder.succeeds(&arguments)).unwrap();
    assert!(folder.path("m.quantized.safetensors").is_file());
    let tensors = report["tensors"].as_array().unwrap();
    let reasons: Vec<_> = tensors.iter().map(|tensor| &tensor["reason"]).collect();
    assert_eq!(
        reasons,
        [
            &json!("left out by the plan"),
            &json!("not in the plan"),
            &Value::Null,
            &Value::Null
        ]
    );
    let scheme = |i: usize| {
        (
            &tensors[i]["scheme"]["dtype"],
            &tensors[i]["scheme"]["blocks"],
        )
    };
    assert_eq!(scheme(2), (&json!("int4"), &json!([1, 32])));
    assert_eq!(scheme(3), (&json!("uint2"), &json!([1, 64])));
    let listed = folder.succeeds(&["inspect", "m.quantized.safetensors"]);
    assert!(listed.contains("blocks of 32 along axis 1"), "{listed}");
}

#[test]
fn a_plan_that_does_not_fit_is_refused_by_name() {
    let folder = model();
    folder.succeeds(&["plan", "m.safetensors", "-o", "plan.json"]);
    let plan = read(&folder, "plan.json");
    type Change = fn(&mut Value);
    let changes: &[(Change, &[&str])] = &[
        (
            |plan| entry(plan, "fc1.weight")["name"] = json!("fc3.weight"),
            &["`fc3.weight`", "matches no tensor", "fc1.weight"],
        ),
        (
            |plan| entry(plan, "fc1.weight")["shape"] = json!([64, 65]),
            &["`fc1.weight`", "[64, 65] in the plan", "[64, 64]"],
        ),
        (
            |plan| entry(plan, "fc1.weight")["dtype"] = json!("F16"),
            &["`fc1.weight`", "F16 in the plan", "F32"],
        ),
        (
            |plan| entry(plan, "fc1.weight")["name"] = json!("fc2.weight"),
            &["`fc2.weight`", "twice"],
        ),
        (
            |plan| entry(plan, "fc1.bias")["quantize"] = json!({}),
            &["`fc1.bias`", "rank 1"],
        ),
        (
            |plan| entry(plan, "fc1.weight")["quantize"]["blocks"] = json!([1, 65]),
            &["`fc1.weight`", "65"],
        ),
        (
            |plan| entry(plan, "fc1.weight")["quantize"]["blocks"] = json!([1, 1, 1]),
            &["`fc1.weight`", "3 block sizes"],
        ),
        (
            |plan| entry(plan, "fc1.weight")["quantize"]["bits"] = json!(4),
            &["`fc1.weight`", "exclude each other"],
        ),
        (
            |plan| entry(plan, "fc1.weight")["quantize"] = json!({"bits": 7}),
            &["`fc1.weight`", "bits", "7"],
        ),
        (
            |plan| entry(plan, "fc1.weight")["quantize"] = json!({"group_size": 0}),
            &["`fc1.weight`", "group_size"],
        ),
        (
            |plan| entry(plan, "fc1.weight")["quantize"]["dialect"] = json!("mlx"),
            &["`fc1.weight`", "biases"],
        ),
        (
            |plan| entry(plan, "fc1.weight")["quantize"]["dtype"] = json!("int9"),
            &["plan.json", "int9"],
        ),
        (
            |plan| entry(plan, "fc1.weight")["quantise"] = json!(true),
            &["plan.json", "quantise"],
        ),
        (|plan| plan["extra"] = json!(1), &["plan.json", "extra"]),
        (
            |plan| plan["version"] = json!(2),
            &["plan.json", "version 2"],
        ),
        (|plan| plan["tensors"] = json!(3), &["plan.json"]),
        (|plan| *plan = json!([]), &["plan.json", "not a plan"]),
    ];
    for (change, words) in changes {
        let mut changed = plan.clone();
        change(&mut changed);
        write(&folder, "plan.json", &changed);
        let arguments = ["quantize", "m.safetensors", "--plan", "plan.json"];
        folder.refuses(&arguments, 1, words);
    }
    fs::write(folder.path("plan.json"), b"\0\xff{").unwrap();
    let arguments = ["quantize", "m.safetensors", "--plan", "plan.json"];
    folder.refuses(&arguments, 1, &["plan.json", "not a plan"]);
    folder.refuses(
        &["quantize", "m.safetensors", "--plan", "none.json"],
        1,
        &["none.json"],
    );
}

#[test]
fn a_plan_goes_with_no_option_that_it_takes_the_place_of() {
    let folder = model();
    folder.succeeds(&["plan", "m.safetensors", "-o", "plan.json"]);
    let given = ["quantize", "m.safetensors", "--plan", "plan.json"];
    for option in [&["--dtype", "int4"][..], &["--exclude", "x"]] {
        folder.refuses(&[&given[..], option].concat(), 2, &["--plan", option[0]]);
    }
    // The plan is an input.
    folder.refuses(
        &[&given[..], &["-o", "plan.json", "--force"]].concat(),
        1,
        &["plan.json"],
    );
    folder.refuses(
        &["plan", "m.safetensors", "-o", "m.safetensors", "--force"],
        1,
        &["m.safetensors"],
    );
    folder.refuses(
        &["plan", "m.safetensors", "-o", "plan.json"],
        1,
        &["plan.json", "--force"],
    );
    folder.refuses(
        &["plan", "m.safetensors", "--block-size", "16"],
        2,
        &["--block-size", "per-block"],
    );
}

#[test]
fn a_package_refuses_what_its_version_cannot_say() {
    let folder = Folder::with_package("linear_16_f16");
    folder.succeeds(&["plan", "m.mlpackage", "-o", "plan.json"]);
    let plan = read(&folder, "plan.json");
    let name = plan["tensors"]
        .as_array()
        .unwrap()
        .iter()
        .find(|tensor| !tensor["quantize"].is_null())
        .map(|tensor| tensor["name"].as_str().unwrap().to_owned())
        .unwrap();
    for (spec, words) in [
        (json!({"dtype": "int4"}), "since iOS18"),
        (json!({"group_size": 16}), "since iOS18"),
        (json!({"dtype": "int2"}), "int2"),
    ] {
        let mut changed = plan.clone();
        entry(&mut changed, &name)["quantize"] = spec;
        write(&folder, "plan.json", &changed);
        let arguments = ["quantize", "m.mlpackage", "--plan", "plan.json"];
        folder.refuses(&arguments, 1, &[&name, words]);
    }
}

#[test]
fn a_search_is_planned_carried_out_and_loses_less() {
    let folder = model();
    // One large value, which a search clips.
    let spiky = f32_bytes(64 * 64, |i| if i % 64 == 7 { 3.0 } else { wave(i) });
    folder.model("s.safetensors", &[("fc.weight", "F32", &[64, 64], &spiky)]);
    let weights = ["--dtype", "int4", "--granularity", "per-channel"];
    let report = |output: &str, options: &[&str]| {
        let mut line = vec!["quantize", "s.safetensors", "-o", output, "--json"];
        line.extend(options);
        let answer: Value = serde_json::from_str(&folder.succeeds(&line)).unwrap();
        answer["tensors"][0].clone()
    };
    let plain = report("plain.safetensors", &weights);
    assert_eq!(plain["scheme"].get("search"), None);
    let searched = report(
        "searched.safetensors",
        &[&weights[..], &["--search", "mse"]].concat(),
    );
    assert_eq!(searched["scheme"]["search"], "mse");
    let db = |report: &Value| report["sqnr_db"].as_f64().unwrap();
    assert!(db(&searched) > db(&plain), "{searched} {plain}");

    let mut line = vec!["plan", "s.safetensors", "-o", "p.json", "--search", "mse"];
    line.extend(weights);
    folder.succeeds(&line);
    let mut plan = read(&folder, "p.json");
    assert_eq!(entry(&mut plan, "fc.weight")["quantize"]["search"], "mse");
    let planned = report("planned.safetensors", &["--plan", "p.json"]);
    assert_eq!(planned["scheme"], searched["scheme"]);
    assert_eq!(
        bytes(&folder, "planned.safetensors"),
        bytes(&folder, "searched.safetensors")
    );
    // What is found is restored like any other scale.
    folder.succeeds(&["dequantize", "searched.safetensors", "-o", "r.safetensors"]);
}
