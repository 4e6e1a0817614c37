//! Counts of values in bins.

use super::{Group, groups, padded};
use crate::Element;
use crate::isa::{Isa, Kernel};

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

/// The bins of the values, lanes in order.
#[inline(always)]
fn bins<I: Isa, F: Element>(
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

impl<F: Element, const BINS: usize, const HISTOGRAMS: usize> Kernel
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
            let lanes = bytemuck::cast_slice::<_, i32>(&bins);
            for i in 0..lanes.len() {
                self.cells[i % HISTOGRAMS][lanes[i] as usize % BINS] += 1;
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
