//! That codes do not change where a division is replaced by multiplications, for every scale.
//!
//! **f32.** A kernel computes `y = fma(x, zh, x * zl)` with `zh = 1/s` and `zl = fma(-s, zh, 1)/s`
//! in place of `q = x / s`. What matters is `rint(y) == rint(q)` for `|q| <= 257`.
//!
//! 1. Both are odd in `x` (ties to even is), so positive `x` suffice.
//! 2. Multiplying `s` or `x` by a power of two multiplies every intermediate by one, exactly, while
//!    none overflows or is subnormal. So `s` in `[1, 2)` stands for all, and `x` takes what
//!    exponent it needs.
//! 3. Both grow with `x`. `q` because rounding is monotone. `y` because from one float to the next
//!    `x * zh` grows by at least `2^-24 * x * zh`, while `x * zl`, which is at most about
//!    `2^-24 * x * zh`, moves by less than `2^-46 * x * zh`; so their exact sum grows, and the FMA
//!    rounds that sum once. So `rint(q)` and `rint(y)` are the same staircase if every step is at
//!    the same float.
//! 4. `rint(q)` steps where `q` passes a half-integer `h`, which is at `x = h * s` within one ulp of
//!    the quotient, two of `x`. The floats within [`AROUND`] of `h * s` hold the step: where both
//!    agree on all of them, both step there, at the same float.
//!
//! **f16.** Where the quotient is rounded to f16 before it is rounded to an integer, one term is
//! enough for scales that are f16 themselves: all values over all scales are tried. For scales of
//! more digits the two terms give the same 11 bits for every pair of mantissas; quotients too small
//! for that to be what f16 holds round to 0, those too large are clipped.
//!
//! **bf16.** One term is not enough, so the f32 formula serves.

use std::time::Instant;

use half::{bf16, f16};
use quant_core::FloatType;
use rayon::prelude::*;

use super::{Expect, Row, sum};

/// Floats looked at on each side of `h * s`.
const AROUND: i32 = 4;
/// The largest half-integer looked at is this and a half.
const STEPS: u16 = 256;
/// Quotients are compared up to this magnitude; what lies beyond is clipped by every scheme.
const LARGEST: f32 = 257.0;
const MANTISSAS: u32 = 1 << 23;
const LANES: usize = 64;

/// What stands in for `x / s`.
#[derive(Clone, Copy)]
enum Product {
    /// `fma(x, zh, x * zl)`
    TwoTerms,
    /// `x * zh`
    OneTerm,
}

impl Product {
    #[inline(always)]
    fn of(self, x: f32, zh: f32, zl: f32) -> f32 {
        match self {
            Self::TwoTerms => x.mul_add(zh, x * zl),
            Self::OneTerm => x * zh,
        }
    }
}

/// Every table row of the proof.
pub fn rows(reduced: bool) -> Vec<Row> {
    let [codes, quotients] = f32_scales(reduced, Product::TwoTerms);
    let [control, _] = f32_scales(reduced, Product::OneTerm);
    vec![
        codes.named("proof f32: fma(x, 1/s, x zl), rounded", Expect::Equal),
        quotients.named("  the quotients themselves", Expect::Anything),
        control.named("  x (1/s), rounded: must differ", Expect::Different),
        f16_scales(reduced),
        f16_values(reduced, Product::TwoTerms)
            .named("proof f16 over f32 scales: two terms", Expect::Equal),
        f16_values(reduced, Product::OneTerm).named("  one term", Expect::Anything),
        bf16_scales(reduced),
        residuals(),
    ]
}

/// The kernels of blocks find `zl` by a multiplication and two FMAs: the same bits for every
/// mantissa, and so for every scale that is not extreme.
fn residuals() -> Row {
    let start = Instant::now();
    let compare = |mantissa: u32| {
        let scale = f32::from_bits(0x3f80_0000 | mantissa);
        let (zh, want) = reciprocal(scale);
        let lack = (-scale).mul_add(zh, 1.0);
        let about = lack * zh;
        let got = (-about).mul_add(scale, lack).mul_add(zh, about);
        match want.to_bits() == got.to_bits() {
            true => (0, None),
            false => (1, Some(format!("s {scale:e}: want {want:e}, got {got:e}"))),
        }
    };
    let (differences, first) = (0..MANTISSAS)
        .into_par_iter()
        .map(compare)
        .reduce(|| (0, None), sum);
    Row {
        what: "proof f32: zl without a division".into(),
        scales: MANTISSAS.into(),
        inputs: MANTISSAS.into(),
        differences,
        first,
        seconds: start.elapsed().as_secs_f64(),
        expect: Expect::Equal,
    }
}

/// Every mantissa of the scale and every half-integer; `reduced`: one mantissa of 64. First the
/// codes' differences, then those of the quotients.
fn f32_scales(reduced: bool, product: Product) -> [Row; 2] {
    let start = Instant::now();
    let stride = if reduced { 64 } else { 1 };
    let scales = MANTISSAS / stride;
    let batch = |batch: u32| {
        let scales = std::array::from_fn(|lane| {
            let group = batch * LANES as u32 + lane as u32;
            // Another mantissa in each group of `stride`.
            let within = (group.wrapping_mul(2_654_435_761) >> 16) % stride;
            f32::from_bits(1.0_f32.to_bits() + group * stride + within)
        });
        let counts = pulp::Arch::new().dispatch(AtSteps { scales, product });
        [0, 1].map(|which| {
            let differing = counts.iter().position(|count| count[which] > 0);
            let first = differing.and_then(|lane| first_difference(scales[lane], product, which));
            (
                counts
                    .iter()
                    .map(|count| u64::from(count[which]))
                    .sum::<u64>(),
                first,
            )
        })
    };
    let nothing = || [(0, None), (0, None)];
    let [codes, quotients] = (0..scales / LANES as u32)
        .into_par_iter()
        .map(batch)
        .reduce(nothing, |[a, b], [c, d]| [sum(a, c), sum(b, d)]);
    let around = 2 * AROUND.unsigned_abs() + 1;
    let row = |(differences, first)| Row {
        scales: scales.into(),
        inputs: u64::from(scales) * u64::from(STEPS + 1) * u64::from(around),
        differences,
        first,
        seconds: start.elapsed().as_secs_f64(),
        ..Row::default()
    };
    [row(codes), row(quotients)]
}

/// For each scale, at how many of the floats around the steps the rounded quotients differ, and
/// at how many the quotients do.
struct AtSteps {
    scales: [f32; LANES],
    product: Product,
}

impl pulp::NullaryFnOnce for AtSteps {
    type Output = [[u32; 2]; LANES];

    #[inline(always)]
    fn call(self) -> Self::Output {
        let (scales, mut zh, mut zl) = (self.scales, [0.0; LANES], [0.0; LANES]);
        for i in 0..LANES {
            (zh[i], zl[i]) = reciprocal(scales[i]);
        }
        let (mut differ, mut unequal) = ([0; LANES], [0; LANES]);
        for step in 0..=STEPS {
            let half = f32::from(step) + 0.5;
            for offset in -AROUND..=AROUND {
                for i in 0..LANES {
                    let nearest = half * scales[i];
                    let x = f32::from_bits(nearest.to_bits().wrapping_add_signed(offset));
                    let (want, got) = (x / scales[i], self.product.of(x, zh[i], zl[i]));
                    differ[i] += u32::from(want.round_ties_even() != got.round_ties_even());
                    unequal[i] += u32::from(want != got);
                }
            }
        }
        let mut counts = [[0; 2]; LANES];
        for i in 0..LANES {
            counts[i] = [differ[i], unequal[i]];
        }
        counts
    }
}

#[inline(always)]
fn reciprocal(scale: f32) -> (f32, f32) {
    let zh = 1.0 / scale;
    (zh, (-scale).mul_add(zh, 1.0) / scale)
}

fn first_difference(scale: f32, product: Product, which: usize) -> Option<String> {
    let (zh, zl) = reciprocal(scale);
    let halves = (0..=STEPS).map(|step| f32::from(step) + 0.5);
    let mut floats = halves.flat_map(|half| {
        let nearest = (half * scale).to_bits();
        (-AROUND..=AROUND).map(move |offset| f32::from_bits(nearest.wrapping_add_signed(offset)))
    });
    floats.find_map(|x| {
        let (want, got) = (x / scale, product.of(x, zh, zl));
        let differ = match which {
            0 => want.round_ties_even() != got.round_ties_even(),
            _ => want != got,
        };
        let bits = (scale.to_bits(), x.to_bits());
        differ.then(|| {
            format!(
                "s {:#010x}, x {:#010x}: want {want:?}, got {got:?}",
                bits.0, bits.1
            )
        })
    })
}

/// f16 values over f16 scales with every step rounded to f16: one multiplication in place of the
/// division. All of both; `reduced`: one scale of 64.
fn f16_scales(reduced: bool) -> Row {
    let all = |bits| f16::from_bits(bits).to_f32();
    let mut row = one_term(reduced, 0x7c00, all, |quotient| {
        FloatType::F16.round(quotient)
    });
    row.what = "proof f16: x (1/s), rounded twice".into();
    row
}

/// Every mantissa of f16 over every mantissa of f32, the quotient rounded to 11 bits as f16 has
/// them; `reduced`: one mantissa of the scale of 64. By which power of two either is multiplied
/// does not matter.
fn f16_values(reduced: bool, product: Product) -> Row {
    let start = Instant::now();
    let stride = if reduced { 64 } else { 1 };
    let scales = MANTISSAS / stride;
    let batch = |batch: u32| {
        let scale = |lane| 1.0_f32.to_bits() + (batch * LANES as u32 + lane as u32) * stride;
        let scales: [f32; LANES] = std::array::from_fn(|lane| f32::from_bits(scale(lane)));
        let counts = pulp::Arch::new().dispatch(NarrowQuotients { scales, product });
        let first = counts.iter().position(|&count| count > 0);
        let first = first.map(|lane| format!("s {:#010x}", scales[lane].to_bits()));
        (counts.iter().map(|&count| u64::from(count)).sum(), first)
    };
    let batches = (0..scales / LANES as u32).into_par_iter().map(batch);
    let (differences, first) = batches.reduce(|| (0, None), sum);
    Row {
        scales: scales.into(),
        inputs: u64::from(scales) << 10,
        differences,
        first,
        seconds: start.elapsed().as_secs_f64(),
        ..Row::default()
    }
}

/// For each scale, at how many of the 1024 f16 mantissas the quotients, of 11 bits, differ.
struct NarrowQuotients {
    scales: [f32; LANES],
    product: Product,
}

impl pulp::NullaryFnOnce for NarrowQuotients {
    type Output = [u32; LANES];

    #[inline(always)]
    fn call(self) -> Self::Output {
        let (scales, mut zh, mut zl) = (self.scales, [0.0; LANES], [0.0; LANES]);
        for i in 0..LANES {
            (zh[i], zl[i]) = reciprocal(scales[i]);
        }
        let mut differ = [0; LANES];
        for mantissa in 0..1024 {
            let x = f32::from_bits(1.0_f32.to_bits() | mantissa << 13);
            for i in 0..LANES {
                let (want, got) = (x / scales[i], self.product.of(x, zh[i], zl[i]));
                differ[i] += u32::from(eleven_bits(want) != eleven_bits(got));
            }
        }
        differ
    }
}

/// The bits of the nearest number of 11 significant bits, ties to even.
#[inline(always)]
fn eleven_bits(value: f32) -> u32 {
    let bits = value.to_bits();
    (bits + 0xfff + (bits >> 13 & 1)) & !0x1fff
}

/// bf16 values over bf16 scales that have a reciprocal: one multiplication in place of the
/// division. All of both; `reduced`: one scale of 64.
fn bf16_scales(reduced: bool) -> Row {
    let all = |bits| bf16::from_bits(bits).to_f32();
    let row = one_term(reduced, 0x7f80, all, |quotient| quotient);
    row.named("proof bf16: x (1/s), rounded", Expect::Anything)
}

/// Compares over all positive values below the type's infinity, whose bits are given.
fn one_term(
    reduced: bool,
    infinity: u16,
    widen: impl Fn(u16) -> f32 + Sync,
    round: impl Fn(f32) -> f32 + Sync,
) -> Row {
    let start = Instant::now();
    let values: Vec<f32> = (0..infinity).map(&widen).collect();
    let stride = if reduced { 64 } else { 1 };
    let scales: Vec<f32> = values.iter().skip(1).step_by(stride).copied().collect();
    let usable = |&&scale: &&f32| (1.0 / scale).is_normal();
    let scales: Vec<f32> = scales.iter().filter(usable).copied().collect();
    let steps = |quotient: f32| round(quotient).min(LARGEST).round_ties_even();
    let compare = |&scale: &f32| {
        let reciprocal = 1.0 / scale;
        let differs = |&&x: &&f32| steps(x / scale) != steps(x * reciprocal);
        let first = values.iter().find(differs).map(|&x| {
            let (want, got) = (steps(x / scale), steps(x * reciprocal));
            format!("s {scale:e}, x {x:e}: want {want}, got {got}")
        });
        match first {
            None => (0, None),
            first => (values.iter().filter(differs).count() as u64, first),
        }
    };
    let (differences, first) = scales.par_iter().map(compare).reduce(|| (0, None), sum);
    Row {
        scales: scales.len() as u64,
        inputs: (scales.len() * values.len()) as u64,
        differences,
        first,
        seconds: start.elapsed().as_secs_f64(),
        ..Row::default()
    }
}
