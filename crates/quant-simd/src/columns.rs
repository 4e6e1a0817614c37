//! Matrices whose columns have scales of their own.

use quant_core::{FloatType, Packing, Params, Scheme, ValueRange, reference};

use crate::kernels::columns::ROWS;
use crate::memory::{self, NoMemory};
use crate::pack::clear_behind;
use crate::param_layout::{ElementParams, EncodeSpec, ParamLayout};
use crate::param_source::PADDING;
use crate::params::{KernelParams, ParamTable, code_shift};
use crate::slice::assert_storage;
use crate::{Backend, Element, dialects, stream};

impl Backend {
    /// Merges each column's range into `ranges`, for a row-major matrix of `ranges.len()` columns.
    ///
    /// # Panics
    /// If `values` is not a whole number of rows.
    #[track_caller]
    pub fn column_ranges<F: Element>(self, values: &[F], ranges: &mut [ValueRange]) {
        let count = ranges.len();
        if values.is_empty() {
            return;
        }
        assert_rows(values.len(), count);
        let mut bounds = ColumnBounds::new(count);
        bounds.widen(self, values, 0);
        bounds.merge_into(ranges);
    }

    /// Quantizes a row-major matrix whose columns have parameters of their own, and returns how
    /// many values were NaN or infinite. Codes are packed without gaps between rows.
    ///
    /// # Panics
    /// If `values` is not a whole number of rows, or `codes` does not have
    /// [`IntType::storage_len`](quant_core::IntType::storage_len) bytes.
    #[track_caller]
    pub fn quantize_columns<F: Element>(
        self,
        values: &[F],
        columns: &Columns,
        codes: &mut [u8],
    ) -> u64 {
        assert_storage(columns.scheme.dtype, values.len(), codes);
        assert_rows(values.len(), columns.count);
        let (got, expected) = (F::TYPE, columns.source);
        assert!(
            got == expected,
            "values of {got}, for columns made for {expected}"
        );
        if !dialects::has_kernels(columns.scheme) {
            return self.quantize_columns_by_reference(values, columns, codes);
        }
        self.quantize_stored(values, columns.spec(), columns.place(0), codes)
    }

    /// The values of what [`Backend::quantize_columns`] wrote.
    ///
    /// # Panics
    /// If `values` is not a whole number of rows, or `codes` does not have
    /// [`IntType::storage_len`](quant_core::IntType::storage_len) bytes.
    #[track_caller]
    pub fn dequantize_columns<F: Element>(self, codes: &[u8], columns: &Columns, values: &mut [F]) {
        let dtype = columns.scheme.dtype;
        assert_storage(dtype, values.len(), codes);
        assert_rows(values.len(), columns.count);
        if !dialects::has_kernels(columns.scheme) {
            let mut bytes = [0];
            for (i, value) in values.iter_mut().enumerate() {
                self.unpack(codes, i, dtype, &mut bytes);
                let params = columns.params[i % columns.count];
                let value = std::slice::from_mut(value);
                reference::dequantize(&bytes, columns.scheme, params, value);
            }
            return;
        }
        let step = columns.width();
        let stream = stream::is_worthwhile(codes.len(), size_of_val(values));
        let place = ParamLayout::PerElement(columns.element_params(&columns.stored));
        let scale_type = columns.scale_type;
        let rows = values
            .chunks_mut(step)
            .zip(codes.chunks(dtype.storage_len(step)));
        for (values, codes) in rows {
            self.dequantize_through(codes, dtype, place, scale_type, values, stream);
        }
    }
}

impl Backend {
    fn quantize_columns_by_reference<F: Element>(
        self,
        values: &[F],
        columns: &Columns,
        codes: &mut [u8],
    ) -> u64 {
        let (scheme, mut byte, mut non_finite) = (columns.scheme, [0], 0);
        for (i, value) in values.iter().enumerate() {
            let params = columns.params[i % columns.count];
            non_finite +=
                reference::quantize(std::slice::from_ref(value), scheme, params, &mut byte);
            self.pack(&byte, scheme.dtype, codes, i);
        }
        clear_behind(codes, scheme.dtype, values.len());
        non_finite
    }
}

/// The parameters of a matrix' columns, laid out for the kernels.
#[derive(Clone, Debug)]
pub struct Columns {
    scheme: Scheme,
    source: FloatType,
    scale_type: FloatType,
    count: usize,
    repeats: usize,
    kernel_params: ParamTable,
    stored: ParamTable,
    /// As they are, for the reference.
    params: Vec<Params>,
}

impl Columns {
    /// Parameters per column, for values of type `source`.
    ///
    /// # Panics
    /// If the scales are not all of one type.
    pub fn new(scheme: Scheme, source: FloatType, params: &[Params]) -> Self {
        let scale_type = params.first().map_or(FloatType::F32, Params::scale_type);
        let count = params.len();
        let repeats = match scheme.dtype.packing() {
            Packing::Bytes | Packing::Nibbles => repeats(count),
            // Whole rows of bytes, whatever the bits.
            Packing::Bits(_) => repeats(count).next_multiple_of(8),
        };
        let (mut kernel_params, mut stored) = (ParamTable::default(), ParamTable::default());
        for &column in params {
            assert_eq!(column.scale_type(), scale_type, "scales of one type");
            let (own, division) = KernelParams::new(scheme, source, column);
            kernel_params.push(own, division, 1);
            stored.push(KernelParams::stored(column), division, 1);
        }
        for table in [&mut kernel_params, &mut stored] {
            let repeated = table.try_repeat(repeats);
            repeated.unwrap_or_else(|lack| lack.end());
        }
        kernel_params.push(KernelParams::default(), kernel_params.division(), PADDING);
        stored.push(KernelParams::default(), stored.division(), PADDING);
        Self {
            scheme,
            source,
            scale_type,
            count,
            repeats,
            kernel_params,
            stored,
            params: params.to_vec(),
        }
    }

    pub(crate) fn spec(&self) -> EncodeSpec {
        EncodeSpec {
            scheme: self.scheme,
            division: self.kernel_params.division(),
            scale_type: self.scale_type,
        }
    }

    /// The parameters from column `first` on.
    pub(crate) fn place(&self, first: usize) -> ParamLayout<'_> {
        ParamLayout::PerElement(self.element_params(&self.kernel_params)).skip(first)
    }

    fn element_params<'a>(&self, table: &'a ParamTable) -> ElementParams<'a> {
        ElementParams {
            rows: table.rows(),
            len: self.width(),
            has_zero_points: table.has_zero_points() || code_shift(self.scheme.dtype) != 0,
        }
    }

    /// Elements after which the parameters begin again.
    pub(crate) fn width(&self) -> usize {
        (self.count * self.repeats).max(1)
    }
}

#[track_caller]
fn assert_rows(values: usize, columns: usize) {
    assert!(
        values == 0 || columns > 0 && values.is_multiple_of(columns),
        "{values} values are no whole number of rows of {columns}"
    );
}

/// Rows that are treated as one: narrow ones together fill vectors, and an even number of columns
/// keeps packed codes at whole bytes.
pub(crate) fn repeats(columns: usize) -> usize {
    let repeats = 512_usize.div_ceil(columns.max(1));
    match columns % 2 {
        1 => repeats.next_multiple_of(2),
        _ => repeats,
    }
}

/// Ranges of columns, as they grow.
pub(crate) struct ColumnBounds {
    count: usize,
    min: Vec<f32>,
    max: Vec<f32>,
    non_finite: Vec<u64>,
}

impl ColumnBounds {
    pub(crate) fn new(count: usize) -> Self {
        Self::try_new(count).unwrap_or_else(|lack| lack.end())
    }

    pub(crate) fn try_new(count: usize) -> Result<Self, NoMemory> {
        let width = count * repeats(count);
        Ok(Self {
            count,
            min: memory::filled(width, f32::INFINITY)?,
            max: memory::filled(width, f32::NEG_INFINITY)?,
            non_finite: memory::filled(count, 0)?,
        })
    }

    /// Adds elements that follow one another, from column `first` on.
    pub(crate) fn widen<F: Element>(&mut self, backend: Backend, values: &[F], first: usize) {
        let width = self.min.len();
        let (head, rows) = values.split_at(((width - first) % width).min(values.len()));
        self.widen_rows(backend, [head; ROWS], first);
        let mut whole = rows.chunks_exact(width * ROWS);
        for rows in &mut whole {
            let (a, b) = rows.split_at(2 * width);
            let ((a, b), (c, d)) = (a.split_at(width), b.split_at(width));
            self.widen_rows(backend, [a, b, c, d], 0);
        }
        for row in whole.remainder().chunks(width) {
            self.widen_rows(backend, [row; ROWS], 0);
        }
    }

    fn widen_rows<F: Element>(&mut self, backend: Backend, rows: [&[F]; ROWS], first: usize) {
        let columns = first..first + rows[0].len();
        let (min, max) = (&mut self.min[columns.clone()], &mut self.max[columns]);
        let finite = F::bound_columns(backend, rows, min, max);
        if !finite {
            for (r, row) in rows.iter().enumerate() {
                if rows[..r].iter().any(|other| core::ptr::eq(*other, *row)) {
                    continue;
                }
                for (i, value) in row.iter().enumerate() {
                    let finite = value.to_f32().is_finite();
                    self.non_finite[(first + i) % self.count] += u64::from(!finite);
                }
            }
        }
    }

    /// The bounds of both.
    pub(crate) fn merge(mut self, other: Self) -> Self {
        for (low, other) in self.min.iter_mut().zip(other.min) {
            *low = low.min(other);
        }
        for (high, other) in self.max.iter_mut().zip(other.max) {
            *high = high.max(other);
        }
        for (count, other) in self.non_finite.iter_mut().zip(other.non_finite) {
            *count += other;
        }
        self
    }

    pub(crate) fn merge_into(&self, ranges: &mut [ValueRange]) {
        // Row by row: a remainder for each column takes longer than its values.
        let count = self.count.max(1);
        let rows = self.min.chunks_exact(count);
        for (min, max) in rows.zip(self.max.chunks_exact(count)) {
            for ((range, &min), &max) in ranges.iter_mut().zip(min).zip(max) {
                *range = range.merge(ValueRange {
                    min,
                    max,
                    non_finite: 0,
                });
            }
        }
        for (range, non_finite) in ranges.iter_mut().zip(&self.non_finite) {
            range.non_finite += non_finite;
        }
    }
}
