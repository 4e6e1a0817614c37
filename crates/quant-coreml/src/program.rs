//! The program of a Core ML package as values of its own, for who wants to run or inspect it.
//!
//! A [`Program`] owns what it says, but for large constants: these stay in the weight files until
//! somebody [reads](Bytes::read) them.
//!
//! ```no_run
//! use quant_coreml::program::Program;
//!
//! let program = Program::open("Model.mlpackage".as_ref())?;
//! for operation in &program.functions[0].block.operations {
//!     println!("{} {}", operation.kind, operation.name);
//! }
//! # Ok::<(), quant_model::Error>(())
//! ```

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use quant_model::Error;

use crate::blob::{Record, WeightFile};
use crate::folder::Folder;
use crate::mil::program as parsed;
use crate::mil::read::tensor_type as read_tensor_type;
use crate::mil::schema::{DataType, tensor_value, types};
use crate::mil::wire::{Content, fields};
use crate::package::Package;

mod description;

pub use description::{ColorSpace, Feature, FeatureKind};

/// The program of a package, and what the package says of it.
#[derive(Clone, Debug)]
pub struct Program {
    /// Version of the specification that the model follows.
    pub specification: u64,
    /// The functions, in the order of the file.
    pub functions: Vec<Function>,
    /// The function that runs where none is named.
    pub default_function: String,
    /// The description's inputs; of the default function, where there are several.
    pub inputs: Vec<Feature>,
    /// The description's outputs, likewise.
    pub outputs: Vec<Feature>,
}

/// A function of a program.
#[derive(Clone, Debug)]
pub struct Function {
    /// Its name, such as `main`.
    pub name: String,
    /// Its parameters; states among them.
    pub inputs: Vec<Variable>,
    /// What it does.
    pub block: Block,
}

/// Operations one after the other.
#[derive(Clone, Debug)]
pub struct Block {
    /// Its parameters; a function's are in [`Function::inputs`].
    pub inputs: Vec<Variable>,
    /// Names of its results.
    pub outputs: Vec<String>,
    /// In the order of execution.
    pub operations: Vec<Operation>,
}

/// An operation.
#[derive(Clone, Debug)]
pub struct Operation {
    /// What it does, such as `conv`.
    pub kind: String,
    /// Its name; that of its first output where it has none.
    pub name: String,
    /// What is bound to each of its inputs.
    pub inputs: Vec<(String, Vec<Argument>)>,
    /// Its results.
    pub outputs: Vec<Variable>,
    /// The blocks of control flow.
    pub blocks: Vec<Block>,
    /// Attributes, such as the `val` of a `const`.
    pub attributes: Vec<(String, Constant)>,
}

/// What is bound to an input.
#[derive(Clone, Debug)]
pub enum Argument {
    /// A variable.
    Name(String),
    /// A value.
    Value(Constant),
}

/// A variable and its type.
#[derive(Clone, Debug)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its type; `None` for lists, dictionaries and so on.
    pub tensor: Option<TensorType>,
    /// Whether it is a state; then `tensor` is what it holds.
    pub is_state: bool,
}

/// A tensor's type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorType {
    /// The type of its elements.
    pub element: ElementType,
    /// Its dimensions; `None` where one is not constant.
    pub dims: Vec<Option<usize>>,
}

/// A value in the program.
#[derive(Clone, Debug)]
pub struct Constant {
    /// Its type; `None` for lists, dictionaries and so on.
    pub tensor: Option<TensorType>,
    /// What it holds.
    pub elements: Elements,
}

/// The elements of a constant.
#[derive(Clone, Debug)]
pub enum Elements {
    /// Little-endian elements as in a weight file; narrow ones packed, the first in the low bits.
    Bytes(Bytes),
    /// Texts.
    Strings(Vec<String>),
    /// Lists, dictionaries and whatever is not known.
    Other,
}

/// Bytes of a constant.
#[derive(Clone, Debug)]
pub struct Bytes(Payload);

#[derive(Clone, Debug)]
enum Payload {
    Immediate(Arc<[u8]>),
    TensorView(Arc<WeightFile>, Record),
}

impl Bytes {
    /// How many.
    #[expect(clippy::len_without_is_empty, reason = "nobody asks")]
    pub fn len(&self) -> usize {
        match &self.0 {
            Payload::Immediate(bytes) => bytes.len(),
            Payload::TensorView(_, record) => record.data.len(),
        }
    }

    /// Reads them, where they are in a weight file.
    ///
    /// # Errors
    /// The file cannot be read, or has become shorter.
    pub fn read(&self) -> Result<Cow<'_, [u8]>, Error> {
        match &self.0 {
            Payload::Immediate(bytes) => Ok(Cow::Borrowed(bytes)),
            Payload::TensorView(file, record) => {
                let data = file.data(record);
                Ok(Cow::Owned(data.whole()?.into_owned()))
            }
        }
    }
}

/// Weight files by the names that the model calls them.
type Weights = BTreeMap<String, Arc<WeightFile>>;

/// The type of an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ElementType {
    /// Truth values, a byte each.
    Bool,
    /// Texts.
    String,
    /// IEEE binary16.
    Float16,
    /// IEEE binary32.
    Float32,
    /// IEEE binary64.
    Float64,
    /// The upper half of a binary32.
    BFloat16,
    /// Two's complement of so many bits.
    Int(u8),
    /// Unsigned, of so many bits.
    Uint(u8),
    /// A number that is not known.
    Unknown(u64),
}

impl ElementType {
    fn new(number: u64) -> Self {
        match number {
            1 => Self::Bool,
            2 => Self::String,
            10 => Self::Float16,
            11 => Self::Float32,
            12 => Self::Float64,
            13 => Self::BFloat16,
            21 => Self::Int(8),
            22 => Self::Int(16),
            23 => Self::Int(32),
            24 => Self::Int(64),
            25 => Self::Int(4),
            31 => Self::Uint(8),
            32 => Self::Uint(16),
            33 => Self::Uint(32),
            34 => Self::Uint(64),
            35 => Self::Uint(4),
            36 => Self::Uint(2),
            37 => Self::Uint(1),
            38 => Self::Uint(6),
            39 => Self::Uint(3),
            other => Self::Unknown(other),
        }
    }

    /// Bits of one element in a weight file; 0 for texts and for what is not known.
    ///
    /// ```
    /// use quant_coreml::program::ElementType;
    ///
    /// assert_eq!(ElementType::Uint(4).bits(), 4);
    /// ```
    pub fn bits(self) -> usize {
        match self {
            Self::Bool => 8,
            Self::Float16 | Self::BFloat16 => 16,
            Self::Float32 => 32,
            Self::Float64 => 64,
            Self::Int(bits) | Self::Uint(bits) => usize::from(bits),
            Self::String | Self::Unknown(_) => 0,
        }
    }
}

impl std::fmt::Display for ElementType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bool => f.write_str("bool"),
            Self::String => f.write_str("string"),
            Self::Float16 => f.write_str("float16"),
            Self::Float32 => f.write_str("float32"),
            Self::Float64 => f.write_str("float64"),
            Self::BFloat16 => f.write_str("bfloat16"),
            Self::Int(bits) => write!(f, "int{bits}"),
            Self::Uint(bits) => write!(f, "uint{bits}"),
            Self::Unknown(number) => write!(f, "type {number}"),
        }
    }
}

impl Program {
    /// Reads the program of the package at `path` and finds its weight files.
    ///
    /// # Errors
    /// See [`Error`]: the folder is no package, or a file of it is missing or damaged, or holds no
    /// ML program.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let folder = Folder::open(path)?;
        let mut package = Package::open(&folder)?;
        let file = package.model_path();
        let bad = |problem| Error::file(&file, problem);
        let [stage] = package.program.stages.as_slice() else {
            let count = package.program.stages.len();
            return Err(bad(format!(
                "a pipeline of {count} ML programs, where one is understood; give each of them alone"
            )));
        };
        let specification = stage.specification;
        let description = description::read(package.bytes).map_err(bad)?;
        let weights = Arc::into_inner(std::mem::take(&mut package.weights)).unwrap_or_default();
        let weights = weights.into_iter();
        let weights = weights.map(|(name, file)| (name, Arc::new(file))).collect();
        let functions = package.program.functions.iter().map(|function| {
            let context = |problem| format!("function `{}`: {problem}", function.name);
            convert_function(&weights, function)
                .map_err(context)
                .map_err(bad)
        });
        Ok(Self {
            specification,
            functions: functions.collect::<Result<_, _>>()?,
            default_function: description.default_function,
            inputs: description.inputs,
            outputs: description.outputs,
        })
    }

    /// A function by its name; without one, the default function.
    pub fn function(&self, name: Option<&str>) -> Option<&Function> {
        let name = name.unwrap_or(&self.default_function);
        self.functions.iter().find(|function| function.name == name)
    }
}

fn convert_function(
    weights: &Weights,
    function: &parsed::Function<'_>,
) -> Result<Function, String> {
    let [(_, block)] = function.blocks.as_slice() else {
        let count = function.blocks.len();
        return Err(format!("{count} specializations, where one is understood"));
    };
    Ok(Function {
        name: function.name.into(),
        inputs: variables(&function.inputs)?,
        block: convert_block(weights, block)?,
    })
}

fn convert_block(weights: &Weights, block: &parsed::Block<'_>) -> Result<Block, String> {
    let operations = block.operations.iter().map(|operation| {
        let context = |problem| format!("operation `{}`: {problem}", operation.name());
        convert_operation(weights, operation).map_err(context)
    });
    Ok(Block {
        inputs: variables(&block.inputs)?,
        outputs: block.outputs.iter().map(|&name| name.into()).collect(),
        operations: operations.collect::<Result<_, _>>()?,
    })
}

fn convert_operation(
    weights: &Weights,
    operation: &parsed::Operation<'_>,
) -> Result<Operation, String> {
    let mut inputs = Vec::with_capacity(operation.inputs.len());
    for (name, bindings) in &operation.inputs {
        let bindings = bindings.iter().map(|binding| match binding {
            parsed::Binding::Name(name) => Ok(Argument::Name((*name).into())),
            parsed::Binding::Value(value) => constant(weights, value).map(Argument::Value),
        });
        inputs.push((
            (*name).to_string(),
            bindings.collect::<Result<Vec<_>, String>>()?,
        ));
    }
    let attributes = operation.attributes.iter().map(|(name, value)| {
        let value = constant(weights, value)?;
        Ok(((*name).to_string(), value))
    });
    let blocks = operation.blocks.iter();
    Ok(Operation {
        kind: operation.kind.into(),
        name: operation.name().into(),
        inputs,
        outputs: variables(&operation.outputs)?,
        blocks: blocks
            .map(|block| convert_block(weights, block))
            .collect::<Result<_, _>>()?,
        attributes: attributes.collect::<Result<_, String>>()?,
    })
}

fn variables(named: &[parsed::Named<'_>]) -> Result<Vec<Variable>, String> {
    let convert = |named: &parsed::Named<'_>| {
        let state = match named.kind {
            Some(_) => None,
            None => state_type(named.type_bytes)?,
        };
        Ok(Variable {
            name: named.name.into(),
            tensor: named.kind.as_ref().or(state.as_ref()).map(tensor_type),
            is_state: state.is_some(),
        })
    };
    named.iter().map(convert).collect()
}

/// What a state holds, if a `ValueType` is that of a state.
fn state_type(value_type: &[u8]) -> Result<Option<parsed::TensorType>, String> {
    for field in fields(value_type) {
        let field = field?;
        if field.number != types::STATE {
            continue;
        }
        for field in fields(field.bytes()?) {
            let field = field?;
            if field.number == types::WRAPPED {
                return read_tensor_type(field.bytes()?);
            }
        }
    }
    Ok(None)
}

fn tensor_type(parsed: &parsed::TensorType) -> TensorType {
    // A dimension that memory cannot count is never reached.
    let dims = parsed.dims.iter();
    TensorType {
        element: ElementType::new(parsed.dtype.0),
        dims: dims
            .map(|dim| dim.map(|dim| usize::try_from(dim).unwrap_or(usize::MAX)))
            .collect(),
    }
}

fn constant(weights: &Weights, value: &parsed::Value<'_>) -> Result<Constant, String> {
    let elements = match &value.payload {
        parsed::Payload::Blob(blob) => {
            let file = weights.get(blob.file).ok_or("a weight file is missing")?;
            let record = file
                .record(blob.offset)
                .map_err(|error| error.to_string())?;
            Elements::Bytes(Bytes(Payload::TensorView(Arc::clone(file), record)))
        }
        parsed::Payload::Tensor(tensor) => {
            let element = value.kind.as_ref().map_or(DataType(0), |kind| kind.dtype);
            immediate(tensor, ElementType::new(element.0))?
        }
        parsed::Payload::Other => Elements::Other,
    };
    Ok(Constant {
        tensor: value.kind.as_ref().map(tensor_type),
        elements,
    })
}

/// The elements of a `TensorValue`, as they would stand in a weight file.
fn immediate(tensor: &[u8], element: ElementType) -> Result<Elements, String> {
    let mut bytes = Vec::new();
    let mut strings = Vec::new();
    for field in fields(tensor) {
        let list = field?;
        let (number, Content::Bytes(list)) = (list.number, list.content) else {
            continue;
        };
        for value in fields(list) {
            let value = value?;
            if value.number != tensor_value::VALUES {
                continue;
            }
            match (number, value.content) {
                (tensor_value::STRINGS, _) => strings.push(value.text()?.to_string()),
                // Numbers of fixed width, packed or not: the key of one takes a byte.
                (
                    tensor_value::FLOATS | tensor_value::DOUBLES | tensor_value::BYTES,
                    Content::Bytes(packed),
                ) => bytes.extend_from_slice(packed),
                (tensor_value::FLOATS | tensor_value::DOUBLES, Content::Other) => {
                    bytes.extend_from_slice(&value.whole[1..]);
                }
                (_, Content::Varint(integer)) => push_integer(&mut bytes, integer, element),
                (_, Content::Bytes(mut packed)) => {
                    while !packed.is_empty() {
                        let integer = prost::encoding::decode_varint(&mut packed);
                        let integer = integer.map_err(|_| "a number that is cut off")?;
                        push_integer(&mut bytes, integer, element);
                    }
                }
                (_, Content::Other) => return Err("numbers of an unknown kind".into()),
            }
        }
    }
    Ok(match element {
        ElementType::String => Elements::Strings(strings),
        _ => Elements::Bytes(Bytes(Payload::Immediate(bytes.into()))),
    })
}

fn push_integer(bytes: &mut Vec<u8>, integer: u64, element: ElementType) {
    let width = match element {
        ElementType::Bool => 1,
        other => other.bits().div_ceil(8).clamp(1, 8),
    };
    bytes.extend_from_slice(&integer.to_le_bytes()[..width]);
}
