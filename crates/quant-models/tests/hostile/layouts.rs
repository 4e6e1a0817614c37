//! Files of another kind in a package's place, and packages that contradict themselves.

use std::fs;
use std::path::Path;

use crate::coreml::{Item, MODEL, WEIGHTS, parse};
use crate::package::{OPERATION, Package, along, field, run};
use quant_models::QuantizeOptions;

const LINEAR: &str = "linear_18_f16.mlpackage";
const LFS: &[u8] = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 4242\n";
const HTML: &[u8] = b"<!DOCTYPE html>\n<html><head><title>404</title></head></html>";
const ZIP: &[u8] = b"PK\x03\x04\x14\0\0\0\x08\0abcdefghijklmnopqrstuvwxyz0123456789abcdefghij";
const ONNX: &[u8] =
    b"\x08\x08\x12\x07pytorch\x1a\x052.0.1:\x80\x10 and so on, for as long as a header may be";

fn says(error: &str, words: &[&str]) {
    assert_eq!(error.lines().count(), 1, "{error}");
    for word in words {
        assert!(error.contains(word), "no `{word}` in: {error}");
    }
}

/// What a file is, and what to do: for each file of a package.
#[test]
fn other_files_are_named() {
    let safetensors = [
        &40_u64.to_le_bytes()[..],
        b"{\"w\":{\"dtype\":\"F32\",\"shape\":[1]}}",
        &[0; 40],
    ]
    .concat();
    let kinds: [(&[u8], &[&str]); 5] = [
        (LFS, &["Git LFS pointer", "git lfs pull"]),
        (HTML, &["HTML page", "fetch the file again"]),
        (ZIP, &["zip archive", "unpack"]),
        (ONNX, &["ONNX"]),
        (&safetensors, &["safetensors"]),
    ];
    for (content, words) in kinds {
        for inner in [MODEL, WEIGHTS] {
            if inner == MODEL && content == safetensors {
                continue;
            }
            let package = Package::of(LINEAR);
            package.edit(inner, |bytes| *bytes = content.to_vec());
            let name = Path::new(inner).file_name().unwrap().to_str().unwrap();
            package.refuses(&[&[name], words].concat());
        }
    }
    for (content, words) in &kinds[..3] {
        let package = Package::of(LINEAR);
        package.edit("Manifest.json", |bytes| *bytes = content.to_vec());
        package.refuses(&[&["Manifest.json"], *words].concat());
    }
}

#[test]
fn single_files_in_place_of_packages_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.mlpackage");
    let refuses = |name: &str, content: &[u8], words: &[&str]| {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        let error = run(&path, &out, &QuantizeOptions::default()).unwrap_err();
        says(&error.to_string(), &[&[name], words].concat());
        let error = quant_models::inspect(&path, false).unwrap_err();
        says(&error.to_string(), words);
    };
    refuses("a.mlpackage", LFS, &["git lfs pull"]);
    refuses("b.mlpackage", ZIP, &["zip archive"]);
    refuses("c.mlpackage", b"\x01\x02", &["the folder of an .mlpackage"]);
    refuses("d.mlmodel", LFS, &["git lfs pull"]);
    refuses(
        "e.mlmodel",
        &field(500, &Item::Bytes(&[])),
        &["neural network", "mlprogram"],
    );
    refuses(
        "f.mlmodel",
        &field(402, &Item::Bytes(&[])),
        &["tree ensemble", "mlprogram"],
    );
    let program = Package::of(LINEAR);
    let program = fs::read(program.path().join(MODEL)).unwrap();
    refuses("g.mlmodel", &program, &["an ML program", ".mlpackage"]);
    assert!(!out.exists());
}

/// What Core ML's compiler made is told by its name, or by what it holds.
#[test]
fn compiled_models_are_told() {
    let folder = tempfile::tempdir().unwrap();
    for (name, inner) in [
        ("Model.mlmodelc", Some("coremldata.bin")),
        ("Empty.mlmodelc", None),
        ("renamed", Some("coremldata.bin")),
    ] {
        let path = folder.path().join(name);
        fs::create_dir(&path).unwrap();
        if let Some(inner) = inner {
            fs::write(path.join(inner), "x").unwrap();
        }
        let out = folder.path().join("out.mlpackage");
        let words = [name, "compiled", ".mlpackage"];
        let error = run(&path, &out, &QuantizeOptions::default()).unwrap_err();
        says(&error.to_string(), &words);
        says(
            &quant_models::inspect(&path, false).unwrap_err().to_string(),
            &words,
        );
        says(
            &quant_models::diff(&path, &path).unwrap_err().to_string(),
            &words,
        );
    }
}

#[test]
fn items_of_the_manifest_that_are_missing_are_named() {
    let package = Package::of(LINEAR);
    package.edit("Manifest.json", |bytes| {
        let text = String::from_utf8(bytes.clone()).unwrap();
        *bytes = text
            .replace("com.apple.CoreML/weights", "com.apple.CoreML/none")
            .into();
    });
    package.refuses(&["Manifest.json", "Data/com.apple.CoreML/none", "not there"]);
    let package = Package::of(LINEAR);
    package.edit("Manifest.json", |bytes| {
        let text = String::from_utf8(bytes.clone()).unwrap();
        *bytes = text
            .replace("com.apple.CoreML/weights", "../weights")
            .into();
    });
    package.refuses(&["Manifest.json", "not inside"]);
}

/// How a reference to a weight file begins: a name of 30 bytes.
const BLOB: [u8; 2] = [10, 30];

/// A weight file under two names would be written twice.
#[test]
fn a_weight_file_has_one_name() {
    let blob = [&OPERATION[..], &[5, 2, 5]].concat();
    for other in [
        "@model_path/weights/./weight.bin",
        "@model_path/weights//weight.bin",
    ] {
        let package = Package::of(LINEAR);
        package.edit(MODEL, |bytes| {
            let first = std::cell::Cell::new(true);
            *bytes = along(bytes, &blob, &|inner| match inner.starts_with(&BLOB)
                && first.replace(false)
            {
                true => [inner, field(1, &Item::Bytes(other.as_bytes()))].concat(),
                false => inner,
            });
        });
        package.refuses(&["model.mlmodel", other, "one weight file"]);
        // One name, even such a one, is a name.
        let package = Package::of(LINEAR);
        package.edit(MODEL, |bytes| {
            *bytes = along(bytes, &blob, &|inner| match inner.starts_with(&BLOB) {
                true => [inner, field(1, &Item::Bytes(other.as_bytes()))].concat(),
                false => inner,
            });
        });
        package.quantize().unwrap();
        quant_models::inspect(&package.out(), true).unwrap();
    }
    let package = Package::of(LINEAR);
    package.edit(MODEL, |bytes| {
        *bytes = along(bytes, &blob, &|inner| match inner.starts_with(&BLOB) {
            true => [inner, field(1, &Item::Bytes(b"@model_path/model.mlmodel"))].concat(),
            false => inner,
        });
    });
    package.refuses(&["model.mlmodel"]);
}

/// Types and shapes of the parts of a quantized weight, one after the other, said to be others.
#[test]
fn parts_that_contradict_each_other_are_refused() {
    // In attributes until iOS17, in inputs since.
    let attribute: &[u32] = &[5, 2];
    let input: &[u32] = &[2, 2, 1, 2];
    let mut refused = 0;
    for (name, place) in [
        ("linear_16_f16.mlpackage", attribute),
        ("linear_18_f16.mlpackage", input),
    ] {
        let made = Package::of(name);
        let options = QuantizeOptions::default().with_scheme(quant_core::Scheme::new(
            quant_core::IntType::Uint8,
            quant_core::Mode::Affine,
        ));
        run(&made.path(), &made.out(), &options).unwrap();
        let whole = fs::read(made.out().join(MODEL)).unwrap();
        let value_type = [&OPERATION[..], place, &[2, 1]].concat();
        let result_type = [&OPERATION[..], &[3, 2, 1]].concat();
        let is = |tensor: &[u8], dtypes: &[u64]| {
            parse(tensor)
                .iter()
                .any(|(number, item)| matches!(item, Item::Number(kind) if *number == 1 && dtypes.contains(kind)))
        };
        // A type or a dimension of every value that has one of these types.
        let changes: [(&[u32], &[u64], u32, u64); 6] = [
            (&value_type, &[31], 1, 21),
            (&value_type, &[10], 1, 11),
            (&result_type, &[10], 1, 11),
            (&value_type, &[31], 3, 64),
            (&value_type, &[10], 3, 64),
            (&result_type, &[10], 3, 64),
        ];
        for (path, dtypes, number, new) in changes {
            let nth = std::cell::Cell::new(0);
            let count = |change: Option<usize>| {
                nth.set(0);
                along(&whole, path, &|tensor| {
                    let constexpr = is(&tensor, dtypes)
                        && parse(&tensor).iter().any(|(number, _)| *number == 3);
                    if !constexpr {
                        return tensor;
                    }
                    let here = nth.replace(nth.get() + 1);
                    match (Some(here) == change, number) {
                        (false, _) => tensor,
                        (true, 1) => [tensor, field(1, &Item::Number(new))].concat(),
                        (true, _) => {
                            let dim = field(1, &Item::Bytes(&field(1, &Item::Number(new))));
                            [tensor, field(3, &Item::Bytes(&dim))].concat()
                        }
                    }
                })
            };
            count(None);
            let all = nth.get();
            for change in 0..all {
                let changed = count(Some(change));
                fs::write(made.out().join(MODEL), &changed).unwrap();
                match quant_models::inspect(&made.out(), true) {
                    // Results of operations that are no weights say what they like.
                    Ok(_) => {}
                    Err(error) => {
                        says(&error.to_string(), &["damaged"]);
                        refused += 1;
                    }
                }
            }
        }
    }
    assert!(refused >= 30, "{refused}");
}
