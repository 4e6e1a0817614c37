//! Packages for tests, and a description of them by a reader of their own.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};

use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};
use sha2::{Digest, Sha256};

pub const MODEL: &str = "Data/com.apple.CoreML/model.mlmodel";
pub const WEIGHTS: &str = "Data/com.apple.CoreML/weights/weight.bin";

pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/coreml/packages")
        .join(name)
}

pub fn fixtures() -> Vec<PathBuf> {
    let entries = fs::read_dir(fixture("")).unwrap();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

/// A copy of a package of `layouts`, with the empty folders that its manifest names.
pub fn layout(name: &str, to: &Path) {
    let from = fixture("../layouts").join(format!("{name}.mlpackage"));
    copy(&from, to);
    let manifest = fs::read(from.join("Manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    for item in manifest["itemInfoEntries"].as_object().unwrap().values() {
        let place = to.join("Data").join(item["path"].as_str().unwrap());
        if !place.exists() {
            fs::create_dir_all(place).unwrap();
        }
    }
}

/// Keeps what has been made of a package, where `cargo xtask coreml` asks for it: coremltools opens all
/// that any test writes.
pub fn kept<T, E>(done: Result<T, E>, input: &Path, output: &Path) -> Result<T, E> {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let folder = std::env::var_os("QUANT_KEEP_PACKAGES");
    if let (Some(folder), Ok(_), true) = (folder, &done, output.exists()) {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{count}", std::process::id());
        let place = |end: &str| Path::new(&folder).join(format!("{name}.{end}.mlpackage"));
        copy(input, &place("in"));
        copy(output, &place("out"));
    }
    done
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let place = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &place),
            false => {
                fs::copy(entry.path(), place).unwrap();
            }
        }
    }
}

/// All files and folders of a package.
pub fn contents(package: &Path) -> Vec<String> {
    fn walk(root: &Path, folder: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let inner = entry.path();
            let inner = inner.strip_prefix(root).unwrap();
            found.push(inner.to_str().unwrap().to_owned());
            if entry.file_type().unwrap().is_dir() {
                walk(root, &entry.path(), found);
            }
        }
    }
    let mut found = Vec::new();
    walk(package, package, &mut found);
    found.sort();
    found
}

/// Number of records in the weight file, as its header says.
pub fn records(package: &Path) -> u32 {
    let weights = fs::read(package.join(WEIGHTS)).unwrap();
    u32::from_le_bytes(std::array::from_fn(|i| weights[i]))
}

/// One field: a number, or bytes.
#[derive(Clone, Debug)]
pub enum Item<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

pub fn parse(mut bytes: &[u8]) -> Vec<(u32, Item<'_>)> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let (number, kind) = decode_key(&mut bytes).unwrap();
        let item = match kind {
            WireType::Varint => Item::Number(decode_varint(&mut bytes).unwrap()),
            WireType::LengthDelimited => {
                let len = decode_varint(&mut bytes).unwrap() as usize;
                let (content, rest) = bytes.split_at(len);
                bytes = rest;
                Item::Bytes(content)
            }
            WireType::ThirtyTwoBit => {
                let (content, rest) = bytes.split_at(4);
                bytes = rest;
                Item::Bytes(content)
            }
            WireType::SixtyFourBit => {
                let (content, rest) = bytes.split_at(8);
                bytes = rest;
                Item::Bytes(content)
            }
            _ => panic!("a group"),
        };
        found.push((number, item));
    }
    found
}

fn all(bytes: &[u8], number: u32) -> Vec<&[u8]> {
    let fields = parse(bytes).into_iter();
    fields
        .filter_map(|(other, item)| match item {
            Item::Bytes(bytes) if other == number => Some(bytes),
            _ => None,
        })
        .collect()
}

fn first(bytes: &[u8], number: u32) -> Option<&[u8]> {
    all(bytes, number).into_iter().next()
}

fn number(bytes: &[u8], number: u32) -> u64 {
    let fields = parse(bytes).into_iter();
    let mut found = fields.filter_map(|(other, item)| match item {
        Item::Number(value) if other == number => Some(value),
        _ => None,
    });
    found.next_back().unwrap_or(0)
}

fn text(bytes: &[u8], number: u32) -> String {
    String::from_utf8(first(bytes, number).unwrap_or_default().to_vec()).unwrap()
}

/// Entries of a map, by key.
fn map(bytes: &[u8], number: u32) -> Vec<(String, &[u8])> {
    let entries = all(bytes, number).into_iter();
    let mut entries: Vec<_> = entries
        .map(|entry| (text(entry, 1), first(entry, 2).unwrap_or_default()))
        .collect();
    entries.sort();
    entries
}

/// The weight files of a package, by the names that its model calls them.
struct Files {
    folder: PathBuf,
    read: RefCell<HashMap<String, Rc<Vec<u8>>>>,
}

impl Files {
    fn get(&self, name: &str) -> Rc<Vec<u8>> {
        let mut read = self.read.borrow_mut();
        let file = read.entry(name.to_owned()).or_insert_with(|| {
            let inner = name.strip_prefix("@model_path/").unwrap();
            Rc::new(fs::read(self.folder.join(inner)).unwrap())
        });
        Rc::clone(file)
    }
}

/// As make_fixtures.py does it: one line per operation of every function, of every model of a pipeline.
pub fn describe(package: &Path) -> Vec<String> {
    let files = Files {
        folder: package.join(MODEL).parent().unwrap().to_owned(),
        read: RefCell::default(),
    };
    let mut lines = Vec::new();
    describe_model(&fs::read(package.join(MODEL)).unwrap(), &files, &mut lines);
    lines
}

fn describe_model(model: &[u8], files: &Files, lines: &mut Vec<String>) {
    lines.push(format!("version {}", number(model, 1)));
    let inner = |kind| first(model, kind).and_then(|outer| first(outer, 1));
    if let Some(pipeline) = first(model, 202).or(inner(200)).or(inner(201)) {
        for (index, model) in all(pipeline, 1).into_iter().enumerate() {
            lines.push(format!("model {index}"));
            describe_model(model, files, lines);
        }
        return;
    }
    let Some(program) = first(model, 502) else {
        lines.push("another kind".into());
        return;
    };
    for (name, function) in map(program, 2) {
        let inputs: Vec<String> = all(function, 1).into_iter().map(named).collect();
        lines.push(format!(
            "function {name} {} {}",
            text(function, 2),
            inputs.join(" ")
        ));
        for (opset, block) in map(function, 3) {
            lines.push(format!("specialization {opset}"));
            operations(block, files, 0, lines);
            lines.push(format!("gives {}", outputs(block)));
        }
    }
}

fn outputs(block: &[u8]) -> String {
    let names = all(block, 2)
        .into_iter()
        .map(|name| String::from_utf8(name.to_vec()).unwrap());
    names.collect::<Vec<_>>().join(" ")
}

fn named(bytes: &[u8]) -> String {
    format!(
        "{}:{}",
        text(bytes, 1),
        kind(first(bytes, 2).unwrap_or_default())
    )
}

fn kind(bytes: &[u8]) -> String {
    if let Some(state) = first(bytes, 5) {
        return format!("state {}", kind(first(state, 1).unwrap()));
    }
    let Some(tensor) = first(bytes, 1) else {
        return parse(bytes)
            .first()
            .map_or("None".into(), |(number, _)| match number {
                2 => "listType".into(),
                4 => "dictionaryType".into(),
                _ => "tupleType".into(),
            });
    };
    let dims = all(tensor, 3).into_iter().map(|dim| match first(dim, 1) {
        Some(constant) => number(constant, 1).to_string(),
        None => "?".into(),
    });
    let dims: Vec<String> = dims.collect();
    format!("{}[{}]", number(tensor, 1), dims.join(","))
}

fn value(bytes: &[u8], files: &Files) -> String {
    let kind = kind(first(bytes, 2).unwrap_or_default());
    if let Some(blob) = first(bytes, 5) {
        let weights = files.get(&text(blob, 1));
        return format!("{kind}@{}", record(&weights, number(blob, 2) as usize));
    }
    let tensor = first(bytes, 3).and_then(|immediate| first(immediate, 1));
    let Some((which, Item::Bytes(content))) =
        tensor.and_then(|tensor| parse(tensor).into_iter().next())
    else {
        return format!("{kind}=?");
    };
    let packed = |content: &[u8]| {
        let mut values = Vec::new();
        for (_, item) in parse(content) {
            match item {
                Item::Number(value) => values.push(value as i64),
                Item::Bytes(mut bytes) => {
                    while !bytes.is_empty() {
                        values.push(decode_varint(&mut bytes).unwrap() as i64);
                    }
                }
            }
        }
        values
    };
    let hex = |pieces: Vec<&[u8]>| -> String {
        pieces
            .concat()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    };
    let joined = |values: Vec<String>| values.join(",");
    let held = match which {
        1 => format!("floats:{}", hex(all(content, 1))),
        2 => format!(
            "ints:{}",
            joined(
                packed(content)
                    .iter()
                    .map(|v| (*v as i32).to_string())
                    .collect()
            )
        ),
        3 => format!(
            "bools:{}",
            joined(
                packed(content)
                    .iter()
                    .map(|v| (*v != 0).to_string())
                    .collect()
            )
        ),
        4 => format!(
            "strings:{}",
            joined(
                all(content, 1)
                    .iter()
                    .map(|v| String::from_utf8_lossy(v).into_owned())
                    .collect()
            )
        ),
        5 => format!(
            "longInts:{}",
            joined(packed(content).iter().map(i64::to_string).collect())
        ),
        7 => format!("bytes:{}", hex(all(content, 1))),
        other => format!("field {other}"),
    };
    format!("{kind}={held}")
}

/// Type, padding and a digest of a record's data.
fn record(weights: &[u8], at: usize) -> String {
    let u64_at = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| weights[at + i]));
    let u32_at = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| weights[at + i]));
    assert_eq!(u32_at(at), 0xDEAD_BEEF);
    let (size, start) = (u64_at(at + 8) as usize, u64_at(at + 16) as usize);
    let digest = Sha256::digest(&weights[start..start + size]);
    let digest: String = digest[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{}/{}/{digest}", u32_at(at + 4), u64_at(at + 24))
}

fn operations(block: &[u8], files: &Files, depth: usize, lines: &mut Vec<String>) {
    let indent = "  ".repeat(depth);
    for operation in all(block, 3) {
        let mut parts = vec![format!("{indent}{}", text(operation, 1))];
        for (name, argument) in map(operation, 2) {
            let bound = all(argument, 1)
                .into_iter()
                .map(|binding| match first(binding, 2) {
                    Some(given) => value(given, files),
                    None => text(binding, 1),
                });
            parts.push(format!("{name}({})", bound.collect::<Vec<_>>().join(" ")));
        }
        for (name, given) in map(operation, 5) {
            parts.push(format!("{name}<{}>", value(given, files)));
        }
        parts.push("->".into());
        parts.extend(all(operation, 3).into_iter().map(named));
        lines.push(parts.join(" "));
        for inner in all(operation, 4) {
            let inputs: Vec<String> = all(inner, 1).into_iter().map(named).collect();
            lines.push(format!("{indent} block {}", inputs.join(" ")));
            operations(inner, files, depth + 1, lines);
            lines.push(format!("{indent} gives {}", outputs(inner)));
        }
    }
}

/// A field of bytes or of a number.
pub fn field(number: u32, item: &Item<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    match item {
        Item::Number(value) => {
            encode_key(number, WireType::Varint, &mut out);
            encode_varint(*value, &mut out);
        }
        Item::Bytes(bytes) => {
            encode_key(number, WireType::LengthDelimited, &mut out);
            encode_varint(bytes.len() as u64, &mut out);
            out.extend_from_slice(bytes);
        }
    }
    out
}

/// The message with every message along `path` passed through `change`, innermost last.
pub fn along(bytes: &[u8], path: &[u32], change: &dyn Fn(Vec<u8>) -> Vec<u8>) -> Vec<u8> {
    let Some((&next, rest)) = path.split_first() else {
        return change(bytes.to_vec());
    };
    let mut out = Vec::new();
    for (number, item) in parse(bytes) {
        out.extend(match item {
            Item::Bytes(inner) if number == next => {
                field(number, &Item::Bytes(&along(inner, rest, change)))
            }
            item => field(number, &item),
        });
    }
    change(out)
}
