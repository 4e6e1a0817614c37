//! Models that cannot be read, and options that do not fit them.

use std::fs;

use crate::{Folder, f32_bytes, header, small_model, wave, write};
use safetensors::tensor::Dtype;

#[test]
fn damaged_files_are_refused() {
    let folder = Folder::new();
    folder.refuses(
        &["quantize", "m.safetensors"],
        1,
        &["m.safetensors", "cannot open"],
    );
    let path = folder.path("m.safetensors");
    let entry = |shape: &str, from: usize, to: usize| {
        format!(r#"{{"dtype":"F32","shape":{shape},"data_offsets":[{from},{to}]}}"#)
    };
    fs::write(&path, b"").unwrap();
    folder.refuses(
        &["quantize", "m.safetensors"],
        1,
        &["m.safetensors", "empty or truncated"],
    );
    fs::write(&path, u64::MAX.to_le_bytes()).unwrap();
    folder.refuses(&["inspect", "m.safetensors"], 1, &["limit"]);
    fs::write(&path, 500_u64.to_le_bytes()).unwrap();
    folder.refuses(&["quantize", "m.safetensors"], 1, &["truncated"]);
    for (text, data, words) in [
        (
            "not json".to_string(),
            0,
            &["not that of a safetensors file"][..],
        ),
        (
            format!(r#"{{"a":{}}}"#, entry("[4]", 0, 16)),
            8,
            &["`a`", "out of bounds"],
        ),
        (
            format!(r#"{{"a":{}}}"#, entry("[5]", 0, 16)),
            16,
            &["`a`", "[5]"],
        ),
        (
            format!(r#"{{"a":{}}}"#, entry("[4611686018427387904,4]", 0, 16)),
            16,
            &["`a`", "overflows"],
        ),
        (
            format!(
                r#"{{"a":{},"b":{}}}"#,
                entry("[4]", 0, 16),
                entry("[4]", 8, 24)
            ),
            24,
            &["overlap"],
        ),
        (
            format!(r#"{{"a":{0},"a":{0}}}"#, entry("[4]", 0, 16)),
            16,
            &["duplicate name `a`"],
        ),
        (
            format!(r#"{{"a":{}}}"#, entry("[4]", 0, 16)),
            20,
            &["20 bytes of data"],
        ),
    ] {
        header(&path, &text, data);
        for command in ["quantize", "inspect", "dequantize"] {
            folder.refuses(&[command, "m.safetensors"], 1, words);
        }
    }
}

#[test]
fn an_unknown_type_is_carried_along() {
    let folder = Folder::new();
    header(
        &folder.path("m.safetensors"),
        r#"{"a":{"dtype":"F99","shape":[3],"data_offsets":[0,5]}}"#,
        5,
    );
    assert!(
        folder
            .succeeds(&["quantize", "m.safetensors"])
            .contains("type F99")
    );
    folder.refuses(
        &["dequantize", "m.int8.safetensors"],
        1,
        &["no tensor that quant quantized"],
    );
    assert!(
        folder
            .succeeds(&["diff", "m.safetensors", "m.int8.safetensors"])
            .contains("0 of 1")
    );
}

#[test]
fn options_that_fit_nothing_are_refused() {
    let folder = Folder::new();
    small_model(&folder.path("m.safetensors"));
    let refuses = |options: &[&str], words: &[&str]| {
        let arguments = [&["quantize", "m.safetensors"], options].concat();
        folder.refuses(&arguments, 1, words);
    };
    // Blocks that fit no tensor are told, and an error with --strict alone.
    let blocks = ["--granularity", "per_block", "--block-size", "97"];
    let blocks = [&["quantize", "m.safetensors", "-n"], &blocks[..]].concat();
    assert!(folder.succeeds(&blocks).contains("SKIPPED: block size 97"));
    folder.refuses(
        &[&blocks, &["--strict"][..]].concat(),
        3,
        &["`w`", "97", "axis 1"],
    );
    refuses(&["--axis", "2"], &["`w`", "axis 2 is out of range"]);
    for (options, words) in [
        (["--include", "("], ["--include '('", "regular expression"]),
        (["--backend", "abacus"], ["`abacus`", "quant backends"]),
    ] {
        let arguments = [&["quantize", "m.safetensors"], &options[..]].concat();
        folder.refuses(&arguments, 2, &words);
    }
    refuses(&["-o", "m.safetensors", "--force"], &["the input itself"]);
    folder.refuses(
        &["quantize", "m.safetensors", "--axis", "2", "--strict"],
        3,
        &["`w`", "axis 2"],
    );
}

#[test]
fn names_that_clash_are_refused() {
    let folder = Folder::new();
    let (w, s) = (f32_bytes(64 * 96, wave), f32_bytes(1, wave));
    let path = folder.path("m.safetensors");
    write(
        &path,
        &[
            ("w", Dtype::F32, &[64, 96], &w),
            ("w.scale", Dtype::F32, &[1], &s),
        ],
    );
    folder.refuses(&["quantize", "m.safetensors"], 1, &["`w`", "`w.scale`"]);
    folder.succeeds(&["quantize", "m.safetensors", "--exclude", "^w$"]);
}

#[test]
fn values_that_cannot_be_quantized_are_refused() {
    let folder = Folder::new();
    let path = folder.path("m.safetensors");
    let nan = f32_bytes(64 * 96, |i| {
        if i == 100 || i == 200 {
            f32::NAN
        } else {
            wave(i)
        }
    });
    write(&path, &[("w", Dtype::F32, &[64, 96], &nan)]);
    folder.refuses(
        &["quantize", "m.safetensors"],
        1,
        &["`w`", "2 of 6144", "[1, 4]", "--non-finite skip"],
    );
    let skip = ["quantize", "m.safetensors", "--non-finite", "skip"];
    folder.refuses(&[&skip[..], &["--strict"]].concat(), 3, &["`w`", "NaN"]);

    let f16 = |bits: u16| bits.to_le_bytes().repeat(64 * 96);
    for (bits, word) in [(0x7b00, "overflows"), (0x0001, "underflows")] {
        write(&path, &[("w", Dtype::F16, &[64, 96], &f16(bits))]);
        folder.refuses(
            &["quantize", "m.safetensors"],
            1,
            &["`w`", word, "use --dialect f32"],
        );
        folder.succeeds(&["quantize", "m.safetensors", "--dialect", "f32", "--force"]);
        fs::remove_file(folder.path("m.int8.safetensors")).unwrap();
    }
    let large = f32_bytes(64 * 96, |_| 3e38);
    write(&path, &[("w", Dtype::F32, &[64, 96], &large)]);
    folder.refuses(
        &["quantize", "m.safetensors"],
        1,
        &["`w`", "overflows", "--exclude '^w$'"],
    );
}
