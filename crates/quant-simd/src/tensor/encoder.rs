//! Codes of a tensor's chunks, by one thread.

use std::ops::Range;

use quant_core::{ErrorStats, ParamsError, STATS_RUN};

use super::param_stream::ParamStream;
use super::params::PIECE;
use super::values::Values;
use super::work::Flaw;
use super::{Sink, TensorQuantizer};
use crate::Element;
use crate::kernels::encode::Encoded;
use crate::measured::Measured;
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
        let mut errors = Measured::default();
        let encoded = values.with(chunk.clone(), |values| {
            for (piece, values) in values.chunks(PIECE).enumerate() {
                let piece = piece * PIECE;
                // Values of the piece that are encoded, and those of them whose errors are added up.
                let (mut at, mut summed) = (0, 0);
                while at < values.len() {
                    let position = chunk.start + piece + at;
                    let (count, spec, place) = param_stream.at(position, values.len() - at)?;
                    let (end, mut place) = (at + count, place);
                    if measured && at % STATS_RUN == 0 && count >= STATS_RUN {
                        if summed < at {
                            let (values, dequantized) =
                                (&values[summed..at], &dequantized[summed..at]);
                            F::add_errors(backend, values, dequantized, &mut errors.sums);
                        }
                        let codes = &mut codes[piece + at..piece + end];
                        let done = errors.runs(backend, &values[at..end], spec, place, codes);
                        (at, place) = (at + done, place.skip(done));
                        summed = at;
                        if at == end {
                            continue;
                        }
                    }
                    let codes = &mut codes[piece + at..piece + end];
                    let dequantized = &mut dequantized[at..end];
                    let values = &values[at..end];
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
                    errors.count(encoded);
                    at = end;
                }
                if measured && summed < values.len() {
                    let (values, dequantized) = (&values[summed..], &dequantized[summed..]);
                    let dequantized = &dequantized[..values.len()];
                    F::add_errors(backend, values, dequantized, &mut errors.sums);
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
        Ok(errors.stats())
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
