//! Tensors with given codes: all else is found as for those without.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use quant_core::{ErrorStats, FloatType, STATS_CHUNK};
use quant_simd::{ArgumentError, ProcessError, Sink, TensorQuantizer};

use crate::Error;
use crate::io::Data;
use crate::report::quantize_tensor;

/// Passes on all but codes, and keeps what it passes on.
struct WithoutCodes<'s, S> {
    sink: &'s S,
    scales: Mutex<Vec<u8>>,
    zero_points: Mutex<Vec<u8>>,
}

fn keep(buffer: &Mutex<Vec<u8>>, offset: usize, bytes: &[u8]) {
    let mut buffer = buffer.lock().unwrap_or_else(PoisonError::into_inner);
    buffer[offset..offset + bytes.len()].copy_from_slice(bytes);
}

impl<S: Sink<Error = Error>> Sink for WithoutCodes<'_, S> {
    type Error = Error;

    fn expect(&self, codes: usize, scales: usize, zero_points: usize) -> Result<(), ArgumentError> {
        self.sink.expect(codes, scales, zero_points)
    }

    fn codes(&self, _: usize, _: &[u8]) -> Result<(), Error> {
        Ok(())
    }

    fn scales(&self, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        keep(&self.scales, offset, bytes);
        self.sink.scales(offset, bytes)
    }

    fn zero_points(&self, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        keep(&self.zero_points, offset, bytes);
        self.sink.zero_points(offset, bytes)
    }
}

/// Adds up what restored values, which come in any order, differ from the original ones.
struct Difference<'d> {
    values: &'d [u8],
    source: FloatType,
    chunks: Mutex<BTreeMap<usize, ErrorStats>>,
}

impl Sink for Difference<'_> {
    type Error = Error;

    fn codes(&self, offset: usize, restored: &[u8]) -> Result<(), Error> {
        let size = self.source.size();
        let values = &self.values[offset..offset + restored.len()];
        let float = |bytes: &[u8]| match self.source {
            FloatType::F32 => f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
            FloatType::F16 => half::f16::from_le_bytes([bytes[0], bytes[1]]).to_f32(),
            FloatType::Bf16 => half::bf16::from_le_bytes([bytes[0], bytes[1]]).to_f32(),
        };
        let step = STATS_CHUNK * size;
        for (at, (values, restored)) in values.chunks(step).zip(restored.chunks(step)).enumerate() {
            let pairs = values.chunks_exact(size).zip(restored.chunks_exact(size));
            let stats = ErrorStats::of_chunk(pairs.map(|(a, b)| (float(a), float(b))));
            let mut chunks = self.chunks.lock().unwrap_or_else(PoisonError::into_inner);
            chunks.insert(offset + at * step, stats);
        }
        Ok(())
    }

    fn scales(&self, _: usize, _: &[u8]) -> Result<(), Error> {
        Ok(())
    }

    fn zero_points(&self, _: usize, _: &[u8]) -> Result<(), Error> {
        Ok(())
    }
}

/// [`quantize_tensor`] with given codes in place of those that the values would have.
///
/// # Errors
/// As `quantize_tensor`; codes of another number of bytes.
pub fn quantize_given<S: Sink<Error = Error>>(
    quantizer: &TensorQuantizer,
    codes: &[u8],
    stats: bool,
    values: &Data<'_>,
    sink: &S,
) -> Result<Option<ErrorStats>, ProcessError<Error>> {
    let want = quantizer.codes_len();
    if codes.len() != want {
        let have = codes.len();
        let problem = format!("{have} bytes of given codes, where it takes {want}");
        return Err(ProcessError::Sink(Error::Option(problem)));
    }
    let others = WithoutCodes {
        sink,
        scales: Mutex::new(vec![0; quantizer.scales_len()]),
        zero_points: Mutex::new(vec![0; quantizer.zero_points_len()]),
    };
    let plain = quantize_tensor(quantizer, stats, values, &others)?;
    // A chunk of elements has whole bytes of codes, whatever their bits.
    let step = STATS_CHUNK * quantizer.scheme.dtype.bits() as usize / 8;
    for (at, codes) in codes.chunks(step).enumerate() {
        sink.codes(at * step, codes).map_err(ProcessError::Sink)?;
    }
    let Some(plain) = plain else { return Ok(None) };
    let [scales, zero_points] = [others.scales, others.zero_points]
        .map(|buffer| buffer.into_inner().unwrap_or_else(PoisonError::into_inner));
    let values = values.whole().map_err(ProcessError::Sink)?;
    let difference = Difference {
        values: &values,
        source: quantizer.source,
        chunks: Mutex::default(),
    };
    quantizer.dequantize(codes, &scales, &zero_points, quantizer.source, &difference)?;
    let chunks = difference.chunks.into_inner();
    let chunks = chunks.unwrap_or_else(PoisonError::into_inner);
    let stats = chunks.into_values();
    let stats = stats.fold(ErrorStats::default(), ErrorStats::then);
    Ok(Some(ErrorStats {
        saturated: plain.saturated,
        ..stats
    }))
}
