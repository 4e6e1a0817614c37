//! Tables: as wide as they may be, and in words for people.

use std::fs;

use super::folder::{Folder, f32_bytes, wave};

/// One long name among many does not make every row long.
#[test]
fn a_table_is_not_much_larger_than_the_file() {
    let folder = Folder::new();
    let long = "n".repeat(100_000);
    let names: Vec<String> = (0..10_000).map(|i| format!("t{i}")).collect();
    let mut tensors: Vec<(&str, &str, &[usize], &[u8])> = names
        .iter()
        .map(|name| (name.as_str(), "F32", &[0][..], &[][..]))
        .collect();
    tensors.push((&long, "F32", &[0], &[]));
    folder.model("m.safetensors", &tensors);
    let size = fs::metadata(folder.path("m.safetensors")).unwrap().len() as usize;
    for command in ["inspect", "quantize"] {
        let text = folder.succeeds(&[command, "m.safetensors"]);
        assert!(text.len() < 3 * size, "{} bytes of {size}", text.len());
        assert!(text.lines().all(|line| line.chars().count() <= 1100));
    }
}

#[test]
fn tables_are_for_people() {
    let folder = Folder::new();
    let (w, b) = (f32_bytes(64 * 96, wave), f32_bytes(64, wave));
    folder.model(
        "m.safetensors",
        &[("weight", "F32", &[64, 96], &w), ("b", "F32", &[64], &b)],
    );
    for (options, words) in [
        (&[][..], "int8 symmetric, per channel (axis 0)"),
        (&["--axis", "1"], "int8 symmetric, per channel (axis 1)"),
        (
            &["--granularity", "per-tensor"],
            "int8 symmetric, per tensor",
        ),
        (
            &["--granularity", "per-block"],
            "int8 symmetric, blocks of 32 along axis 1",
        ),
        (&["--block", "16,32"], "int8 symmetric, blocks of 16 x 32"),
    ] {
        let text = folder.succeeds(
            &[
                &["quantize", "m.safetensors", "-f", "--mode", "symmetric"],
                options,
            ]
            .concat(),
        );
        assert!(text.contains(words), "no {words} in {text}");
        assert!(!text.contains("blocks ["), "{text}");
    }
    folder.succeeds(&["quantize", "m.safetensors", "-f"]);
    let listed = folder.succeeds(&["inspect", "m.int8.safetensors"]);
    let lines: Vec<&str> = listed.lines().collect();
    assert_eq!(lines.len(), 3, "{listed}");
    let column = |line: &str, word: &str| {
        line.find(word)
            .unwrap_or_else(|| panic!("no {word} in {line}"))
    };
    assert_eq!(column(lines[0], "["), column(lines[1], "["), "{listed}");
    assert_eq!(
        column(lines[0], "bits"),
        column(lines[1], "bits"),
        "{listed}"
    );
    assert!(
        listed.contains("symmetric, per channel (axis 0)"),
        "{listed}"
    );
    assert!(lines[2].starts_with("2 tensors, 6208 elements"), "{listed}");

    let one = folder.path("n.safetensors");
    fs::copy(folder.path("m.safetensors"), &one).unwrap();
    let double = f32_bytes(64 * 96, |i| 10.0 * wave(i));
    folder.model("n.safetensors", &[("weight", "F32", &[64, 96], &double)]);
    let output = folder.quant(&["diff", "m.safetensors", "n.safetensors"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("largest difference 9.14\n"), "{text}");
    assert!(text.contains("2 of 2 tensors differ"), "{text}");
    folder.model("one.safetensors", &[("w", "F32", &[1], &[0; 4])]);
    assert!(
        folder
            .succeeds(&["inspect", "one.safetensors"])
            .contains("1 tensor, 1 element, ")
    );
}
