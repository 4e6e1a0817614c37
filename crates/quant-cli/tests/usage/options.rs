//! Options that need others, names of outputs.

use std::fs;

use crate::folder::{Folder, npy};
use crate::model;

#[test]
fn options_without_effect_are_errors() {
    let folder = Folder::with_package("linear_18_f16");
    model(&folder, "m.safetensors");
    fs::write(folder.path("x.npy"), npy(&[0.0, 1.0])).unwrap();
    fs::write(
        folder.path("c.yaml"),
        "config_type: OpLinearQuantizerConfig\nglobal_config: {}\n",
    )
    .unwrap();
    for (arguments, words) in [
        (
            "quantize m.safetensors --block-size 16",
            ["--block-size", "--granularity per-block"],
        ),
        (
            "quantize m.safetensors --block-size 32",
            ["--block-size", "--granularity per-block"],
        ),
        (
            "quantize m.safetensors --block-axis 1",
            ["--block-axis", "per-block"],
        ),
        (
            "quantize m.safetensors --granularity per-channel --block-size 8",
            ["--block-size", "per-channel"],
        ),
        (
            "quantize m.safetensors --granularity per_tensor --axis 0",
            ["--axis", "per-tensor"],
        ),
        (
            "quantize m.mlpackage --granularity per-tensor --block-axis 0",
            ["--block-axis", "per-tensor"],
        ),
        (
            "quantize m.mlpackage --activation-dtype int8",
            ["--activation-dtype", "--ranges"],
        ),
        (
            "quantize m.mlpackage --activation-mode affine",
            ["--activation-mode", "--ranges"],
        ),
        (
            "quantize m.safetensors --block 1,32 --axis 0",
            ["--block", "--axis"],
        ),
        (
            "quantize m.safetensors --block 1,32 --granularity per-block",
            ["--block", "--granularity"],
        ),
        (
            "quantize m.safetensors --block 1,32 --block-size 32",
            ["--block and --block-size", "exclude each other"],
        ),
        (
            "plan m.safetensors --block 1,32 --block-axis 1",
            ["--block and --block-axis", "exclude each other"],
        ),
        (
            "quantize m.safetensors --format mlx --block-size 32",
            ["--block-size has no effect", "there it is --group-size"],
        ),
        (
            "quantize m.safetensors --format gguf --dtype int4",
            ["--dtype has no effect", "there it is --type"],
        ),
        (
            "quantize m.mlpackage --config c.yaml --dtype int8",
            ["--config", "--dtype"],
        ),
        (
            "quantize m.mlpackage --config c.yaml --min-elements 2048",
            ["--config", "--min-elements"],
        ),
        (
            "activations m.mlpackage --list --dtype uint8",
            ["--list", "--dtype"],
        ),
        (
            "activations m.mlpackage --list --dry-run",
            ["--list", "--dry-run"],
        ),
        (
            "calibrate x.npy -o r.json --bins 512",
            ["--bins", "--observer"],
        ),
        (
            "calibrate x.npy -o r.json --observer mse --percentile 99",
            ["--percentile", "--observer percentile"],
        ),
        (
            "calibrate x.npy -o r.json --observer mse --averaging ratio=0.5",
            ["--averaging", "moving-average"],
        ),
        (
            "calibrate --merge r.json -o s.json --mode affine",
            ["--merge", "--mode"],
        ),
        (
            "calibrate - --name x -o r.json --checkpoint 1",
            ["--checkpoint", "stream"],
        ),
    ] {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        folder.refuses(&arguments, 2, &words);
    }
    // What the model does not fit is another matter.
    for option in [
        &["--target", "ane"][..],
        &["--exact-selection"],
        &["--ranges", "r.json"],
        &["--weights-only"],
    ] {
        for model in ["m.safetensors", "m.mlpackage"] {
            let fits = (model == "m.mlpackage") == (option[0] != "--weights-only");
            if !fits {
                let arguments = [&["quantize", model], option].concat();
                folder.refuses(&arguments, 1, &[model, option[0], "no effect"]);
            }
        }
    }
    for arguments in [
        "quantize m.safetensors --granularity per-block --block-size 16 --axis 0 --block-axis 1",
        "quantize m.safetensors -f --granularity per_block --block-size 16",
        "quantize m.safetensors -f --axis -1",
        "quantize m.mlpackage --target ane --exact-selection",
    ] {
        folder.succeeds(&arguments.split(' ').collect::<Vec<_>>());
    }
}

#[test]
fn names_of_outputs_say_what_they_hold() {
    let folder = Folder::with_package("linear_18_f16");
    model(&folder, "m.safetensors");
    fs::create_dir(folder.path("sharded")).unwrap();
    model(&folder, "sharded/a.safetensors");
    let index = r#"{"weight_map": {"w": "a.safetensors", "b": "a.safetensors"}}"#;
    fs::write(folder.path("sharded/model.safetensors.index.json"), index).unwrap();
    fs::write(folder.path("x.npy"), npy(&[0.0, 1.0])).unwrap();
    folder.succeeds(&["calibrate", "x.npy", "-o", "r.json"]);
    folder.succeeds(&["quantize", "m.safetensors", "-o", "q.safetensors"]);
    folder.succeeds(&["quantize", "m.mlpackage", "-o", "q.mlpackage"]);
    for (arguments, better) in [
        ("quantize m.safetensors -o x.mlpackage", "x.safetensors"),
        ("quantize m.safetensors -o o.gguf", "o.safetensors"),
        (
            "quantize m.safetensors -o o.onnx --dry-run",
            "o.safetensors",
        ),
        (
            "quantize m.safetensors --output o.GGUF --force",
            "o.safetensors",
        ),
        (
            "quantize m.safetensors --format gguf -o x.safetensors",
            "x.gguf",
        ),
        ("quantize sharded --format gguf -o x.onnx", "x.gguf"),
        ("quantize m.mlpackage -o x.safetensors", "x.mlpackage"),
        ("quantize m.mlpackage -o o.mlmodel", "o.mlpackage"),
        ("quantize sharded -o x.safetensors", "such as x"),
        ("quantize sharded -o x.mlpackage", "such as x"),
        (
            "quantize sharded/model.safetensors.index.json -o x.gguf",
            "such as x",
        ),
        ("dequantize q.safetensors -o x.mlpackage", "x.safetensors"),
        ("dequantize q.mlpackage -o x.safetensors", "x.mlpackage"),
        (
            "activations m.mlpackage --ranges r.json -o x.safetensors",
            "x.mlpackage",
        ),
        ("calibrate x.npy -o x.yaml", "x.json"),
        ("calibrate --merge r.json -o x.html", "x.json"),
        ("quantize m.safetensors --report x.html", "x.json"),
        ("plot r.json -o x.json", ".html"),
    ] {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        folder.refuses(&arguments, 1, &[better]);
    }
    // Something else stands there already: its name is as wrong.
    fs::write(folder.path("old.gguf"), "precious").unwrap();
    folder.refuses(
        &["quantize", "m.safetensors", "-o", "old.gguf", "-f"],
        1,
        &["old.safetensors"],
    );
    folder.succeeds(&["quantize", "sharded", "-o", "sharded.v2"]);
    folder.succeeds(&["quantize", "m.safetensors", "-o", "Llama-3.2-1B"]);
    folder.succeeds(&["inspect", "Llama-3.2-1B"]);
}

#[test]
fn options_have_their_usual_forms() {
    let folder = Folder::new();
    model(&folder, "m.safetensors");
    folder.succeeds(&["quantize", "m.safetensors", "--output", "q.safetensors"]);
    assert_eq!(
        folder.succeeds(&["quantize", "m.safetensors", "-qf", "-o", "q.safetensors"]),
        ""
    );
    folder.succeeds(&[
        "dequantize",
        "q.safetensors",
        "--output",
        "f.safetensors",
        "-q",
    ]);
    folder.succeeds(&[
        "dequantize",
        "q.safetensors",
        "--output",
        "f.safetensors",
        "-fq",
        "-j",
        "1",
    ]);
    fs::write(folder.path("x.npy"), npy(&[0.0, 1.0])).unwrap();
    folder.succeeds(&["calibrate", "x.npy", "--output", "r.json", "-q"]);
    folder.succeeds(&["plot", "r.json", "--output", "r.html", "-q"]);
    folder.succeeds(&["plot", "r.json", "--output", "r.html", "-qf"]);
}
