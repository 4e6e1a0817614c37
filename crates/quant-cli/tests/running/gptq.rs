//! `quant quantize --method gptq` and `quant plan --samples`.

use std::fs;
use std::io::Write;

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::Value;

use super::{NET, NET_SHAPE, Room, fixture, json};

const GPTQ: [&str; 4] = ["--method", "gptq", "--samples", "samples"];

/// Fails for its options, and writes nothing.
fn refuses(room: &Room, line: &[&str], words: &[&str]) {
    let before = room.names();
    let output = room.quant(line);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{line:?}: {stderr}");
    for word in words {
        assert!(stderr.contains(word), "no `{word}` in: {stderr}");
    }
    assert_eq!(room.names(), before);
}

fn output_sqnr(room: &Room, net: &str, small: &str) -> f64 {
    let line = ["evaluate", net, small, "--samples", "samples", "--json"];
    let found: Value = serde_json::from_str(&room.done(&line)).unwrap();
    found["outputs"][0]["sqnr_db"].as_f64().unwrap()
}

#[test]
fn samples_give_other_codes_for_the_same_scales() {
    let room = Room::new();
    let net = fixture(NET);
    room.samples(&NET_SHAPE, 8);
    let quantize = ["quantize", &net, "--min-elements", "0", "--json"];
    let report = |more: &[&str]| -> Value {
        serde_json::from_str(&room.done(&[&quantize[..], more].concat())).unwrap()
    };
    let plain = report(&["-o", "plain.mlpackage"]);
    let found = report(&[&["-o", "gptq.mlpackage"], &GPTQ[..]].concat());
    assert_eq!(plain["bytes_after"], found["bytes_after"]);
    let tensors = found["tensors"].as_array().unwrap();
    let by_gptq = tensors.iter().filter(|tensor| tensor["method"] == "gptq");
    assert!(by_gptq.count() > 0, "{found}");
    let (before, after) = (
        output_sqnr(&room, &net, "plain.mlpackage"),
        output_sqnr(&room, &net, "gptq.mlpackage"),
    );
    assert!(after > before + 1.0, "{before} {after}");
    // Another order, and again the same.
    let ordered = [&["-o", "a.mlpackage", "--act-order"], &GPTQ[..]].concat();
    report(&ordered);
    let again = [&["-o", "b.mlpackage", "--act-order", "-j", "1"], &GPTQ[..]].concat();
    report(&again);
    let weights = |name: &str| {
        let path = format!("{name}.mlpackage/Data/com.apple.CoreML/weights/weight.bin");
        fs::read(room.path(&path)).unwrap()
    };
    assert_eq!(weights("a"), weights("b"));
    assert_ne!(weights("a"), weights("plain"));
}

#[test]
fn options_that_have_no_effect_are_refused() {
    let room = Room::new();
    let net = fixture(NET);
    room.samples(&NET_SHAPE, 1);
    let quantize = ["quantize", &net, "-o", "small.mlpackage"];
    let refused = |more: &[&str], words: &[&str]| {
        refuses(&room, &[&quantize[..], more].concat(), words);
    };
    refused(
        &["--samples", "samples"],
        &["--samples has no effect", "--method gptq"],
    );
    refused(
        &["--act-order"],
        &["--act-order has no effect", "--method gptq"],
    );
    refused(
        &["--method", "gptq"],
        &["needs --samples (Core ML) or --hessians"],
    );
    refused(
        &[
            "--method",
            "gptq",
            "--hessians",
            "h.safetensors",
            "--samples",
            "samples",
        ],
        &["--hessians and --samples exclude each other"],
    );
    let moments = ["--method", "gptq", "--hessians", "none.safetensors"];
    room.refuses(
        &[&quantize[..], &moments].concat(),
        &["no safetensors model", "--hessians"],
    );
    let blocks = ["quantize", "none.safetensors", "--format", "gguf"];
    refuses(
        &room,
        &[&blocks[..], &["--method", "gptq", "--hessians", "m"]].concat(),
        &["--method has no effect with --format gguf"],
    );
    let absent = ["--method", "gptq", "--samples", "none"];
    room.refuses(&[&quantize[..], &absent].concat(), &["none"]);
}

#[test]
fn a_plan_by_what_the_model_answers() {
    let room = Room::new();
    let net = fixture(NET);
    room.samples(&NET_SHAPE, 4);
    let plan = [
        "plan",
        &net,
        "--min-elements",
        "0",
        "--candidates",
        "int8,int8:tensor,float",
    ];
    let line = |more: &[&'static str]| [&plan[..], more].concat();
    let target = [
        "--target-sqnr",
        "42",
        "-o",
        "plan.json",
        "--report",
        "curve.html",
    ];
    room.done(&line(&[&target[..], &["--samples", "samples"]].concat()));
    let page = fs::read_to_string(room.path("curve.html")).unwrap();
    for part in ["<svg", "int8:tensor", "chosen", "bits per weight"] {
        assert!(page.contains(part), "no {part}");
    }
    let tensors = json(&room, "plan.json")["tensors"]
        .as_array()
        .unwrap()
        .clone();
    assert!(tensors.iter().any(|tensor| !tensor["quantize"].is_null()));
    room.done(&[
        "quantize",
        &net,
        "--plan",
        "plan.json",
        "-o",
        "small.mlpackage",
    ]);
    // What was measured is what comes of it.
    let found = output_sqnr(&room, &net, "small.mlpackage");
    assert!(found > 39.0, "{found}");
    // Whole plans are compared; what was measured of the best is what comes of it.
    let target = ["--target-bits", "9", "-o", "bits.json"];
    let samples = ["--samples", "samples", "--tensor-samples", "2"];
    let said = room.done(&line(&[&target[..], &samples].concat()));
    assert!(!said.contains("by the weights alone"), "{said}");
    let measured = said.split("an SQNR of ").nth(1).unwrap();
    let measured: f64 = measured.split(' ').next().unwrap().parse().unwrap();
    let small = ["--plan", "bits.json", "-o", "small.mlpackage", "-f"];
    room.done(&[&["quantize", &net][..], &small].concat());
    let found = output_sqnr(&room, &net, "small.mlpackage");
    // Restored weights were rounded to f16 for it, as `dequantize` does.
    assert!((found - measured).abs() < 0.5, "{found}, {said}");
    let said = room.done(&line(&["--target-bits", "9", "-o", "weights.json"]));
    assert!(
        said.contains("by the weights alone; with --samples"),
        "{said}"
    );
    fs::create_dir(room.path("empty")).unwrap();
    for (more, words) in [
        (
            &["--tensor-samples", "2"][..],
            "--tensor-samples has no effect without --samples",
        ),
        (
            &["--samples", "samples", "--tensor-samples", "0"],
            "give 1 or more",
        ),
        (
            &["--samples", "empty", "--samples-limit", "0"],
            "give 1 or more",
        ),
    ] {
        refuses(
            &room,
            &line(&[&["--target-bits", "9"], more].concat()),
            &[words],
        );
    }
    refuses(&room, &line(&["--samples", "samples"]), &["need a target"]);
    refuses(
        &room,
        &["plan", &net, "--samples", "samples"],
        &["--samples needs a target"],
    );
    refuses(
        &room,
        &["plan", &net, "--report", "other.html"],
        &["--report needs a target"],
    );
    room.refuses(
        &line(&["--target-bits", "8", "--report", "page.txt"]),
        &["page.txt", ".html"],
    );
}

fn safetensors(room: &Room, name: &str, tensors: &[(&str, &[usize], &[f32])]) {
    let bytes = tensors.iter().map(|(_, _, values)| {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes());
        bytes.collect::<Vec<u8>>()
    });
    let bytes: Vec<Vec<u8>> = bytes.collect();
    let views = tensors.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
        (
            *name,
            TensorView::new(Dtype::F32, shape.to_vec(), bytes).unwrap(),
        )
    });
    let file = safetensors::serialize(views, None).unwrap();
    fs::write(room.path(name), file).unwrap();
}

#[test]
fn moments_from_a_file_give_codes_of_safetensors() {
    let room = Room::new();
    let noise = |i: usize| ((i * 7919 + i * i * 31) % 1009) as f32 / 504.5 - 1.0;
    let weight: Vec<f32> = (0..8 * 16).map(noise).collect();
    // Of inputs that go together.
    let moments: Vec<f32> = (0..16 * 16)
        .map(|i| 0.9_f32.powi((i / 16_i32 - i % 16).abs()))
        .collect();
    safetensors(
        &room,
        "m.safetensors",
        &[("w", &[8, 16], &weight), ("v", &[8, 16], &weight)],
    );
    safetensors(&room, "h.safetensors", &[("w", &[16, 16], &moments)]);
    let quantize = [
        "quantize",
        "m.safetensors",
        "--dtype",
        "int4",
        "--min-elements",
        "0",
        "--json",
    ];
    let gptq = ["--method", "gptq", "--hessians"];
    let line = [
        &quantize[..],
        &["-o", "s.safetensors"],
        &gptq[..],
        &["h.safetensors"],
    ]
    .concat();
    let output = room.quant(&line);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.contains("1 weight rounded, not by GPTQ, such as v"),
        "{stderr}"
    );
    let strict = room.quant(&[&line[..], &["--strict", "--force"]].concat());
    let said = String::from_utf8_lossy(&strict.stderr);
    assert_eq!(strict.status.code(), Some(3), "{said}");
    assert!(said.contains("`v` would be rounded, not by GPTQ"), "{said}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let sqnr = |name: &str| {
        let mut tensors = report["tensors"].as_array().unwrap().iter();
        tensors.find(|tensor| tensor["name"] == name).unwrap()["sqnr_db"]
            .as_f64()
            .unwrap()
    };
    // Each weight is further from its code: their errors make up for each other.
    assert!(sqnr("w") < sqnr("v"), "{report}");
    let text: Vec<&str> = line.iter().copied().filter(|it| *it != "--json").collect();
    let text = room.quant(&[&text[..], &["--force"]].concat()).stdout;
    let text = String::from_utf8(text).unwrap();
    let row = |name: &str| text.lines().find(|row| row.starts_with(name)).unwrap();
    assert!(row("w ").contains(", gptq"), "{text}");
    assert!(!row("v ").contains("gptq"), "{text}");
    room.done(&[
        "quantize",
        "m.safetensors",
        "-o",
        "plain.safetensors",
        "--dtype",
        "int4",
        "--min-elements",
        "0",
    ]);
    room.done(&["dequantize", "s.safetensors", "-o", "s-back.safetensors"]);
    room.done(&[
        "dequantize",
        "plain.safetensors",
        "-o",
        "plain-back.safetensors",
    ]);
    let loss = |name: &str| {
        let arrays = quant_run::read_arrays(&room.path(name)).unwrap();
        let (_, tensor) = arrays
            .iter()
            .find(|(name, _)| name.as_deref() == Some("w"))
            .unwrap();
        let errors: Vec<f32> = tensor
            .floats()
            .unwrap()
            .iter()
            .zip(&weight)
            .map(|(a, b)| a - b)
            .collect();
        let row = |row: &[f32]| {
            let products = (0..256).map(|i| row[i / 16] * moments[i] * row[i % 16]);
            products.sum::<f32>()
        };
        errors.chunks(16).map(row).sum::<f32>()
    };
    assert!(loss("s-back.safetensors") < 0.7 * loss("plain-back.safetensors"));

    let refused = |name: &str, words: &[&str]| {
        let line = [&quantize[..], &["-o", "t.safetensors"], &gptq[..], &[name]].concat();
        room.refuses(&line, words);
    };
    // What is wrong with a weight is told of the model.
    let mut damaged = weight.clone();
    damaged[5] = f32::NAN;
    let both = [
        ("w", &[16, 16][..], &moments[..]),
        ("v", &[16, 16], &moments),
    ];
    safetensors(&room, "both.safetensors", &both);
    let weights = [("w", &[8, 16][..], &weight[..]), ("v", &[8, 16], &damaged)];
    safetensors(&room, "nan.safetensors", &weights);
    let line = [
        "quantize",
        "nan.safetensors",
        "--min-elements",
        "0",
        "-o",
        "t",
    ];
    room.refuses(
        &[&line[..], &gptq[..], &["both.safetensors"]].concat(),
        &["nan.safetensors: tensor `v`", "NaN"],
    );
    // Inputs that were all 0 say nothing of a weight.
    let zeros = [0.0; 256];
    let unseen = [("w", &[16, 16][..], &zeros[..]), ("v", &[16, 16], &moments)];
    safetensors(&room, "unseen.safetensors", &unseen);
    let line = [&quantize[..], &["-o", "u.safetensors"], &gptq[..]].concat();
    let output = room.quant(&[&line[..], &["unseen.safetensors"]].concat());
    let stderr = String::from_utf8_lossy(&output.stderr);
    let said =
        "1 weight rounded, not by GPTQ, such as w: its moments in unseen.safetensors are all 0";
    assert!(output.status.success() && stderr.contains(said), "{stderr}");
    safetensors(&room, "small.safetensors", &[("w", &[2, 2], &[1.0; 4])]);
    refused(
        "small.safetensors",
        &["small.safetensors", "[2, 2]", "[16, 16]"],
    );
    safetensors(
        &room,
        "nan.safetensors",
        &[("w", &[16, 16], &[f32::NAN; 256])],
    );
    refused("nan.safetensors", &["nan.safetensors", "not finite"]);
    refused("m.safetensors", &["m.safetensors", "[8, 16]"]);
    refused("absent.safetensors", &["absent.safetensors"]);

    // A place that is taken shows before all that.
    let taken = ["-o", "s.safetensors"];
    let solve = ["quantize", "m.safetensors", "--method", "gptq"];
    for line in [
        &[&solve[..], &["--hessians", "small.safetensors"]].concat()[..],
        &[
            "quantize",
            "nan.safetensors",
            "--auto",
            "--min-elements",
            "0",
        ],
    ] {
        room.refuses(&[line, &taken].concat(), &["s.safetensors: exists already"]);
    }

    // More than any machine has, in a file that takes no room.
    safetensors(
        &room,
        "wide.safetensors",
        &[("w", &[1, 200_000], &vec![1.0; 200_000])],
    );
    let len = 200_000_u64 * 200_000 * 8;
    let header =
        format!(r#"{{"w":{{"dtype":"F64","shape":[200000,200000],"data_offsets":[0,{len}]}}}}"#);
    let mut file = fs::File::create(room.path("vast.safetensors")).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes())
        .unwrap();
    file.write_all(header.as_bytes()).unwrap();
    file.set_len(8 + header.len() as u64 + len).unwrap();
    let line = ["quantize", "wide.safetensors", "-o", "t.safetensors"];
    room.refuses(
        &[&line[..], &gptq[..], &["vast.safetensors"]].concat(),
        &["vast.safetensors", "tensor `w`", "GB"],
    );
    let line = [
        "quantize",
        "m.safetensors",
        "-o",
        "t.safetensors",
        "--search",
        "mse",
    ];
    room.refuses(
        &[&line[..], &["--importance", "vast.safetensors"]].concat(),
        &["vast.safetensors", "no file of importance"],
    );
}
