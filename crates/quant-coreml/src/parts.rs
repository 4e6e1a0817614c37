//! The parts of a quantized weight, read and written.

use std::borrow::Cow;
use std::sync::Mutex;

use quant_core::{Blocks, IntType, Mode, Packing, Scheme};
use quant_model::io::Data;
use quant_model::stored::Parts;
use quant_model::{Error, Job};
use quant_simd::{Backend, Sink, TensorQuantizer};

use super::blob::WeightWriter;
use super::constexpr::{granularity, names};
use super::emit::PartSource;
use super::package::Package;
use crate::mil::dtype::{float_type, int_type};
use crate::mil::program::{Operation, TensorType, Value};

fn is_byte(dtype: IntType) -> bool {
    dtype.packing() == Packing::Bytes
}

/// Packs codes, one byte each, as Core ML stores them.
pub(crate) fn packed(dtype: IntType, codes: Vec<u8>) -> Vec<u8> {
    match dtype.packing() {
        Packing::Bytes => codes,
        Packing::Nibbles | Packing::Bits(_) => {
            let mut packed = vec![0; dtype.storage_len(codes.len())];
            Backend::detect().pack(&codes, dtype, &mut packed, 0);
            packed
        }
    }
}

fn unpacked(dtype: IntType, bytes: Cow<'_, [u8]>, count: usize) -> Cow<'_, [u8]> {
    match dtype.packing() {
        Packing::Bytes => bytes,
        Packing::Nibbles | Packing::Bits(_) => {
            let mut codes = vec![0; count];
            Backend::detect().unpack(&bytes, 0, dtype, &mut codes);
            Cow::Owned(codes)
        }
    }
}

/// The codes of a quantized weight, and what belongs to them.
type CodesAndParts<'p> = (Data<'p>, Parts<'p>);

/// A tensor value: its type, shape and elements.
struct Tensor<'a> {
    kind: TensorType,
    shape: Vec<usize>,
    bytes: Data<'a>,
}

fn tensor<'p>(package: &'p Package<'_>, value: &'p Value<'_>) -> Result<Option<Tensor<'p>>, Error> {
    let Some(kind) = value.kind.clone() else {
        return Ok(None);
    };
    let (Some(shape), Some((bits, _))) = (kind.shape(), kind.dtype.stored()) else {
        return Ok(None);
    };
    let bytes = package.data(value)?;
    let elements: usize = shape.iter().product();
    let expected = elements.checked_mul(bits).map(|bits| bits.div_ceil(8));
    Ok(bytes
        .filter(|bytes| Some(bytes.len()) == expected)
        .map(|bytes| Tensor { kind, shape, bytes }))
}

/// Whether zero points can be read as codes of a type: those of the other type of eight bits can, where
/// both types hold them and so have the same byte for them.
fn is_read_as(offset: &Tensor<'_>, dtype: IntType) -> Result<bool, Error> {
    Ok(match int_type(offset.kind.dtype) {
        Some(other) if other == dtype => true,
        Some(other) if is_byte(other) && is_byte(dtype) => {
            offset.bytes.whole()?.iter().all(|&byte| byte < 128)
        }
        _ => false,
    })
}

/// The codes of a linearly quantized weight and what belongs to them; `None` for operations of
/// other kinds, and for those whose parameters are of a kind that quant does not write.
pub(crate) fn read<'p>(
    package: &'p Package<'_>,
    operation: &'p Operation<'_>,
) -> Result<Option<CodesAndParts<'p>>, Error> {
    let Some(names) = names(operation) else {
        return Ok(None);
    };
    let [codes, scale, offset] = names.map(|name| operation.parameter(name));
    let (Some(codes), Some(scale)) = (codes, scale) else {
        return Ok(None);
    };
    let (Some(codes), Some(scale)) = (tensor(package, codes)?, tensor(package, scale)?) else {
        return Ok(None);
    };
    let offset = match offset.map(|value| tensor(package, value)).transpose()? {
        Some(None) => return Ok(None),
        offset => offset.flatten(),
    };
    let (Some(dtype), Some(source)) = (int_type(codes.kind.dtype), float_type(scale.kind.dtype))
    else {
        return Ok(None);
    };
    if let Some(offset) = &offset
        && !is_read_as(offset, dtype)?
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
    let quantizer = TensorQuantizer::new(Scheme::new(dtype, mode), source, blocks);
    let count = quantizer.blocks.scale_count();
    let bytes_in_file = scale.bytes.len() + offset.as_ref().map_or(0, |offset| offset.bytes.len());
    let zero_points = match (mode, offset) {
        (Mode::Symmetric, _) => Data::EMPTY,
        (_, None) => Data::Memory(vec![0; count].into()),
        (_, Some(offset)) => match zero_points(dtype, offset, count)? {
            Some(zero_points) => zero_points,
            None => return Ok(None),
        },
    };
    if scale.bytes.len() != quantizer.scales_len() {
        return Ok(None);
    }
    let parts = Parts::new(quantizer, scale.bytes, zero_points, bytes_in_file);
    Ok(Some((codes.bytes, parts)))
}

/// A zero point per scale; `None` where the file has another number of them.
fn zero_points<'p>(
    dtype: IntType,
    offset: Tensor<'p>,
    count: usize,
) -> Result<Option<Data<'p>>, Error> {
    let held = offset.shape.iter().product();
    let codes = || Ok::<_, Error>(unpacked(dtype, offset.bytes.whole()?, held).into_owned());
    Ok(match held {
        _ if held == count && dtype.bits() == 8 => Some(offset.bytes),
        _ if held == count => Some(Data::Memory(codes()?.into())),
        // One for all channels.
        1 => Some(Data::Memory(vec![codes()?[0]; count].into())),
        _ => None,
    })
}

/// Where a part goes while it is made.
#[derive(Debug)]
pub(crate) enum PartBuffer {
    /// From a byte of the weight file on.
    File(u64),
    /// Few elements, or such as have yet to be packed.
    Memory(Mutex<Vec<u8>>),
}

impl PartBuffer {
    /// What has been made.
    pub fn into_source(self) -> PartSource {
        match self {
            Self::File(at) => PartSource::File(at),
            Self::Memory(buffer) => PartSource::Memory(
                buffer
                    .into_inner()
                    .unwrap_or_else(|poisoned| poisoned.into_inner()),
            ),
        }
    }

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
    pub codes: PartBuffer,
    pub scales: PartBuffer,
    pub zero_points: PartBuffer,
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
