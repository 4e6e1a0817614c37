//! From codes, scales and zero points to values.

use std::convert::Infallible;
use std::ops::Range;

use half::{bf16, f16};
use quant_core::{Arrangement, FloatType, Params, ParamsError};

use super::erased::{Erased, Refused, erased, erased_from};
use super::values::{Input, Pool, Values};
use super::work::{Flaw, for_each};
use super::{ProcessError, Sink, Source, TensorQuantizer, chunks};
use crate::param_layout::{ElementParams, ParamLayout};
use crate::param_source::PADDING;
use crate::params::{Division, KernelParams, ParamTable};
use crate::{ArgumentError, Element, argument, columns, dialects, memory};

/// Elements of a row that has parameters in a table.
const ROW: usize = 1 << 16;
/// Elements for which such a table is made.
const SLAB: usize = 1 << 20;

/// The parts of a quantized tensor.
pub(super) struct StoredParams<'a> {
    pub(super) scales: &'a [u8],
    pub(super) zero_points: &'a [u8],
}

impl TensorQuantizer {
    /// Dequantizes into `sink.codes` as little-endian values of type `target`. `zero_points` is
    /// empty where the scheme stores none.
    ///
    /// # Errors
    /// A buffer, or a sink, of another size than the shape's; a scale or zero point that cannot be; the
    /// sink's error.
    pub fn dequantize<S: Sink>(
        &self,
        codes: &[u8],
        scales: &[u8],
        zero_points: &[u8],
        target: FloatType,
        sink: &S,
    ) -> Result<(), ProcessError<S::Error>> {
        self.expect_codes(codes)?;
        let stored = self.stored(scales, zero_points)?;
        self.announce_values(target, sink)?;
        let codes = Input::Memory(Values::new(codes));
        erased(sink, |sink| {
            self.dequantize_from(codes, &stored, target, sink)
        })
    }

    /// [`dequantize`](Self::dequantize) of codes that are not in memory.
    ///
    /// # Errors
    /// As `dequantize`; the source's error.
    pub fn dequantize_source<S: Sink>(
        &self,
        codes: &dyn Source<Error = S::Error>,
        scales: &[u8],
        zero_points: &[u8],
        target: FloatType,
        sink: &S,
    ) -> Result<(), ProcessError<S::Error>> {
        let stored = self.stored(scales, zero_points)?;
        self.announce_values(target, sink)?;
        erased_from(codes, sink, |codes, sink| {
            self.dequantize_from(Input::Source(codes), &stored, target, sink)
        })
    }

    // Not generic, and never inlined: so the driver is compiled here.
    #[inline(never)]
    fn dequantize_from(
        &self,
        codes: Input<'_, u8, Refused>,
        stored: &StoredParams<'_>,
        target: FloatType,
        sink: &Erased<'_>,
    ) -> Result<(), ProcessError<Refused>> {
        match target {
            FloatType::F32 => self.dequantize_to::<f32, _>(codes, stored, sink),
            FloatType::F16 => self.dequantize_to::<f16, _>(codes, stored, sink),
            FloatType::Bf16 => self.dequantize_to::<bf16, _>(codes, stored, sink),
        }
    }

    fn dequantize_to<F: Element, S: Sink>(
        &self,
        codes: Input<'_, u8, S::Error>,
        stored: &StoredParams<'_>,
        sink: &S,
    ) -> Result<(), ProcessError<S::Error>> {
        let n = self.blocks.element_count();
        let buffers = Pool::<(Vec<F>, Vec<u8>)>::default();
        let one = |slab: Range<usize>, (values, buffer): &mut (Vec<F>, Vec<u8>)| {
            let mut rows = None;
            let dtype = self.scheme.dtype;
            for chunk in chunks(slab) {
                memory::resize(values, chunk.len(), F::zeroed()).map_err(Flaw::from)?;
                let bytes = dtype.storage_len(chunk.start)..dtype.storage_len(chunk.end);
                let codes = codes.window(bytes.clone(), buffer)?;
                let done = codes.with(bytes, |codes| {
                    self.dequantize_chunk(codes, stored, chunk.clone(), values, &mut rows)
                });
                done.map_err(Flaw::from)??;
                sink.codes(chunk.start * size_of::<F>(), bytemuck::cast_slice(values))
                    .map_err(ProcessError::Sink)?;
            }
            Ok(())
        };
        for_each(n.div_ceil(SLAB), |i| {
            let slab = i * SLAB..((i + 1) * SLAB).min(n);
            buffers.with(|buffers| one(slab, buffers))
        })
    }

    /// Dequantizes some elements, which start at a multiple of [`quant_core::Packing::unit`], to f32.
    ///
    /// # Errors
    /// A buffer of another size, elements that the tensor does not have or that start within a byte; a
    /// scale or zero point that cannot be.
    pub fn dequantize_range(
        &self,
        codes: &[u8],
        scales: &[u8],
        zero_points: &[u8],
        elements: Range<usize>,
        values: &mut [f32],
    ) -> Result<(), ProcessError<Infallible>> {
        self.expect_codes(codes)?;
        let dtype = self.scheme.dtype;
        argument::range(&elements, self.blocks.element_count(), dtype)?;
        let codes = &codes[dtype.storage_len(elements.start)..dtype.storage_len(elements.end)];
        self.dequantize_some(codes, scales, zero_points, elements, values)
    }

    /// [`dequantize_range`](Self::dequantize_range) from the codes of these elements alone.
    ///
    /// # Errors
    /// As `dequantize_range`.
    pub fn dequantize_some(
        &self,
        codes: &[u8],
        scales: &[u8],
        zero_points: &[u8],
        elements: Range<usize>,
        values: &mut [f32],
    ) -> Result<(), ProcessError<Infallible>> {
        let dtype = self.scheme.dtype;
        argument::range(&elements, self.blocks.element_count(), dtype)?;
        argument::elements("values", values.len(), elements.len())?;
        argument::codes(codes.len(), elements.len(), dtype)?;
        let stored = self.stored(scales, zero_points)?;
        let done = self.dequantize_chunk(codes, &stored, elements, values, &mut None);
        Ok(done?)
    }

    fn expect_codes(&self, codes: &[u8]) -> Result<(), ArgumentError> {
        let count = self.blocks.element_count();
        argument::codes(codes.len(), count, self.scheme.dtype)
    }

    fn announce_values(&self, target: FloatType, sink: &impl Sink) -> Result<(), ArgumentError> {
        let bytes = self.blocks.element_count().saturating_mul(target.size());
        sink.expect(bytes, 0, 0)
    }

    fn stored<'a>(
        &self,
        scales: &'a [u8],
        zero_points: &'a [u8],
    ) -> Result<StoredParams<'a>, ArgumentError> {
        let count = self.blocks.scale_count();
        argument::floats("scales", scales.len(), count, self.scale_type())?;
        argument::offsets(zero_points.len(), self.zero_points_len(), count)?;
        Ok(StoredParams {
            scales,
            zero_points,
        })
    }

    /// `codes` are those of the elements.
    // Long: one case per way in which blocks lie.
    fn dequantize_chunk<F: Element>(
        &self,
        codes: &[u8],
        stored: &StoredParams<'_>,
        elements: Range<usize>,
        values: &mut [F],
        rows: &mut Option<(Range<usize>, ParamTable)>,
    ) -> Result<(), Flaw> {
        let (backend, dtype) = (self.backend, self.scheme.dtype);
        if let Some(size) = self.biased_block_size()
            && elements.start.is_multiple_of(size)
        {
            let first = elements.start / size;
            return self.dequantize_biased(codes, stored, first, size, values);
        }
        let len = dtype.storage_len(elements.end) - dtype.storage_len(elements.start);
        assert_eq!(codes.len(), len, "the codes of the elements");
        let row = match self.blocks.arrangement() {
            Arrangement::Rows { len } if len <= ROW && dialects::has_kernels(self.scheme) => {
                Some(len)
            }
            Arrangement::Runs | Arrangement::Rows { .. } | Arrangement::Scattered => None,
        };
        let mut start = elements.start;
        while start < elements.end {
            let offset = start - elements.start;
            let end = match row {
                Some(row) => {
                    let group = self.blocks.group_of(start);
                    if !matches!(rows, Some((known, _)) if *known == group) {
                        *rows = Some((group.clone(), self.stored_rows(stored, &group, row)?));
                    }
                    let column = (start - group.start) % row;
                    let width = row * columns::repeats(row);
                    (start + width - column).min(group.end).min(elements.end)
                }
                None => {
                    let run = self.blocks.runs(start..elements.end).next();
                    run.map_or(elements.end, |run| run.elements.end)
                }
            };
            let values = &mut values[offset..end - elements.start];
            match (row, &*rows) {
                (Some(row), Some((group, table))) => {
                    let kernel_params = ElementParams {
                        rows: table.rows(),
                        len: row * columns::repeats(row),
                        has_zero_points: true,
                    };
                    let column = (start - group.start) % row;
                    let place = ParamLayout::PerElement(kernel_params).skip(column);
                    backend.dequantize_at(codes, dtype, place, self.scale_type(), values, offset);
                }
                _ => {
                    let scale = self.blocks.scale_of(start);
                    let params = self.stored_params(stored, scale)?;
                    let place = ParamLayout::stored(self.scheme, params);
                    backend.dequantize_at(codes, dtype, place, self.scale_type(), values, offset);
                }
            }
            start = end;
        }
        Ok(())
    }

    fn stored_rows(
        &self,
        stored: &StoredParams<'_>,
        group: &Range<usize>,
        row: usize,
    ) -> Result<ParamTable, Flaw> {
        let mut table = ParamTable::default();
        for run in self.blocks.runs(group.start..group.start + row) {
            let kernel_params = KernelParams::stored(self.stored_params(stored, run.scale)?);
            table.try_push(kernel_params, Division::Divide, run.elements.len())?;
        }
        table.try_repeat(columns::repeats(row))?;
        table.try_push(KernelParams::default(), Division::Divide, PADDING)?;
        Ok(table)
    }

    fn stored_params(
        &self,
        stored: &StoredParams<'_>,
        scale: usize,
    ) -> Result<Params, (usize, ParamsError)> {
        fn read<F: Element>(bytes: &[u8], scale: usize) -> f32 {
            let bytes = &bytes[scale * size_of::<F>()..][..size_of::<F>()];
            bytemuck::pod_read_unaligned::<F>(bytes).to_f32()
        }
        let value = match self.scale_type() {
            FloatType::F32 => read::<f32>(stored.scales, scale),
            FloatType::F16 => read::<f16>(stored.scales, scale),
            FloatType::Bf16 => read::<bf16>(stored.scales, scale),
        };
        let size = self.scheme.offset().size(self.scale_type());
        let offset = &stored.zero_points[scale * size..][..size];
        Params::from_stored(self.scheme, value, offset, self.scale_type())
            .map_err(|source| (scale, source))
    }
}
