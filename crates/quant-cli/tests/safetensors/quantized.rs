//! Files that we have quantized, damaged.

use std::fs;

use safetensors::Dtype;
use serde_json::Value;

use crate::folder::Folder;
use crate::model::bytes;
use crate::model::{f32, write};

/// Writes a file with another header.
fn alter(folder: &Folder, from: &str, to: &str, change: impl Fn(&mut Value)) {
    let bytes = fs::read(folder.path(from)).unwrap();
    let len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[8..8 + len]).unwrap();
    change(&mut header);
    let header = header.to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend(&bytes[8 + len..]);
    fs::write(folder.path(to), file).unwrap();
}

#[test]
fn types_and_shapes_of_parts_are_checked() {
    let folder = Folder::new();
    write(&folder.path("m.safetensors"), &[f32("w", &[64, 96])]);
    let quantize = ["quantize", "m.safetensors", "--mode", "affine", "-o"];
    folder.said(&[&quantize[..], &["q8.safetensors"]].concat());
    folder.said(&[&quantize[..], &["q4.safetensors", "--dtype", "uint4"]].concat());
    for (file, part, field, value) in [
        ("q8", "w", "dtype", Value::from("U8")),
        ("q8", "w", "shape", [96, 64].as_slice().into()),
        ("q8", "w.scale", "dtype", "I32".into()),
        ("q8", "w.scale", "shape", [1, 64].as_slice().into()),
        ("q8", "w.zero_point", "dtype", "U8".into()),
        ("q8", "w.zero_point", "shape", [64].as_slice().into()),
        ("q4", "w", "dtype", "I8".into()),
        ("q4", "w", "shape", [32, 96].as_slice().into()),
        ("q4", "w.zero_point", "dtype", "BOOL".into()),
    ] {
        let from = format!("{file}.safetensors");
        alter(&folder, &from, "x.safetensors", |header| {
            header[part][field] = value.clone()
        });
        for command in ["inspect", "dequantize"] {
            folder.refuses(
                &[command, "x.safetensors"],
                1,
                &["`w`", &format!("`{part}`"), "damaged"],
            );
        }
    }
    alter(&folder, "q8.safetensors", "x.safetensors", |_| {});
    folder.said(&["dequantize", "x.safetensors"]);
    let floats = fs::read(folder.path("x.float.safetensors")).unwrap();
    let floats = safetensors::SafeTensors::deserialize(&floats).unwrap();
    assert_eq!(floats.tensor("w").unwrap().dtype(), Dtype::F32);
}

/// Codes of which no record says what they are, and another tool's, beside tensors that are restored.
#[test]
fn codes_without_a_record_end_the_work() {
    let folder = Folder::new();
    let floats = [f32("a", &[64, 96]), f32("b", &[64, 96])];
    write(&folder.path("m.safetensors"), &floats);
    folder.said(&["quantize", "m.safetensors", "-o", "q.safetensors"]);
    alter(&folder, "q.safetensors", "lost.safetensors", |header| {
        let records = &mut header["__metadata__"]["quant"];
        let mut parsed: Value = serde_json::from_str(records.as_str().unwrap()).unwrap();
        parsed["tensors"].as_object_mut().unwrap().remove("b");
        *records = parsed.to_string().into();
    });
    let foreign = [
        f32("a", &[64, 96]),
        bytes("b", Dtype::F8_E4M3, &[64, 9]),
        f32("b_scale_inv", &[1, 1]),
    ];
    write(&folder.path("f.safetensors"), &foreign);
    folder.said(&["quantize", "f.safetensors", "-o", "other.safetensors"]);
    for file in ["lost.safetensors", "other.safetensors"] {
        let words = [file, "`b`", "not restored", "the tool that made it"];
        folder.refuses(&["dequantize", file, "-o", "x.safetensors"], 1, &words);
        folder.refuses(
            &["convert", file, "--format", "gguf", "-o", "x.gguf"],
            1,
            &words,
        );
        folder.said(&["inspect", file]);
        folder.said(&["diff", file, file]);
    }
}
