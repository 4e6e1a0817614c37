//! The parts of a quantized weight, read and written.

use std::borrow::Cow;
use std::sync::Mutex;

use quant_core::{Blocks, Granularity, IntType, Mode, Scheme};
use quant_simd::{Backend, Sink, TensorQuantizer};

use super::blob::WeightWriter;
use super::package::Package;
use super::program::{Held, Operation, TensorType, Value};
use super::schema::DataType;
use super::select::float_type;
use crate::stored::Parts;
use crate::{Error, Job};

pub(crate) const AFFINE: &str = "constexpr_affine_dequantize";
pub(crate) const BLOCKWISE: &str = "constexpr_blockwise_shift_scale";

/// The type in Core ML.
pub(crate) fn data_type(dtype: IntType) -> DataType {
    match dtype {
        IntType::Int8 => DataType::INT8,
        IntType::Uint8 => DataType::UINT8,
        IntType::Int4 => DataType::INT4,
        IntType::Uint4 => DataType::UINT4,
    }
}

fn int_type(dtype: DataType) -> Option<IntType> {
    IntType::ALL
        .into_iter()
        .find(|&int| data_type(int) == dtype)
}

/// Packs codes, one byte each, as Core ML stores them.
pub(crate) fn packed(dtype: IntType, codes: Vec<u8>) -> Vec<u8> {
    match dtype.bits() {
        4 => codes
            .chunks(2)
            .map(|pair| pair[0] & 0xf | pair.get(1).map_or(0, |high| high << 4))
            .collect(),
        _ => codes,
    }
}

fn unpacked(dtype: IntType, bytes: Cow<'_, [u8]>, count: usize) -> Cow<'_, [u8]> {
    if dtype.bits() == 8 {
        return bytes;
    }
    let nibble = |i: usize| bytes[i / 2] >> (4 * (i % 2)) & 0xf;
    let signed = |code: u8| match dtype.is_signed() && code > 7 {
        true => code | 0xf0,
        false => code,
    };
    Cow::Owned((0..count).map(|i| signed(nibble(i))).collect())
}

/// A tensor value: its type, shape and elements.
struct Tensor<'a> {
    kind: TensorType,
    shape: Vec<usize>,
    bytes: &'a [u8],
}

fn tensor<'a>(package: &'a Package, value: &Value<'a>) -> Result<Option<Tensor<'a>>, Error> {
    let Some(kind) = value.kind.clone() else {
        return Ok(None);
    };
    let (Some(shape), Some((bits, _))) = (kind.shape(), kind.dtype.stored()) else {
        return Ok(None);
    };
    let bytes = match &value.held {
        Held::Blob(blob) => {
            let (file, record) = package.record(blob)?;
            Some(file.data(&record))
        }
        Held::Tensor(_) => value.elements(),
        Held::Other => None,
    };
    let elements: usize = shape.iter().product();
    let expected = elements.checked_mul(bits).map(|bits| bits.div_ceil(8));
    Ok(bytes
        .filter(|bytes| Some(bytes.len()) == expected)
        .map(|bytes| Tensor { kind, shape, bytes }))
}

/// The bytes of a constant's or a parameter's value, if it is a tensor.
pub(crate) fn bytes<'a>(
    package: &'a Package,
    value: &Value<'a>,
) -> Result<Option<&'a [u8]>, Error> {
    match &value.held {
        Held::Blob(blob) => {
            let (file, record) = package.record(blob)?;
            Ok(Some(file.data(&record)))
        }
        _ => Ok(value.elements()),
    }
}

/// The codes of a linearly quantized weight and what belongs to them; `None` for operations of
/// other kinds, and for those whose parameters are of a kind that quant does not write.
pub(crate) fn read<'a>(
    package: &'a Package,
    operation: &Operation<'a>,
) -> Result<Option<(&'a [u8], Parts<'a>)>, Error> {
    let names = match operation.kind {
        AFFINE => ["quantized_data", "scale", "zero_point"],
        BLOCKWISE => ["data", "scale", "offset"],
        _ => return Ok(None),
    };
    let [codes, scale, offset] = names.map(|name| operation.parameter(name));
    let (Some(codes), Some(scale)) = (codes, scale) else {
        return Ok(None);
    };
    let (Some(codes), Some(scale)) = (tensor(package, codes)?, tensor(package, scale)?) else {
        return Ok(None);
    };
    let offset = match offset {
        None => None,
        Some(value) => match tensor(package, value)? {
            None => return Ok(None),
            some => some,
        },
    };
    let (Some(dtype), Some(source)) = (int_type(codes.kind.dtype), float_type(scale.kind.dtype))
    else {
        return Ok(None);
    };
    if offset
        .as_ref()
        .is_some_and(|offset| int_type(offset.kind.dtype) != Some(dtype))
    {
        return Ok(None);
    }
    let Some(granularity) = granularity(operation, &codes.shape, &scale.shape) else {
        return Ok(None);
    };
    let Ok(blocks) = Blocks::new(&codes.shape, &granularity) else {
        return Ok(None);
    };
    let mode = match (&offset, dtype.is_signed()) {
        (None, true) => Mode::Symmetric,
        _ => Mode::Affine,
    };
    let quantizer = TensorQuantizer {
        backend: Backend::detect(),
        scheme: Scheme::new(dtype, mode),
        source,
        blocks,
    };
    let count = quantizer.blocks.scale_count();
    let bytes_in_file = scale.bytes.len() + offset.as_ref().map_or(0, |offset| offset.bytes.len());
    let zero_points = match offset {
        _ if mode == Mode::Symmetric => Cow::Borrowed(&[][..]),
        None => Cow::Owned(vec![0; count]),
        Some(offset) => {
            let held = offset.shape.iter().product();
            let codes = unpacked(dtype, Cow::Borrowed(offset.bytes), held);
            match held {
                _ if held == count => codes,
                // One zero point for all channels.
                1 => Cow::Owned(vec![codes[0]; count]),
                _ => return Ok(None),
            }
        }
    };
    let scales = match scale.bytes.len() == quantizer.scales_len() {
        true => Cow::Borrowed(scale.bytes),
        false => return Ok(None),
    };
    let parts = Parts {
        quantizer,
        scales,
        zero_points,
        bytes_in_file,
    };
    Ok(Some((codes.bytes, parts)))
}

/// How the scales of an operation lie over its codes.
fn granularity(
    operation: &Operation<'_>,
    shape: &[usize],
    scales: &[usize],
) -> Option<Granularity> {
    if operation.kind == AFFINE {
        return match scales {
            [] | [1] => Some(Granularity::PerTensor),
            [count] => {
                let axis = operation.parameter("axis")?.integer()?;
                let rank = shape.len() as i32;
                let axis = if axis < 0 { axis + rank } else { axis };
                let dim = shape.get(usize::try_from(axis).ok()?)?;
                (dim == count).then_some(Granularity::PerChannel {
                    axis: axis as isize,
                })
            }
            _ => None,
        };
    }
    let fits = shape.len() == scales.len();
    let divides = |(&dim, &scales): (&usize, &usize)| scales > 0 && dim % scales == 0;
    let sizes = || shape.iter().zip(scales).map(|(dim, scales)| dim / scales);
    (fits && shape.iter().zip(scales).all(divides)).then(|| Granularity::Blocks(sizes().collect()))
}

/// Where a part goes while it is made.
#[derive(Debug)]
pub(crate) enum Place {
    /// From a byte of the weight file on.
    File(u64),
    /// Few elements, or such as have yet to be packed.
    Memory(Mutex<Vec<u8>>),
}

impl Place {
    pub fn memory(len: usize) -> Self {
        Self::Memory(Mutex::new(vec![0; len]))
    }

    fn put(&self, writer: &WeightWriter, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        match self {
            Self::File(start) => writer.write(start + offset as u64, bytes),
            Self::Memory(buffer) => {
                let mut buffer = buffer
                    .lock()
                    .unwrap_or_else(|poisoned| poisoned.into_inner());
                buffer[offset..offset + bytes.len()].copy_from_slice(bytes);
                Ok(())
            }
        }
    }
}

/// Takes the parts of a weight.
pub(crate) struct PartsSink<'a> {
    pub writer: &'a WeightWriter,
    pub job: &'a Job<'a>,
    pub codes: Place,
    pub scales: Place,
    pub zero_points: Place,
    /// Input bytes for `numerator / denominator` bytes of codes.
    pub per_code_byte: (u64, u64),
}

impl Sink for PartsSink<'_> {
    type Error = Error;
    fn codes(&self, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        self.job.check()?;
        self.codes.put(self.writer, offset, bytes)?;
        let (numerator, denominator) = self.per_code_byte;
        (self.job.progress)(bytes.len() as u64 * numerator / denominator);
        Ok(())
    }
    fn scales(&self, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        self.scales.put(self.writer, offset, bytes)
    }
    fn zero_points(&self, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        self.zero_points.put(self.writer, offset, bytes)
    }
}
