//! Tensors cut along their rows into blocks with a scale and a bias each.

use std::ops::Range;

use half::{bf16, f16};
use quant_core::{Arrangement, ErrorStats, FloatType, TensorError};

use super::dequantize::StoredParams;
use super::quantize::{Units, total};
use super::search::Searcher;
use super::values::{Input, Pool};
use super::work::{Flaw, PassError, each};
use super::{Sink, TensorQuantizer, chunks};
use crate::biased::{self, Biased, StoredBiased};
use crate::kernels::error::ErrorSums;
use crate::{Element, memory};

/// Values that are dequantized at a time to be compared: some blocks of any size.
const PIECE: usize = 2048;

/// The parts of some chunks.
struct Parts<F> {
    codes: Vec<u8>,
    scales: Vec<F>,
    biases: Vec<u8>,
    searcher: Searcher<F>,
}

impl<F> Default for Parts<F> {
    fn default() -> Self {
        Self {
            codes: Vec::new(),
            scales: Vec::new(),
            biases: Vec::new(),
            searcher: Searcher::default(),
        }
    }
}

impl TensorQuantizer {
    /// The size of all blocks, where they are done many at a time.
    pub(super) fn biased_block_size(&self) -> Option<usize> {
        let count = self.blocks.element_count();
        if count == 0 || self.blocks.arrangement() != Arrangement::Runs {
            return None;
        }
        let size = self.blocks.group_of(0).len();
        let all = self.blocks.scale_count().checked_mul(size) == Some(count);
        (all && biased::serves(self.scheme, size)).then_some(size)
    }

    /// Blocks are many to a chunk, and none lies across two.
    pub(super) fn by_biased_blocks<F: Element, S: Sink>(
        &self,
        values: Input<'_, F, S::Error>,
        size: usize,
        sink: &S,
        measured: bool,
    ) -> Result<ErrorStats, PassError<S::Error>> {
        let units = Units::new(0..self.blocks.element_count(), 1);
        let buffers = Pool::<(Vec<F>, Parts<F>)>::default();
        let one = |unit: Range<usize>, (window, parts): &mut (Vec<F>, Parts<F>)| {
            let dtype = self.scheme.dtype;
            let values = values.window(unit.clone(), window)?;
            let scales = unit.start / size..unit.end / size;
            let codes_at = dtype.storage_len(unit.start);
            memory::resize(&mut parts.codes, dtype.storage_len(unit.len()), 0)?;
            memory::resize(&mut parts.scales, scales.len(), F::zeroed())?;
            memory::resize(&mut parts.biases, scales.len() * size_of::<F>(), 0)?;
            let mut stats = Vec::new();
            for chunk in chunks(unit.clone()) {
                let blocks = chunk.start / size - scales.start..chunk.end / size - scales.start;
                let codes = dtype.storage_len(chunk.start) - codes_at
                    ..dtype.storage_len(chunk.end) - codes_at;
                let (start, bytes) = (blocks.start * size_of::<F>(), blocks.len() * size_of::<F>());
                let codes = &mut parts.codes[codes];
                let of_chunk = &mut parts.scales[blocks.clone()];
                let biases = &mut parts.biases[start..][..bytes];
                let first = scales.start + blocks.start;
                let here = values.with(chunk.clone(), |values| {
                    let searcher = &mut parts.searcher;
                    let found = searcher.search_pairs(self, values, chunk.start, size)?;
                    let parts = (of_chunk, biases);
                    Ok::<_, Flaw>(self.encode_biased(values, size, codes, parts, found, measured))
                })??;
                let here = here.map_err(|error| (first + error.block, error.source))?;
                memory::push(&mut stats, here)?;
            }
            let sunk = sink.codes(codes_at, &parts.codes).and_then(|()| {
                let at = scales.start * size_of::<F>();
                sink.scales(at, bytemuck::cast_slice(&parts.scales))?;
                sink.zero_points(at, &parts.biases)
            });
            sunk.map_err(PassError::Sink)?;
            Ok::<_, PassError<S::Error>>(stats)
        };
        let stats = each(units.count(), |i| {
            buffers.with(|buffers| one(units.get(i), buffers))
        })?;
        Ok(total(ErrorStats::default(), stats))
    }

    fn encode_biased<F: Element>(
        &self,
        values: &[F],
        block_size: usize,
        codes: &mut [u8],
        (scales, biases): (&mut [F], &mut [u8]),
        found: Option<[&[f32]; 2]>,
        measured: bool,
    ) -> Result<ErrorStats, TensorError> {
        let (scheme, dtype) = (self.scheme, self.scheme.dtype);
        let mut clipped = 0;
        let blocks = Biased {
            values,
            block_size,
            scheme,
            codes: &mut *codes,
            scales: &mut *scales,
            biases: &mut *biases,
            clipped: measured.then_some(&mut clipped),
            given: found,
        };
        blocks.quantize(self.backend)?;
        if !measured {
            return Ok(ErrorStats::default());
        }
        let mut sums = ErrorSums::default();
        let mut dequantized = [0.0; PIECE];
        for (i, values) in values.chunks(PIECE).enumerate() {
            let dequantized = &mut dequantized[..values.len()];
            let start = i * PIECE / block_size * size_of::<F>();
            let piece = StoredBiased {
                codes: &codes[dtype.storage_len(i * PIECE)..][..dtype.storage_len(values.len())],
                block_size,
                scheme,
                scales: &bytemuck::cast_slice(scales)[start..],
                biases: &biases[start..],
            };
            piece.dequantize::<F, f32>(self.backend, dequantized)?;
            F::add_errors(self.backend, values, dequantized, &mut sums);
        }
        let mut stats = sums.stats();
        stats.saturated = clipped;
        Ok(stats)
    }

    /// The values of blocks from `first` on, whose codes are given.
    pub(super) fn dequantize_biased<F: Element>(
        &self,
        codes: &[u8],
        stored: &StoredParams<'_>,
        first: usize,
        block_size: usize,
        values: &mut [F],
    ) -> Result<(), Flaw> {
        let start = first * self.scale_type().size();
        let blocks = StoredBiased {
            codes,
            block_size,
            scheme: self.scheme,
            scales: &stored.scales[start..],
            biases: &stored.zero_points[start..],
        };
        let done = match self.scale_type() {
            FloatType::F32 => blocks.dequantize::<f32, F>(self.backend, values),
            FloatType::F16 => blocks.dequantize::<f16, F>(self.backend, values),
            FloatType::Bf16 => blocks.dequantize::<bf16, F>(self.backend, values),
        };
        Ok(done.map_err(|error| (first + error.block, error.source))?)
    }
}
