//! What a package's description says of the inputs and outputs.

use crate::mil::schema::model;
use crate::mil::wire::fields;

/// An input or output, as the package's description has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// Its name.
    pub name: String,
    /// What callers give or get.
    pub kind: FeatureKind,
    /// Whether it may be left out.
    pub is_optional: bool,
}

/// What callers give or get.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FeatureKind {
    /// A tensor; the shape that it has where none is asked for.
    Tensor(Vec<u64>),
    /// An image.
    Image {
        /// Pixels per row.
        width: u64,
        /// Rows.
        height: u64,
        /// Its channels and their order.
        color: ColorSpace,
    },
    /// Scalars, dictionaries, sequences, states.
    Other,
}

/// Channels of an image and their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ColorSpace {
    /// One channel.
    Grayscale,
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
    /// One channel of float16.
    GrayscaleFloat16,
    /// Not known.
    Unknown,
}

/// `ModelDescription`, of the default function.
#[derive(Debug)]
pub(super) struct Description {
    pub inputs: Vec<Feature>,
    pub outputs: Vec<Feature>,
    pub default_function: String,
}

const MODEL_INPUT: u32 = 1;
const MODEL_OUTPUT: u32 = 10;
const MODEL_FUNCTIONS: u32 = 20;
const DEFAULT_FUNCTION: u32 = 21;
const FUNCTION_NAME: u32 = 1;
const FUNCTION_INPUT: u32 = 2;
const FUNCTION_OUTPUT: u32 = 3;
const FEATURE_NAME: u32 = 1;
const FEATURE_TYPE: u32 = 3;
const IMAGE_TYPE: u32 = 4;
const ARRAY_TYPE: u32 = 5;
const IS_OPTIONAL: u32 = 1000;

/// Reads the description of a model.
pub(super) fn read(bytes: &[u8]) -> Result<Description, String> {
    let (mut inputs, mut outputs, mut functions) = (Vec::new(), Vec::new(), Vec::new());
    let mut default_function = String::new();
    for field in fields(bytes) {
        let field = field?;
        if field.number != model::DESCRIPTION {
            continue;
        }
        for field in fields(field.bytes()?) {
            let field = field?;
            match field.number {
                MODEL_INPUT => inputs.push(feature(field.bytes()?)?),
                MODEL_OUTPUT => outputs.push(feature(field.bytes()?)?),
                MODEL_FUNCTIONS => functions.push(field.bytes()?),
                DEFAULT_FUNCTION => default_function = field.text()?.into(),
                _ => {}
            }
        }
    }
    if default_function.is_empty() {
        default_function = "main".into();
    }
    for function in functions {
        let (mut name, mut given, mut results) = ("", Vec::new(), Vec::new());
        for field in fields(function) {
            let field = field?;
            match field.number {
                FUNCTION_NAME => name = field.text()?,
                FUNCTION_INPUT => given.push(feature(field.bytes()?)?),
                FUNCTION_OUTPUT => results.push(feature(field.bytes()?)?),
                _ => {}
            }
        }
        if name == default_function {
            (inputs, outputs) = (given, results);
        }
    }
    Ok(Description {
        inputs,
        outputs,
        default_function,
    })
}

fn feature(bytes: &[u8]) -> Result<Feature, String> {
    let mut found = Feature {
        name: String::new(),
        kind: FeatureKind::Other,
        is_optional: false,
    };
    for field in fields(bytes) {
        let field = field?;
        match field.number {
            FEATURE_NAME => found.name = field.text()?.into(),
            FEATURE_TYPE => {
                for field in fields(field.bytes()?) {
                    let field = field?;
                    match field.number {
                        IMAGE_TYPE => found.kind = image(field.bytes()?)?,
                        ARRAY_TYPE => found.kind = FeatureKind::Tensor(array(field.bytes()?)?),
                        IS_OPTIONAL => found.is_optional = field.varint()? != 0,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Ok(found)
}

fn image(bytes: &[u8]) -> Result<FeatureKind, String> {
    let (mut width, mut height, mut color) = (0, 0, ColorSpace::Unknown);
    for field in fields(bytes) {
        let field = field?;
        match field.number {
            1 => width = field.varint()?,
            2 => height = field.varint()?,
            3 => {
                color = match field.varint()? {
                    10 => ColorSpace::Grayscale,
                    20 => ColorSpace::Rgb,
                    30 => ColorSpace::Bgr,
                    40 => ColorSpace::GrayscaleFloat16,
                    _ => ColorSpace::Unknown,
                }
            }
            _ => {}
        }
    }
    Ok(FeatureKind::Image {
        width,
        height,
        color,
    })
}

/// The default shape of an array, packed or not.
fn array(bytes: &[u8]) -> Result<Vec<u64>, String> {
    let mut shape = Vec::new();
    for field in fields(bytes) {
        let field = field?;
        if field.number != 1 {
            continue;
        }
        match field.bytes() {
            Ok(mut packed) => {
                while !packed.is_empty() {
                    let dim = prost::encoding::decode_varint(&mut packed);
                    shape.push(dim.map_err(|_| "a shape that is cut off")?);
                }
            }
            Err(_) => shape.push(field.varint()?),
        }
    }
    Ok(shape)
}
