//! Quantized weights: codes, scales and zero points, as a program holds them.

use std::borrow::Cow;

use quant_core::{Blocks, Dialect, FloatType, Granularity, IntType, Mode, Packing, Scheme};
use quant_simd::{Backend, TensorQuantizer};

use crate::graph::{Weight, constant};
use crate::model::Model;
use crate::types::{ConstantValue, Element, TensorType};
use quant_model::Error;
use quant_model::io::Data;
use quant_model::stored::Parts;

/// A constant that belongs to a quantized weight.
struct Part<'m> {
    kind: TensorType,
    payload: ConstantValue<'m>,
    bytes: Data<'m>,
}

/// Packs codes, one byte each, as resources hold them.
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

fn unpacked(dtype: IntType, bytes: &[u8], count: usize) -> Vec<u8> {
    match dtype.packing() {
        Packing::Bytes => bytes.to_vec(),
        Packing::Nibbles | Packing::Bits(_) => {
            let mut codes = vec![0; count];
            Backend::detect().unpack(bytes, 0, dtype, &mut codes);
            codes
        }
    }
}

fn part<'m>(model: &'m Model<'m>, weight: &Weight<'_>, operand: usize) -> Option<Part<'m>> {
    let node = model.graph.maker(weight.node, operand)?;
    let operation = model.graph.nodes[node].operation;
    let kind = TensorType::read(model.tables, *operation.results.first()?)?;
    let payload = constant(model.tables, operation)?;
    let bytes = match payload {
        ConstantValue::Splat(bytes) | ConstantValue::Dense(bytes) => {
            Data::Memory(Cow::Borrowed(bytes))
        }
        ConstantValue::Resource(number) => model.resource(number)?,
    };
    Some(Part {
        kind,
        payload,
        bytes,
    })
}

/// The codes of a quantized weight and what belongs to them; `None` where it is of a kind that quant
/// does not write.
pub(crate) fn read<'m>(
    model: &'m Model<'m>,
    weight: &Weight<'_>,
) -> Result<Option<(Data<'m>, Parts<'m>)>, Error> {
    let parts = [0, 1, 2, 3].map(|operand| part(model, weight, operand));
    let [Some(codes), Some(scales), Some(offsets), Some(biases)] = parts else {
        return Ok(None);
    };
    let (Element::Integer(dtype), Element::Float(source)) =
        (codes.kind.element, scales.kind.element)
    else {
        return Ok(None);
    };
    let Some(blocks) = blocks(&codes.kind.shape, &scales.kind.shape) else {
        return Ok(None);
    };
    let count = blocks.scale_count();
    let is_whole = codes.kind.shape == weight.kind.shape
        && weight.kind.element == scales.kind.element
        && codes.kind.count > 0
        && !matches!(codes.payload, ConstantValue::Splat(_))
        && codes.bytes.len() == dtype.storage_len(codes.kind.count);
    let same = |part: &Part<'_>| part.kind.shape == scales.kind.shape;
    if !is_whole
        || !same(&offsets)
        || !same(&biases)
        || offsets.kind.element != codes.kind.element
        || biases.kind.element != scales.kind.element
        || !is_zero(&biases)?
    {
        return Ok(None);
    }
    let (Some(scale_bytes), Some(points)) = (
        elements(&scales, source.size(), count)?,
        points(&offsets, dtype, count)?,
    ) else {
        return Ok(None);
    };
    let mode = match dtype.is_signed() && points.iter().all(|it| *it == 0) {
        true => Mode::Symmetric,
        false => Mode::Affine,
    };
    let in_file = |part: &Part<'_>| part.bytes.len();
    let bytes_in_file = in_file(&scales) + in_file(&offsets);
    let scheme = Scheme::new(dtype, mode).with_dialect(Dialect::Coreai);
    let zero_points = match mode {
        Mode::Symmetric => Data::EMPTY,
        Mode::Affine => Data::Memory(points.into()),
    };
    let quantizer = TensorQuantizer::new(scheme, source, blocks);
    let parts = Parts::new(quantizer, scale_bytes, zero_points, bytes_in_file);
    Ok(Some((codes.bytes, parts)))
}

/// How scales lie over codes.
fn blocks(shape: &[usize], scales: &[usize]) -> Option<Blocks> {
    let divides = |(dim, scales): (&usize, &usize)| *scales > 0 && dim % scales == 0;
    if shape.len() != scales.len() || !shape.iter().zip(scales).all(divides) {
        return None;
    }
    let sizes = shape.iter().zip(scales).map(|(dim, scales)| dim / scales);
    Blocks::new(shape, &Granularity::Blocks(sizes.collect())).ok()
}

/// So many elements of some bytes each.
fn elements<'m>(part: &Part<'m>, size: usize, count: usize) -> Result<Option<Data<'m>>, Error> {
    let bytes = match part.payload {
        ConstantValue::Splat(element) if element.len() == size => {
            return Ok(Some(Data::Memory(element.repeat(count).into())));
        }
        ConstantValue::Splat(_) => return Ok(None),
        ConstantValue::Dense(_) | ConstantValue::Resource(_) => &part.bytes,
    };
    Ok((bytes.len() == size * count).then(|| bytes.clone()))
}

/// Zero points, one byte each.
fn points(part: &Part<'_>, dtype: IntType, count: usize) -> Result<Option<Vec<u8>>, Error> {
    if let ConstantValue::Splat(element) = part.payload {
        // Of few bits, too, one stands in a byte of its own.
        let mask = u8::MAX >> (8 - dtype.bits());
        let code = |byte: u8| match dtype.is_signed() {
            true => ((byte << (8 - dtype.bits())) as i8 >> (8 - dtype.bits())) as u8,
            false => byte & mask,
        };
        return Ok(match element {
            [byte] => Some(vec![code(*byte); count]),
            _ => None,
        });
    }
    let bytes = part.bytes.whole()?;
    let is_whole = bytes.len() == dtype.storage_len(count);
    Ok(is_whole.then(|| unpacked(dtype, &bytes, count)))
}

fn is_zero(part: &Part<'_>) -> Result<bool, Error> {
    let bytes = part.bytes.whole()?;
    // -0.0 is none: it would turn a result of 0 round.
    Ok(bytes.iter().all(|byte| *byte == 0))
}

/// The type's size, for what is stored as floats.
pub(crate) fn float(kind: &TensorType) -> Option<FloatType> {
    match kind.element {
        Element::Float(float) => Some(float),
        Element::Integer(_) | Element::Other(_) => None,
    }
}
