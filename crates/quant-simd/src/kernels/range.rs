//! Smallest and largest value.

use quant_core::ValueRange;

use super::{Group, groups, lane_sum, padded};
use crate::isa::{Isa, Kernel, TILE};
use crate::lane::Lane;

/// The range of values, and how many are NaN or infinite.
///
/// The fast path also adds up `0 * value`: the sum is NaN where a value is NaN or infinite. Such a
/// tile is done again.
pub struct FindRange<'a, F> {
    /// The values.
    pub values: &'a [F],
    /// Whether they are in no cache: then they are read at [`STREAMS`] places in turn, so that as
    /// many pages are on their way at once.
    pub far: bool,
}

/// Places to read at.
const STREAMS: usize = 4;

/// Bounds, per vector of a group.
#[derive(Clone, Copy)]
struct Bounds<I: Isa> {
    min: [I::F32; 4],
    max: [I::F32; 4],
}

/// The slow path: NaN is left out, infinities are not; how many lanes were finite.
#[inline(always)]
fn bound_slow<I: Isa, F: Lane>(isa: I, groups: &[Group<F, I>], bounds: &mut Bounds<I>) -> u64 {
    let mut finite = isa.splat_i32(0);
    for group in groups {
        for v in 0..4 {
            let value = F::widen(isa, group[v]);
            isa.count_finite(value, &mut finite);
            let low = isa.if_number(value, value, bounds.min[v]);
            let high = isa.if_number(value, value, bounds.max[v]);
            bounds.min[v] = isa.min(low, bounds.min[v]);
            bounds.max[v] = isa.max(high, bounds.max[v]);
        }
    }
    lane_sum(finite)
}

/// The fast path, for slices of one length in turn; whether all values are finite.
#[inline(always)]
fn bound<I: Isa, F: Lane, const N: usize>(
    isa: I,
    streams: [&[Group<F, I>]; N],
    bounds: &mut Bounds<I>,
) -> bool {
    let zero = isa.splat(0.0);
    let mut sums = [zero; 4];
    for i in 0..N * streams[0].len() {
        let group = &streams[i % N][i / N];
        for v in 0..4 {
            let value = F::widen(isa, group[v]);
            if I::KEEPS_NAN {
                bounds.min[v] = isa.min_or_nan(value, bounds.min[v]);
                bounds.max[v] = isa.max_or_nan(value, bounds.max[v]);
                continue;
            }
            sums[v] = match I::RECIPROCAL {
                true => isa.fma(value, zero, sums[v]),
                false => isa.add(value, sums[v]),
            };
            bounds.min[v] = isa.min(value, bounds.min[v]);
            bounds.max[v] = isa.max(value, bounds.max[v]);
        }
    }
    if I::KEEPS_NAN {
        for v in 0..4 {
            sums[v] = isa.mul(isa.sub(bounds.max[v], bounds.min[v]), zero);
        }
    }
    let sum = isa.add(isa.add(sums[0], sums[1]), isa.add(sums[2], sums[3]));
    let mut finite = isa.splat_i32(0);
    isa.count_finite(sum, &mut finite);
    lane_sum(finite) == I::LANES as u64
}

impl<F: Lane> Kernel for FindRange<'_, F> {
    type Output = ValueRange;

    #[inline(always)]
    // Long: one loop over tiles and its end.
    fn run<I: Isa>(self, isa: I) -> ValueRange {
        let mut bounds = Bounds {
            min: [isa.splat(f32::INFINITY); 4],
            max: [isa.splat(f32::NEG_INFINITY); 4],
        };
        let (values, rest) = groups::<Group<F, I>, F>(self.values);
        let mut non_finite = 0;
        let quarter = match self.far {
            true => values.len() / STREAMS,
            false => 0,
        };
        let (far, near) = values.split_at(STREAMS * quarter);
        for start in (0..quarter).step_by(4 * TILE) {
            let tile = start..Ord::min(start + 4 * TILE, quarter);
            let mut streams = [&far[..0]; STREAMS];
            for s in 0..STREAMS {
                streams[s] = &far[s * quarter..][tile.clone()];
            }
            let before = bounds;
            if !bound::<I, F, STREAMS>(isa, streams, &mut bounds) {
                bounds = before;
                for tile in streams {
                    let lanes = (tile.len() * 4 * I::LANES) as u64;
                    non_finite += lanes - bound_slow::<I, F>(isa, tile, &mut bounds);
                }
            }
        }
        for tile in near.chunks(16 * TILE) {
            let before = bounds;
            if !bound::<I, F, 1>(isa, [tile], &mut bounds) {
                bounds = before;
                let lanes = (tile.len() * 4 * I::LANES) as u64;
                non_finite += lanes - bound_slow::<I, F>(isa, tile, &mut bounds);
            }
        }
        if let Some(&first) = rest.first() {
            // Padded with what is there already.
            let mut group = padded::<Group<F, I>, F>(rest);
            let lanes = bytemuck::cast_slice_mut::<_, F>(core::slice::from_mut(&mut group));
            lanes[rest.len()..].fill(first);
            let padding = match first.to_f32().is_finite() {
                true => 0,
                false => lanes.len() - rest.len(),
            };
            let lanes = lanes.len() as u64;
            let finite = bound_slow::<I, F>(isa, &[group], &mut bounds);
            non_finite += lanes - finite - padding as u64;
        }
        let mut range = ValueRange {
            non_finite,
            ..ValueRange::EMPTY
        };
        let [a, b, c, d] = bounds.min;
        let low = isa.min(isa.min(a, b), isa.min(c, d));
        let [a, b, c, d] = bounds.max;
        let high = isa.max(isa.max(a, b), isa.max(c, d));
        let (mut lows, mut highs) = ([low], [high]);
        let lows: &mut [f32] = bytemuck::cast_slice_mut(&mut lows);
        let highs: &mut [f32] = bytemuck::cast_slice_mut(&mut highs);
        let mut half = I::LANES / 2;
        while half > 0 {
            for i in 0..half {
                let (low, high) = (lows[i + half], highs[i + half]);
                lows[i] = if low < lows[i] { low } else { lows[i] };
                highs[i] = if high > highs[i] { high } else { highs[i] };
            }
            half /= 2;
        }
        (range.min, range.max) = (lows[0], highs[0]);
        range.min += 0.0;
        range.max += 0.0;
        range
    }
}

/// Whether all are finite and none is negative, -0 included. There must be whole vectors of them.
pub struct AreScales<'a>(pub &'a [f32]);

impl Kernel for AreScales<'_> {
    type Output = bool;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> bool {
        let (mut low, mut high) = (isa.splat_i32(0), isa.splat_i32(0));
        for &bits in bytemuck::cast_slice::<_, I::I32>(self.0) {
            low = isa.min_i32(low, bits);
            high = isa.max_i32(high, bits);
        }
        isa.all_in_i32(low, 0, 0) && isa.all_in_i32(high, 0, 0x7f7f_ffff)
    }
}
