//! ggml's reference quantizers, `quantize_row_q8_0_ref` and the others, and what they make undone.

use half::f16;

use crate::{Float, GgmlType, ParamsError, TensorError};

const VALUES: usize = GgmlType::VALUES;

/// Quantizes to the bytes of ggml's reference quantizer.
///
/// Codes of a block whose scale is so small that its reciprocal is infinite are 0, as those are that
/// ggml computes on x86-64; the scale is stored as 0 then.
///
/// # Errors
/// The first block with a value that is NaN or infinite, for which what ggml writes depends on the
/// machine ([`ParamsError::NonFinite`]), or with a scale or minimum that f16 cannot hold, which ggml
/// writes as infinite ([`ParamsError::ScaleOverflow`]). What was written by then is of no use.
///
/// # Panics
/// If `blocks` does not have the length that [`GgmlType::len`] says.
///
/// ```
/// use quant_core::{GgmlType, reference};
/// let values: [f32; 32] = std::array::from_fn(|i| i as f32 - 15.0);
/// let mut block = [0; 18];
/// reference::quantize_ggml(&values, GgmlType::Q4_0, &mut block)?;
/// assert_eq!(block[..3], [0, 0xc0, 0x8f]);
/// # Ok::<(), quant_core::TensorError>(())
/// ```
pub fn quantize_ggml<F: Float>(
    values: &[F],
    block_type: GgmlType,
    blocks: &mut [u8],
) -> Result<(), TensorError> {
    assert_lengths(values.len(), block_type, blocks);
    let bytes = blocks.chunks_exact_mut(block_type.block_size());
    for (block, (values, bytes)) in values.chunks_exact(VALUES).zip(bytes).enumerate() {
        let mut wide = [0.0; VALUES];
        for (wide, value) in wide.iter_mut().zip(values) {
            *wide = value.to_f32();
        }
        quantize_block(&wide, block_type, bytes).map_err(|source| TensorError { block, source })?;
    }
    Ok(())
}

/// `scale * steps`, or `scale * code + minimum`, each operation rounded to f32, and the result to `F`.
///
/// # Errors
/// The first block whose scale ([`ParamsError::InvalidScale`]) or minimum
/// ([`ParamsError::InvalidBias`]) is NaN or infinite.
///
/// # Panics
/// If `blocks` does not have the length that [`GgmlType::len`] says.
///
/// ```
/// use quant_core::{GgmlType, reference};
/// let mut block = [1; 34];
/// block[..2].copy_from_slice(&[0, 0x38]); // 0.5 as f16
/// let mut values = [0_f32; 32];
/// reference::dequantize_ggml(&block, GgmlType::Q8_0, &mut values)?;
/// assert_eq!(values, [0.5; 32]);
/// # Ok::<(), quant_core::TensorError>(())
/// ```
pub fn dequantize_ggml<F: Float>(
    blocks: &[u8],
    block_type: GgmlType,
    values: &mut [F],
) -> Result<(), TensorError> {
    assert_lengths(values.len(), block_type, blocks);
    let bytes = blocks.chunks_exact(block_type.block_size());
    for (block, (values, bytes)) in values.chunks_exact_mut(VALUES).zip(bytes).enumerate() {
        let wide = dequantize_block(bytes, block_type);
        let wide = wide.map_err(|source| TensorError { block, source })?;
        for (value, wide) in values.iter_mut().zip(wide) {
            *value = F::from_f32(wide);
        }
    }
    Ok(())
}

fn assert_lengths(values: usize, block_type: GgmlType, blocks: &[u8]) {
    let wanted = block_type.len(values);
    let wanted = wanted.expect("a whole number of blocks, each of 32 values");
    assert_eq!(blocks.len(), wanted, "bytes of {values} values");
}

/// The element of the largest magnitude, the first if there are several; 0 if all are 0.
fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |largest: f32, &value| {
        if largest.abs() < value.abs() {
            value
        } else {
            largest
        }
    })
}

/// The first of the smallest elements, and of the largest.
fn bounds(values: &[f32]) -> (f32, f32) {
    let first = (f32::MAX, -f32::MAX);
    values.iter().fold(first, |(min, max), &value| {
        let min = if value < min { value } else { min };
        let max = if value > max { value } else { max };
        (min, max)
    })
}

fn quantize_block(
    values: &[f32; VALUES],
    block_type: GgmlType,
    block: &mut [u8],
) -> Result<(), ParamsError> {
    if values.iter().any(|value| !value.is_finite()) {
        return Err(ParamsError::NonFinite);
    }
    let (min, max) = bounds(values);
    let scale = match block_type {
        GgmlType::Q8_0 => largest(values).abs() / 127.0,
        GgmlType::Q4_0 => largest(values) / -8.0,
        GgmlType::Q5_0 => largest(values) / -16.0,
        GgmlType::Q4_1 => (max - min) / 15.0,
        GgmlType::Q5_1 => (max - min) / 31.0,
    };
    let mut floats = [f16::from_f32(scale), f16::from_f32(min)];
    let floats = &mut floats[..1 + usize::from(block_type.has_minimum())];
    if floats.iter().any(|float| !float.is_finite()) {
        return Err(ParamsError::ScaleOverflow);
    }
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    // A cast to an integer is undefined in C for what the integer cannot hold.
    let integer = |steps: f32| if steps.is_finite() { steps as i32 } else { 0 };
    let code = |value: f32| match block_type {
        GgmlType::Q8_0 => integer(libm::roundf(value * inverse)),
        GgmlType::Q4_0 => integer(value * inverse + 8.5).min(15),
        GgmlType::Q5_0 => integer(value * inverse + 16.5).min(31),
        GgmlType::Q4_1 => integer((value - min) * inverse + 0.5).min(15),
        GgmlType::Q5_1 => integer((value - min) * inverse + 0.5).min(31),
    };
    let codes = values.map(|value| code(value) as u8);

    let (head, rest) = block.split_at_mut(2 * floats.len());
    for (bytes, float) in head.chunks_exact_mut(2).zip(floats) {
        bytes.copy_from_slice(&float.to_le_bytes());
    }
    store(&codes, block_type, rest);
    Ok(())
}

fn store(codes: &[u8; VALUES], block_type: GgmlType, bytes: &mut [u8]) {
    let nibbles = match block_type.bits() {
        8 => return bytes.copy_from_slice(codes),
        5 => {
            let mut fifth = 0_u32;
            for (i, code) in codes.iter().enumerate() {
                fifth |= u32::from(code >> 4) << i;
            }
            let (bits, nibbles) = bytes.split_at_mut(4);
            bits.copy_from_slice(&fifth.to_le_bytes());
            nibbles
        }
        _ => bytes,
    };
    for (i, byte) in nibbles.iter_mut().enumerate() {
        *byte = codes[i] & 15 | codes[i + VALUES / 2] << 4;
    }
}

fn load(block_type: GgmlType, bytes: &[u8]) -> [u8; VALUES] {
    let mut codes = [0; VALUES];
    let (fifth, nibbles) = match block_type.bits() {
        8 => {
            codes.copy_from_slice(bytes);
            return codes;
        }
        5 => {
            let (bits, nibbles) = bytes.split_at(4);
            let bits = bits.iter().rev();
            (
                bits.fold(0, |all, &byte| all << 8 | u32::from(byte)),
                nibbles,
            )
        }
        _ => (0, bytes),
    };
    for (i, byte) in nibbles.iter().enumerate() {
        codes[i] = byte & 15;
        codes[i + VALUES / 2] = byte >> 4;
    }
    for (i, code) in codes.iter_mut().enumerate() {
        *code |= ((fifth >> i & 1) as u8) << 4;
    }
    codes
}

fn dequantize_block(block: &[u8], block_type: GgmlType) -> Result<[f32; VALUES], ParamsError> {
    let float = |at: usize| f16::from_le_bytes([block[at], block[at + 1]]).to_f32();
    let scale = float(0);
    if !scale.is_finite() {
        return Err(ParamsError::InvalidScale);
    }
    let (minimum, bytes) = match block_type.has_minimum() {
        true => (float(2), &block[4..]),
        false => (0.0, &block[2..]),
    };
    if !minimum.is_finite() {
        return Err(ParamsError::InvalidBias);
    }
    Ok(load(block_type, bytes).map(|code| match block_type {
        GgmlType::Q8_0 => scale * f32::from(code as i8),
        GgmlType::Q4_0 => scale * (f32::from(code) - 8.0),
        GgmlType::Q5_0 => scale * (f32::from(code) - 16.0),
        GgmlType::Q4_1 | GgmlType::Q5_1 => scale * f32::from(code) + minimum,
    }))
}
