//! When weights are quantized.

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use prost::encoding::{WireType, encode_key};
use quant_models::{Job, QuantizeOptions};

use crate::coreml::{self, Item, MODEL, WEIGHTS, describe, kept};
use crate::package::{OPERATION, Package, along, field, random_from, run};

const LINEAR: &str = "linear_18_f16.mlpackage";

#[test]
fn damaged_manifests_are_refused() {
    let with = |text: &str, words: &[&str]| {
        let package = Package::of(LINEAR);
        package.edit("Manifest.json", |bytes| *bytes = text.into());
        package.refuses(&[&["Manifest.json"], words].concat());
    };
    with("", &["the file is empty"]);
    with("[1]", &["not the manifest"]);
    let manifest = |version: &str, path: &str, root: &str| {
        format!(
            r#"{{"fileFormatVersion":"{version}","itemInfoEntries":{{"a":{{"path":"{path}"}}}},"rootModelIdentifier":"{root}"}}"#
        )
    };
    with(&manifest("1.0.0", "x", "b"), &["rootModelIdentifier"]);
    with(
        &manifest("1.0.0", "../../x", "a"),
        &["`../../x`", "not inside"],
    );
    with(&manifest("1.0.0", "/etc/passwd", "a"), &["not inside"]);
    with(&manifest("2.0.0", "x", "a"), &["version 2.0.0"]);
    let package = Package::of(LINEAR);
    package.edit("Manifest.json", |bytes| {
        *bytes = manifest("1.0.0", "x", "a").into()
    });
    package.refuses(&["Data/x", "cannot open"]);
    let package = Package::of(LINEAR);
    fs::remove_file(package.path().join("Manifest.json")).unwrap();
    package.refuses(&["no Manifest.json"]);
}

#[test]
fn damaged_weight_files_are_refused() {
    let with = |edit: fn(&mut Vec<u8>), words: &[&str]| {
        let package = Package::of(LINEAR);
        package.edit(WEIGHTS, edit);
        package.refuses(&[&["weight.bin"], words].concat());
    };
    with(|bytes| bytes.clear(), &["0 bytes are too few"]);
    with(
        |bytes| bytes.truncate(100),
        &["byte 64", "outside", "truncated"],
    );
    with(
        |bytes| bytes.truncate(bytes.len() - 1),
        &["outside", "truncated"],
    );
    with(|bytes| bytes[4] = 3, &["version 3"]);
    with(|bytes| bytes[64] = 0, &["no record at byte 64"]);
    // A size, a place and a type that cannot be.
    with(|bytes| bytes[72..80].fill(0xff), &["byte 64", "outside"]);
    with(|bytes| bytes[80..88].fill(0xff), &["byte 64", "outside"]);
    with(
        |bytes| bytes[80..88].copy_from_slice(&64_u64.to_le_bytes()),
        &["byte 64"],
    );
    with(
        |bytes| bytes[68] = 2,
        &["first_weight_0", "FLOAT16", "type 2"],
    );
    // Larger than the model says, and into the next record.
    with(
        |bytes| bytes[72..80].copy_from_slice(&20_000_u64.to_le_bytes()),
        &["overlap"],
    );
    with(
        |bytes| bytes[72..80].copy_from_slice(&8_u64.to_le_bytes()),
        &["[128, 48]", "12288 bytes"],
    );
    let package = Package::of(LINEAR);
    fs::remove_file(package.path().join(WEIGHTS)).unwrap();
    package.refuses(&["weight.bin", "cannot open"]);
}

#[test]
fn damaged_models_are_refused() {
    let with = |edit: &dyn Fn(&mut Vec<u8>), words: &[&str]| {
        let package = Package::of(LINEAR);
        package.edit(MODEL, |bytes| edit(bytes));
        package.refuses(&[&["model.mlmodel"], words].concat());
    };
    with(&|bytes| bytes.clear(), &["holds no model"]);
    with(&|bytes| bytes.truncate(bytes.len() / 2), &["bytes where"]);
    with(
        &|bytes| *bytes = field(500, &Item::Bytes(&[])),
        &["neuralnetwork", "mlprogram"],
    );
    with(
        &|bytes| *bytes = field(202, &Item::Bytes(&[])),
        &["pipeline"],
    );
    with(
        &|bytes| bytes.extend(field(502, &Item::Bytes(&[]))),
        &["twice"],
    );
    with(&|bytes| bytes.push(7), &["without a proper key"]);
    // An offset far beyond the file, and another file.
    let blob = [&OPERATION[..], &[5, 2, 5]].concat();
    let offset = |bytes: &mut Vec<u8>| {
        *bytes = along(bytes, &blob, &|mut inner| {
            if inner.starts_with(&[10, 30]) {
                inner.extend(field(2, &Item::Number(u64::MAX)));
            }
            inner
        });
    };
    let package = Package::of(LINEAR);
    package.edit(MODEL, offset);
    package.refuses(&["weight.bin", "18446744073709551615", "outside"]);
    let file = |bytes: &mut Vec<u8>| {
        *bytes = along(bytes, &blob, &|mut inner| {
            if inner.starts_with(&[10, 30]) {
                inner.extend(field(1, &Item::Bytes(b"@model_path/../../../x")));
            }
            inner
        });
    };
    with(&file, &["`@model_path/../../../x`", "not inside"]);
    // Blocks within operations within blocks, without end.
    let deep = |bytes: &mut Vec<u8>| {
        let mut inner = Vec::new();
        for level in 0..2001 {
            inner = field(if level % 2 == 0 { 4 } else { 3 }, &Item::Bytes(&inner));
        }
        *bytes = along(bytes, &OPERATION[..5], &|mut block| {
            if block.len() > 1000 {
                block.extend(field(3, &Item::Bytes(&inner)));
            }
            block
        });
    };
    with(&deep, &["100 deep"]);
    // Sizes whose product is beyond all counting.
    let huge = |bytes: &mut Vec<u8>| {
        let size = [&OPERATION[..], &[5, 2, 2, 1, 3, 1]].concat();
        *bytes = along(bytes, &size, &|mut inner| {
            if inner == [8, 128, 1] {
                inner = field(1, &Item::Number(1 << 62));
            }
            inner
        });
    };
    let package = Package::of(LINEAR);
    package.edit(MODEL, huge);
    package.refuses(&["first_weight_0", "overflows"]);
}

/// An operation's output is what its consumers rely on; the value beneath it may say otherwise.
#[test]
fn outputs_of_another_size_are_refused() {
    for size in [100, 300] {
        let package = Package::of(LINEAR);
        let path = [&OPERATION[..], &[3, 2, 1, 3, 1]].concat();
        package.edit(MODEL, |bytes| {
            *bytes = along(bytes, &path, &|inner| match inner == [8, 128, 1] {
                true => field(1, &Item::Number(size)),
                false => inner,
            });
        });
        package.refuses(&["first_weight_0", &size.to_string(), "12288"]);
    }
}

/// What is no file is not opened: a pipe would wait for ever.
#[test]
fn a_pipe_is_refused() {
    for inner in [MODEL, WEIGHTS] {
        let package = Package::of(LINEAR);
        let path = package.path().join(inner);
        fs::remove_file(&path).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        let (done, ended) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            package.refuses(&["not a file"]);
            done.send(()).unwrap();
        });
        let ended = ended.recv_timeout(std::time::Duration::from_secs(60));
        ended.unwrap_or_else(|_| panic!("{inner}: refused wrongly, or it waits"));
    }
}

/// Folders that lead back to themselves.
#[test]
fn cyclic_folders_are_refused() {
    let package = Package::of(LINEAR);
    std::os::unix::fs::symlink("..", package.path().join("Data/loop")).unwrap();
    let error = package.quantize().expect_err("an error").to_string();
    assert!(
        error.contains("Data/loop") && error.contains("link"),
        "{error}"
    );
    assert_eq!(fs::read_dir(package.folder.path()).unwrap().count(), 1);
}

/// Bytes that were a package are read or refused, never worse.
#[test]
fn any_byte_may_be_wrong() {
    let package = Package::of("compressed_18_f16.mlpackage");
    let mut random = random_from(1);
    let options = QuantizeOptions::default().with_dry_run(true);
    let (mut read, mut refused) = (0, 0);
    for inner in [MODEL, WEIGHTS, "Manifest.json"] {
        let path = package.path().join(inner);
        let whole = fs::read(&path).unwrap();
        // The fuzz target `package` goes on from here.
        for _ in 0..240 {
            let mut bytes = whole.clone();
            // Weight files are mostly data: the records' headers are what counts.
            let place = match inner {
                WEIGHTS if random().is_multiple_of(2) => random() % 128,
                _ => random() % bytes.len(),
            };
            match random() % 3 {
                0 => bytes.truncate(place),
                1 => bytes[place] = random() as u8,
                _ => bytes[place] ^= 1 << (random() % 8),
            }
            fs::write(&path, &bytes).unwrap();
            match run(&package.path(), &package.out(), &options) {
                Ok(_) => {
                    // What can be planned can be looked at, or ends in an error of its own.
                    let _ = quant_models::inspect(&package.path(), true);
                    read += 1;
                }
                Err(error) => {
                    assert_eq!(error.to_string().lines().count(), 1, "{error}");
                    refused += 1;
                }
            }
        }
        fs::write(&path, &whole).unwrap();
    }
    println!("{read} read, {refused} refused");
    assert!(read > 30 && refused > 150, "{read} {refused}");
}

#[test]
fn unknown_fields_survive_at_every_level() {
    let package = Package::of("control_18_f16.mlpackage");
    run(&package.path(), &package.out(), &QuantizeOptions::default()).unwrap();
    let plain = describe(&package.out());
    fs::remove_dir_all(package.out()).unwrap();

    // A number, text, a group and numbers of fixed width, in every message on the way to values,
    // types and nested blocks.
    let mark = |inner: Vec<u8>| {
        let mut out = vec![];
        encode_key(1900, WireType::StartGroup, &mut out);
        out.extend(field(1, &Item::Number(7)));
        encode_key(1900, WireType::EndGroup, &mut out);
        out.extend(inner);
        out.extend(field(1901, &Item::Bytes(b"survivor")));
        encode_key(1902, WireType::SixtyFourBit, &mut out);
        out.extend(7_u64.to_le_bytes());
        // Longer than it needs to be.
        encode_key(1903, WireType::Varint, &mut out);
        out.extend([0x81, 0x80, 0x00]);
        out
    };
    let marks = |bytes: &[u8]| {
        bytes
            .windows(8)
            .filter(|window| window == b"survivor")
            .count()
    };
    let nested = [&OPERATION[..], &[4, 3]].concat();
    let paths: [&[u32]; 6] = [
        &[&OPERATION[..], &[5, 2, 3]].concat(),
        &[&OPERATION[..], &[2, 2, 1]].concat(),
        &[&OPERATION[..], &[3, 2, 1, 3, 1]].concat(),
        &[&nested[..], &[3, 2, 1]].concat(),
        &[&nested[..], &[2, 2, 1]].concat(),
        &[502, 2, 2, 1, 2],
    ];
    for path in paths {
        let package = Package::of("control_18_f16.mlpackage");
        package.edit(MODEL, |bytes| *bytes = along(bytes, path, &mark));
        fs::write(package.path().join("Data/notes.txt"), "kept").unwrap();
        let before = fs::read(package.path().join(MODEL)).unwrap();
        let done = package.quantize();
        done.unwrap_or_else(|error| panic!("{path:?}: {error}"));
        let after = fs::read(package.out().join(MODEL)).unwrap();
        // Only a value that became another takes its own with it: the entry and the value.
        let weights = plain.iter().filter(|line| line.starts_with("constexpr_"));
        let gone = match path.ends_with(&[5, 2, 3]) {
            true => 2 * weights.count(),
            false => 0,
        };
        assert_eq!(marks(&after), marks(&before) - gone, "{path:?}");
        assert!(marks(&before) > 3, "{path:?}");
        assert!(after.windows(3).any(|window| window == [0x81, 0x80, 0x00]));
        assert_eq!(
            fs::read(package.out().join("Data/notes.txt")).unwrap(),
            b"kept"
        );
        assert_eq!(
            fs::read(package.out().join("Manifest.json")).unwrap(),
            fs::read(package.path().join("Manifest.json")).unwrap()
        );
    }
}

/// With nothing to quantize, the model is the same to the last byte.
#[test]
fn nothing_to_do_changes_nothing() {
    for name in coreml::fixtures() {
        let package = Package::of(name.file_name().unwrap().to_str().unwrap());
        // Bytes that nothing refers to.
        package.edit(WEIGHTS, |weights| weights.extend([7; 100]));
        let options = QuantizeOptions::default().with_min_elements(usize::MAX);
        run(&package.path(), &package.out(), &options).unwrap();
        for inner in [MODEL, WEIGHTS, "Manifest.json"] {
            let (before, after) = (
                fs::read(package.path().join(inner)).unwrap(),
                fs::read(package.out().join(inner)).unwrap(),
            );
            assert!(before == after, "{} {inner}", name.display());
        }
    }
}

/// Weights that functions share are restored once.
#[test]
fn shared_weights_stay_shared() {
    let package = Package::of("functions_18_f16.mlpackage");
    package.quantize().unwrap();
    let floats = package.folder.path().join("floats.mlpackage");
    let flag = AtomicBool::new(false);
    let job = Job::UNWATCHED.with_cancel(&flag);
    let done = quant_models::dequantize(&package.out(), &floats, &Default::default(), &job);
    kept(done, &package.out(), &floats).unwrap();
    let len = |package: &Path| fs::metadata(package.join(WEIGHTS)).unwrap().len();
    assert_eq!(len(&floats), len(&package.path()));
}
