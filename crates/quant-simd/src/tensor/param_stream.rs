//! Parameters for the elements of a chunk, segment by segment.

use std::marker::PhantomData;
use std::ops::Range;

use quant_core::{Arrangement, Params, Search};

use super::TensorQuantizer;
use super::params::{PIECE, StoredParams};
use super::search::Searcher;
use super::values::Values;
use super::work::Flaw;
use crate::Element;
use crate::columns::{ColumnBounds, repeats};
use crate::kernels::blocks::BATCH;
use crate::memory::{self, NoMemory};
use crate::param_layout::{ElementParams, EncodeSpec, ParamLayout, is_block_size};
use crate::param_source::BLOCKS;
use crate::param_source::PADDING;
use crate::params::{BlockParams, Division, KernelParams, ParamTable, code_shift};

/// Where the encoder finds parameters.
pub(super) trait ParamStream {
    /// Parameters of elements from `position` on, at most so many; and how many they serve, which is
    /// an even number or up to the end of a chunk where they are per block.
    ///
    /// # Errors
    /// A block without usable parameters, no memory.
    fn at(
        &mut self,
        position: usize,
        most: usize,
    ) -> Result<(usize, EncodeSpec, ParamLayout<'_>), Flaw>;
}

/// Parameters of groups that follow one another, found as they are needed.
pub(super) struct Groups<'a, F> {
    quantizer: &'a TensorQuantizer,
    values: Values<'a, F>,
    /// Groups that start before this were put into the sink by someone else.
    start: usize,
    /// The parameters found so far.
    pub(super) params: StoredParams,
    /// One.
    blocks: Vec<BlockParams<BLOCKS>>,
    searcher: Searcher<F>,
    now: Current,
}

/// The parameters at hand.
enum Current {
    Nothing,
    Run(Range<usize>, EncodeSpec, ParamLayout<'static>),
    /// The first [`BATCH`] of [`Groups::blocks`].
    Batch(Range<usize>, EncodeSpec),
    Rows(RowParams),
}

impl Current {
    fn elements(&self) -> Range<usize> {
        match self {
            Self::Nothing => 0..0,
            Self::Run(elements, ..) | Self::Batch(elements, _) => elements.clone(),
            Self::Rows(kernel_params) => kernel_params.group.clone(),
        }
    }
}

impl<'a, F: Element> Groups<'a, F> {
    pub(super) fn new(
        quantizer: &'a TensorQuantizer,
        values: Values<'a, F>,
        start: usize,
    ) -> Result<Self, NoMemory> {
        Ok(Self {
            quantizer,
            values,
            start,
            params: StoredParams::default(),
            blocks: memory::filled(1, BlockParams::default())?,
            searcher: Searcher::default(),
            now: Current::Nothing,
        })
    }

    fn found(&mut self, group: &Range<usize>, params: &[Params]) -> Result<(), NoMemory> {
        if group.start >= self.start {
            let first = self.quantizer.blocks.scale_of(group.start);
            self.params.extend(self.quantizer, first, params)?;
        }
        Ok(())
    }

    fn find(&mut self, position: usize) -> Result<(), Flaw> {
        let quantizer = self.quantizer;
        let (backend, scheme, blocks) = (quantizer.backend, quantizer.scheme, &quantizer.blocks);
        let group = blocks.group_of(position);
        if let Arrangement::Rows { len } = blocks.arrangement() {
            let mut bounds = ColumnBounds::try_new(len)?;
            self.values
                .with(group.clone(), |values| bounds.widen(backend, values, 0))?;
            let mut params = quantizer.row_params::<F>(group.start, len, &bounds)?;
            let (searcher, rows) = (&mut self.searcher, (group.start, len));
            self.values.with(group.clone(), |values| {
                searcher.search_rows(quantizer, values, rows, &mut params)
            })??;
            self.found(&group, &params)?;
            self.now = Current::Rows(RowParams::new::<F>(quantizer, group, len, &params)?);
            return Ok(());
        }
        if let Some((batch, division)) = self.batch(&group)? {
            let known = self.start.saturating_sub(batch.start);
            let known = known.div_ceil(group.len()).min(BATCH);
            let first = blocks.scale_of(batch.start);
            self.params
                .extend_from_blocks(quantizer, first, &self.blocks[0], known..BATCH)?;
            self.now = Current::Batch(batch, quantizer.spec(division));
            return Ok(());
        }
        let range = self
            .values
            .with(group.clone(), |values| backend.range(values))?;
        let scale = blocks.scale_of(group.start);
        let params = scheme
            .params(&range, F::TYPE)
            .map_err(|source| (scale, source))?;
        let searcher = &mut self.searcher;
        let params = self.values.with(group.clone(), |values| {
            searcher.search_run(quantizer, values, group.start, params)
        })??;
        self.found(&group, &[params])?;
        let (spec, place) = EncodeSpec::new::<F>(quantizer.encoding_scheme(), params);
        self.now = Current::Run(group, spec, place);
        Ok(())
    }

    /// A batch of blocks that starts with this one, if it is a usual size and all are ordinary.
    fn batch(
        &mut self,
        group: &Range<usize>,
    ) -> Result<Option<(Range<usize>, Division)>, NoMemory> {
        let (quantizer, size) = (self.quantizer, group.len());
        let batch = group.start..group.start + BATCH * size;
        // Ragged rows have shorter blocks in between.
        let whole = is_block_size(size)
            && BATCH * size <= PIECE
            && batch.end <= quantizer.blocks.element_count()
            && !quantizer.blocks.is_ragged();
        if !whole {
            return Ok(None);
        }
        let (kernel_params, searcher) = (&mut self.blocks[0], &mut self.searcher);
        let division = self.values.with(batch.clone(), |values| {
            let backend = quantizer.backend;
            let scheme = quantizer.scheme;
            let division = F::block_terms(backend, values, size, scheme, kernel_params);
            match (division, quantizer.search) {
                (Some(division), Search::Mse) => {
                    searcher.search_batch(quantizer, values, batch.start, division, kernel_params)
                }
                (_, Search::None) | (None, _) => Ok(division),
            }
        })??;
        Ok(division.map(|division| (batch, division)))
    }
}

impl<F: Element> ParamStream for Groups<'_, F> {
    fn at(
        &mut self,
        position: usize,
        most: usize,
    ) -> Result<(usize, EncodeSpec, ParamLayout<'_>), Flaw> {
        if !self.now.elements().contains(&position) {
            self.find(position)?;
        }
        let count = (self.now.elements().end - position).min(most);
        Ok(match &self.now {
            Current::Nothing => unreachable!("just found"),
            Current::Run(_, spec, place) => (count, *spec, *place),
            Current::Rows(kernel_params) => kernel_params.at(position, count),
            Current::Batch(elements, spec) => {
                let size = elements.len() / BATCH;
                let inside = position - elements.start;
                if inside == 0 && count.is_multiple_of(size) {
                    return Ok((
                        count,
                        *spec,
                        ParamLayout::PerBlock(self.blocks[0].rows(), size, true),
                    ));
                }
                // At the border of a piece.
                let kernel_params = self.blocks[0].of(inside / size);
                let count = count.min(size - inside % size);
                (count, *spec, ParamLayout::Uniform(kernel_params))
            }
        })
    }
}

/// The parameters of a group of rows.
pub(super) struct RowParams {
    group: Range<usize>,
    row: usize,
    /// Elements after which the table ends: whole rows.
    width: usize,
    spec: EncodeSpec,
    table: ParamTable,
    has_zero_points: bool,
}

impl RowParams {
    pub(super) fn new<F: Element>(
        quantizer: &TensorQuantizer,
        group: Range<usize>,
        row: usize,
        params: &[Params],
    ) -> Result<Self, NoMemory> {
        let mut table = ParamTable::default();
        let repeats = repeats(row);
        let scheme = quantizer.encoding_scheme();
        let runs = quantizer.blocks.runs(group.start..group.start + row);
        for (run, &params) in runs.zip(params) {
            let (spec, kernel_params) = EncodeSpec::with_params::<F>(scheme, params);
            table.try_push(kernel_params, spec.division, run.elements.len())?;
        }
        table.try_repeat(repeats)?;
        let division = table.division();
        table.try_push(KernelParams::default(), division, PADDING)?;
        let shifted = code_shift(quantizer.scheme.dtype) != 0;
        Ok(Self {
            group,
            row,
            width: row * repeats,
            spec: quantizer.spec(division),
            has_zero_points: shifted || table.has_zero_points(),
            table,
        })
    }

    fn at(&self, position: usize, most: usize) -> (usize, EncodeSpec, ParamLayout<'_>) {
        let column = (position - self.group.start) % self.row;
        let kernel_params = ElementParams {
            rows: self.table.rows(),
            len: self.width,
            has_zero_points: self.has_zero_points,
        };
        let count = most.min(self.width - column);
        (
            count,
            self.spec,
            ParamLayout::PerElement(kernel_params).skip(column),
        )
    }
}

pub(super) struct TwoGroupStream<'a>(pub(super) (&'a Option<RowParams>, &'a RowParams));

impl ParamStream for TwoGroupStream<'_> {
    fn at(
        &mut self,
        position: usize,
        most: usize,
    ) -> Result<(usize, EncodeSpec, ParamLayout<'_>), Flaw> {
        let (before, now) = self.0;
        Ok(match before {
            Some(before) if before.group.contains(&position) => {
                before.at(position, most.min(before.group.end - position))
            }
            _ => now.at(position, most),
        })
    }
}

/// Parameters that are all known.
pub(super) struct KnownParams<'a, F> {
    pub(super) quantizer: &'a TensorQuantizer,
    pub(super) params: &'a [Params],
    pub(super) values: PhantomData<F>,
}

impl<F: Element> ParamStream for KnownParams<'_, F> {
    fn at(
        &mut self,
        position: usize,
        most: usize,
    ) -> Result<(usize, EncodeSpec, ParamLayout<'_>), Flaw> {
        let Self {
            quantizer, params, ..
        } = *self;
        let mut runs = quantizer.blocks.runs(position..position + most);
        let run = runs.next().expect("elements that are there");
        let params = params[run.scale];
        let (spec, place) = EncodeSpec::new::<F>(quantizer.encoding_scheme(), params);
        Ok((run.elements.len(), spec, place))
    }
}

impl TensorQuantizer {
    fn spec(&self, division: Division) -> EncodeSpec {
        EncodeSpec {
            scheme: self.encoding_scheme(),
            division,
            scale_type: self.scale_type(),
        }
    }
}
