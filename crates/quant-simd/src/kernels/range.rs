//! Smallest and largest value.

use quant_core::ValueRange;

use super::{Group, groups, lane_sum, padded};
use crate::isa::{Isa, Kernel, TILE};
use crate::lane::Lane;

/// The range of values, and how many are NaN or infinite.
///
/// The fast path also adds up `0 * value`: the sum is NaN where a value is NaN or infinite. Such a
/// tile is done again. Values of 16 bits are compared as integers, which see both.
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
    halves: HalfBounds<I>,
}

/// Bounds of the bits of values of 16 bits. As integers, values without a sign compare as they do, and
/// values with one the other way round.
#[derive(Clone, Copy)]
struct HalfBounds<I: Isa> {
    /// The largest value, if one has no sign.
    most: I::I16,
    /// The smallest one, if one has a sign.
    least: I::I16,
    /// The value next to zero, where all have a sign, and where none has.
    nearest: I::I16,
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

/// Groups after which the fast path looks for NaN and infinities.
#[inline(always)]
const fn tile<F: Lane>() -> usize {
    match F::INFINITY {
        // What is looked at twice is still in the first cache.
        Some(_) => 4 * TILE,
        None => 16 * TILE,
    }
}

/// The fast path by bits, for slices of one length in turn; whether all values are finite.
#[inline(always)]
fn bound_halves<I: Isa, F: Lane, const N: usize>(
    isa: I,
    streams: [&[Group<F, I>]; N],
    infinity: i16,
    bounds: &mut HalfBounds<I>,
) -> bool {
    let mut bits = [&[][..]; N];
    for s in 0..N {
        bits[s] = bytemuck::cast_slice::<_, [I::I16; 2]>(streams[s]);
    }
    let (mut most, mut least) = ([bounds.most; 2], [bounds.least; 2]);
    for i in 0..N * bits[0].len() {
        let pair = &bits[i % N][i / N];
        for v in 0..2 {
            most[v] = isa.max_i16(most[v], pair[v]);
            least[v] = isa.max_u16(least[v], pair[v]);
        }
    }
    bounds.most = isa.max_i16(most[0], most[1]);
    bounds.least = isa.max_u16(least[0], least[1]);
    let (mut finite, mut all_signed, mut none_signed) = (true, true, true);
    for &lane in bytemuck::cast_slice::<I::I16, i16>(&[bounds.most]) {
        finite &= lane < infinity;
        all_signed &= lane < 0;
    }
    for &lane in bytemuck::cast_slice::<I::I16, i16>(&[bounds.least]) {
        finite &= lane >= 0 || lane < infinity | i16::MIN;
        none_signed &= lane >= 0;
    }
    if all_signed || none_signed {
        for stream in bits {
            for pair in stream {
                let nearer = isa.min_i16(pair[0], pair[1]);
                bounds.nearest = isa.min_i16(bounds.nearest, nearer);
            }
        }
    }
    finite
}

/// The bounds as numbers, without what was never seen.
#[inline(always)]
fn of_halves<I: Isa, F: Lane>(bounds: HalfBounds<I>) -> (f32, f32) {
    let (mut most, mut least, mut nearest) = (i16::MIN, 0, i16::MAX);
    for &lane in bytemuck::cast_slice::<I::I16, i16>(&[bounds.most]) {
        most = Ord::max(most, lane);
    }
    for &lane in bytemuck::cast_slice::<I::I16, u16>(&[bounds.least]) {
        least = Ord::max(least, lane);
    }
    for &lane in bytemuck::cast_slice::<I::I16, i16>(&[bounds.nearest]) {
        nearest = Ord::min(nearest, lane);
    }
    let most = if most < 0 { nearest } else { most };
    let least = if least >> 15 == 0 {
        nearest
    } else {
        least as i16
    };
    let value = |bits: i16| bytemuck::cast_slice::<i16, F>(&[bits])[0].to_f32();
    (value(least), value(most))
}

/// The fast path, for slices of one length in turn; whether all values are finite.
#[inline(always)]
fn bound<I: Isa, F: Lane, const N: usize>(
    isa: I,
    streams: [&[Group<F, I>]; N],
    bounds: &mut Bounds<I>,
) -> bool {
    if let Some(infinity) = F::INFINITY {
        return bound_halves::<I, F, N>(isa, streams, infinity, &mut bounds.halves);
    }
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
            halves: HalfBounds {
                most: isa.splat_i16(i16::MIN),
                least: isa.splat_i16(0),
                nearest: isa.splat_i16(i16::MAX),
            },
        };
        let mut by_halves = false;
        let (values, rest) = groups::<Group<F, I>, F>(self.values);
        let mut non_finite = 0;
        let quarter = match self.far {
            true => values.len() / STREAMS,
            false => 0,
        };
        let (far, near) = values.split_at(STREAMS * quarter);
        for start in (0..quarter).step_by(tile::<F>() / STREAMS) {
            let tile = start..Ord::min(start + tile::<F>() / STREAMS, quarter);
            let mut streams = [&far[..0]; STREAMS];
            for s in 0..STREAMS {
                streams[s] = &far[s * quarter..][tile.clone()];
            }
            let before = bounds;
            if bound::<I, F, STREAMS>(isa, streams, &mut bounds) {
                by_halves = true;
            } else {
                bounds = before;
                for tile in streams {
                    let lanes = (tile.len() * 4 * I::LANES) as u64;
                    non_finite += lanes - bound_slow::<I, F>(isa, tile, &mut bounds);
                }
            }
        }
        for tile in near.chunks(tile::<F>()) {
            let before = bounds;
            if bound::<I, F, 1>(isa, [tile], &mut bounds) {
                by_halves = true;
            } else {
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
        if by_halves && F::INFINITY.is_some() {
            let (low, high) = of_halves::<I, F>(bounds.halves);
            range.min = range.min.min(low);
            range.max = range.max.max(high);
        }
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
