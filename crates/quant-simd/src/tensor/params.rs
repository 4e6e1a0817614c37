//! Parameters of a tensor's scales, as they are stored.

use std::ops::Range;

use bytemuck::cast_slice;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use quant_core::{FloatType, Params};

use super::work::{Flaw, PassError};
use super::{Sink, TensorQuantizer};
use crate::Element;
use crate::columns::ColumnBounds;
use crate::memory::{self, NoMemory};
use crate::param_source::BLOCKS;
use crate::params::{BlockParams, SCALE};

/// Elements that are encoded at a time; together with their results they fit the first cache.
pub(super) const PIECE: usize = 2048;
impl TensorQuantizer {
    /// Parameters of the scales of a row, whose columns have these bounds.
    pub(super) fn row_params<F: Element>(
        &self,
        start: usize,
        row: usize,
        bounds: &ColumnBounds,
    ) -> Result<Vec<Params>, Flaw> {
        let mut columns = memory::filled(row, quant_core::ValueRange::EMPTY)?;
        bounds.merge_into(&mut columns);
        let mut params = Vec::new();
        for run in self.blocks.runs(start..start + row) {
            let columns = &columns[run.elements.start - start..run.elements.end - start];
            let range = columns
                .iter()
                .copied()
                .fold(quant_core::ValueRange::EMPTY, |a, b| a.merge(b));
            let found = self.scheme.params(&range, F::TYPE);
            let found = found.map_err(|source| (run.scale, source))?;
            memory::push(&mut params, found)?;
        }
        Ok(params)
    }

    pub(super) fn put_params<S: Sink>(
        &self,
        first: usize,
        params: &[Params],
        sink: &S,
    ) -> Result<(), PassError<S::Error>> {
        let mut stored = StoredParams::default();
        stored.extend(self, first, params)?;
        stored.put(self, sink).map_err(PassError::Sink)
    }
}

/// Parameters of scales that follow one another, as they are stored.
#[derive(Default)]
pub(super) struct StoredParams {
    first: usize,
    scales: Vec<u8>,
    zero_points: Vec<u8>,
}

impl StoredParams {
    /// Adds those from scale `first` on, which follows the ones that are there.
    pub(super) fn extend(
        &mut self,
        quantizer: &TensorQuantizer,
        first: usize,
        params: &[Params],
    ) -> Result<(), NoMemory> {
        if self.scales.is_empty() {
            self.first = first;
        }
        let (kind, size) = (quantizer.scheme.offset(), quantizer.scale_type().size());
        memory::reserve(&mut self.scales, params.len() * size)?;
        memory::reserve(
            &mut self.zero_points,
            params.len() * kind.size(quantizer.scale_type()),
        )?;
        for params in params {
            let scale = params.scale();
            match quantizer.scale_type() {
                FloatType::F32 => self.scales.extend(scale.to_le_bytes()),
                FloatType::F16 => self.scales.extend(f16::from_f32(scale).to_le_bytes()),
                FloatType::Bf16 => self.scales.extend(bf16::from_f32(scale).to_le_bytes()),
            }
            let end = self.zero_points.len();
            let size = kind.size(params.scale_type());
            memory::resize(&mut self.zero_points, end + size, 0)?;
            params.store_offset(kind, &mut self.zero_points[end..]);
        }
        Ok(())
    }

    /// Adds some of the blocks of a batch, whose first one has scale `first`.
    pub(super) fn extend_from_blocks(
        &mut self,
        quantizer: &TensorQuantizer,
        first: usize,
        kernel_params: &BlockParams<BLOCKS>,
        blocks: Range<usize>,
    ) -> Result<(), NoMemory> {
        if self.scales.is_empty() {
            self.first = first + blocks.start;
        }
        let scales = &kernel_params.floats[SCALE][blocks.clone()];
        match quantizer.scale_type() {
            FloatType::F32 => memory::extend(&mut self.scales, cast_slice(scales))?,
            FloatType::F16 => {
                let mut narrow = [f16::ZERO; BLOCKS];
                narrow[..scales.len()].convert_from_f32_slice(scales);
                memory::extend(&mut self.scales, cast_slice(&narrow[..scales.len()]))?;
            }
            FloatType::Bf16 => {
                let mut narrow = [bf16::ZERO; BLOCKS];
                narrow[..scales.len()].convert_from_f32_slice(scales);
                memory::extend(&mut self.scales, cast_slice(&narrow[..scales.len()]))?;
            }
        }
        if quantizer.scheme.stores_zero_point() {
            memory::reserve(&mut self.zero_points, blocks.len())?;
            let zero_points =
                blocks.map(|block| kernel_params.params_of(block, quantizer.scheme).1 as u8);
            self.zero_points.extend(zero_points);
        }
        Ok(())
    }

    /// Gives them to the sink.
    pub(super) fn put<S: Sink>(
        &self,
        quantizer: &TensorQuantizer,
        sink: &S,
    ) -> Result<(), S::Error> {
        if !self.scales.is_empty() {
            sink.scales(self.first * quantizer.scale_type().size(), &self.scales)?;
        }
        if !self.zero_points.is_empty() {
            let size = quantizer.scheme.offset().size(quantizer.scale_type());
            sink.zero_points(self.first * size, &self.zero_points)?;
        }
        Ok(())
    }
}
