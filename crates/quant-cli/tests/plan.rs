//! Plans: made, changed by hand, carried out, and refused where they do not fit.

mod folder;

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
        &["--dtype", "uint4", "--mode", "affine", "--dialect", "wide"],
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

/// Weights of which some are harder to quantize than others.
fn uneven() -> Folder {
    let folder = Folder::new();
    let spikes = |every: usize| {
        f32_bytes(128 * 96, move |i| {
            let spike = if i % every == 0 { 5.0 } else { 0.0 };
            wave(i) + spike
        })
    };
    let tensors: Vec<(String, Vec<u8>)> = (0..12)
        .map(|i| (format!("layer{i:02}.weight"), spikes(31 + 60 * i)))
        .collect();
    let tensors: Vec<(&str, &str, &[usize], &[u8])> = tensors
        .iter()
        .map(|(name, bytes)| (name.as_str(), "F32", &[128, 96][..], &bytes[..]))
        .collect();
    folder.model("u.safetensors", &tensors);
    folder
}

#[test]
fn mixed_plans_keep_to_their_target_and_lose_no_more_than_uniform_ones() {
    let folder = uneven();
    let size = |name: &str| fs::metadata(folder.path(name)).unwrap().len();
    let noise = |name: &str| {
        let line = ["diff", "u.safetensors", name, "--json"];
        let diff: Value = serde_json::from_slice(&folder.quant(&line).stdout).unwrap();
        let tensors = diff["tensors"].as_array().unwrap().iter();
        let db = tensors.filter_map(|tensor| tensor["sqnr_db"].as_f64());
        db.map(|db| 10_f64.powf(-db / 10.0)).sum::<f64>()
    };
    let carry_out = |target: &[&str], name: &str| {
        let line = ["plan", "u.safetensors", "-o", "p.json", "--force"];
        let said = folder.succeeds(&[&line[..], target].concat());
        let line = ["quantize", "u.safetensors", "--plan", "p.json", "-o", name];
        folder.succeeds(&line);
        said
    };
    folder.succeeds(&[
        "quantize",
        "u.safetensors",
        "-o",
        "uniform",
        "--dtype",
        "int4",
        "--granularity",
        "per-block",
    ]);
    let uniform = size("uniform").to_string();
    let said = carry_out(&["--target-size", &uniform], "mixed");
    assert!(
        said.contains("nothing better keeps to the target"),
        "{said}"
    );
    assert!(size("mixed") <= size("uniform"));
    assert!(noise("mixed") <= noise("uniform") * 1.000_001);

    for target in [95_000, 120_000, 150_000_u64] {
        let name = format!("s{target}");
        let said = carry_out(&["--target-size", &target.to_string()], &name);
        let size = size(&name);
        assert!(
            size <= target && size * 100 >= target * 93,
            "{target}: {size}"
        );
        assert!(said.contains(&format!("{size} bytes")), "{said}");
    }
    let said = carry_out(&["--target-bits", "5.5"], "bits");
    let bits: f64 = said.split(' ').next().unwrap().parse().unwrap();
    assert!(bits <= 5.5 && bits > 5.0, "{said}");
    carry_out(&["--target-sqnr", "30", "--search", "mse"], "sqnr");
    assert!(noise("sqnr") < 0.001);
    let plan = read(&folder, "p.json");
    assert!(plan.to_string().contains(r#""search":"mse""#), "{plan}");

    for (line, words) in [
        (
            &["--target-bits", "2"][..],
            &["2 bits per weight", "--candidates"][..],
        ),
        (&["--target-size", "1KB"], &["1000 bytes", "--candidates"]),
        (&["--target-sqnr", "90", "--candidates", "int4"], &["90 dB"]),
        (&["--target-bits", "4", "--dtype", "int4"], &["--dtype"]),
        (&["--candidates", "int8"], &["--target-bits"]),
        (
            &["--target-bits", "4", "--candidates", "int4:32"],
            &["int4:32"],
        ),
    ] {
        let line = [&["plan", "u.safetensors"][..], line].concat();
        let status = match words[0] {
            _ if line.contains(&"--dtype") => 2,
            _ => folder.quant(&line).status.code().unwrap(),
        };
        assert_ne!(status, 0);
        folder.refuses(&line, status, words);
    }
}

#[test]
fn everything_is_decided() {
    let folder = model();
    let line = [
        "quantize",
        "m.safetensors",
        "--auto",
        "--quality",
        "30dB",
        "-o",
        "s.safetensors",
    ];
    let report: Value =
        serde_json::from_str(&folder.succeeds(&[&line[..], &["--json"]].concat())).unwrap();
    let estimate = report["auto"]["estimated_sqnr_db"].as_f64().unwrap();
    assert!((30.0..60.0).contains(&estimate), "{report}");
    assert_eq!(report["auto"]["quality_db"], 30.0);
    // It is what a plan of the same target does.
    let plan = [
        "plan",
        "m.safetensors",
        "--target-sqnr",
        "30",
        "--search",
        "mse",
        "-o",
        "p.json",
    ];
    folder.succeeds(&plan);
    folder.succeeds(&[
        "quantize",
        "m.safetensors",
        "--plan",
        "p.json",
        "-o",
        "t.safetensors",
    ]);
    assert_eq!(
        bytes(&folder, "s.safetensors"),
        bytes(&folder, "t.safetensors")
    );
    let text = folder.succeeds(&[&line[..], &["--force"]].concat());
    assert!(!text.contains("int8 in blocks"), "{text}");
    assert!(
        text.contains("of 4 tensors: ") && text.contains("bits per weight"),
        "{text}"
    );

    for (more, words) in [
        (
            &["--dtype", "int4"][..],
            "--auto and --dtype exclude each other",
        ),
        (
            &["--plan", "p.json"],
            "--auto and --plan exclude each other",
        ),
        (&["--format", "gguf"], "GGUF"),
    ] {
        let output = folder.quant(&[&line[..], more, &["--force"]].concat());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && stderr.contains(words),
            "{more:?}: {stderr}"
        );
    }
    let output = folder.quant(&["quantize", "m.safetensors", "--auto", "--quality", "none"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("such as 40dB"));
    let output = folder.quant(&["quantize", "m.safetensors", "--quality", "30"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.contains("--quality has no effect without --auto"),
        "{stderr}"
    );
}

#[test]
fn errors_are_weighed_by_what_goes_into_a_weight() {
    let folder = model();
    let weights = f32_bytes(64 * 64, |i| if i % 64 == 7 { 3.0 } else { wave(i) });
    folder.model(
        "s.safetensors",
        &[("fc.weight", "F32", &[64, 64], &weights)],
    );
    // Only the input of the large weights is ever large.
    let inputs = f32_bytes(4 * 64, |i| if i % 64 == 7 { 100.0 } else { 0.01 });
    folder.model("in.safetensors", &[("fc.weight", "F32", &[4, 64], &inputs)]);
    let find = |from: &[&str], output: &str| {
        let line = [&["calibrate"], from, &["--importance", "-o", output]].concat();
        folder.succeeds(&line)
    };
    find(&["in.safetensors"], "one.safetensors");
    find(
        &["--merge", "one.safetensors", "one.safetensors"],
        "two.safetensors",
    );
    let base = [
        "quantize",
        "s.safetensors",
        "--dtype",
        "int4",
        "--search",
        "mse",
    ];
    let quantize = |more: &[&str]| {
        let line = [&base[..], &["-f", "-o", "q.safetensors"], more].concat();
        folder.succeeds(&line);
        bytes(&folder, "q.safetensors")
    };
    let alike = quantize(&[]);
    let weighted = quantize(&["--importance", "one.safetensors"]);
    assert_ne!(alike, weighted);
    // Means are the same, however often the samples are counted.
    assert_eq!(weighted, quantize(&["--importance", "two.safetensors"]));
    // What the large weights lose is what counts.
    let lost = |options: &[&str]| {
        quantize(options);
        folder.succeeds(&["dequantize", "q.safetensors", "-f", "-o", "r.safetensors"]);
        let data = fs::read(folder.path("r.safetensors")).unwrap();
        let data = &data[data.len() - weights.len()..];
        let floats = data
            .as_chunks::<4>()
            .0
            .iter()
            .map(|&it| f32::from_le_bytes(it));
        let large: Vec<f32> = floats.skip(7).step_by(64).collect();
        large
            .iter()
            .map(|value| (value - 3.0).abs())
            .fold(0.0, f32::max)
    };
    assert!(lost(&["--importance", "one.safetensors"]) <= lost(&[]));
    folder.succeeds(&[
        "plan",
        "s.safetensors",
        "-o",
        "i.json",
        "--search",
        "mse",
        "--importance",
        "one.safetensors",
        "--target-bits",
        "5",
    ]);

    folder.model(
        "short.safetensors",
        &[("fc.weight", "F32", &[4, 32], &inputs[..512])],
    );
    find(&["short.safetensors"], "other.safetensors");
    folder.model(
        "named.safetensors",
        &[("nothing", "F32", &[4, 64], &inputs)],
    );
    find(&["named.safetensors"], "unknown.safetensors");
    let importance = |file| [&base[..], &["--importance", file, "-o", "n.safetensors"]].concat();
    folder.refuses(
        &importance("other.safetensors"),
        1,
        &["fc.weight", "32 inputs", "64"],
    );
    folder.refuses(
        &importance("unknown.safetensors"),
        1,
        &["fc.weight", "nothing"],
    );
    folder.refuses(
        &importance("s.safetensors"),
        1,
        &["fc.weight", "holds no importance"],
    );
    folder.refuses(&importance("absent.dat"), 1, &["absent.dat"]);
    let line = [
        "quantize",
        "s.safetensors",
        "--importance",
        "one.safetensors",
    ];
    folder.refuses(&line, 2, &["--importance", "--search mse"]);
    let line = [
        "calibrate",
        "in.safetensors",
        "--importance",
        "-o",
        "r.safetensors",
        "--bins",
        "64",
    ];
    folder.refuses(&line, 2, &["--importance", "--bins"]);
}
