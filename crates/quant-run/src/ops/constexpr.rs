//! Compressed constants.

use quant_models::program::ElementType;

use super::Table;
use super::cast::{convert, named};
use crate::call::{Call, result, sizes};
use crate::index::{axis, split_at, strides};
use crate::tensor::{Tensor, map_values, unpack};

pub(super) const TABLE: Table = &[
    ("constexpr_affine_dequantize", affine_dequantize),
    ("constexpr_blockwise_shift_scale", |c| {
        let data = c.tensor("data")?.clone();
        Ok(vec![shift_scale(c, &data)?])
    }),
    ("constexpr_cast", constexpr_cast),
    ("constexpr_lut_to_dense", lut_to_dense),
    ("constexpr_lut_to_sparse", lut_to_sparse),
    ("constexpr_sparse_blockwise_shift_scale", sparse_shift_scale),
    ("constexpr_sparse_to_dense", sparse_to_dense),
];

fn constexpr_cast(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let element = named(&call.text("output_dtype", "fp32")?)?;
    Ok(vec![convert(call.take("source_val")?, element)?])
}

fn affine_dequantize(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let data = call.tensor("quantized_data")?;
    let at = axis(call.int("axis", 0)?, data.rank())?;
    let (_, count, inner) = split_at(&data.shape, at);
    let scales = call.tensor("scale")?.to_floats()?;
    let zeros = call.tensor("zero_point")?.to_floats()?;
    let fits = |len: usize| len == count || len == 1;
    if !fits(scales.len()) || !fits(zeros.len()) {
        let (a, b) = (scales.len(), zeros.len());
        return Err(format!(
            "{a} scales and {b} zero points for {count} channels"
        ));
    }
    call.room(&data.shape)?;
    let mut values = data.to_floats()?;
    for (i, row) in values.chunks_mut(inner.max(1)).enumerate() {
        let channel = i % count.max(1);
        let (scale, zero) = (scales[channel % scales.len()], zeros[channel % zeros.len()]);
        row.iter_mut()
            .for_each(|value| *value = scale * (*value - zero));
    }
    result(data.shape.clone(), values)
}

/// For each element of `shape`, in order, the block that it belongs to, where `blocks` of them
/// share an axis.
fn each_block(
    shape: &[usize],
    blocks: &[usize],
    mut visit: impl FnMut(usize, usize),
) -> Result<(), String> {
    let fits = shape.len() == blocks.len()
        && (shape.iter().zip(blocks)).all(|(&dim, &count)| count > 0 && dim.is_multiple_of(count));
    if !fits {
        return Err(format!("blocks {blocks:?} of shape {shape:?}"));
    }
    let own = strides(blocks);
    let sizes: Vec<usize> = shape
        .iter()
        .zip(blocks)
        .map(|(dim, count)| dim / count)
        .collect();
    let mut counter = vec![0; shape.len()];
    for i in 0..shape.iter().product() {
        let block = (0..shape.len())
            .map(|axis| counter[axis] / sizes[axis] * own[axis])
            .sum();
        visit(i, block);
        for axis in (0..shape.len()).rev() {
            counter[axis] += 1;
            if counter[axis] < shape[axis] {
                break;
            }
            counter[axis] = 0;
        }
    }
    Ok(())
}

fn shift_scale(call: &Call<'_>, data: &Tensor) -> Result<Tensor, String> {
    let scale = call.tensor("scale")?;
    let scales = scale.to_floats()?;
    let offset = call.optional("offset");
    if let Some(offset) = offset.filter(|offset| offset.shape != scale.shape) {
        let (a, b) = (&scale.shape, &offset.shape);
        return Err(format!("scales of shape {a:?} with offsets of {b:?}"));
    }
    let offsets = offset.map(Tensor::to_floats).transpose()?;
    call.room(&data.shape)?;
    let mut values = data.to_floats()?;
    each_block(&data.shape, &scale.shape, |i, block| {
        let offset = offsets.as_ref().map_or(0.0, |offsets| offsets[block]);
        values[i] = scales[block] * (values[i] - offset);
    })?;
    Ok(Tensor::new(data.shape.clone(), values))
}

/// The shape that iOS16 gives as an input of its own.
fn given_shape(call: &Call<'_>) -> Result<Option<Vec<usize>>, String> {
    call.ints("shape")?
        .map(|shape| sizes(&shape, "shape"))
        .transpose()
}

/// The bytes of a vector of uint8.
fn bytes(tensor: &Tensor) -> Result<Vec<u8>, String> {
    Ok(tensor.to_ints()?.iter().map(|&value| value as u8).collect())
}

fn lut_to_dense(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let lut = call.tensor("lut")?;
    let Some(shape) = given_shape(call)? else {
        let dense = look_up(call, call.tensor("indices")?)?;
        return Ok(vec![dense]);
    };
    // iOS16: one table, indices packed by its size.
    let count = call.room(&shape)?;
    let bits = lut.len().max(1).ilog2() as usize;
    if !lut.len().is_power_of_two() || bits > 8 {
        return Err(format!("a table of {} values", lut.len()));
    }
    let packed = bytes(call.tensor("indices")?)?;
    if bits > 0 && packed.len() != count.saturating_mul(bits).div_ceil(8) {
        return Err(format!(
            "{count} indices of {bits} bits in {} bytes",
            packed.len()
        ));
    }
    let indices = match bits {
        0 => vec![0; count],
        _ => unpack(&packed, bits, count, false),
    };
    let values = map_values!(&lut.values, v => {
        indices.iter().map(|&index| v[index as usize]).collect::<Vec<_>>()
    })?;
    result(shape, values)
}

/// iOS18: a table per block of indices, whose entries may be vectors along an axis.
fn look_up(call: &Call<'_>, indices: &Tensor) -> Result<Tensor, String> {
    let lut = call.tensor("lut")?;
    let rank = indices.rank();
    let &[ref blocks @ .., palette, width] = &lut.shape[..] else {
        return Err(format!("a table of shape {:?}", lut.shape));
    };
    let along = match call.ints("vector_axis")? {
        Some(values) => axis(*values.first().ok_or("an empty `vector_axis`")?, rank)?,
        None if width == 1 => rank.checked_sub(1).ok_or("indices without dimensions")?,
        None => return Err("its input `vector_axis` is missing".into()),
    };
    let mut shape = indices.shape.clone();
    shape[along] = shape[along]
        .checked_mul(width)
        .ok_or("its result is too large")?;
    let count = call.room(&shape)?;
    let picks = indices.to_ints()?;
    if let Some(pick) = picks
        .iter()
        .find(|&&pick| pick < 0 || pick as usize >= palette)
    {
        return Err(format!("index {pick} into a table of {palette}"));
    }
    let (_, dim, inner) = split_at(&indices.shape, along);
    let values = map_values!(&lut.values, v => {
        let mut out = vec![Default::default(); count];
        each_block(&indices.shape, blocks, |i, block| {
            let entry = &v[(block * palette + picks[i] as usize) * width..][..width];
            let (outer, k, rest) = (i / inner / dim, i / inner % dim, i % inner);
            for (j, &value) in entry.iter().enumerate() {
                out[(outer * dim * width + k * width + j) * inner + rest] = value;
            }
        })?;
        out
    })?;
    Ok(Tensor::new(shape, values))
}

/// Puts values where a mask says, zeros elsewhere.
fn spread(mask: &[bool], shape: Vec<usize>, values: &Tensor) -> Result<Tensor, String> {
    let places: Vec<usize> = (0..mask.len()).filter(|&i| mask[i]).collect();
    if places.len() != values.len() {
        let (a, b) = (values.len(), places.len());
        return Err(format!("{a} values for a mask of {b}"));
    }
    let dense = map_values!(&values.values, v => {
        let mut out = vec![Default::default(); mask.len()];
        places.iter().zip(v.iter()).for_each(|(&at, &value)| out[at] = value);
        out
    })?;
    Ok(Tensor::new(shape, dense))
}

/// The values where a mask says.
fn picked(mask: &[bool], dense: &Tensor) -> Result<Tensor, String> {
    let values = map_values!(&dense.values, v => {
        let kept = v.iter().zip(mask).filter(|(_, kept)| **kept);
        kept.map(|(&value, _)| value).collect::<Vec<_>>()
    })?;
    Ok(Tensor::new(vec![values.len()], values))
}

fn sparse_to_dense(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let (data, mask) = (call.tensor("nonzero_data")?, call.tensor("mask")?);
    let (shape, bits) = match given_shape(call)? {
        Some(shape) => {
            let count = call.room(&shape)?;
            let packed = bytes(mask)?;
            if packed.len() != count.div_ceil(8) {
                return Err(format!(
                    "a mask of {} bytes for {count} elements",
                    packed.len()
                ));
            }
            (shape, unpack(&packed, 1, count, false))
        }
        None => (mask.shape.clone(), mask.to_ints()?),
    };
    let truths: Vec<bool> = bits.iter().map(|&bit| bit != 0).collect();
    Ok(vec![spread(&truths, shape, data)?])
}

fn lut_to_sparse(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let mask = call.tensor("indices_mask")?;
    let truths = super::binary::truths(mask)?;
    let indices = spread(
        &truths,
        mask.shape.clone(),
        call.tensor("indices_nonzero_data")?,
    )?;
    let dense = look_up(call, &indices)?;
    // Each index stands for as many values as a vector has.
    let mut full = vec![0; dense.len()];
    let width = dense.len() / mask.len().max(1);
    let along = match call.ints("vector_axis")? {
        Some(values) => axis(
            *values.first().ok_or("an empty `vector_axis`")?,
            mask.rank(),
        )?,
        None => mask.rank().saturating_sub(1),
    };
    let (_, dim, inner) = split_at(&mask.shape, along);
    for (i, &truth) in truths.iter().enumerate() {
        let (outer, k, rest) = (i / inner / dim, i / inner % dim, i % inner);
        for j in 0..width {
            full[(outer * dim * width + k * width + j) * inner + rest] = i32::from(truth);
        }
    }
    let kept: Vec<bool> = full.iter().map(|&bit| bit != 0).collect();
    let values = picked(&kept, &dense)?;
    let mask = Tensor::new(dense.shape, full).with_element(ElementType::Uint(1));
    Ok(vec![mask, values])
}

fn sparse_shift_scale(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let mask = call.tensor("data_mask")?;
    let truths = super::binary::truths(mask)?;
    let data = spread(&truths, mask.shape.clone(), call.tensor("nonzero_data")?)?;
    let dense = shift_scale(call, &data)?;
    Ok(vec![mask.clone(), picked(&truths, &dense)?])
}
