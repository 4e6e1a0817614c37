//! The types and attributes that weights are made of, as the dialect encodes them.

use std::collections::HashSet;

use quant_core::{FloatType, IntType};

use crate::tables::{Entry, Tables};
use crate::wire::{Reader, put_varint};

const TENSOR: u64 = 2;
const STRING: u64 = 1;
const DENSE: u64 = 6;
const RESOURCE: u64 = 7;

/// What a tensor's elements are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Element {
    Float(FloatType),
    Integer(IntType),
    Other(u64),
}

/// The types of elements by their numbers.
const ELEMENTS: [(u64, Element); 9] = [
    (6, Element::Float(FloatType::F32)),
    (7, Element::Float(FloatType::F16)),
    (8, Element::Float(FloatType::Bf16)),
    (20, Element::Integer(IntType::Int8)),
    (21, Element::Integer(IntType::Int4)),
    (22, Element::Integer(IntType::Int2)),
    (26, Element::Integer(IntType::Uint8)),
    (27, Element::Integer(IntType::Uint4)),
    (28, Element::Integer(IntType::Uint2)),
];

impl Element {
    fn from_number(number: u64) -> Self {
        let known = ELEMENTS.iter().find(|(known, _)| *known == number);
        known.map_or(Self::Other(number), |(_, element)| *element)
    }

    /// Its encoding, where it is known.
    pub fn encoded(self) -> Option<Vec<u8>> {
        let (number, _) = ELEMENTS.iter().find(|(_, known)| *known == self)?;
        let mut out = Vec::new();
        put_varint(&mut out, *number);
        Some(out)
    }

    pub fn name(self) -> String {
        match self {
            Self::Float(float) => float.name().into(),
            Self::Integer(integer) => integer.name().into(),
            Self::Other(18) => "int32".into(),
            Self::Other(24) => "uint32".into(),
            Self::Other(number) => format!("type {number}"),
        }
    }

    /// Bytes of so many elements, where that is known.
    pub fn storage_len(self, count: usize) -> Option<usize> {
        match self {
            Self::Float(float) => count.checked_mul(float.size()),
            Self::Integer(integer) => count.checked_mul(1).map(|it| integer.storage_len(it)),
            Self::Other(_) => None,
        }
    }
}

/// A tensor's type, of a shape that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TensorType {
    pub shape: Vec<usize>,
    /// Their product, which does not overflow.
    pub count: usize,
    pub element: Element,
    /// The number of the type of elements.
    pub element_type: usize,
}

impl TensorType {
    /// A type of the table; `None` where it is something else.
    pub fn read(tables: &Tables<'_>, number: usize) -> Option<Self> {
        let mut reader = encoded(&tables.types[number])?;
        if reader.varint().ok()? != TENSOR {
            return None;
        }
        let rank = reader.count("axes").ok()?;
        let dims = (0..rank).map(|_| usize::try_from(reader.signed().ok()?).ok());
        let shape: Vec<usize> = dims.collect::<Option<_>>()?;
        let element_type = reader.index(tables.types.len(), "type").ok()?;
        if !reader.is_at_end() {
            return None;
        }
        let mut inner = encoded(&tables.types[element_type])?;
        let number = inner.varint().ok().filter(|_| inner.is_at_end())?;
        let count = shape
            .iter()
            .try_fold(1_usize, |count, dim| count.checked_mul(*dim))?;
        // Bits of elements are counted, too.
        count.checked_mul(64)?;
        Some(Self {
            shape,
            count,
            element: Element::from_number(number),
            element_type,
        })
    }

    /// The encoding of one with such a shape and type of elements.
    pub fn encode(shape: &[usize], element_type: usize) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, TENSOR);
        put_varint(&mut out, shape.len() as u64);
        shape
            .iter()
            .for_each(|dim| put_varint(&mut out, (*dim as u64) << 1));
        put_varint(&mut out, element_type as u64);
        out
    }
}

/// A constant's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConstantValue<'a> {
    /// All elements are this one.
    Splat(&'a [u8]),
    /// In the program.
    Dense(&'a [u8]),
    /// The resource of this number.
    Resource(usize),
}

impl<'a> ConstantValue<'a> {
    /// An attribute of the table; `None` where it is something else.
    pub fn read(tables: &Tables<'a>, number: usize) -> Option<Self> {
        let mut reader = encoded(&tables.attributes[number])?;
        let found = match reader.varint().ok()? {
            DENSE => {
                let is_splat = reader.byte().ok()?;
                let len = reader.varint().ok()?;
                let bytes = reader.take(len).ok()?;
                match is_splat {
                    0 => Self::Dense(bytes),
                    1 => Self::Splat(bytes),
                    _ => return None,
                }
            }
            RESOURCE => Self::Resource(reader.index(tables.resources.len(), "resource").ok()?),
            _ => return None,
        };
        reader.is_at_end().then_some(found)
    }

    pub fn encode_splat(element: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, DENSE);
        out.push(1);
        put_varint(&mut out, element.len() as u64);
        out.extend(element);
        out
    }

    pub fn encode_resource(number: usize) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, RESOURCE);
        put_varint(&mut out, number as u64);
        out
    }
}

/// The text of an attribute that is a string.
pub(crate) fn string<'a>(tables: &Tables<'a>, number: usize) -> Option<&'a str> {
    let mut reader = encoded(&tables.attributes[number])?;
    if reader.varint().ok()? != STRING {
        return None;
    }
    let string = reader.index(tables.strings.len(), "string").ok()?;
    std::str::from_utf8(tables.strings[string]).ok()
}

/// The attributes that an attribute may be made of, where it is an array or is not known.
pub(crate) fn mentioned(entry: &Entry<'_>, found: &mut HashSet<u64>) {
    // Texts, numbers, types, values, and what is said of places in sources.
    const LEAVES: [u64; 15] = [
        STRING, 2, 4, DENSE, RESOURCE, 14, 30, 31, 32, 33, 35, 36, 40, 45, 46,
    ];
    let Some(mut reader) = encoded(entry) else {
        return;
    };
    match reader.varint() {
        Ok(tag) if !LEAVES.contains(&tag) => {}
        _ => return,
    }
    found.extend(std::iter::from_fn(|| reader.varint().ok()));
}

fn encoded<'a>(entry: &Entry<'a>) -> Option<Reader<'a>> {
    entry.is_encoded.then(|| Reader::new(entry.bytes))
}
