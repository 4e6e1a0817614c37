//! The command line: options that need others, exit statuses, help and manual, names of outputs.

mod folder;

use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::process::Stdio;

use folder::{Folder, f32_bytes, npy, wave};
use serde_json::Value;

const COMMANDS: [&str; 11] = [
    "quantize",
    "activations",
    "calibrate",
    "plot",
    "dequantize",
    "inspect",
    "index",
    "diff",
    "backends",
    "completions",
    "man",
];

fn model(folder: &Folder, file: &str) {
    let (w, b) = (f32_bytes(64 * 96, wave), f32_bytes(64, wave));
    folder.model(
        file,
        &[("w", "F32", &[64, 96], &w), ("b", "F32", &[64], &b)],
    );
}

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

/// Names are bytes; not one of them is lost.
#[test]
#[cfg(target_os = "linux")]
fn a_name_that_is_no_text_keeps_its_bytes() {
    let folder = Folder::new();
    model(&folder, "m.safetensors");
    let name = |bytes: &[u8]| std::ffi::OsString::from_vec(bytes.to_vec());
    let input = name(b"m\xff\xfe.safetensors");
    fs::rename(folder.path("m.safetensors"), folder.path("").join(&input)).unwrap();
    let output = folder.quant(&["quantize".into(), input]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        folder
            .path("")
            .join(name(b"m\xff\xfe.int8.safetensors"))
            .exists()
    );
    let quantized = name(b"m\xff\xfe.int8.safetensors");
    assert!(
        folder
            .quant(&["dequantize".into(), quantized])
            .status
            .success()
    );
    assert!(
        folder
            .path("")
            .join(name(b"m\xff\xfe.int8.float.safetensors"))
            .exists()
    );
}

#[test]
fn diff_ends_as_diff_1_does() {
    let folder = Folder::new();
    model(&folder, "a.safetensors");
    model(&folder, "b.safetensors");
    folder.model("c.safetensors", &[("w", "F32", &[1], &[0; 4])]);
    fs::write(folder.path("bad.safetensors"), "x").unwrap();
    for (a, b, status) in [
        ("a.safetensors", "b.safetensors", 0),
        ("a.safetensors", "c.safetensors", 1),
        ("a.safetensors", "none.safetensors", 2),
        ("bad.safetensors", "a.safetensors", 2),
        ("a.safetensors", "none.mlpackage", 2),
    ] {
        for options in [&[][..], &["--json"], &["--quiet"], &["-q"]] {
            let output = folder.quant(&[&["diff", a, b], options].concat());
            assert_eq!(output.status.code(), Some(status), "{a} {b}");
            assert!(!options.contains(&"-q") || output.stdout.is_empty());
        }
    }
    assert_eq!(
        folder.quant(&["diff", "a.safetensors"]).status.code(),
        Some(2)
    );
}

/// NaN and infinities in one only are differences, and are counted.
#[test]
fn values_that_are_not_finite_are_told_apart() {
    let folder = Folder::new();
    let shape = &[64, 96][..];
    let write = |file: &str, value: &dyn Fn(usize) -> f32| {
        folder.model(file, &[("w", "F32", shape, &f32_bytes(64 * 96, value))]);
    };
    write("a.safetensors", &wave);
    let diff = |b: &str| -> (i32, Value, String) {
        let json = folder.quant(&["diff", "a.safetensors", b, "--json"]);
        let text = folder.quant(&["diff", "a.safetensors", b]);
        assert_eq!(json.status, text.status);
        let found: Value = serde_json::from_slice(&json.stdout).unwrap();
        let text = String::from_utf8(text.stdout).unwrap();
        (
            json.status.code().unwrap(),
            found["tensors"][0].clone(),
            text,
        )
    };
    for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        write("all.safetensors", &|_| odd);
        let (status, tensor, text) = diff("all.safetensors");
        assert_eq!((status, &tensor["non_finite"]), (1, &6144.into()));
        assert_eq!(tensor["first_non_finite"], serde_json::json!([0, 0]));
        assert_eq!(
            (&tensor["max_abs_error"], &tensor["sqnr_db"]),
            (&Value::Null, &Value::Null)
        );
        assert!(
            text.contains("6144 values are NaN or Inf in only one of them"),
            "{text}"
        );
        assert!(!text.contains("equal"), "{text}");
        write("one.safetensors", &|i| if i == 100 { odd } else { wave(i) });
        let (_, tensor, text) = diff("one.safetensors");
        assert_eq!(
            (&tensor["non_finite"], &tensor["max_abs_error"]),
            (&1.into(), &0.0.into())
        );
        assert_eq!(tensor["first_non_finite"], serde_json::json!([1, 4]));
        assert!(
            text.contains("1 value is NaN or Inf in only one of them, the first at [1, 4]"),
            "{text}"
        );
    }
    // Signs of infinities, and NaN beside an infinity.
    write("a.safetensors", &|i| {
        [f32::INFINITY, f32::NAN, f32::NAN, 1.0][i % 4]
    });
    write("b.safetensors", &|i| {
        [f32::NEG_INFINITY, f32::INFINITY, f32::NAN, 2.0][i % 4]
    });
    let (_, tensor, text) = diff("b.safetensors");
    assert_eq!(
        (&tensor["non_finite"], &tensor["max_abs_error"]),
        (&3072.into(), &1.0.into())
    );
    assert!(text.contains("largest difference 1;"), "{text}");
    // Differences that f32 cannot hold.
    write("a.safetensors", &|_| f32::MAX);
    write("b.safetensors", &|_| -f32::MAX);
    let (_, tensor, text) = diff("b.safetensors");
    assert_eq!(tensor["non_finite"], 0);
    assert_eq!(tensor["max_abs_error"], 2.0 * f64::from(f32::MAX));
    assert!(text.contains("largest difference 6.81e38"), "{text}");
    // NaN in both, stored differently.
    folder.model(
        "a.safetensors",
        &[("w", "F16", shape, &0x7e00_u16.to_le_bytes().repeat(6144))],
    );
    write("b.safetensors", &|_| f32::NAN);
    let (status, tensor, text) = diff("b.safetensors");
    assert_eq!((status, &tensor["non_finite"]), (1, &0.into()));
    assert!(
        text.contains("stored differently, the values are equal"),
        "{text}"
    );
}

/// A result that f16 cannot hold is no exact one.
#[test]
fn values_that_cannot_be_restored_are_told() {
    let folder = Folder::new();
    let large = 0x7bff_u16.to_le_bytes().repeat(64 * 96);
    folder.model("m.safetensors", &[("w", "F16", &[64, 96], &large)]);
    let quantize = [
        "quantize",
        "m.safetensors",
        "-f",
        "--dtype",
        "uint8",
        "--mode",
        "affine",
    ];
    let report = folder.succeeds(&[&quantize[..], &["--json"]].concat());
    let report: Value = serde_json::from_str(&report).unwrap();
    let tensor = &report["tensors"][0];
    assert_eq!(
        (&tensor["non_finite"], &tensor["max_abs_error"]),
        (&6144.into(), &Value::Null)
    );
    let text = folder.succeeds(&quantize);
    assert!(
        text.contains("  6144 values too large to be restored\n") && !text.contains("exact"),
        "{text}"
    );
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_standard_output_is_an_error() {
    let folder = Folder::new();
    model(&folder, "m.safetensors");
    for (arguments, status) in [
        ("--help", 1),
        ("--version", 1),
        ("quantize --help", 1),
        ("man", 1),
        ("completions bash", 1),
        ("backends", 1),
        ("inspect m.safetensors", 1),
        ("inspect m.safetensors --json", 1),
        ("quantize m.safetensors -n", 1),
        ("quantize m.safetensors -f", 1),
        ("diff m.safetensors m.safetensors", 2),
    ] {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let output = folder.command(&arguments).stdout(full).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            output.status.code(),
            Some(status),
            "{arguments:?}: {stderr}"
        );
        assert!(
            stderr.starts_with("quant: standard output: cannot write"),
            "{stderr}"
        );
    }
    // A reader that has seen enough is none.
    let mut child = folder
        .command(&["man"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn every_command_has_help_and_a_page() {
    let folder = Folder::new();
    let top = folder.succeeds(&["man"]);
    assert!(top.contains("quant"));
    for command in COMMANDS {
        let page = folder.succeeds(&["man", command]);
        assert!(page.contains(&format!("quant\\-{command}")), "{page}");
        let help = folder.succeeds(&[command, "--help"]);
        for text in [&help, &page] {
            assert!(
                text.contains("Exit status") && text.contains("143"),
                "{text}"
            );
        }
        let has_example = !matches!(command, "backends" | "completions");
        assert_eq!(
            help.contains("\n  quant ") || help.contains("    quant "),
            has_example,
            "{help}"
        );
        assert!(
            help.lines().all(|line| line.chars().count() <= 125),
            "{help}"
        );
        assert!(folder.succeeds(&[command, "-h"]).lines().count() < help.lines().count());
    }
    let wrong = folder.quant(&["man", "nothing"]);
    assert_eq!(wrong.status.code(), Some(2));
    let help = folder.succeeds(&["diff", "--help"]);
    for line in [
        "0  done; diff: the models are equal",
        "1  failed",
        "2  the command line is wrong; diff: trouble",
        "3  --strict",
    ] {
        assert!(help.contains(line), "{help}");
    }
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

#[test]
fn shells_complete_what_there_is() {
    let folder = Folder::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = folder.succeeds(&["completions", shell]);
        assert!(script.contains("quant"), "{shell}");
    }
    let script = folder.succeeds(&["completions", "bash"]);
    let backends = folder.succeeds(&["backends"]);
    // What follows `--backend` there: names, and no files.
    let blocks: Vec<&str> = script.split("--backend)").skip(1).collect();
    assert_eq!(blocks.len(), 2);
    for block in blocks {
        let block = &block[..block.find(";;").unwrap()];
        assert!(!block.contains("compgen -f"), "{block}");
        assert!(backends.lines().all(|name| block.contains(name)), "{block}");
    }
    for option in [
        "--include)",
        "--exclude)",
        "--threads)",
        "--name)",
        "--min-elements)",
        "--axis)",
        "--bins)",
    ] {
        let block = script.split(option).nth(1).unwrap();
        assert!(
            !block[..block.find(";;").unwrap()].contains("compgen -f"),
            "{option}"
        );
    }
}

#[test]
#[cfg(unix)]
fn a_signal_ends_with_its_number_and_the_second_at_once() {
    let folder = Folder::new();
    for (signal, status) in [("HUP", 129), ("INT", 130), ("TERM", 143)] {
        // It waits for its standard input.
        let start = || {
            let child = folder
                .command(&["calibrate", "-", "--name", "x", "-o", "r.json"])
                .stdin(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            std::thread::sleep(std::time::Duration::from_millis(500));
            child
        };
        let kill = |id: u32| {
            let id = id.to_string();
            let killed = std::process::Command::new("kill")
                .args([&format!("-{signal}"), &id])
                .status();
            assert!(killed.unwrap().success());
        };
        let mut child = start();
        kill(child.id());
        std::thread::sleep(std::time::Duration::from_millis(100));
        // What it waits for comes no more.
        drop(child.stdin.take());
        assert_eq!(child.wait().unwrap().code(), Some(status), "{signal}");

        let mut child = start();
        let input = child.stdin.take();
        kill(child.id());
        std::thread::sleep(std::time::Duration::from_millis(100));
        let begin = std::time::Instant::now();
        if child.try_wait().unwrap().is_none() {
            kill(child.id());
        }
        assert_eq!(child.wait().unwrap().code(), Some(status), "{signal}");
        assert!(begin.elapsed().as_secs() < 5);
        drop(input);
        assert!(folder.names().is_empty(), "{:?}", folder.names());
    }
}
