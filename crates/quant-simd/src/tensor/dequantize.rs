//! From codes, scales and zero points to values.

use std::ops::Range;

use half::{bf16, f16};
use quant_core::{Arrangement, FloatType, Params, ParamsError};
use rayon::prelude::*;

use super::erased::{Erased, Refused, erased};
use super::values::Values;
use super::{Failure, Sink, TensorQuantizer, chunks};
use crate::place::{ElementTerms, Place};
use crate::source::PADDING;
use crate::terms::{Division, TermTable, Terms};
use crate::{Element, columns, dialects};

/// Elements of a row that has terms in a table.
const ROW: usize = 1 << 16;
/// Elements for which such a table is made.
const SLAB: usize = 1 << 20;

/// The parts of a quantized tensor.
struct Stored<'a> {
    codes: &'a [u8],
    scales: &'a [u8],
    zero_points: &'a [u8],
}

impl TensorQuantizer {
    /// Dequantizes into `sink.codes` as little-endian values of type `target`. `zero_points` is
    /// empty where the scheme stores none.
    ///
    /// # Errors
    /// A scale or zero point that cannot be, or the sink's error.
    ///
    /// # Panics
    /// If a buffer does not have the geometry's size.
    pub fn dequantize<S: Sink>(
        &self,
        codes: &[u8],
        scales: &[u8],
        zero_points: &[u8],
        target: FloatType,
        sink: &S,
    ) -> Result<(), Failure<S::Error>> {
        let stored = self.stored(codes, scales, zero_points);
        erased(sink, |sink| self.dequantize_stored(&stored, target, sink))
    }

    // Not generic, and never inlined: so the driver is compiled here.
    #[inline(never)]
    fn dequantize_stored(
        &self,
        stored: &Stored<'_>,
        target: FloatType,
        sink: &Erased<'_>,
    ) -> Result<(), Failure<Refused>> {
        match target {
            FloatType::F32 => self.dequantize_to::<f32, _>(stored, sink),
            FloatType::F16 => self.dequantize_to::<f16, _>(stored, sink),
            FloatType::Bf16 => self.dequantize_to::<bf16, _>(stored, sink),
        }
    }

    fn dequantize_to<F: Element, S: Sink>(
        &self,
        stored: &Stored<'_>,
        sink: &S,
    ) -> Result<(), Failure<S::Error>> {
        let n = self.blocks.element_count();
        let slabs: Vec<_> = (0..n)
            .step_by(SLAB)
            .map(|start| start..(start + SLAB).min(n))
            .collect();
        slabs.into_par_iter().try_for_each(|slab| {
            let mut values = Vec::new();
            let mut rows = None;
            for chunk in chunks(slab) {
                values.resize(chunk.len(), F::zeroed());
                self.dequantize_chunk(stored, chunk.clone(), &mut values, &mut rows)
                    .map_err(|(block, source)| Failure::Params { block, source })?;
                sink.codes(chunk.start * size_of::<F>(), bytemuck::cast_slice(&values))
                    .map_err(Failure::Sink)?;
            }
            Ok(())
        })
    }

    /// Dequantizes some elements, which start at a multiple of [`Packing::unit`], to f32.
    ///
    /// # Errors
    /// The block and what is wrong with its scale or zero point.
    ///
    /// # Panics
    /// If a buffer does not have the geometry's size, or the range starts within a byte.
    pub fn dequantize_range(
        &self,
        codes: &[u8],
        scales: &[u8],
        zero_points: &[u8],
        elements: Range<usize>,
        values: &mut [f32],
    ) -> Result<(), (usize, ParamsError)> {
        let unit = self.scheme.dtype.packing().unit();
        assert!(elements.start.is_multiple_of(unit), "a start of a byte");
        let stored = self.stored(codes, scales, zero_points);
        self.dequantize_chunk(&stored, elements, values, &mut None)
    }

    fn stored<'a>(&self, codes: &'a [u8], scales: &'a [u8], zero_points: &'a [u8]) -> Stored<'a> {
        assert_eq!(codes.len(), self.codes_len(), "the geometry's shape");
        assert_eq!(scales.len(), self.scales_len(), "the geometry's scales");
        assert_eq!(zero_points.len(), self.zero_points_len(), "the zero points");
        Stored {
            codes,
            scales,
            zero_points,
        }
    }

    fn dequantize_chunk<F: Element>(
        &self,
        stored: &Stored<'_>,
        elements: Range<usize>,
        values: &mut [F],
        rows: &mut Option<(Range<usize>, TermTable)>,
    ) -> Result<(), (usize, ParamsError)> {
        let (backend, dtype) = (self.backend, self.scheme.dtype);
        let first = dtype.storage_len(elements.start);
        let codes = &stored.codes[first..dtype.storage_len(elements.end)];
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
                    let terms = ElementTerms {
                        rows: table.rows(),
                        len: row * columns::repeats(row),
                        has_zero_points: true,
                    };
                    let column = (start - group.start) % row;
                    let place = Place::PerElement(terms).skip(column);
                    backend.dequantize_at(codes, dtype, place, self.scale_type(), values, offset);
                }
                _ => {
                    let scale = self.blocks.scale_of(start);
                    let params = self.stored_params(stored, scale)?;
                    let place = Place::stored(self.scheme, params);
                    backend.dequantize_at(codes, dtype, place, self.scale_type(), values, offset);
                }
            }
            start = end;
        }
        Ok(())
    }

    fn stored_rows(
        &self,
        stored: &Stored<'_>,
        group: &Range<usize>,
        row: usize,
    ) -> Result<TermTable, (usize, ParamsError)> {
        let mut table = TermTable::default();
        for _ in 0..columns::repeats(row) {
            for run in self.blocks.runs(group.start..group.start + row) {
                let terms = Terms::stored(self.stored_params(stored, run.scale)?);
                table.push(terms, Division::Divide, run.elements.len());
            }
        }
        table.push(Terms::default(), Division::Divide, PADDING);
        Ok(table)
    }

    fn stored_params(
        &self,
        stored: &Stored<'_>,
        scale: usize,
    ) -> Result<Params, (usize, ParamsError)> {
        fn read<F: Element>(bytes: &[u8], scale: usize) -> f32 {
            Values::<F>::new(bytes).with(scale..scale + 1, |values| values[0].to_f32())
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
