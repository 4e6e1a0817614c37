//! The scale of least squared error.

use alloc::vec;

use super::{dequantize, quantize, range};
use crate::search::{
    FitSums, SEARCH_FACTORS, SEARCH_FACTORS_BELOW_ZERO, SEARCH_FITS, SEARCH_PIECE, SEARCH_SCALES,
};
use crate::{ErrorStats, Float, OffsetKind, Params, STATS_CHUNK, Scheme, ValueRange};

/// 1.5 * 2^23: an f32 of a magnitude below 2^22 to which it is added is rounded to an integer.
const ROUND: f32 = 12_582_912.0;

/// The parameters of least squared error for a block of `values`, in row-major order; each squared
/// error counts `importance` times, where that is given. `plain` are those that the dialect has for
/// the range of the values.
///
/// 1. Candidates: for each of [`SEARCH_FACTORS`](crate::SEARCH_FACTORS), the plain scale times the
///    factor, rounded to its type, and the plain zero point. Where the scheme
///    [has](Scheme::has_signed_scales) scales below zero and the largest value is larger than the
///    magnitude of the smallest, all but the first one are below zero: the one negative code more
///    serves the larger side. In a dialect that stores biases see [`search_candidate`]. Those whose
///    scale is not between [`SEARCH_SCALES`](crate::SEARCH_SCALES) are left out.
/// 2. Each one's sum of squared errors, in f32: `steps = clamp(round(value * (1 / scale)))`,
///    `error = value - scale * steps`, both by a fused multiply-add, which is also what adds
///    `importance * error * error`. Elements with an even and an odd index are added apart, and then
///    together, in pieces of [`SEARCH_PIECE`](crate::SEARCH_PIECE); pieces in f64.
/// 3. The least sum wins, the first one of equal sums.
/// 4. The winner is fitted to its codes [`SEARCH_FITS`](crate::SEARCH_FITS) times, as long as it
///    changes: [`FitSums::fit`](crate::FitSums::fit). What is added up is, of `weight = importance` or
///    1 and `value` less the bias: `a = weight * steps`, then `a * steps`, `a * value`,
///    `weight * value`, each by a fused multiply-add, `weight` and `a`; of each piece in 16 lanes, an
///    element's index modulo 16, then the upper half of the lanes to the lower half, and so on.
/// 5. If that is not the first candidate, which is the plain one: both quantize the block and restore
///    it, as the dialect says. The winner stays if fewer of its restored values are infinite, or as
///    many, and its squared errors, added as [`ErrorStats`] adds those of runs in f64, are less. A
///    restored value that overflows the type of the values counts as infinite, also where scales, and
///    so errors, are of a larger type.
///
/// Codes are those of [`Scheme::searched`] throughout, and what is found is to be used with it. So it is
/// never worse than the plain parameters.
///
/// ```
/// use quant_core::{FloatType, IntType, Mode, Scheme, reference};
/// let values = [1.0_f32, 0.9, -0.9, 0.9, -0.9, 0.9, -0.9, 0.9];
/// let scheme = Scheme::new(IntType::Int4, Mode::Symmetric);
/// let plain = scheme.params(&reference::range(&values), FloatType::F32)?;
/// let found = reference::search(&values, scheme, plain, None);
/// // -0.88 / 7 is the best candidate: its codes are -8 and -+7, which a little more fits best.
/// assert_eq!(plain.scale(), 1.0 / 7.0);
/// assert!((found.scale() + 52.1 / 407.0).abs() < 1e-6);
/// # Ok::<(), quant_core::ParamsError>(())
/// ```
///
/// # Panics
/// If there is not one importance per value.
pub fn search<F: Float>(
    values: &[F],
    scheme: Scheme,
    plain: Params,
    importance: Option<&[f32]>,
) -> Params {
    let signed = scheme.has_signed_scales();
    let importance = importance.inspect(|all| {
        assert_eq!(all.len(), values.len(), "one importance per value");
    });
    let scheme = scheme.searched();
    let range = range(values);
    let is_below = signed && range.max > -range.min;
    let mut best: Option<(Params, f64)> = None;
    for k in 0..SEARCH_FACTORS.len() {
        let Some(params) = search_candidate(k, &range, scheme, plain, is_below) else {
            continue;
        };
        let sum = score(values, scheme, params, importance);
        if best.is_none_or(|(_, least)| sum < least) {
            best = Some((params, sum));
        }
    }
    let Some((mut found, _)) = best else {
        return plain;
    };
    for _ in 0..SEARCH_FITS {
        match fit_sums(values, scheme, found, importance).fit(found) {
            Some(fitted) => found = fitted,
            None => break,
        }
    }
    if found == plain {
        return plain;
    }
    let better =
        noise(values, scheme, found, importance).is_less(&noise(values, scheme, plain, importance));
    if better { found } else { plain }
}

/// The `k`-th candidate of a search for a block of this range, the plain parameters the first one;
/// `None` where it is none. `is_below` says whether the others' scales are below zero.
///
/// In a dialect that stores biases, whose range does not need to hold 0, the others have the range that
/// is narrowed by the factor about its middle: in f32 `scale = (max - min) * factor / steps`, rounded to
/// its type, and `bias = min / 2 + max / 2 - scale * (steps / 2)`, rounded as well.
///
/// ```
/// use quant_core::{FloatType, IntType, Mode, Scheme, reference};
/// let range = reference::range(&[-1.0_f32, 7.0]);
/// let scheme = Scheme::new(IntType::Int4, Mode::Symmetric);
/// let plain = scheme.params(&range, FloatType::F32)?;
/// let found = reference::search_candidate(1, &range, scheme, plain, true);
/// assert_eq!(found.map(|params| params.scale()), Some(-0.96));
/// # Ok::<(), quant_core::ParamsError>(())
/// ```
pub fn search_candidate(
    k: usize,
    range: &ValueRange,
    scheme: Scheme,
    plain: Params,
    is_below: bool,
) -> Option<Params> {
    let scale_type = plain.scale_type();
    let params = match scheme.offset() {
        _ if k == 0 => plain,
        OffsetKind::None | OffsetKind::ZeroPoint => {
            let factors = match is_below {
                true => SEARCH_FACTORS_BELOW_ZERO,
                false => SEARCH_FACTORS,
            };
            plain.with_scale(scale_type.round(plain.scale() * factors[k]))
        }
        OffsetKind::Bias => {
            let (min, max) = range.bounds();
            let steps = (scheme.qmax() - scheme.qmin()) as f32;
            let scale = scale_type.round((max - min) * SEARCH_FACTORS[k] / steps);
            let bias = min / 2.0 + max / 2.0 - scale * (steps / 2.0);
            Params::with_bias(scale, scale_type.round(bias), scale_type).ok()?
        }
    };
    let magnitude = params.exact().0.abs();
    (SEARCH_SCALES.0..=SEARCH_SCALES.1)
        .contains(&magnitude)
        .then_some(params)
}

fn score<F: Float>(
    values: &[F],
    scheme: Scheme,
    params: Params,
    importance: Option<&[f32]>,
) -> f64 {
    let (scale, bias) = params.exact();
    let reciprocal = 1.0 / scale;
    let zero_point = params.zero_point();
    let low = (scheme.qmin() - zero_point) as f32;
    let high = (scheme.qmax() - zero_point) as f32;
    let mut total = 0.0;
    for start in (0..values.len()).step_by(SEARCH_PIECE) {
        let mut sums = [0.0_f32; 2];
        for i in start..values.len().min(start + SEARCH_PIECE) {
            let value = values[i].to_f32() - bias;
            let steps = libm::fmaf(value, reciprocal, ROUND) - ROUND;
            let error = libm::fmaf(-scale, steps.clamp(low, high), value);
            let weighted = importance.map_or(error, |importance| error * importance[i]);
            sums[i % 2] = libm::fmaf(weighted, error, sums[i % 2]);
        }
        total += f64::from(sums[0] + sums[1]);
    }
    total
}

fn fit_sums<F: Float>(
    values: &[F],
    scheme: Scheme,
    params: Params,
    importance: Option<&[f32]>,
) -> FitSums {
    let (scale, bias) = params.exact();
    let reciprocal = 1.0 / scale;
    let zero_point = params.zero_point();
    let low = (scheme.qmin() - zero_point) as f32;
    let high = (scheme.qmax() - zero_point) as f32;
    let mut total = FitSums::default();
    for start in (0..values.len()).step_by(SEARCH_PIECE) {
        let mut lanes = [[0.0_f32; 16]; 5];
        for i in start..values.len().min(start + SEARCH_PIECE) {
            let (lane, value) = (i % 16, values[i].to_f32() - bias);
            let steps = libm::fmaf(value, reciprocal, ROUND) - ROUND;
            let steps = steps.clamp(low, high);
            let weight = importance.map_or(1.0, |importance| importance[i]);
            let weighted = weight * steps;
            let [squares, products, weights, sums, values] = &mut lanes;
            squares[lane] = libm::fmaf(weighted, steps, squares[lane]);
            products[lane] = libm::fmaf(weighted, value, products[lane]);
            weights[lane] += weight;
            sums[lane] += weighted;
            values[lane] = libm::fmaf(weight, value, values[lane]);
        }
        for lanes in &mut lanes {
            for half in [8, 4, 2, 1] {
                for lane in 0..half {
                    lanes[lane] += lanes[lane + half];
                }
            }
        }
        total.add(lanes.map(|lanes| lanes[0]));
    }
    total
}

/// What a block loses.
struct Noise {
    non_finite: u64,
    sum: f64,
}

impl Noise {
    fn is_less(&self, other: &Self) -> bool {
        self.non_finite < other.non_finite
            || self.non_finite == other.non_finite && self.sum < other.sum
    }
}

/// An importance takes part in f64.
fn noise<F: Float>(
    values: &[F],
    scheme: Scheme,
    params: Params,
    importance: Option<&[f32]>,
) -> Noise {
    let mut codes = vec![0; values.len()];
    quantize(values, scheme, params, &mut codes);
    let mut restored = vec![0.0_f32; values.len()];
    dequantize(&codes, scheme, params, &mut restored);
    let mut noise = Noise {
        non_finite: 0,
        sum: 0.0,
    };
    for start in (0..values.len()).step_by(STATS_CHUNK) {
        let chunk = start..values.len().min(start + STATS_CHUNK);
        let weights = importance.map(|all| &all[chunk.clone()]);
        let pairs = values[chunk.clone()].iter().zip(&restored[chunk]);
        let pairs = pairs.map(|(value, &restored)| {
            let restored = match F::from_f32(restored).to_f32().is_finite() {
                true => restored,
                false => f32::INFINITY,
            };
            (value.to_f32(), restored)
        });
        let stats = match weights {
            None => ErrorStats::of_chunk_in_f64(pairs),
            Some(weights) => ErrorStats::of_weighted_chunk(pairs, weights),
        };
        noise.non_finite += stats.non_finite;
        noise.sum += stats.noise;
    }
    noise
}
