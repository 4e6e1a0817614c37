//! Small packages, put together byte by byte.

use std::path::PathBuf;

use prost::encoding::{WireType, encode_key, encode_varint};
use tempfile::TempDir;

pub const BOOL: u64 = 1;
pub const STRING: u64 = 2;
pub const FLOAT16: u64 = 10;
pub const FLOAT32: u64 = 11;
pub const INT32: u64 = 23;

pub fn bytes(number: u32, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_key(number, WireType::LengthDelimited, &mut out);
    encode_varint(content.len() as u64, &mut out);
    out.extend_from_slice(content);
    out
}

fn varint(number: u32, value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    encode_key(number, WireType::Varint, &mut out);
    encode_varint(value, &mut out);
    out
}

/// A type: its number, and dimensions, of which -1 is open.
fn value_type(dtype: u64, dims: &[i64]) -> Vec<u8> {
    let mut tensor = varint(1, dtype);
    tensor.extend(varint(2, dims.len() as u64));
    for &dim in dims {
        let dim = match u64::try_from(dim) {
            Ok(dim) => bytes(1, &varint(1, dim)),
            Err(_) => bytes(2, &[]),
        };
        tensor.extend(bytes(3, &dim));
    }
    bytes(1, &tensor)
}

pub fn named(number: u32, name: &str, dtype: u64, dims: &[i64]) -> Vec<u8> {
    let mut out = bytes(1, name.as_bytes());
    out.extend(bytes(2, &value_type(dtype, dims)));
    bytes(number, &out)
}

fn constant(name: &str, dtype: u64, dims: &[i64], field: u32, values: &[u8]) -> Vec<u8> {
    let tensor = bytes(field, &bytes(1, values));
    let mut value = bytes(2, &value_type(dtype, dims));
    value.extend(bytes(3, &bytes(1, &tensor)));
    let mut attribute = bytes(1, b"val");
    attribute.extend(bytes(2, &value));
    let mut out = bytes(1, b"const");
    out.extend(named(3, name, dtype, dims));
    out.extend(bytes(5, &attribute));
    out
}

pub fn floats(name: &str, dims: &[i64], values: &[f32]) -> Vec<u8> {
    let values: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    constant(name, FLOAT32, dims, 1, &values)
}

pub fn ints(name: &str, dims: &[i64], values: &[i32]) -> Vec<u8> {
    let mut packed = Vec::new();
    values
        .iter()
        .for_each(|&value| encode_varint(i64::from(value) as u64, &mut packed));
    constant(name, INT32, dims, 2, &packed)
}

pub fn bools(name: &str, dims: &[i64], values: &[bool]) -> Vec<u8> {
    let packed: Vec<u8> = values.iter().map(|&value| value.into()).collect();
    constant(name, BOOL, dims, 3, &packed)
}

pub fn text(name: &str, value: &str) -> Vec<u8> {
    constant(name, STRING, &[], 4, value.as_bytes())
}

/// An operation: inputs by name, each bound to variables; outputs with their types; blocks.
pub fn operation(
    kind: &str,
    inputs: &[(&str, &[&str])],
    outputs: &[(&str, u64, &[i64])],
    blocks: &[Vec<u8>],
) -> Vec<u8> {
    let mut out = bytes(1, kind.as_bytes());
    for (name, bound) in inputs {
        let bound = bound
            .iter()
            .flat_map(|name| bytes(1, &bytes(1, name.as_bytes())));
        let mut entry = bytes(1, name.as_bytes());
        entry.extend(bytes(2, &bound.collect::<Vec<_>>()));
        out.extend(bytes(2, &entry));
    }
    for (name, dtype, dims) in outputs {
        out.extend(named(3, name, *dtype, dims));
    }
    blocks.iter().for_each(|block| out.extend(bytes(4, block)));
    out
}

/// A block: its parameters as fields, the names of its results, its operations.
pub fn block(inputs: &[Vec<u8>], outputs: &[&str], operations: &[Vec<u8>]) -> Vec<u8> {
    let mut out: Vec<u8> = inputs.concat();
    outputs
        .iter()
        .for_each(|name| out.extend(bytes(2, name.as_bytes())));
    operations
        .iter()
        .for_each(|operation| out.extend(bytes(3, operation)));
    out
}

/// A package of one function, whose inputs are fields of number 1.
pub fn package(inputs: &[Vec<u8>], block: &[u8]) -> (TempDir, PathBuf) {
    let mut specialization = bytes(1, b"CoreML8");
    specialization.extend(bytes(2, block));
    let mut function: Vec<u8> = inputs.concat();
    function.extend(bytes(2, b"CoreML8"));
    function.extend(bytes(3, &specialization));
    let mut entry = bytes(1, b"main");
    entry.extend(bytes(2, &function));
    let mut program = varint(1, 1);
    program.extend(bytes(2, &entry));
    let mut model = varint(1, 9);
    model.extend(bytes(502, &program));
    let folder = tempfile::tempdir().unwrap();
    let package = folder.path().join("Model.mlpackage");
    std::fs::create_dir_all(package.join("Data/com.apple.CoreML")).unwrap();
    std::fs::write(package.join("Data/com.apple.CoreML/model.mlmodel"), model).unwrap();
    let manifest = r#"{"fileFormatVersion": "1.0.0", "rootModelIdentifier": "A",
        "itemInfoEntries": {"A": {"path": "com.apple.CoreML/model.mlmodel"}}}"#;
    std::fs::write(package.join("Manifest.json"), manifest).unwrap();
    (folder, package)
}

/// A package with an input `x` of floats and some operations, of which `y` is the output.
pub fn simple(dims: &[i64], operations: &[Vec<u8>]) -> (TempDir, PathBuf) {
    package(
        &[named(1, "x", FLOAT32, dims)],
        &block(&[], &["y"], operations),
    )
}
