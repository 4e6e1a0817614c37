//! The ranges of columns.

use super::{groups_mut, padded, unpadded};
use crate::isa::{Isa, Kernel};
use crate::lane::Lane;

/// Rows read at once: so many streams, and a bound is loaded and stored once for all of them.
pub const ROWS: usize = 4;

/// Widens the bounds of each column, by up to [`ROWS`] rows; whether all values are finite.
pub struct BoundColumns<'a, F> {
    /// One slice per row; rows that are not there repeat another one.
    pub rows: [&'a [F]; ROWS],
    /// The smallest values so far.
    pub min: &'a mut [f32],
    /// The largest values so far.
    pub max: &'a mut [f32],
}

impl<F: Lane> Kernel for BoundColumns<'_, F> {
    type Output = bool;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> bool {
        let [a, b, c, d] = self.rows;
        let whole = a.len() - a.len() % I::LANES;
        let rows: [&[F::Vector<I>]; ROWS] = [
            bytemuck::cast_slice(&a[..whole]),
            bytemuck::cast_slice(&b[..whole]),
            bytemuck::cast_slice(&c[..whole]),
            bytemuck::cast_slice(&d[..whole]),
        ];
        let (min, rest_min) = groups_mut::<I::F32, f32>(self.min);
        let (max, rest_max) = groups_mut::<I::F32, f32>(self.max);
        let mut sums = [isa.splat(0.0); ROWS];
        for i in 0..whole / I::LANES {
            let rows = [rows[0][i], rows[1][i], rows[2][i], rows[3][i]];
            bound::<I, F>(isa, rows, &mut sums, &mut min[i], &mut max[i]);
        }
        if whole < a.len() {
            let rows = [
                padded(&a[whole..]),
                padded(&b[whole..]),
                padded(&c[whole..]),
                padded(&d[whole..]),
            ];
            let (mut low, mut high) = (padded(rest_min), padded(rest_max));
            bound::<I, F>(isa, rows, &mut sums, &mut low, &mut high);
            unpadded(low, rest_min);
            unpadded(high, rest_max);
        }
        let sum = isa.add(isa.add(sums[0], sums[1]), isa.add(sums[2], sums[3]));
        let mut finite = isa.splat_i32(0);
        isa.count_finite(sum, &mut finite);
        super::lane_sum(finite) == I::LANES as u64
    }
}

#[inline(always)]
fn bound<I: Isa, F: Lane>(
    isa: I,
    rows: [F::Vector<I>; ROWS],
    sums: &mut [I::F32; ROWS],
    min: &mut I::F32,
    max: &mut I::F32,
) {
    let (mut low, mut high) = (*min, *max);
    let zero = isa.splat(0.0);
    for r in 0..ROWS {
        let value = F::widen(isa, rows[r]);
        sums[r] = match I::RECIPROCAL {
            true => isa.fma(value, zero, sums[r]),
            false => isa.add(value, sums[r]),
        };
        let (mut a, mut b) = (value, value);
        if !I::MIN_SKIPS_NAN {
            a = isa.if_number(value, value, low);
            b = isa.if_number(value, value, high);
        }
        low = isa.min(a, low);
        high = isa.max(b, high);
    }
    *min = low;
    *max = high;
}
