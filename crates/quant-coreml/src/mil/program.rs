//! A model's programs: functions, blocks, operations and their values, borrowed from its bytes.

use std::borrow::Cow;

use super::schema::{DataType, tensor_value};
use super::wire::{Content, fields};

/// What is understood of `model.mlmodel`.
#[derive(Debug, Default)]
pub(crate) struct Program<'a> {
    /// The ML programs: one, or those of a pipeline, in order.
    pub stages: Vec<Stage<'a>>,
    /// The functions of all stages, in order.
    pub functions: Vec<Function<'a>>,
    /// References to weight files outside operations.
    pub elsewhere: Vec<Blob<'a>>,
    /// Models of a pipeline that are of other kinds: their names and what they are.
    pub others: Vec<(String, &'static str)>,
}

/// One ML program.
#[derive(Debug)]
pub(crate) struct Stage<'a> {
    /// Its name in a pipeline.
    pub name: Option<String>,
    /// Its place in a pipeline, the outermost pipeline first.
    pub place: Vec<usize>,
    pub specification: u64,
    /// The first weight file that it refers to.
    pub weights: Option<&'a str>,
}

#[derive(Debug)]
pub(crate) struct Function<'a> {
    pub stage: usize,
    pub name: &'a str,
    pub inputs: Vec<Named<'a>>,
    /// Per opset, such as `CoreML8`.
    pub blocks: Vec<(&'a str, Block<'a>)>,
}

#[derive(Debug)]
pub(crate) struct Block<'a> {
    pub inputs: Vec<Named<'a>>,
    pub outputs: Vec<&'a str>,
    pub operations: Vec<Operation<'a>>,
}

#[derive(Debug)]
pub(crate) struct Operation<'a> {
    /// Position in the whole model, blocks within operations before the operations that follow.
    pub id: usize,
    pub kind: &'a str,
    pub inputs: Vec<(&'a str, Vec<Binding<'a>>)>,
    pub outputs: Vec<Named<'a>>,
    pub blocks: Vec<Block<'a>>,
    pub attributes: Vec<(&'a str, Value<'a>)>,
}

#[derive(Debug)]
pub(crate) enum Binding<'a> {
    Name(&'a str),
    Value(Value<'a>),
}

/// A variable and its type.
#[derive(Debug)]
pub(crate) struct Named<'a> {
    pub name: &'a str,
    pub kind: Option<TensorType>,
    /// The type as it stands.
    pub type_bytes: &'a [u8],
}

/// A tensor's type; a dimension that is not constant is `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TensorType {
    pub dtype: DataType,
    pub dims: Vec<Option<u64>>,
}

#[derive(Debug)]
pub(crate) struct Value<'a> {
    /// `None` for lists, dictionaries and so on.
    pub kind: Option<TensorType>,
    pub payload: Payload<'a>,
}

#[derive(Debug)]
pub(crate) enum Payload<'a> {
    /// A `TensorValue`, as it stands.
    Tensor(&'a [u8]),
    Blob(Blob<'a>),
    /// Lists, dictionaries and whatever is not known.
    Other,
}

/// A reference into a weight file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Blob<'a> {
    pub file: &'a str,
    pub offset: u64,
}

impl<'a> Program<'a> {
    /// The ML program that a function is of.
    pub fn stage(&self, function: usize) -> &Stage<'a> {
        &self.stages[self.functions[function].stage]
    }

    /// A name for people: with its function, where there are several, and its model of a pipeline.
    pub fn shown(&self, function: usize, name: &str) -> String {
        match self.place(function) {
            Some(place) => format!("{place}/{name}"),
            None => name.into(),
        }
    }

    /// Which function of which model, where there are several.
    pub fn place(&self, function: usize) -> Option<String> {
        let Function { stage, name, .. } = &self.functions[function];
        let same = self.functions.iter().filter(|other| other.stage == *stage);
        let function = (same.count() > 1).then_some(*name);
        match (&self.stages[*stage].name, function) {
            (Some(stage), Some(function)) => Some(format!("{stage}/{function}")),
            (stage, function) => stage.as_deref().or(function).map(str::to_owned),
        }
    }

    /// Visits every operation with its function's index, each before those in its blocks.
    pub fn each<'p, E>(
        &'p self,
        visit: &mut dyn FnMut(usize, &'p Operation<'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        for (index, function) in self.functions.iter().enumerate() {
            for (_, block) in &function.blocks {
                block.each(&mut |operation| visit(index, operation))?;
            }
        }
        Ok(())
    }
}

impl<'a> Block<'a> {
    fn each<'p, E>(
        &'p self,
        visit: &mut dyn FnMut(&'p Operation<'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        for operation in &self.operations {
            visit(operation)?;
            for block in &operation.blocks {
                block.each(visit)?;
            }
        }
        Ok(())
    }
}

impl TensorType {
    /// The dimensions, where all are known and their product can be counted.
    pub fn shape(&self) -> Option<Vec<usize>> {
        let dims = self.dims.iter().map(|dim| usize::try_from((*dim)?).ok());
        let dims = dims.collect::<Option<Vec<usize>>>()?;
        dims.iter()
            .try_fold(1_usize, |product, &dim| product.checked_mul(dim))?;
        Some(dims)
    }

    /// Bytes of the elements in a weight file, where it could hold them.
    pub fn bytes(&self) -> Option<usize> {
        let (bits, _) = self.dtype.stored()?;
        let elements: usize = self.shape()?.iter().product();
        Some(elements.checked_mul(bits)?.div_ceil(8))
    }
}

impl<'a> Operation<'a> {
    pub fn attribute(&self, name: &str) -> Option<&Value<'a>> {
        let mut all = self.attributes.iter();
        all.find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// The operation's name; that of its first output where it has none.
    pub fn name(&self) -> &'a str {
        let given = self.attribute("name").and_then(Value::string);
        let output = || self.outputs.first().map(|output| output.name);
        given.or_else(output).unwrap_or("")
    }

    /// What is bound to an input, if it is one thing.
    pub fn input(&self, name: &str) -> Option<&Binding<'a>> {
        let (_, bindings) = self.inputs.iter().find(|(key, _)| *key == name)?;
        match bindings.as_slice() {
            [one] => Some(one),
            _ => None,
        }
    }

    /// A parameter of a constexpr operation: an attribute, or since iOS18 an input that holds a
    /// value.
    pub fn parameter(&self, name: &str) -> Option<&Value<'a>> {
        match self.input(name) {
            Some(Binding::Value(value)) => Some(value),
            Some(Binding::Name(_)) => None,
            None => self.attribute(name),
        }
    }

    pub fn is_constexpr(&self) -> bool {
        self.kind.starts_with("constexpr_")
    }

    /// All values that it holds.
    pub fn values(&self) -> impl Iterator<Item = &Value<'a>> {
        let bound = self.inputs.iter().flat_map(|(_, bindings)| bindings);
        let bound = bound.filter_map(|binding| match binding {
            Binding::Value(value) => Some(value),
            Binding::Name(_) => None,
        });
        bound.chain(self.attributes.iter().map(|(_, value)| value))
    }

    /// All records that it refers to, in their order in the file.
    pub fn blobs(&self) -> Vec<Blob<'a>> {
        let blobs = self.values().filter_map(|value| match &value.payload {
            Payload::Blob(blob) => Some(*blob),
            _ => None,
        });
        let mut blobs: Vec<_> = blobs.collect();
        blobs.sort_by_key(|blob| blob.offset);
        blobs
    }
}

impl<'a> Value<'a> {
    /// The bytes of one kind of immediate numbers.
    fn immediate(&self, kind: u32) -> Option<&'a [u8]> {
        let Payload::Tensor(tensor) = self.payload else {
            return None;
        };
        let field =
            fields(tensor).find_map(|field| field.ok().filter(|field| field.number == kind));
        field?.bytes().ok()
    }

    pub fn string(&self) -> Option<&'a str> {
        let mut strings = fields(self.immediate(tensor_value::STRINGS)?);
        strings.next()?.ok()?.text().ok()
    }

    pub fn boolean(&self) -> Option<bool> {
        let values = fields(self.immediate(tensor_value::BOOLS)?).next();
        Some(match values?.ok()?.content {
            Content::Varint(value) => value != 0,
            Content::Bytes(packed) => packed.first().is_some_and(|&value| value != 0),
            Content::Other => return None,
        })
    }

    /// One int32.
    pub fn integer(&self) -> Option<i32> {
        // A zero may stand there or not.
        let Some(values) = fields(self.immediate(tensor_value::INTS)?).next() else {
            return Some(0);
        };
        let value = match values.ok()?.content {
            Content::Varint(value) => value,
            Content::Bytes(mut packed) => prost::encoding::decode_varint(&mut packed).ok()?,
            Content::Other => return None,
        };
        Some(value as i32)
    }

    /// The elements of an immediate tensor, as in a weight file, if they are of a kind that is known
    /// and as many as its type says.
    pub fn elements(&self) -> Option<Cow<'a, [u8]>> {
        let expected = self.kind.as_ref()?.bytes()?;
        self.held_elements().filter(|bytes| bytes.len() == expected)
    }

    /// Whether an immediate tensor, where it can be read, has this type and shape.
    pub fn fits(&self, kind: &TensorType) -> Result<(), String> {
        let (Some(own), Some(bytes)) = (&self.kind, self.held_elements()) else {
            return Ok(());
        };
        let (Some(expected), Some(shape)) = (kind.bytes(), kind.shape()) else {
            return Ok(());
        };
        let name = kind.dtype.name();
        if own.dtype != kind.dtype {
            let own = own.dtype.name();
            return Err(format!(
                "its value is of type {own}, and its result {name}; the model is damaged"
            ));
        }
        if bytes.len() != expected {
            return Err(format!(
                "shape {shape:?} of {name} takes {expected} bytes, but the model has {}; it is damaged",
                bytes.len()
            ));
        }
        Ok(())
    }

    fn held_elements(&self) -> Option<Cow<'a, [u8]>> {
        match self.kind.as_ref()?.dtype {
            DataType::FLOAT32 => floats(self.immediate(tensor_value::FLOATS)?),
            DataType::INT32 => integers(self.immediate(tensor_value::INTS)?, 4),
            DataType::INT16 | DataType::UINT16 => integers(self.immediate(tensor_value::INTS)?, 2),
            _ => {
                let mut values = fields(self.immediate(tensor_value::BYTES)?);
                let only = values.next()?.ok()?.bytes().ok()?;
                values.next().is_none().then_some(Cow::Borrowed(only))
            }
        }
    }
}

/// A list of floats: packed, which needs no copy, in several pieces, or one by one.
fn floats(list: &[u8]) -> Option<Cow<'_, [u8]>> {
    let mut all: Option<Cow<'_, [u8]>> = None;
    for field in fields(list) {
        let field = field.ok()?;
        let piece = match field.content {
            _ if field.number != tensor_value::VALUES => continue,
            Content::Bytes(packed) => packed,
            // The key takes a byte.
            Content::Other => field.whole.get(1..5)?,
            Content::Varint(_) => return None,
        };
        match &mut all {
            None => all = Some(Cow::Borrowed(piece)),
            Some(all) => all.to_mut().extend_from_slice(piece),
        }
    }
    Some(all.unwrap_or_default())
}

/// A list of integers, packed or one by one, of so many bytes each.
fn integers(list: &[u8], width: usize) -> Option<Cow<'_, [u8]>> {
    let mut all = Vec::new();
    let mut put = |value: u64| all.extend_from_slice(&value.to_le_bytes()[..width]);
    for field in fields(list) {
        let field = field.ok()?;
        match field.content {
            _ if field.number != tensor_value::VALUES => {}
            Content::Varint(value) => put(value),
            Content::Bytes(mut packed) => {
                while !packed.is_empty() {
                    put(prost::encoding::decode_varint(&mut packed).ok()?);
                }
            }
            Content::Other => return None,
        }
    }
    Some(Cow::Owned(all))
}
