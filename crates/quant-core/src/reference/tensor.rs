use alloc::{vec, vec::Vec};

use super::{dequantize, quantize, range, saturated, search};
use crate::{Blocks, ErrorStats, Float, Params, ParamsError, STATS_CHUNK, Scheme, ValueRange};

/// A quantized tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizedTensor {
    /// One code per byte, row-major.
    pub codes: Vec<u8>,
    /// Scale and zero point per block, row-major.
    pub params: Vec<Params>,
    /// The error of the quantization.
    pub stats: ErrorStats,
}

/// A block that cannot be quantized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("block {block}: {source}")]
pub struct TensorError {
    /// Row-major position of the block's scale.
    pub block: usize,
    /// What is wrong with it.
    pub source: ParamsError,
}

/// Quantizes a whole tensor, row-major.
///
/// # Errors
/// The first block, in the order of the scales, that has no usable parameters.
///
/// # Panics
/// If `values` does not have the geometry's number of elements.
pub fn quantize_tensor<F: Float>(
    values: &[F],
    scheme: Scheme,
    blocks: &Blocks,
) -> Result<QuantizedTensor, TensorError> {
    assert_eq!(values.len(), blocks.element_count(), "the geometry's shape");
    let mut ranges = vec![ValueRange::EMPTY; blocks.scale_count()];
    for run in blocks.runs(0..values.len()) {
        ranges[run.scale] = ranges[run.scale].merge(range(&values[run.elements]));
    }
    let params = ranges.iter().enumerate().map(|(block, range)| {
        let params = scheme.params(range, F::TYPE);
        params.map_err(|source| TensorError { block, source })
    });
    let params = params.collect::<Result<Vec<_>, _>>()?;
    Ok(quantize_with(values, scheme, blocks, params))
}

/// [`quantize_tensor`] with the parameters that a [`search`] finds for each block.
///
/// # Errors
/// As [`quantize_tensor`].
///
/// # Panics
/// As [`quantize_tensor`]; if there is not one importance per value.
pub fn quantize_tensor_searched<F: Float>(
    values: &[F],
    scheme: Scheme,
    blocks: &Blocks,
    importance: Option<&[f32]>,
) -> Result<QuantizedTensor, TensorError> {
    let plain = quantize_tensor(values, scheme, blocks)?.params;
    let mut of_blocks = vec![Vec::new(); plain.len()];
    for run in blocks.runs(0..values.len()) {
        of_blocks[run.scale].extend(run.elements);
    }
    let params = of_blocks.iter().zip(plain).map(|(elements, plain)| {
        let of_block: Vec<F> = elements.iter().map(|&i| values[i]).collect();
        let weights: Option<Vec<f32>> =
            importance.map(|all| elements.iter().map(|&i| all[i]).collect());
        search(&of_block, scheme, plain, weights.as_deref())
    });
    let params = params.collect();
    Ok(quantize_with(values, scheme.searched(), blocks, params))
}

fn quantize_with<F: Float>(
    values: &[F],
    scheme: Scheme,
    blocks: &Blocks,
    params: Vec<Params>,
) -> QuantizedTensor {
    let mut codes = vec![0; values.len()];
    let mut clipped = 0;
    for run in blocks.runs(0..values.len()) {
        let (values, params) = (&values[run.elements.clone()], params[run.scale]);
        quantize(values, scheme, params, &mut codes[run.elements]);
        clipped += saturated(values, scheme, params);
    }

    let dequantized = dequantize_tensor::<f32>(&codes, scheme, blocks, &params);
    let chunks = values
        .chunks(STATS_CHUNK)
        .zip(dequantized.chunks(STATS_CHUNK));
    let stats = chunks.map(|(values, dequantized)| {
        let values = values.iter().map(|value| value.to_f32());
        ErrorStats::of_chunk(values.zip(dequantized.iter().copied()))
    });
    let mut stats = stats.fold(ErrorStats::default(), ErrorStats::then);
    stats.saturated = clipped;
    QuantizedTensor {
        codes,
        params,
        stats,
    }
}

/// The values that the codes, one per byte, stand for.
///
/// # Panics
/// If the lengths do not fit the geometry.
pub fn dequantize_tensor<F: Float>(
    codes: &[u8],
    scheme: Scheme,
    blocks: &Blocks,
    params: &[Params],
) -> Vec<F> {
    assert_eq!(codes.len(), blocks.element_count(), "the geometry's shape");
    let mut values = vec![F::default(); codes.len()];
    for run in blocks.runs(0..codes.len()) {
        let elements = run.elements;
        let codes = &codes[elements.clone()];
        dequantize(codes, scheme, params[run.scale], &mut values[elements]);
    }
    values
}
