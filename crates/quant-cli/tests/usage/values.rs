//! What `diff` and reports say of values.

use std::fs;

use crate::folder::{Folder, f32_bytes, wave};
use crate::model;
use serde_json::Value;

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
        assert!(text.ends_with("\n1 of 1 tensor differs\n"), "{text}");
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
