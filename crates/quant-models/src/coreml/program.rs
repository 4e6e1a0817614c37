//! A model's program: functions, blocks, operations and their values, borrowed from its bytes.

use super::schema::{DataType, argument, block, function, map, model, named, operation, program};
use super::schema::{tensor_value, types, value};
use super::wire::{Content, DEPTH, Field, entry, fields};

/// What is understood of `model.mlmodel`.
#[derive(Debug)]
pub(crate) struct Program<'a> {
    pub specification: u64,
    pub functions: Vec<Function<'a>>,
    /// References to weight files outside operations.
    pub elsewhere: Vec<Blob<'a>>,
}

#[derive(Debug)]
pub(crate) struct Function<'a> {
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
    pub held: Held<'a>,
}

#[derive(Debug)]
pub(crate) enum Held<'a> {
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
    /// Visits every operation, each before those in its blocks.
    pub fn each<'p, E>(
        &'p self,
        visit: &mut dyn FnMut(&'p Function<'a>, &'p Operation<'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        for function in &self.functions {
            for (_, block) in &function.blocks {
                block.each(&mut |operation| visit(function, operation))?;
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
        let blobs = self.values().filter_map(|value| match &value.held {
            Held::Blob(blob) => Some(*blob),
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
        let Held::Tensor(tensor) = self.held else {
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

    /// The elements of an immediate tensor, as in a weight file.
    pub fn elements(&self) -> Option<&'a [u8]> {
        let kind = match self.kind.as_ref()?.dtype {
            DataType::FLOAT32 => tensor_value::FLOATS,
            _ => tensor_value::BYTES,
        };
        let mut values = fields(self.immediate(kind)?);
        let only = values.next()?.ok()?.bytes().ok()?;
        values.next().is_none().then_some(only)
    }
}

/// Reads a program, or says what is wrong with it.
pub(crate) fn read(bytes: &[u8]) -> Result<Program<'_>, String> {
    let (mut specification, mut body, mut other) = (0, None, None);
    for field in fields(bytes) {
        let field = field?;
        match field.number {
            model::SPECIFICATION_VERSION => specification = field.varint()?,
            model::ML_PROGRAM => once(&mut body, field.bytes()?, "program")?,
            number if model::KINDS.contains(&number) => other = Some(number),
            _ => {}
        }
    }
    let Some(body) = body else {
        return Err(match other {
            Some(number) => format!(
                "{} (field {number}), not an ML program; convert it again with convert_to=\"mlprogram\"",
                model::kind(number)
            ),
            None => "holds no model; it is damaged, or no model.mlmodel".into(),
        });
    };
    let mut reader = Reader { operations: 0 };
    let (mut functions, mut elsewhere) = (Vec::new(), Vec::new());
    for field in fields(body) {
        let field = field?;
        match field.number {
            program::FUNCTIONS => {
                let (name, function) = entry(field.bytes()?)?;
                let context = |problem| format!("function `{name}`: {problem}");
                let read = reader
                    .function(name, function, &mut elsewhere)
                    .map_err(context)?;
                if functions
                    .iter()
                    .any(|other: &Function<'_>| other.name == name)
                {
                    return Err(context("stands there twice".into()));
                }
                functions.push(read);
            }
            program::ATTRIBUTES => reader.elsewhere(field.bytes()?, &mut elsewhere)?,
            _ => {}
        }
    }
    Ok(Program {
        specification,
        functions,
        elsewhere,
    })
}

/// A message that may stand only once: two of them would be merged by other readers.
fn once<'a>(place: &mut Option<&'a [u8]>, bytes: &'a [u8], what: &str) -> Result<(), String> {
    match place.replace(bytes) {
        None => Ok(()),
        Some(_) => Err(format!("its {what} stands there twice")),
    }
}

struct Reader {
    operations: usize,
}

impl Reader {
    fn function<'a>(
        &mut self,
        name: &'a str,
        bytes: &'a [u8],
        elsewhere: &mut Vec<Blob<'a>>,
    ) -> Result<Function<'a>, String> {
        let (mut inputs, mut blocks) = (Vec::new(), Vec::new());
        for field in fields(bytes) {
            let field = field?;
            match field.number {
                function::INPUTS => inputs.push(named_type(field.bytes()?)?),
                function::BLOCKS => {
                    let (opset, block) = entry(field.bytes()?)?;
                    blocks.push((opset, self.block(block, elsewhere, 4)?));
                }
                function::ATTRIBUTES => self.elsewhere(field.bytes()?, elsewhere)?,
                _ => {}
            }
        }
        Ok(Function {
            name,
            inputs,
            blocks,
        })
    }

    fn block<'a>(
        &mut self,
        bytes: &'a [u8],
        elsewhere: &mut Vec<Blob<'a>>,
        depth: usize,
    ) -> Result<Block<'a>, String> {
        if depth > DEPTH {
            return Err(format!("messages within messages more than {DEPTH} deep"));
        }
        let (mut inputs, mut outputs, mut operations) = (Vec::new(), Vec::new(), Vec::new());
        for field in fields(bytes) {
            let field = field?;
            match field.number {
                block::INPUTS => inputs.push(named_type(field.bytes()?)?),
                block::OUTPUTS => outputs.push(field.text()?),
                block::OPERATIONS => {
                    operations.push(self.operation(field.bytes()?, elsewhere, depth + 1)?);
                }
                block::ATTRIBUTES => self.elsewhere(field.bytes()?, elsewhere)?,
                _ => {}
            }
        }
        Ok(Block {
            inputs,
            outputs,
            operations,
        })
    }

    fn operation<'a>(
        &mut self,
        bytes: &'a [u8],
        elsewhere: &mut Vec<Blob<'a>>,
        depth: usize,
    ) -> Result<Operation<'a>, String> {
        let mut read = Operation {
            id: self.operations,
            kind: "",
            inputs: Vec::new(),
            outputs: Vec::new(),
            blocks: Vec::new(),
            attributes: Vec::new(),
        };
        self.operations += 1;
        let nth = read.id;
        let context = |problem: String| format!("operation {nth}: {problem}");
        for field in fields(bytes) {
            let field = field.map_err(context)?;
            match field.number {
                operation::TYPE => read.kind = field.text().map_err(context)?,
                operation::INPUTS => {
                    let (key, argument) = entry(field.bytes()?).map_err(context)?;
                    let bound = bindings(argument).map_err(context)?;
                    put_once(&mut read.inputs, key, bound).map_err(context)?;
                }
                operation::OUTPUTS => read
                    .outputs
                    .push(named_type(field.bytes()?).map_err(context)?),
                operation::BLOCKS => {
                    let block = self.block(field.bytes()?, elsewhere, depth + 1)?;
                    read.blocks.push(block);
                }
                operation::ATTRIBUTES => {
                    let (key, value) = entry(field.bytes()?).map_err(context)?;
                    let value = self::value(value).map_err(context)?;
                    put_once(&mut read.attributes, key, value).map_err(context)?;
                }
                _ => {}
            }
        }
        Ok(read)
    }

    /// An entry of a map of attributes that are not an operation's.
    fn elsewhere<'a>(&self, bytes: &'a [u8], found: &mut Vec<Blob<'a>>) -> Result<(), String> {
        let (_, bytes) = entry(bytes)?;
        if let Held::Blob(blob) = value(bytes)?.held {
            found.push(blob);
        }
        Ok(())
    }
}

fn put_once<'a, T>(list: &mut Vec<(&'a str, T)>, key: &'a str, value: T) -> Result<(), String> {
    if list.iter().any(|(other, _)| *other == key) {
        return Err(format!("`{key}` stands there twice"));
    }
    list.push((key, value));
    Ok(())
}

fn bindings(bytes: &[u8]) -> Result<Vec<Binding<'_>>, String> {
    let mut found = Vec::new();
    for field in fields(bytes) {
        let field = field?;
        if field.number != argument::BINDINGS {
            continue;
        }
        for field in fields(field.bytes()?) {
            let field = field?;
            match field.number {
                argument::NAME => found.push(Binding::Name(field.text()?)),
                argument::VALUE => found.push(Binding::Value(value(field.bytes()?)?)),
                _ => {}
            }
        }
    }
    Ok(found)
}

fn named_type(bytes: &[u8]) -> Result<Named<'_>, String> {
    let (mut name, mut kind, mut type_bytes) = ("", None, &[][..]);
    for field in fields(bytes) {
        let field = field?;
        match field.number {
            named::NAME => name = field.text()?,
            named::TYPE => {
                type_bytes = field.bytes()?;
                kind = tensor_type(type_bytes)?;
            }
            _ => {}
        }
    }
    Ok(Named {
        name,
        kind,
        type_bytes,
    })
}

/// A `ValueType`, if it is that of a tensor.
pub(crate) fn tensor_type(bytes: &[u8]) -> Result<Option<TensorType>, String> {
    let mut found = None;
    for field in fields(bytes) {
        let field = field?;
        if field.number == types::TENSOR {
            once(&mut found, field.bytes()?, "type")?;
        }
    }
    let Some(tensor) = found else {
        return Ok(None);
    };
    let (mut dtype, mut dims) = (DataType(0), Vec::new());
    for field in fields(tensor) {
        let field = field?;
        match field.number {
            types::DATA_TYPE => dtype = DataType(field.varint()?),
            types::DIMENSIONS => dims.push(dimension(field.bytes()?)?),
            _ => {}
        }
    }
    Ok(Some(TensorType { dtype, dims }))
}

fn dimension(bytes: &[u8]) -> Result<Option<u64>, String> {
    let mut size = None;
    for field in fields(bytes) {
        let field = field?;
        if field.number == types::CONSTANT {
            // A dimension of 0 is not written.
            size = Some(0);
            for field in fields(field.bytes()?) {
                let field = field?;
                if field.number == types::SIZE {
                    size = Some(field.varint()?);
                }
            }
        }
    }
    Ok(size)
}

fn value(bytes: &[u8]) -> Result<Value<'_>, String> {
    let (mut kind, mut held) = (None, Held::Other);
    for field in fields(bytes) {
        let field = field?;
        match field.number {
            value::TYPE => kind = tensor_type(field.bytes()?)?,
            value::IMMEDIATE => {
                for field in fields(field.bytes()?) {
                    let field = field?;
                    match field.number {
                        value::TENSOR => held = Held::Tensor(field.bytes()?),
                        _ => no_blob_within(&field, 0)?,
                    }
                }
            }
            value::BLOB => held = Held::Blob(blob(field.bytes()?)?),
            _ => {}
        }
    }
    Ok(Value { kind, held })
}

/// Lists and dictionaries hold values, which would hold offsets that move. Nobody writes such.
fn no_blob_within(list: &Field<'_>, depth: usize) -> Result<(), String> {
    let (value::TUPLE..=value::DICTIONARY, Content::Bytes(bytes)) = (list.number, list.content)
    else {
        return Ok(());
    };
    if depth > DEPTH {
        return Err(format!("values within values more than {DEPTH} deep"));
    }
    for item in fields(bytes) {
        let item = item?;
        if item.number != value::ITEMS {
            continue;
        }
        let mut values = vec![item.bytes()?];
        if list.number == value::DICTIONARY {
            values.clear();
            for field in fields(item.bytes()?) {
                let field = field?;
                if matches!(field.number, map::KEY | map::VALUE) {
                    values.push(field.bytes()?);
                }
            }
        }
        for field in values.into_iter().flat_map(fields) {
            let field = field?;
            match field.number {
                value::BLOB => {
                    return Err("a list refers to a weight file, which quant cannot move".into());
                }
                value::IMMEDIATE => {
                    for inner in fields(field.bytes()?) {
                        no_blob_within(&inner?, depth + 1)?;
                    }
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Reads a `BlobFileValue`.
pub(crate) fn blob(bytes: &[u8]) -> Result<Blob<'_>, String> {
    let mut found = Blob {
        file: "",
        offset: 0,
    };
    for field in fields(bytes) {
        let field = field?;
        match field.number {
            value::BLOB_FILE => found.file = field.text()?,
            value::BLOB_OFFSET => found.offset = field.varint()?,
            _ => {}
        }
    }
    Ok(found)
}
