//! Values: dense tensors in row-major order, whose elements several of them may share.

use std::sync::Arc;

use half::{bf16, f16};
use quant_models::program::{Constant, ElementType, Elements, TensorType};

/// A tensor.
///
/// Floats of every type are held as f32, integers as i32; [`Tensor::element`] says what they are in
/// the program. Clones share their elements.
///
/// ```
/// use quant_run::Tensor;
///
/// let tensor = Tensor::from_floats(&[2, 2], vec![1.0, 2.0, 3.0, 4.0])?;
/// assert_eq!(tensor.shape(), [2, 2]);
/// assert_eq!(tensor.floats(), Some(&[1.0, 2.0, 3.0, 4.0][..]));
/// # Ok::<(), quant_run::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Tensor {
    pub(crate) shape: Vec<usize>,
    pub(crate) element: ElementType,
    pub(crate) values: Values,
}

/// The elements of a [`Tensor`].
#[derive(Clone, Debug)]
pub(crate) enum Values {
    Float(Arc<Vec<f32>>),
    Int(Arc<Vec<i32>>),
    Bool(Arc<Vec<bool>>),
    Text(Arc<Vec<String>>),
}

/// Does the same with the elements of whatever type; texts are refused.
macro_rules! map_values {
    ($values:expr, $v:ident => $body:expr) => {
        match $values {
            $crate::tensor::Values::Float($v) => Ok($crate::tensor::Values::from($body)),
            $crate::tensor::Values::Int($v) => Ok($crate::tensor::Values::from($body)),
            $crate::tensor::Values::Bool($v) => Ok($crate::tensor::Values::from($body)),
            $crate::tensor::Values::Text(_) => Err("texts, where numbers are needed".to_string()),
        }
    };
}
pub(crate) use map_values;

impl From<Vec<f32>> for Values {
    fn from(values: Vec<f32>) -> Self {
        Self::Float(Arc::new(values))
    }
}

impl From<Vec<i32>> for Values {
    fn from(values: Vec<i32>) -> Self {
        Self::Int(Arc::new(values))
    }
}

impl From<Vec<bool>> for Values {
    fn from(values: Vec<bool>) -> Self {
        Self::Bool(Arc::new(values))
    }
}

impl Values {
    pub fn len(&self) -> usize {
        match self {
            Self::Float(values) => values.len(),
            Self::Int(values) => values.len(),
            Self::Bool(values) => values.len(),
            Self::Text(values) => values.len(),
        }
    }

    /// The type of elements that nothing else is said of.
    fn element(&self) -> ElementType {
        match self {
            Self::Float(_) => ElementType::Float32,
            Self::Int(_) => ElementType::Int(32),
            Self::Bool(_) => ElementType::Bool,
            Self::Text(_) => ElementType::String,
        }
    }

    /// Bytes in memory, and where they are.
    pub fn extent(&self) -> (usize, usize) {
        match self {
            Self::Float(values) => (values.len() * 4, Arc::as_ptr(values) as usize),
            Self::Int(values) => (values.len() * 4, Arc::as_ptr(values) as usize),
            Self::Bool(values) => (values.len(), Arc::as_ptr(values) as usize),
            Self::Text(values) => (
                values.iter().map(String::len).sum(),
                Arc::as_ptr(values) as usize,
            ),
        }
    }
}

impl Tensor {
    /// A float tensor.
    ///
    /// # Errors
    /// A shape of another number of elements.
    pub fn from_floats(shape: &[usize], values: Vec<f32>) -> Result<Self, crate::Error> {
        Self::checked(shape, values.into())
    }

    /// A tensor of int32.
    ///
    /// # Errors
    /// A shape of another number of elements.
    pub fn from_ints(shape: &[usize], values: Vec<i32>) -> Result<Self, crate::Error> {
        Self::checked(shape, values.into())
    }

    /// A tensor of truth values.
    ///
    /// # Errors
    /// A shape of another number of elements.
    pub fn from_bools(shape: &[usize], values: Vec<bool>) -> Result<Self, crate::Error> {
        Self::checked(shape, values.into())
    }

    fn checked(shape: &[usize], values: Values) -> Result<Self, crate::Error> {
        if count(shape) != Some(values.len()) {
            let problem = format!("shape {shape:?} of {} elements", values.len());
            return Err(crate::Error::Value(problem));
        }
        Ok(Self::new(shape.to_vec(), values))
    }

    /// A tensor whose shape has been computed with its elements.
    pub(crate) fn new(shape: Vec<usize>, values: impl Into<Values>) -> Self {
        let values = values.into();
        debug_assert_eq!(count(&shape), Some(values.len()));
        Self {
            shape,
            element: values.element(),
            values,
        }
    }

    /// As [`Tensor::new`], with a type that is not the usual one of such elements.
    pub(crate) fn with_element(mut self, element: ElementType) -> Self {
        self.element = element;
        self
    }

    /// The same elements in another shape of as many.
    pub(crate) fn reshaped(mut self, shape: Vec<usize>) -> Self {
        debug_assert_eq!(count(&shape), Some(self.len()));
        self.shape = shape;
        self
    }

    /// The dimensions.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The type in the program.
    pub fn element(&self) -> ElementType {
        self.element
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements, if they are floats.
    pub fn floats(&self) -> Option<&[f32]> {
        match &self.values {
            Values::Float(values) => Some(values),
            _ => None,
        }
    }

    /// The elements, if they are integers.
    pub fn ints(&self) -> Option<&[i32]> {
        match &self.values {
            Values::Int(values) => Some(values),
            _ => None,
        }
    }

    /// The elements, if they are truth values.
    pub fn bools(&self) -> Option<&[bool]> {
        match &self.values {
            Values::Bool(values) => Some(values),
            _ => None,
        }
    }

    pub(crate) fn texts(&self) -> Option<&[String]> {
        match &self.values {
            Values::Text(values) => Some(values),
            _ => None,
        }
    }

    pub(crate) fn rank(&self) -> usize {
        self.shape.len()
    }

    /// The floats, not copied where nobody shares them.
    pub(crate) fn into_floats(self) -> Result<Vec<f32>, String> {
        match self.values {
            Values::Float(values) => Ok(Arc::try_unwrap(values).unwrap_or_else(|v| v.to_vec())),
            _ => Err(format!("{} where floats are needed", self.element)),
        }
    }

    /// All elements as f32.
    pub(crate) fn to_floats(&self) -> Result<Vec<f32>, String> {
        match &self.values {
            Values::Float(values) => Ok(values.to_vec()),
            Values::Int(values) => Ok(values.iter().map(|&value| value as f32).collect()),
            Values::Bool(values) => Ok(values.iter().map(|&value| value.into()).collect()),
            Values::Text(_) => Err("texts where numbers are needed".into()),
        }
    }

    /// All elements as integers, floats towards zero.
    pub(crate) fn to_ints(&self) -> Result<Vec<i32>, String> {
        match &self.values {
            Values::Float(values) => Ok(values.iter().map(|&value| value as i32).collect()),
            Values::Int(values) => Ok(values.to_vec()),
            Values::Bool(values) => Ok(values.iter().map(|&value| value.into()).collect()),
            Values::Text(_) => Err("texts where numbers are needed".into()),
        }
    }

    /// Rounds the elements to f16, if that is the type in the program.
    pub(crate) fn round_to_f16(&mut self) {
        if let (ElementType::Float16, Values::Float(values)) = (self.element, &mut self.values) {
            for value in Arc::make_mut(values).iter_mut() {
                *value = f16::from_f32(*value).to_f32();
            }
        }
    }
}

/// The number of elements of a shape, if it can be counted.
pub(crate) fn count(shape: &[usize]) -> Option<usize> {
    // A dimension of 0 makes all others harmless, but only if nothing overflows before.
    if shape.contains(&0) {
        return Some(0);
    }
    shape
        .iter()
        .try_fold(1_usize, |product, &dim| product.checked_mul(dim))
}

/// Bytes that [`decode`] will take.
pub(crate) fn decoded_bytes(constant: &Constant) -> usize {
    constant.tensor.as_ref().map_or(0, bytes_of)
}

/// Bytes of the elements of a type whose dimensions are known.
pub(crate) fn bytes_of(kind: &TensorType) -> usize {
    let dims = kind.dims.iter();
    dims.fold(4_usize, |all, dim| all.saturating_mul(dim.unwrap_or(0)))
}

/// A constant's elements.
pub(crate) fn decode(constant: &Constant) -> Result<Tensor, String> {
    let Some(tensor) = &constant.tensor else {
        return Err("a constant that is no tensor".into());
    };
    let shape: Option<Vec<usize>> = tensor.dims.iter().copied().collect();
    let shape = shape.ok_or("a constant of unknown shape")?;
    let elements = count(&shape).ok_or_else(|| format!("shape {shape:?} overflows"))?;
    let values = match &constant.elements {
        Elements::Strings(texts) => Values::Text(Arc::new(texts.clone())),
        Elements::Bytes(bytes) => {
            let bytes = bytes.read().map_err(|error| error.to_string())?;
            decode_bytes(&bytes, tensor.element, elements)?
        }
        Elements::Other => return Err("a constant that is a list or a dictionary".into()),
    };
    if values.len() != elements {
        return Err(format!(
            "a constant of shape {shape:?} with {} elements",
            values.len()
        ));
    }
    Ok(Tensor {
        shape,
        element: tensor.element,
        values,
    })
}

fn decode_bytes(bytes: &[u8], element: ElementType, elements: usize) -> Result<Values, String> {
    let bits = element.bits();
    if bits == 0 || elements.checked_mul(bits).map(|bits| bits.div_ceil(8)) != Some(bytes.len()) {
        let have = bytes.len();
        return Err(format!("{elements} elements of {element} in {have} bytes"));
    }
    Ok(match element {
        ElementType::Float32 => floats(bytes, f32::from_le_bytes),
        ElementType::Float16 => floats(bytes, |two| f16::from_le_bytes(two).to_f32()),
        ElementType::BFloat16 => floats(bytes, |two| bf16::from_le_bytes(two).to_f32()),
        ElementType::Float64 => floats(bytes, |eight| f64::from_le_bytes(eight) as f32),
        ElementType::Bool => Values::from(bytes.iter().map(|&b| b != 0).collect::<Vec<_>>()),
        ElementType::Int(8) => ints(bytes, |[b]: [u8; 1]| i32::from(b as i8)),
        ElementType::Uint(8) => ints(bytes, |[b]: [u8; 1]| i32::from(b)),
        ElementType::Int(16) => ints(bytes, |two| i16::from_le_bytes(two).into()),
        ElementType::Uint(16) => ints(bytes, |two| u16::from_le_bytes(two).into()),
        ElementType::Int(32) => ints(bytes, i32::from_le_bytes),
        // As the converter does with what int32 cannot hold.
        ElementType::Uint(32) => ints(bytes, |four| {
            i32::try_from(u32::from_le_bytes(four)).unwrap_or(i32::MAX)
        }),
        ElementType::Int(64) => ints(bytes, |eight| {
            i64::from_le_bytes(eight).clamp(i32::MIN.into(), i32::MAX.into()) as i32
        }),
        ElementType::Uint(64) => ints(bytes, |eight| {
            i32::try_from(u64::from_le_bytes(eight)).unwrap_or(i32::MAX)
        }),
        ElementType::Uint(_) => unpack(bytes, bits, elements, false).into(),
        ElementType::Int(_) => unpack(bytes, bits, elements, true).into(),
        other => return Err(format!("elements of {other}")),
    })
}

fn floats<const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> f32) -> Values {
    let (elements, _) = bytes.as_chunks::<N>();
    elements
        .iter()
        .map(|&bytes| read(bytes))
        .collect::<Vec<_>>()
        .into()
}

fn ints<const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> i32) -> Values {
    let (elements, _) = bytes.as_chunks::<N>();
    elements
        .iter()
        .map(|&bytes| read(bytes))
        .collect::<Vec<_>>()
        .into()
}

/// Elements of less than a byte, the first in the low bits; one may reach into the next byte.
pub(crate) fn unpack(bytes: &[u8], bits: usize, elements: usize, signed: bool) -> Vec<i32> {
    let mask = (1_i32 << bits) - 1;
    let one = |i: usize| {
        let at = i * bits;
        let low = bytes.get(at / 8).copied().unwrap_or(0);
        let high = bytes.get(at / 8 + 1).copied().unwrap_or(0);
        let code = i32::from(u16::from_le_bytes([low, high]) >> (at % 8)) & mask;
        match signed && code >> (bits - 1) == 1 {
            true => code - mask - 1,
            false => code,
        }
    };
    (0..elements).map(one).collect()
}
