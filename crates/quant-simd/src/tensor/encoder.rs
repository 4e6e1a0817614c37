//! Codes of a tensor's chunks, by one thread.

use std::ops::Range;

use quant_core::{ErrorStats, ParamsError};

use super::param_stream::ParamStream;
use super::params::PIECE;
use super::values::Values;
use super::work::Flaw;
use super::{Sink, TensorQuantizer};
use crate::Element;
use crate::kernels::encode::Encoded;
use crate::kernels::error::ErrorSums;
use crate::memory::{self, NoMemory};
use crate::param_layout::ParamLayout;

/// What a thread needs to encode chunks.
#[derive(Default)]
pub(super) struct Encoder {
    /// Whether errors are added up.
    pub(super) measured: bool,
    /// Codes of a chunk.
    codes: Vec<u8>,
    /// Codes of all chunks so far, as they are stored.
    stored: Vec<u8>,
    /// Bytes of them.
    filled: usize,
    dequantized: Vec<f32>,
}

/// The first `len` elements of a vector that never shrinks.
fn first<T: Clone + Default>(vector: &mut Vec<T>, len: usize) -> Result<&mut [T], NoMemory> {
    if vector.len() < len {
        memory::resize(vector, len, T::default())?;
    }
    Ok(&mut vector[..len])
}

impl Encoder {
    /// Encodes a chunk, packs it, and adds up its errors.
    // Long: the cases share their buffers.
    pub(super) fn encode<F: Element>(
        &mut self,
        quantizer: &TensorQuantizer,
        values: Values<'_, F>,
        chunk: Range<usize>,
        param_stream: &mut dyn ParamStream,
    ) -> Result<ErrorStats, Flaw> {
        let (backend, dtype) = (quantizer.backend, quantizer.scheme.dtype);
        let measured = self.measured;
        let packs = dtype.packing().is_packed();
        // Chunks start at multiples of eight elements, so that two of them never share a byte.
        let end = self.filled + dtype.storage_len(chunk.len());
        let stored = &mut first(&mut self.stored, end)?[self.filled..];
        let unpacked = first(&mut self.codes, if packs { chunk.len() } else { 0 })?;
        let codes = match packs {
            true => &mut *unpacked,
            false => &mut *stored,
        };
        let dequantized = first(&mut self.dequantized, PIECE)?;
        let mut sums = ErrorSums::default();
        let mut clipped = 0;
        let encoded = values.with(chunk.clone(), |values| {
            for (piece, values) in values.chunks(PIECE).enumerate() {
                let piece = piece * PIECE;
                let mut at = 0;
                while at < values.len() {
                    let position = chunk.start + piece + at;
                    let (count, spec, place) = param_stream.at(position, values.len() - at)?;
                    let codes = &mut codes[piece + at..][..count];
                    let dequantized = &mut dequantized[at..][..count];
                    let values = &values[at..][..count];
                    let encoded = match place {
                        ParamLayout::Uniform(_)
                        | ParamLayout::PerElement(_)
                        | ParamLayout::Reference(..)
                            if !measured =>
                        {
                            Encoded {
                                non_finite: F::quantize_bytes(backend, values, spec, place, codes),
                                clipped: 0,
                            }
                        }
                        ParamLayout::Uniform(_)
                        | ParamLayout::PerElement(_)
                        | ParamLayout::PerBlock(..)
                        | ParamLayout::Reference(..) => {
                            F::encode(backend, values, spec, place, codes, dequantized)
                        }
                    };
                    if encoded.non_finite > 0 {
                        let block = quantizer.blocks.scale_of(position);
                        return Err(Flaw::Block(block, ParamsError::NonFinite));
                    }
                    clipped += encoded.clipped;
                    at += count;
                }
                if measured {
                    F::add_errors(backend, values, &dequantized[..values.len()], &mut sums);
                }
            }
            Ok(())
        })?;
        encoded?;
        if packs {
            backend.pack_all(unpacked, dtype, stored);
        }
        self.filled = end;
        if !measured {
            return Ok(ErrorStats::default());
        }
        let mut stats = sums.stats();
        stats.saturated = clipped;
        Ok(stats)
    }

    /// Gives what is stored, which starts with this element, to the sink.
    pub(super) fn put<S: Sink>(
        &mut self,
        quantizer: &TensorQuantizer,
        start: usize,
        sink: &S,
    ) -> Result<(), S::Error> {
        let offset = quantizer.scheme.dtype.storage_len(start);
        sink.codes(offset, &self.stored[..self.filled])?;
        self.filled = 0;
        Ok(())
    }
}
