//! The metadata of a file: its bytes are kept, and few of its values looked at.

use std::collections::HashSet;

use crate::cursor::Cursor;
use quant_model::error::shortened;
use quant_model::io::InputFile;
use quant_model::{Error, Job};

pub(crate) const ARCHITECTURE: &str = "general.architecture";
pub(crate) const ALIGNMENT: &str = "general.alignment";
pub(crate) const FILE_TYPE: &str = "general.file_type";
pub(crate) const QUANTIZATION_VERSION: &str = "general.quantization_version";
/// Before the name of a tensor: the shape that it has where it is used.
pub(crate) const SHAPE: &str = "comfy.gguf.orig_shape.";

const UINT32: u32 = 4;
const INT32: u32 = 5;
const STRING: u32 = 8;
const ARRAY: u32 = 9;
/// ggml reads no longer texts and arrays.
const MOST: u64 = 1 << 30;
/// Longer texts and arrays are passed over.
const KEPT: u64 = 64;

/// A key, where it stands with its value, and the value where it is small.
#[derive(Debug)]
pub(crate) struct Key {
    pub name: String,
    pub start: u64,
    pub end: u64,
    pub kind: u32,
    pub value: Value,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    U32(u32),
    Text(String),
    /// An array of signed integers.
    Integers(Vec<i32>),
    /// Anything else.
    Other,
}

/// Reads so many keys.
pub(crate) fn read(
    cursor: &mut Cursor<'_>,
    count: u64,
    file: &InputFile,
    job: &Job<'_>,
) -> Result<Vec<Key>, Error> {
    let bad = |problem: String| Error::file(file.path(), problem);
    // A key has a length, a letter, a type and a byte.
    if count > cursor.left() / 13 {
        return Err(bad(format!(
            "{count} keys of metadata, for which the file is too short; it is truncated or damaged"
        )));
    }
    let (mut keys, mut seen) = (Vec::new(), HashSet::new());
    for _ in 0..count {
        job.check()?;
        let start = cursor.position();
        let name = cursor.name("a key of its metadata")?;
        if name.is_empty() {
            return Err(bad(
                "a key of its metadata is empty; the file is damaged".into()
            ));
        }
        if !seen.insert(name.clone()) {
            return Err(bad(format!(
                "the key `{}` appears twice in its metadata; the file is damaged",
                shortened(&name)
            )));
        }
        let kind = cursor.u32()?;
        let value = value(cursor, kind, job)?.map_err(|problem| {
            bad(format!(
                "the value of `{}` {problem}; the file is damaged, or a newer quant knows it",
                shortened(&name)
            ))
        })?;
        keys.push(Key {
            name,
            start,
            end: cursor.position(),
            kind,
            value,
        });
    }
    Ok(keys)
}

/// Per type of a value its name, and its bytes where all values of it have as many.
const KINDS: [(&str, Option<u64>); 13] = [
    ("u8", Some(1)),
    ("i8", Some(1)),
    ("u16", Some(2)),
    ("i16", Some(2)),
    ("u32", Some(4)),
    ("i32", Some(4)),
    ("f32", Some(4)),
    ("bool", Some(1)),
    ("string", None),
    ("array", None),
    ("u64", Some(8)),
    ("i64", Some(8)),
    ("f64", Some(8)),
];

pub(crate) fn kind_name(kind: u32) -> &'static str {
    KINDS.get(kind as usize).map_or("unknown", |(name, _)| name)
}

fn size(kind: u32) -> Option<u64> {
    KINDS.get(kind as usize).and_then(|(_, size)| *size)
}

/// A value, or what is wrong with it.
fn value(
    cursor: &mut Cursor<'_>,
    kind: u32,
    job: &Job<'_>,
) -> Result<Result<Value, String>, Error> {
    Ok(Ok(match kind {
        STRING => {
            let len = cursor.u64()?;
            if len > MOST {
                return Ok(Err(format!("is a text of {len} bytes")));
            }
            if len > KEPT {
                cursor.skip(len)?;
                Value::Other
            } else {
                let text = str::from_utf8(cursor.take(len as usize)?);
                text.map_or(Value::Other, |text| Value::Text(text.into()))
            }
        }
        ARRAY => {
            let (inner, count) = (cursor.u32()?, cursor.u64()?);
            if inner == INT32 && count <= KEPT {
                let bytes = cursor.take(count as usize * 4)?;
                let (numbers, _) = bytes.as_chunks();
                Value::Integers(numbers.iter().map(|it| i32::from_le_bytes(*it)).collect())
            } else {
                match skip(cursor, inner, count, job)? {
                    Ok(()) => Value::Other,
                    Err(problem) => return Ok(Err(problem)),
                }
            }
        }
        UINT32 => Value::U32(cursor.u32()?),
        _ => match size(kind) {
            Some(size) => cursor.skip(size).map(|()| Value::Other)?,
            None => return Ok(Err(format!("has the unknown type {kind}"))),
        },
    }))
}

/// Passes over the values of an array.
fn skip(
    cursor: &mut Cursor<'_>,
    kind: u32,
    count: u64,
    job: &Job<'_>,
) -> Result<Result<(), String>, Error> {
    if count > MOST {
        return Ok(Err(format!("is an array of {count} values")));
    }
    if let Some(size) = size(kind) {
        return cursor.skip(count * size).map(Ok);
    }
    match kind {
        STRING => {}
        ARRAY => return Ok(Err("is an array of arrays, which ggml does not read".into())),
        _ => return Ok(Err(format!("is an array of the unknown type {kind}"))),
    }
    if count > cursor.left() / 8 {
        return Ok(Err(format!(
            "is an array of {count} values, for which the file is too short"
        )));
    }
    for at in 0..count {
        if at % 4096 == 0 {
            job.check()?;
        }
        let len = cursor.u64()?;
        if len > MOST {
            return Ok(Err(format!("has a text of {len} bytes")));
        }
        cursor.skip(len)?;
    }
    Ok(Ok(()))
}

/// A key and its value, as they stand in a file.
pub(crate) fn text(key: &str, value: &str) -> Vec<u8> {
    let mut bytes = head(key, STRING);
    put_text(&mut bytes, value);
    bytes
}

pub(crate) fn number(key: &str, value: u32) -> Vec<u8> {
    let mut bytes = head(key, UINT32);
    bytes.extend(value.to_le_bytes());
    bytes
}

pub(crate) fn integers(key: &str, values: &[usize]) -> Vec<u8> {
    let mut bytes = head(key, ARRAY);
    bytes.extend(INT32.to_le_bytes());
    bytes.extend((values.len() as u64).to_le_bytes());
    for value in values {
        bytes.extend((*value as i32).to_le_bytes());
    }
    bytes
}

fn head(key: &str, kind: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_text(&mut bytes, key);
    bytes.extend(kind.to_le_bytes());
    bytes
}

pub(crate) fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}
