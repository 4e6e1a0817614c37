//! Counts of values in bins.

use super::{Group, groups, padded};
use crate::isa::{Isa, Kernel};
use crate::lane::Lane;

/// Cells that [`CountBins`] counts in.
pub const CELLS: usize = 8192;

/// The histograms that the cells are, one after the other: so many cells each, of which the first
/// `bins` count.
pub const fn histogram_len(bins: usize) -> usize {
    if bins <= SMALL { SMALL } else { CELLS }
}

/// Bins of which several histograms fit the first cache, beside the values.
pub const SMALL: usize = 2048;

/// Adds 1 to the cell of each value's bin. Values are finite, and have a bin.
///
/// Neighbours count in histograms of their own, whose sum is the histogram: an addition need not
/// wait for that of the same bin just before.
pub struct CountBins<'a, F, const BINS: usize, const HISTOGRAMS: usize> {
    /// The values.
    pub values: &'a [F],
    /// The reciprocal of a bin's width.
    pub per_width: f32,
    /// The bin that begins at zero.
    pub middle: i32,
    /// The counts.
    pub cells: &'a mut [[u32; BINS]; HISTOGRAMS],
}

impl<'a, F, const BINS: usize, const HISTOGRAMS: usize> CountBins<'a, F, BINS, HISTOGRAMS> {
    /// Bins of 2 to the power of `exponent`.
    pub fn new(values: &'a [F], exponent: i32, bins: usize, cells: &'a mut [u32; CELLS]) -> Self {
        let (cells, _) = cells.as_chunks_mut();
        Self {
            values,
            // A normal power of two, by which products are exact: see `Histogram`.
            per_width: f32::from_bits(((127 - exponent) as u32) << 23),
            middle: (bins / 2) as i32,
            cells: cells
                .try_into()
                .expect("as many histograms as there are cells for"),
        }
    }
}

/// The bins of the values, lanes in order.
#[inline(always)]
fn bins<I: Isa, F: Lane>(
    isa: I,
    group: &Group<F, I>,
    per_width: I::F32,
    before: I::I32,
) -> [I::I32; 4] {
    let mut bins = [before; 4];
    for v in 0..4 {
        let from_zero = isa.bin(F::widen(isa, group[v]), per_width);
        bins[v] = isa.sub_i32(from_zero, before);
    }
    bins
}

impl<F: Lane, const BINS: usize, const HISTOGRAMS: usize> Kernel
    for CountBins<'_, F, BINS, HISTOGRAMS>
{
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let per_width = isa.splat(self.per_width);
        let before = isa.splat_i32(-self.middle);
        let (values, rest) = groups::<Group<F, I>, F>(self.values);
        for group in values {
            let bins = bins::<I, F>(isa, group, per_width, before);
            // Which histogram it is must be known where the loop is compiled.
            let lanes = bytemuck::cast_slice::<_, i32>(&bins)
                .as_chunks::<HISTOGRAMS>()
                .0;
            for neighbours in lanes {
                for i in 0..HISTOGRAMS {
                    self.cells[i][neighbours[i] as usize % BINS] += 1;
                }
            }
        }
        if !rest.is_empty() {
            let group = padded::<Group<F, I>, F>(rest);
            let bins = bins::<I, F>(isa, &group, per_width, before);
            let lanes = bytemuck::cast_slice::<_, i32>(&bins);
            for i in 0..rest.len() {
                self.cells[i % HISTOGRAMS][lanes[i] as usize % BINS] += 1;
            }
        }
    }
}
