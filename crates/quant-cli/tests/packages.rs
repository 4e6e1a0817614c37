//! The command on Core ML packages and with configuration files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

const WEIGHTS: &str = "Data/com.apple.CoreML/weights/weight.bin";

struct Folder(TempDir);

impl Folder {
    /// A folder with a copy of a fixture as `m.mlpackage`.
    fn with(fixture: &str) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        let from = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../quant-models/tests/coreml/packages")
            .join(format!("{fixture}.mlpackage"));
        copy(&from, &folder.path("m.mlpackage"));
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    fn quant(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quant"));
        command.args(arguments).current_dir(self.0.path());
        command.output().unwrap()
    }

    /// The ranges of a fixture, as `ranges.json`.
    fn with_ranges(fixture: &str) -> Self {
        let folder = Self::with(&format!("../activations/{fixture}"));
        let expected = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../quant-models/tests/coreml/expected_activations.json");
        let expected: Value = serde_json::from_slice(&fs::read(expected).unwrap()).unwrap();
        let ranges = expected["ranges"][fixture].to_string();
        fs::write(folder.path("ranges.json"), ranges).unwrap();
        folder
    }

    /// What is printed, and what is said beside it.
    fn succeeds(&self, arguments: &[&str]) -> (String, String) {
        let output = self.quant(arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{arguments:?}: {stderr}");
        (String::from_utf8(output.stdout).unwrap(), stderr)
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let (text, _) = self.succeeds(&[arguments, &["--json"]].concat());
        serde_json::from_str(&text).unwrap()
    }

    fn refuses(&self, arguments: &[&str], code: i32, words: &[&str]) {
        let before = self.names();
        let output = self.quant(arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        for word in words {
            assert!(stderr.contains(word), "no `{word}` in: {stderr}");
        }
        assert_eq!(self.names(), before, "{arguments:?}");
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name())),
            false => {
                fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
            }
        }
    }
}

fn tensor<'a>(report: &'a Value, name: &str) -> &'a Value {
    let tensors = report["tensors"].as_array().unwrap();
    tensors
        .iter()
        .find(|tensor| tensor["name"] == name)
        .unwrap()
}

#[test]
fn a_package_becomes_a_package() {
    let folder = Folder::with("linear_18_f16");
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
            .succeeds(&["inspect", "m.mlpackage"])
            .0
            .contains("-> linear `first` weight")
    );

    folder.refuses(
        &["quantize", "m.mlpackage"],
        1,
        &["m.int8.mlpackage", "--force"],
    );
    folder.succeeds(&["quantize", "m.mlpackage", "--force"]);
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

    folder.succeeds(&["dequantize", "m.int8.mlpackage"]);
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
    folder.succeeds(&["diff", "m.int8.mlpackage", "m.int8.mlpackage"]);
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
    let folder = Folder::with("linear_18_f16");
    let other = Folder::with("stateful_18_f16");
    let (a, b) = (folder.path("m.mlpackage"), other.path("m.mlpackage"));
    let output = folder.quant(&["diff", a.to_str().unwrap(), b.to_str().unwrap()]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("(program)"));
    fs::write(folder.path("x.safetensors"), "").unwrap();
    folder.refuses(
        &["diff", "m.mlpackage", "x.safetensors"],
        1,
        &["cannot be compared"],
    );
}

#[test]
fn what_the_format_cannot_hold_is_refused() {
    let folder = Folder::with("linear_16_f16");
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
    refuses(&["--dialect", "wide"], &["first_weight_0", "f32 scales"]);
    refuses(&["--axis", "2"], &["axis 2"]);
    fs::write(folder.path("old.mlmodel"), "x").unwrap();
    folder.refuses(
        &["quantize", "old.mlmodel"],
        1,
        &["old.mlmodel", "mlprogram"],
    );
    folder.refuses(&["inspect", "none.mlpackage"], 1, &["none.mlpackage"]);
}

#[test]
fn shared_constants_are_explained() {
    let folder = Folder::with("shared_18_f16");
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
    let folder = Folder::with("linear_18_f16");
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
            .succeeds(&[&blocks[..], &["--target", target]].concat())
            .1
    };
    assert!(warned("ane").contains("warning: 2 weights in blocks"));
    assert!(warned("cpu").contains("on disk only"));
    assert_eq!(warned("gpu"), "");
    let (_, quiet) = folder.succeeds(&["quantize", "m.mlpackage", "--dry-run", "--target", "ane"]);
    assert_eq!(quiet, "");
}

#[test]
fn already_compressed_weights_are_left_alone() {
    let folder = Folder::with("compressed_18_f16");
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
    let (_, said) = folder.succeeds(&["dequantize", "q.mlpackage", "-o", "f.mlpackage"]);
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
    let folder = Folder::with("linear_18_f16");
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
    let folder = Folder(tempfile::tempdir().unwrap());
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

const RANGES: [&str; 2] = ["--ranges", "ranges.json"];

#[test]
fn activations_are_quantized() {
    let folder = Folder::with_ranges("consumers_18_f16");
    let (text, stderr) = folder.succeeds(&[&["activations", "m.mlpackage"], &RANGES[..]].concat());
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

    let (help, _) = folder.succeeds(&["activations", "--help"]);
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
    assert_eq!(folder.succeeds(&forced), (String::new(), String::new()));
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
fn activations_that_want_a_range_are_listed() {
    let folder = Folder::with("../activations/partial_18_f16");
    let list = ["activations", "m.mlpackage", "--list"];
    let (text, stderr) = folder.succeeds(&list);
    assert_eq!(stderr, "");
    assert!(
        text.lines().any(|line| line
            == "relu_0  [1, 8, 8, 8]  given by relu      taken by conv `a`, conv `b`, max_pool `c`, exp `d`"),
        "{text}"
    );
    assert!(text.contains("x       [1, 4, 8, 8]  an input  "), "{text}");
    assert!(text.ends_with("9 activations want a range\n"), "{text}");

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
        folder.succeeds(&[&["activations", "m.mlpackage", "--strict"], &RANGES[..]].concat());
    assert!(
        text.contains("activations of 7 of 7 operations quantized\n"),
        "{text}"
    );

    let (text, _) = folder.succeeds(&[&list[..], &["--include", "^stem$"]].concat());
    assert!(text.ends_with("2 activations want a range\n"), "{text}");
    let (text, _) = folder.succeeds(&[&list[..], &["--exclude", "."]].concat());
    assert!(text.starts_with("no activation wants a range"), "{text}");
    for arguments in [
        &["activations", "m.mlpackage"][..],
        &[&list[..], &RANGES[..]].concat(),
        &[&list[..], &["--force"]].concat(),
        &[&list[..], &["-o", "out.mlpackage"]].concat(),
    ] {
        assert_eq!(folder.quant(arguments).status.code(), Some(2));
    }
    let older = Folder::with("linear_16_f16");
    older.refuses(&list, 1, &["since iOS17"]);
}

#[test]
fn what_has_no_range_is_listed() {
    let folder = Folder::with_ranges("partial_18_f16");
    let command = [&["activations", "m.mlpackage"], &RANGES[..]].concat();
    let (text, _) = folder.succeeds(&command);
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
    let (text, _) = folder.succeeds(&options);
    assert!(
        text.contains("x `x` uint8 scale") && text.contains("head_weight_0"),
        "{text}"
    );

    // The other commands work on what came out.
    let listed = folder.json(&["inspect", "both.mlpackage", "--values"]);
    assert_eq!(tensor(&listed, "head_weight_0_quantized")["dtype"], "int8");
    folder.succeeds(&["diff", "both.mlpackage", "both.mlpackage"]);
    let differ = folder.quant(&["diff", "m.mlpackage", "both.mlpackage", "--json"]);
    let found: Value = serde_json::from_slice(&differ.stdout).unwrap();
    assert!(tensor(&found, "head_weight_0")["sqnr_db"].is_number());
    assert!(
        tensor(&found, "(program)")["reason"]
            .as_str()
            .unwrap()
            .contains("quantize")
    );
    let (_, stderr) = folder.succeeds(&["dequantize", "both.mlpackage", "-o", "floats.mlpackage"]);
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
    let older = Folder::with("linear_16_f16");
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
