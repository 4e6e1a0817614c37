//! Values and operations that are written anew.

use std::borrow::Cow;

use super::schema::{
    DataType, argument, map, named as named_type, operation, tensor_value, types, value,
};
use super::wire::{Content, Writer, entry, fields, rewrite_messages};

/// A value to be written: where its elements are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Elements {
    /// Record in a weight file.
    Blob(u64),
    /// In the model itself: the bytes that would stand in a weight file.
    Here(Vec<u8>),
}

/// A tensor value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct NewValue {
    pub dtype: DataType,
    pub shape: Vec<usize>,
    pub elements: Elements,
}

/// What becomes of an operation.
#[derive(Clone, Debug)]
pub(crate) enum Edit {
    /// An operation of another type.
    Become(Become),
    /// Its value goes to a weight file.
    Store(Store),
    /// It goes away; its result is that of another operation.
    Remove,
}

/// Another type, name and other parameters.
#[derive(Clone, Debug)]
pub(crate) struct Become {
    pub kind: &'static str,
    pub name: String,
    pub parameters: Vec<(&'static str, NewValue)>,
    /// Parameters stand among the inputs (since iOS18), or among the attributes.
    pub as_inputs: bool,
    /// The weight file that parameters refer to.
    pub file: String,
    /// Parameters that go.
    pub old: &'static [&'static str],
}

/// A constant's value, which stands elsewhere.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    pub file: String,
    pub value: NewValue,
}

impl NewValue {
    /// One string.
    pub fn text(text: &str) -> Self {
        Self {
            dtype: DataType::STRING,
            shape: Vec::new(),
            elements: Elements::Here(text.into()),
        }
    }

    /// Its `ValueType`.
    pub fn type_bytes(&self) -> Vec<u8> {
        let mut out = Writer::default();
        write_type(&mut out, self.dtype, &self.shape);
        out.0
    }

    pub fn write(&self, out: &mut Writer, file: &str) {
        out.message(value::TYPE, |out| write_type(out, self.dtype, &self.shape));
        match &self.elements {
            Elements::Blob(offset) => out.message(value::BLOB, |out| {
                out.bytes(value::BLOB_FILE, file.as_bytes());
                out.varint(value::BLOB_OFFSET, *offset);
            }),
            Elements::Here(bytes) => {
                let (kind, bytes) = match self.dtype {
                    DataType::FLOAT32 => (tensor_value::FLOATS, Cow::Borrowed(&bytes[..])),
                    DataType::INT32 => (tensor_value::INTS, Cow::Owned(varints(bytes))),
                    DataType::STRING => (tensor_value::STRINGS, Cow::Borrowed(&bytes[..])),
                    _ => (tensor_value::BYTES, Cow::Borrowed(&bytes[..])),
                };
                write_immediate(out, kind, &bytes);
            }
        }
    }
}

/// int32 values as packed varints.
fn varints(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for value in bytes.chunks_exact(4) {
        let value = i32::from_le_bytes(std::array::from_fn(|i| value[i]));
        prost::encoding::encode_varint(i64::from(value) as u64, &mut out);
    }
    out
}

fn write_immediate(out: &mut Writer, kind: u32, values: &[u8]) {
    out.message(value::IMMEDIATE, |out| {
        out.message(value::TENSOR, |out| {
            out.message(kind, |out| out.bytes(tensor_value::VALUES, values));
        });
    });
}

fn write_type(out: &mut Writer, dtype: DataType, shape: &[usize]) {
    out.message(types::TENSOR, |out| {
        out.varint(types::DATA_TYPE, dtype.0);
        if !shape.is_empty() {
            out.varint(types::RANK, shape.len() as u64);
        }
        for &dim in shape {
            out.message(types::DIMENSIONS, |out| {
                out.message(types::CONSTANT, |out| {
                    if dim != 0 {
                        out.varint(types::SIZE, dim as u64);
                    }
                });
            });
        }
    });
}

pub(crate) fn write_entry(
    out: &mut Writer,
    number: u32,
    key: &str,
    write: impl FnOnce(&mut Writer),
) {
    out.message(number, |out| {
        out.bytes(map::KEY, key.as_bytes());
        out.message(map::VALUE, write);
    });
}

pub(crate) fn write_name(out: &mut Writer, name: &str) {
    write_entry(out, operation::ATTRIBUTES, "name", |out| {
        out.message(value::TYPE, |out| write_type(out, DataType::STRING, &[]));
        write_immediate(out, tensor_value::STRINGS, name.as_bytes());
    });
}

/// The operation with another type, name and parameters. What is not understood stays.
pub(crate) fn become_other(bytes: &[u8], edit: &Become) -> Result<Vec<u8>, String> {
    let Become {
        kind,
        name,
        parameters,
        as_inputs,
        file,
        old,
    } = edit;
    let mut out = Writer::default();
    let (mut typed, mut named) = (false, false);
    for field in fields(bytes) {
        let field = field?;
        match field.number {
            operation::TYPE if !typed => {
                typed = true;
                out.bytes(operation::TYPE, kind.as_bytes());
                for (key, value) in parameters.iter().filter(|_| *as_inputs) {
                    write_entry(&mut out, operation::INPUTS, key, |out| {
                        out.message(argument::BINDINGS, |out| {
                            out.message(argument::VALUE, |out| value.write(out, file));
                        });
                    });
                }
                for (key, value) in parameters.iter().filter(|_| !as_inputs) {
                    write_entry(&mut out, operation::ATTRIBUTES, key, |out| {
                        value.write(out, file);
                    });
                }
            }
            operation::TYPE => {}
            operation::INPUTS if old.contains(&entry(field.bytes()?)?.0) => {}
            operation::ATTRIBUTES => {
                let key = entry(field.bytes()?)?.0;
                if key == "name" {
                    named = true;
                    out.bytes(operation::ATTRIBUTES, &renamed(field.bytes()?, name)?);
                } else if !old.contains(&key) {
                    out.whole(&field);
                }
            }
            operation::OUTPUTS => {
                let output = with_text(field.bytes()?, named_type::NAME, name)?;
                out.bytes(operation::OUTPUTS, &output);
            }
            _ => out.whole(&field),
        }
    }
    if !named {
        write_name(&mut out, name);
    }
    Ok(out.0)
}

/// The constant with its value in a weight file.
pub(crate) fn stored(bytes: &[u8], Store { file, value }: &Store) -> Result<Vec<u8>, String> {
    let mut out = Writer::default();
    for field in fields(bytes) {
        let field = field?;
        match field.number {
            operation::ATTRIBUTES if entry(field.bytes()?)?.0 == "val" => {
                write_entry(&mut out, operation::ATTRIBUTES, "val", |out| {
                    value.write(out, file);
                });
            }
            _ => out.whole(&field),
        }
    }
    Ok(out.0)
}

/// The attribute `name`, with another one.
pub(crate) fn renamed(attribute: &[u8], name: &str) -> Result<Vec<u8>, String> {
    let path = [
        map::VALUE,
        value::IMMEDIATE,
        value::TENSOR,
        tensor_value::STRINGS,
        tensor_value::VALUES,
    ];
    let changed = replaced(attribute, &path, name.as_bytes())?;
    Ok(changed.unwrap_or_else(|| attribute.to_vec()))
}

/// The message with other content in the field that `path` leads to.
fn replaced(message: &[u8], path: &[u32], content: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let Some((&next, rest)) = path.split_first() else {
        return Ok(Some(content.to_vec()));
    };
    rewrite_messages(message, |number, inner| match number == next {
        true => replaced(inner, rest, content),
        false => Ok(None),
    })
}

/// A message whose text in field `number` is another.
pub(crate) fn with_text(message: &[u8], number: u32, text: &str) -> Result<Vec<u8>, String> {
    let changed = rewrite_messages(message, |field, _| {
        Ok((field == number).then(|| text.as_bytes().to_vec()))
    })?;
    Ok(changed.unwrap_or_else(|| {
        let mut out = Writer::default();
        out.bytes(number, text.as_bytes());
        out.0.extend_from_slice(message);
        out.0
    }))
}

/// A message whose number in field `number` is another.
pub(crate) fn with_varint(message: &[u8], number: u32, new: u64) -> Result<Vec<u8>, String> {
    let mut out = Writer::default();
    let mut put = false;
    for field in fields(message) {
        let field = field?;
        match field.content {
            Content::Varint(_) if field.number == number => {
                out.varint(number, new);
                put = true;
            }
            _ => out.whole(&field),
        }
    }
    if !put {
        out.varint(number, new);
    }
    Ok(out.0)
}
