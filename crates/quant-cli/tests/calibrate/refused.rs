//! Recordings and ranges that are refused, or passed over.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use crate::recordings::{Folder, f32_bytes, npy, npy_f32, values};
use crate::{recorded, safetensors};
use safetensors::tensor::Dtype;
use serde_json::Value;

#[cfg(feature = "run")]
#[test]
fn only_models_that_can_be_run_are_to_have_samples() {
    let folder = Folder::new();
    for (model, advice) in [
        ("m.gguf", "only Core ML packages are run"),
        ("m.mlpackage", "give --samples"),
    ] {
        folder.write(model, b"GGUF");
        let line = format!("--importance {model} -o out.safetensors");
        folder.refuses(&line, &[model, "a model and no recording", advice]);
    }
}

#[test]
fn what_cannot_be_merged_is_refused() {
    let folder = Folder::new();
    recorded(&folder);
    for (file, options) in [
        ("average.json", "--observer moving-average"),
        ("mse.json", "--observer mse"),
        ("fine.json", "--observer mse --bins 4096"),
        ("affine.json", "--observer mse --mode affine"),
    ] {
        let text = folder.calibrated(&format!("data {options}"));
        folder.write(file, text.as_bytes());
    }
    let _ = fs::remove_file(folder.path("out.json"));
    let refuses = |files: &str, words: &[&str]| {
        folder.refuses(&format!("--merge {files} -o out.json"), words);
    };
    refuses("average.json average.json", &["order of the samples"]);
    refuses(
        "mse.json fine.json",
        &["fine.json", "4096 bins", "2048 bins"],
    );
    refuses("mse.json affine.json", &["affine.json", "int8 affine"]);
    refuses("mse.json none.json", &["none.json"]);
    folder.refuses(
        "--merge mse.json mse.json -o mse.json --force",
        &["one of the inputs"],
    );
    for text in [
        "",
        "[]",
        r#"{"version": 1, "activations": {"x": {"min": 0, "max": 1}}}"#,
        r#"{"version": 2, "observer": {"kind": "min-max"}, "quantization":
            {"dtype": "int8", "mode": "affine", "rule": "coremltools"}, "activations": {}}"#,
        r#"{"version": 1, "observer": {"kind": "min-max"}, "quantization":
            {"dtype": "int4", "mode": "affine", "rule": "coremltools"}, "activations": {}}"#,
        r#"{"version": 1, "observer": {"kind": "mse", "bins": 7}, "quantization":
            {"dtype": "int8", "mode": "affine", "rule": "coremltools"}, "activations": {}}"#,
    ] {
        folder.write("bad.json", text.as_bytes());
        refuses("bad.json mse.json", &["bad.json"]);
    }
    let good = fs::read_to_string(folder.path("mse.json")).unwrap();
    let document: Value = serde_json::from_str(&good).unwrap();
    for (key, bad) in [
        ("min", "-1000.0"),
        ("max", "null"),
        ("observed_max", "1e300"),
        ("elements", "3"),
        ("elements", "18446744073709551615"),
        ("non_finite", "1000000"),
        ("samples", "-1"),
        ("histogram", "null"),
        (
            "histogram",
            r#"{"exponent": -9, "first": 18446744073709551615, "counts": [1, 2]}"#,
        ),
        (
            "histogram",
            r#"{"exponent": -9, "first": 0, "counts": [-9223372036854775808]}"#,
        ),
        (
            "histogram",
            r#"{"exponent": 2147483647, "first": 0, "counts": [-2000, 1]}"#,
        ),
        (
            "histogram",
            r#"{"exponent": -9, "first": 0, "counts": [9223372036854775807, 9223372036854775807, 9223372036854775807]}"#,
        ),
        ("surprise", "1"),
    ] {
        let mut changed = document.clone();
        changed["activations"]["relu"][key] = serde_json::from_str(bad).unwrap();
        folder.write("bad.json", changed.to_string().as_bytes());
        refuses("bad.json", &["bad.json", "activation `relu`"]);
    }
    let relu = &document["activations"]["relu"];
    let twice = format!("\"activations\": {{\"relu\": {relu},");
    folder.write(
        "bad.json",
        good.replace("\"activations\": {", &twice).as_bytes(),
    );
    refuses(
        "bad.json",
        &["bad.json", "activation `relu`: appears twice"],
    );
    // As many samples as can be counted.
    let mut full = document.clone();
    full["activations"]["relu"]["samples"] = (1_u64 << 62).into();
    folder.write("full.json", full.to_string().as_bytes());
    refuses("mse.json full.json", &["full.json", "`relu`", "counted"]);
}

#[test]
fn bad_recordings_are_refused() {
    let folder = Folder::new();
    let good = npy_f32(&values(0, 100));
    for (array, words) in [
        (npy("<c8", "(2,)", &[0; 16]), "type `<c8`"),
        (npy("|O", "(2,)", &[0; 16]), "Python objects"),
        (
            npy("<f4", "(4611686018427387904, 4)", &[0; 16]),
            "overflows",
        ),
        (npy("<f4", "(4611686018427387904,)", &[0; 16]), "damaged"),
        (npy("<f4", "(1099511627776,)", &[0; 16]), "truncated"),
        (good[..good.len() - 1].to_vec(), "truncated"),
        (good[..30].to_vec(), "truncated"),
        (Vec::new(), "empty file"),
        (b"PK\x03\x04 a zip of arrays".to_vec(), "not an npy array"),
        (
            [good.clone(), good.clone()].concat(),
            "bytes after the array",
        ),
    ] {
        folder.write("data/x/1.npy", &array);
        folder.write("data/x/2.npy", &good);
        folder.refuses("data -o out.json", &["data/x/1.npy", "tensor `x`", words]);
    }
    let ints = safetensors(&[("tokens", Dtype::I64, &[0; 16])]);
    folder.write("ints.safetensors", &ints);
    folder.refuses(
        "ints.safetensors -o out.json",
        &["no tensor of floats", "`tokens` is of I64"],
    );
    folder.write("broken.safetensors", b"\xff\xff\xff\xff\xff\xff\xff\xff");
    folder.refuses("broken.safetensors -o out.json", &["broken.safetensors"]);
    folder.write("empty/nothing.txt", b"");
    folder.refuses(
        "empty -o out.json",
        &["empty", "no .safetensors, .npy or .npz"],
    );
    folder.refuses("nowhere -o out.json", &["nowhere"]);
    folder.refuses(
        "empty/nothing.txt -o out.json",
        &["nothing.txt", "not a recording"],
    );

    folder.write("data/x/1.npy", &good);
    folder.write("out.json", b"old");
    folder.refuses("data -o out.json", &["out.json", "exists already"]);
    folder.refuses(
        "data/x/1.npy -o data/x/1.npy --force",
        &["one of the recordings"],
    );
    folder.refuses("data -o data", &["data", "is a folder"]);
    folder.refuses("data -o nowhere/new.json", &["nowhere/new.json", "create"]);
    let made = Command::new("mkfifo").arg(folder.path("pipe")).status();
    assert!(made.unwrap().success());
    folder.refuses("data -o pipe --force", &["pipe", "a device or a pipe"]);
    std::os::unix::fs::symlink("pipe", folder.path("link")).unwrap();
    folder.refuses("data -o link --force", &["link", "a device or a pipe"]);
    assert!(folder.path("link").is_symlink());
    folder.refuses("data -o new/", &["new/", "the name of a folder"]);
    folder.refuses("data -o new/.", &["the name of a folder"]);
    fs::create_dir(folder.path("new.json.checkpoint")).unwrap();
    folder.refuses(
        "data -o new.json --force",
        &["new.json.checkpoint", "is a folder"],
    );
    fs::remove_dir(folder.path("new.json.checkpoint")).unwrap();
    let long = format!("{}.json", "x".repeat(246));
    folder.refuses(&format!("data -o {long}"), &[".checkpoint", "too long"]);
    folder.write("none.safetensors", &safetensors(&[]));
    folder.refuses("none.safetensors -o new.json", &["no tensor"]);
    for (arguments, words) in [
        ("data --bins 256", "--bins"),
        ("data --percentile 9", "--percentile"),
        ("data --observer mse --percentile 9", "--percentile"),
        ("data --averaging ratio=0.5", "--averaging"),
        ("data --observer mse --bins 100", "--bins: the number"),
        (
            "data --observer percentile --percentile 0",
            "--percentile: the percentile",
        ),
        (
            "data --observer moving-average --averaging ratio=1",
            "--averaging: the averaging",
        ),
        ("data -", "stream"),
        ("-", "--name"),
        ("- --name x --resume", "--resume"),
        ("- --name x --checkpoint 3", "--checkpoint"),
        ("--merge mse.json --observer mse", "--observer"),
    ] {
        let arguments: Vec<&str> = arguments.split(' ').chain(["-o", "new.json"]).collect();
        let before = folder.names();
        let output = folder.command(&arguments).output().unwrap();
        folder.check_failure(&output, 2, &[words]);
        assert_eq!(folder.names(), before);
    }
    assert_eq!(fs::read(folder.path("out.json")).unwrap(), b"old");

    for (stream, words) in [
        (
            [good.clone(), good[..50].to_vec()].concat(),
            "array 1 of the stream: ends inside",
        ),
        (
            [good.clone(), good[..200].to_vec()].concat(),
            "array 1 of the stream: ends inside",
        ),
        (
            [good.clone(), b"x".to_vec()].concat(),
            "array 1 of the stream: not an npy",
        ),
        (npy("<u1", "(1,)", &[0]), "array 0 of the stream: type U8"),
        (Vec::new(), "no array in it"),
    ] {
        let mut child = folder
            .command(&["-", "--name", "x", "-o", "new.json"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&stream).unwrap();
        let output = child.wait_with_output().unwrap();
        folder.check_refusal(&output, &["standard input", "tensor `x`", words]);
        assert!(!folder.path("new.json").exists());
    }
}

#[test]
fn names_that_are_no_text_are_refused() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let folder = Folder::new();
    folder.write("one.npy", &npy_f32(&[1.0]));
    let [inner, name] = [&b"data/\xff"[..], b"\xfe.npy"].map(OsStr::from_bytes);
    fs::create_dir_all(folder.path("data").join(inner)).unwrap();
    fs::copy(
        folder.path("one.npy"),
        folder.path("data").join(inner).join("1.npy"),
    )
    .unwrap();
    fs::copy(folder.path("one.npy"), folder.path("data").join(name)).unwrap();
    folder.refuses("data/data -o out.json", &["not UTF-8", "--name"]);
    fs::remove_dir_all(folder.path("data/data")).unwrap();
    folder.refuses("data -o out.json", &["not UTF-8", "--name"]);
    assert!(folder.calibrated("data --name x").contains("\"x\""));
}

/// More of them than are open at a time.
#[test]
fn files_without_tensors_are_passed_over() {
    let folder = Folder::new();
    let (none, one) = (safetensors(&[]), f32_bytes(&[-5.0, 3.0]));
    for i in 0..300 {
        folder.write(&format!("data/{i:03}.safetensors"), &none);
    }
    let last = safetensors(&[("x", Dtype::F32, &one)]);
    folder.write("data/300.safetensors", &last);
    let found: Value = serde_json::from_str(&folder.calibrated("data")).unwrap();
    assert_eq!(found["activations"]["x"]["max"], 3.0);
}
