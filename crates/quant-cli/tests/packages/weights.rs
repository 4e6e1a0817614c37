//! Weights: what becomes of them, and what is said of it.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::fixtures::WEIGHTS;
use crate::folder::{Folder, tensor};

#[test]
fn a_package_becomes_a_package() {
    let folder = Folder::with_package("linear_18_f16");
    let report = folder.json(&["quantize", "m.mlpackage"]);
    assert_eq!(folder.names(), ["m.int8.mlpackage", "m.mlpackage"]);
    let weight = tensor(&report, "first_weight_0");
    assert_eq!(weight["scheme"]["blocks"], serde_json::json!([1, 48]));
    assert_eq!(weight["consumers"][0]["operation"], "linear");
    assert_eq!(tensor(&report, "first_bias_0")["reason"], "rank 1");
    let sizes = ["m.mlpackage", "m.int8.mlpackage"].map(|name| size(&folder.path(name)));
    assert_eq!(report["bytes_before"], sizes[0]);
    assert_eq!(report["bytes_after"], sizes[1]);

    let listed = folder.json(&["inspect", "m.int8.mlpackage", "--values"]);
    let weight = tensor(&listed, "first_weight_0_quantized");
    assert_eq!(
        (&weight["dtype"], &weight["bytes"]),
        (&"int8".into(), &(128 * 48 + 256).into())
    );
    assert_eq!(weight["consumers"][0]["name"], "first");
    assert!((100..6144).contains(&weight["unique_values"].as_u64().unwrap()));
    assert!((0.0..0.2).contains(&weight["sparsity"].as_f64().unwrap()));
    assert!(
        folder
            .said(&["inspect", "m.mlpackage"])
            .0
            .contains("-> linear `first` weight")
    );

    folder.refuses(
        &["quantize", "m.mlpackage"],
        1,
        &["m.int8.mlpackage", "--force"],
    );
    folder.said(&["quantize", "m.mlpackage", "--force"]);
    folder.refuses(
        &["quantize", "m.mlpackage", "-o", "m.mlpackage", "--force"],
        1,
        &["the input itself"],
    );
    folder.refuses(
        &["quantize", "m.mlpackage", "-o", "m.mlpackage/x"],
        1,
        &["inside the input"],
    );
    fs::create_dir(folder.path("precious")).unwrap();
    folder.refuses(
        &["quantize", "m.mlpackage", "-o", "precious", "--force"],
        1,
        &["no Core ML package"],
    );

    folder.said(&["dequantize", "m.int8.mlpackage"]);
    assert!(folder.names().contains(&"m.int8.float.mlpackage".into()));
    let differ = folder.quant(&["diff", "m.mlpackage", "m.int8.float.mlpackage", "--json"]);
    assert_eq!(differ.status.code(), Some(1));
    let found: Value = serde_json::from_slice(&differ.stdout).unwrap();
    let weight = tensor(&found, "first_weight_0");
    assert!((35.0..60.0).contains(&weight["sqnr_db"].as_f64().unwrap()));
    assert_eq!(tensor(&found, "first_bias_0")["equal"], true);
    assert!(
        !found["tensors"]
            .as_array()
            .unwrap()
            .iter()
            .any(|one| one["name"] == "(program)")
    );
    // From the codes and from the values that they stand for, the same.
    let same = folder.quant(&["diff", "m.int8.mlpackage", "m.int8.float.mlpackage"]);
    assert!(String::from_utf8_lossy(&same.stdout).contains("the values are equal"));
    folder.said(&["diff", "m.int8.mlpackage", "m.int8.mlpackage"]);
}

fn size(path: &Path) -> u64 {
    match path.is_dir() {
        true => {
            let entries = fs::read_dir(path).unwrap();
            entries.map(|entry| size(&entry.unwrap().path())).sum()
        }
        false => fs::metadata(path).unwrap().len(),
    }
}

#[test]
fn programs_that_differ_are_told_apart() {
    let folder = Folder::with_package("linear_18_f16");
    let other = Folder::with_package("stateful_18_f16");
    let (a, b) = (folder.path("m.mlpackage"), other.path("m.mlpackage"));
    let output = folder.quant(&["diff", a.to_str().unwrap(), b.to_str().unwrap()]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("(program)"));
    fs::write(folder.path("x.safetensors"), "").unwrap();
    folder.refuses(
        &["diff", "m.mlpackage", "x.safetensors"],
        2,
        &["cannot be compared"],
    );
}

#[test]
fn what_the_format_cannot_hold_is_refused() {
    let folder = Folder::with_package("linear_16_f16");
    let refuses = |options: &[&str], words: &[&str]| {
        folder.refuses(&[&["quantize", "m.mlpackage"], options].concat(), 1, words);
    };
    refuses(
        &["--dtype", "int4"],
        &["first_weight_0", "iOS18", "minimum_deployment_target"],
    );
    refuses(
        &["--granularity", "per-block"],
        &["first_weight_0", "iOS18"],
    );
    for name in ["f32", "wide"] {
        refuses(
            &["--dialect", name],
            &["first_weight_0", "--dialect f32 stores f32 scales"],
        );
    }
    refuses(&["--axis", "2"], &["axis 2"]);
    fs::write(folder.path("old.mlmodel"), "x").unwrap();
    folder.refuses(
        &["quantize", "old.mlmodel"],
        1,
        &["old.mlmodel", "mlprogram"],
    );
    folder.refuses(&["inspect", "none.mlpackage"], 1, &["none.mlpackage"]);
}

/// Blocks that do not divide an axis, or are larger than it: coremltools skips both.
#[test]
fn blocks_that_fit_no_weight_are_told() {
    let folder = Folder::with_package("linear_18_f16");
    for (size, reason) in [
        ("32", "do not divide axis 1"),
        ("4096", "larger than axis 1"),
    ] {
        let blocks = ["--granularity", "per-block", "--block-size", size];
        let options = [
            &[
                "quantize",
                "m.mlpackage",
                "--include",
                "first_weight",
                "--force",
            ],
            &blocks[..],
        ]
        .concat();
        let (_, stderr) = folder.said(&[&options[..], &["--quiet"]].concat());
        assert!(stderr.contains("nothing was quantized"), "{stderr}");
        assert!(stderr.contains(reason), "{stderr}");
        let report = folder.json(&options);
        assert_eq!(tensor(&report, "first_weight_0")["skipped"], true);
        folder.refuses(&[&options[..], &["--strict"]].concat(), 3, &[reason]);
    }
}

#[test]
fn shared_constants_are_explained() {
    let folder = Folder::with_package("shared_18_f16");
    let report = folder.json(&["quantize", "m.mlpackage", "-o", "a.mlpackage"]);
    let torn = tensor(&report, "torn");
    assert_eq!(torn["skipped"], true);
    assert!(
        torn["reason"].as_str().unwrap().contains("matmul `d`"),
        "{torn}"
    );
    folder.refuses(&["quantize", "m.mlpackage", "--strict"], 3, &["torn"]);
    let whole = ["quantize", "m.mlpackage", "--granularity", "per-tensor"];
    let report = folder.json(&[&whole[..], &["-o", "b.mlpackage"]].concat());
    assert_eq!(tensor(&report, "torn")["scheme"]["dtype"], "int8");
    assert!(
        report["warnings"][0]
            .as_str()
            .unwrap()
            .contains("--exact-selection")
    );
    let exact = [&whole[..], &["-o", "c.mlpackage", "--exact-selection"]].concat();
    assert!(tensor(&folder.json(&exact), "torn")["scheme"].is_null());
    // An axis that is given needs no choice.
    let report = folder.json(&[
        "quantize",
        "m.mlpackage",
        "-o",
        "d.mlpackage",
        "--axis",
        "0",
    ]);
    assert_eq!(
        tensor(&report, "torn")["scheme"]["blocks"],
        serde_json::json!([1, 64])
    );
}

#[test]
fn targets_are_warned_of() {
    let folder = Folder::with_package("linear_18_f16");
    let blocks = [
        "quantize",
        "m.mlpackage",
        "--granularity",
        "per-block",
        "--block-size",
        "16",
        "--dry-run",
    ];
    let warned = |target: &str| {
        folder
            .said(&[&blocks[..], &["--target", target]].concat())
            .1
    };
    assert!(warned("ane").contains("warning: 2 weights in blocks"));
    assert!(warned("cpu").contains("on disk only"));
    assert_eq!(warned("gpu"), "");
    let (_, quiet) = folder.said(&["quantize", "m.mlpackage", "--dry-run", "--target", "ane"]);
    assert_eq!(quiet, "");
}

#[test]
fn already_compressed_weights_are_left_alone() {
    let folder = Folder::with_package("compressed_18_f16");
    let report = folder.json(&["quantize", "m.mlpackage", "-o", "q.mlpackage"]);
    for (name, word) in [
        ("first_weight_0_palettized", "palettized"),
        ("second_weight_0_sparsified", "pruned"),
        ("third_weight_0_quantized", "quantized"),
    ] {
        let reason = tensor(&report, name)["reason"].as_str().unwrap();
        assert!(reason.contains(&format!("already {word}")), "{reason}");
    }
    assert_eq!(
        tensor(&report, "fourth_weight_0")["scheme"]["dtype"],
        "int8"
    );
    let (_, said) = folder.said(&["dequantize", "q.mlpackage", "-o", "f.mlpackage"]);
    assert!(
        said.contains("first_weight_0_palettized") && said.contains("left alone"),
        "{said}"
    );
}

const YAML: &str = "
config_type: OpLinearQuantizerConfig
global_config:
  dtype: uint8
  mode: linear
op_type_configs:
  linear:
    granularity: per_block
    block_size: 16
    weight_threshold: 100
op_name_configs:
  second: null
";

#[test]
fn configurations_are_read_as_coremltools_reads_them() {
    let folder = Folder::with_package("linear_18_f16");
    fs::write(folder.path("c.yaml"), YAML).unwrap();
    let report = folder.json(&["quantize", "m.mlpackage", "--config", "c.yaml"]);
    assert!(folder.path("m.quantized.mlpackage").join(WEIGHTS).exists());
    let scheme = &tensor(&report, "first_weight_0")["scheme"];
    assert_eq!(scheme["blocks"], serde_json::json!([1, 16]));
    assert_eq!(scheme["mode"], "symmetric");
    assert_eq!(tensor(&report, "small_weight_0")["scheme"]["dtype"], "int8");
    assert_eq!(
        tensor(&report, "second_weight_0")["reason"],
        "left out by the configuration"
    );
    let with = |text: &str, words: &[&str]| {
        fs::write(folder.path("x.yaml"), text).unwrap();
        folder.refuses(
            &["quantize", "m.mlpackage", "--config", "x.yaml"],
            1,
            &[&["x.yaml"], words].concat(),
        );
    };
    with("", &["not a configuration"]);
    with("{", &["not a configuration"]);
    with(
        "config_type: OpPalettizerConfig\nglobal_config: {}",
        &["OpPalettizerConfig"],
    );
    with(
        "config_type: OpLinearQuantizerConfig\nglobal: {}",
        &["global"],
    );
    with(
        "config_type: OpLinearQuantizerConfig\nglobal_config: {nbits: 4}",
        &["global_config", "nbits"],
    );
    with(
        "config_type: OpLinearQuantizerConfig\nglobal_config: {dtype: int3}",
        &["int3"],
    );
    with(
        "config_type: OpLinearQuantizerConfig\nglobal_config: {mode: log}",
        &["log"],
    );
    with(
        "config_type: OpLinearQuantizerConfig\nglobal_config: {granularity: per_row}",
        &["per_row"],
    );
    with(
        "config_type: OpLinearQuantizerConfig\nglobal_config: {weight_threshold: -1}",
        &["global_config"],
    );
    folder.refuses(
        &["quantize", "m.mlpackage", "--config", "none.yaml"],
        1,
        &["none.yaml"],
    );
    let both = folder.quant(&[
        "quantize",
        "m.mlpackage",
        "--config",
        "c.yaml",
        "--dtype",
        "int4",
    ]);
    assert_eq!(both.status.code(), Some(2));
}

#[test]
fn configurations_match_names_of_safetensors() {
    let folder = Folder::new();
    let values: Vec<u8> = (0..64 * 64)
        .flat_map(|i| ((i % 97) as f32 - 48.0).to_le_bytes())
        .collect();
    let view = || {
        safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![64, 64], &values)
            .unwrap()
    };
    let tensors = ["a.weight", "b.weight", "b.bias"].map(|name| (name, view()));
    fs::write(
        folder.path("m.safetensors"),
        safetensors::serialize(tensors, None).unwrap(),
    )
    .unwrap();
    let text = r#"{"config_type": "OpLinearQuantizerConfig",
        "op_name_configs": {".*\\.weight": {"dtype": "int4"}, "b.weight": {"dtype": "uint8"}}}"#;
    fs::write(folder.path("c.json"), text).unwrap();
    let report = folder.json(&["quantize", "m.safetensors", "--config", "c.json"]);
    assert_eq!(tensor(&report, "a.weight")["scheme"]["dtype"], "int4");
    assert_eq!(tensor(&report, "b.weight")["scheme"]["dtype"], "uint8");
    assert!(tensor(&report, "b.bias")["scheme"].is_null());
    fs::write(folder.path("t.yaml"), YAML).unwrap();
    folder.refuses(
        &["quantize", "m.safetensors", "--config", "t.yaml"],
        1,
        &["t.yaml", "op_type_configs"],
    );
}
