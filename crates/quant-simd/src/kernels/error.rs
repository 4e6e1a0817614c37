//! The error of a quantization.

use quant_core::{ErrorStats, STATS_PLAIN, STATS_RUN, STATS_STEP};

use super::lane_sum;
use crate::isa::{Isa, Kernel};
use crate::lane::Lane;

/// Lanes of [`ErrorStats`].
const LANES: usize = 16;

/// The sums of [`ErrorStats`] within one chunk, lane by lane.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
pub struct ErrorSums {
    /// Of squared values, squared errors and absolute errors.
    sums: [[f64; LANES]; 3],
    max: f32,
    count: u64,
    non_finite: u64,
    wide: bool,
}

impl ErrorSums {
    /// For sums in f64, whatever the values.
    pub fn wide() -> Self {
        Self {
            wide: true,
            ..Self::default()
        }
    }

    /// The statistics; `saturated` is 0.
    pub fn stats(&self) -> ErrorStats {
        let [signal, noise, absolute] = self.sums.map(sum);
        ErrorStats {
            count: self.count,
            non_finite: self.non_finite,
            saturated: 0,
            signal,
            noise,
            absolute,
            max_absolute: self.max.into(),
        }
    }

    /// Counts values.
    #[inline(always)]
    pub(super) fn count(&mut self, values: usize) {
        self.count += values as u64;
    }

    /// Takes the largest lane in: magnitudes, whose bits compare as they do.
    #[inline(always)]
    pub(super) fn raise<I: Isa>(&mut self, max: I::F32) {
        let mut largest = self.max.to_bits() as i32;
        for &lane in bytemuck::cast_slice::<I::F32, i32>(&[max]) {
            largest = Ord::max(largest, lane);
        }
        self.max = f32::from_bits(largest as u32);
    }

    /// Whether sums are in f64, whatever the values.
    pub fn is_wide(&self) -> bool {
        self.wide
    }
}

/// As [`ErrorStats`] adds up lanes.
fn sum(lanes: [f64; LANES]) -> f64 {
    let mut lanes = lanes;
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
    }
    lanes[0]
}

/// Adds some values of a chunk, and their dequantized values, to its sums. All but the last call for a
/// chunk take a multiple of [`STATS_RUN`] values.
///
/// The sums of a run in f32 tell almost always that it may be added up so: squares of magnitudes beyond
/// [`STATS_PLAIN`], NaN and infinities leave a trace in them.
pub struct AddErrors<'a, F> {
    /// The values.
    pub values: &'a [F],
    /// What they became.
    pub dequantized: &'a [f32],
    /// The sums so far.
    pub sums: &'a mut ErrorSums,
}

/// The sums of 16 lanes in f32, in the first vectors; those of an instruction set with wider vectors
/// are fewer.
pub(super) type Sums<I> = [[<I as Isa>::F32; 4]; 3];

/// The sums of a run in which every lane lies between these is one that is added up in f32: 64 squares
/// of less than the smallest magnitude are less than the one, and a square of more than the largest is
/// more than the other.
const SURE: (f32, f32) = (
    f32::from_bits((127 - 90) << 23),
    f32::from_bits((127 + 99) << 23),
);

impl<F: Lane> Kernel for AddErrors<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        // As bits, which compare as the magnitudes do.
        let mut max = [isa.splat_i32(0); 2];
        let runs = self.values.chunks(STATS_RUN);
        for (values, dequantized) in runs.zip(self.dequantized.chunks(STATS_RUN)) {
            let before = max;
            let sums = run_sums::<I, F>(isa, values, dequantized, &mut max);
            if !self.sums.wide && is_sure(isa, &sums) {
                add(isa, &sums, self.sums);
                continue;
            }
            let unsure = UnsureRun {
                values,
                dequantized,
                sums: &mut *self.sums,
            };
            match isa.run(unsure) {
                true => add(isa, &sums, self.sums),
                false => max = before,
            }
        }
        self.sums.count(self.values.len());
        self.sums
            .raise::<I>(bytemuck::cast(isa.max_i32(max[0], max[1])));
    }
}

#[inline(always)]
fn run_sums<I: Isa, F: Lane>(
    isa: I,
    values: &[F],
    dequantized: &[f32],
    max: &mut [I::I32; 2],
) -> Sums<I> {
    let mut sums = [[isa.splat(0.0); 4]; 3];
    let whole = values.len() - values.len() % STATS_STEP;
    let (values, rest) = values.split_at(whole);
    let (dequantized, rest_dequantized) = dequantized.split_at(whole);
    let steps = values.chunks_exact(STATS_STEP);
    for (values, dequantized) in steps.zip(dequantized.chunks_exact(STATS_STEP)) {
        let dequantized = bytemuck::cast_slice(dequantized);
        add_step::<I, F>(
            isa,
            bytemuck::cast_slice(values),
            dequantized,
            &mut sums,
            max,
        );
    }
    if !rest.is_empty() {
        // Zeros add nothing.
        let mut values = [F::zeroed(); STATS_STEP];
        let mut dequantized = [0.0; STATS_STEP];
        values[..rest.len()].copy_from_slice(rest);
        dequantized[..rest.len()].copy_from_slice(rest_dequantized);
        let dequantized = bytemuck::cast_slice(&dequantized);
        add_step::<I, F>(
            isa,
            bytemuck::cast_slice(&values),
            dequantized,
            &mut sums,
            max,
        );
    }
    sums
}

/// Adds the sums of a step.
#[inline(always)]
fn add_step<I: Isa, F: Lane>(
    isa: I,
    values: &[F::Vector<I>],
    dequantized: &[I::F32],
    sums: &mut Sums<I>,
    max: &mut [I::I32; 2],
) {
    let width = LANES / I::LANES;
    let values = &values[..STATS_STEP / I::LANES];
    let dequantized = &dequantized[..STATS_STEP / I::LANES];
    let mut of_step = [[isa.splat(0.0); 4]; 3];
    for i in 0..STATS_STEP / LANES {
        for w in 0..width {
            let value = F::widen(isa, values[i * width + w]);
            let place = i * width + w;
            add_error(isa, place, value, dequantized[place], &mut of_step, max);
        }
    }
    for k in 0..3 {
        for w in 0..width {
            sums[k][w] = isa.add(sums[k][w], of_step[k][w]);
        }
    }
}

/// Adds a vector's error to the sums of its step, of which it is this one.
#[inline(always)]
pub(super) fn add_error<I: Isa>(
    isa: I,
    place: usize,
    value: I::F32,
    dequantized: I::F32,
    of_step: &mut Sums<I>,
    max: &mut [I::I32; 2],
) {
    let width = LANES / I::LANES;
    let error = isa.sub(value, dequantized);
    let absolute = isa.abs(error);
    max[place % 2] = isa.max_i32(max[place % 2], bytemuck::cast(absolute));
    let added = [isa.mul(value, value), isa.mul(error, error), absolute];
    for k in 0..3 {
        of_step[k][place % width] = match place / width {
            0 => added[k],
            _ => isa.add(of_step[k][place % width], added[k]),
        };
    }
}

/// Whether the sums of squares are [`SURE`].
#[inline(always)]
pub(super) fn is_sure<I: Isa>(isa: I, sums: &Sums<I>) -> bool {
    let mut low: I::I32 = bytemuck::cast(sums[0][0]);
    let mut high = low;
    for w in 0..LANES / I::LANES {
        for of_squares in [sums[0][w], sums[1][w]] {
            low = isa.min_i32(low, bytemuck::cast(of_squares));
            high = isa.max_i32(high, bytemuck::cast(of_squares));
        }
    }
    let (least, most) = (SURE.0.to_bits() as i32, SURE.1.to_bits() as i32);
    isa.all_in_i32(low, least, most) && isa.all_in_i32(high, least, most)
}

/// Adds the sums of a run.
#[inline(always)]
pub(super) fn add<I: Isa>(isa: I, sums: &Sums<I>, to: &mut ErrorSums) {
    for k in 0..3 {
        let to: &mut [I::F64] = bytemuck::cast_slice_mut(&mut to.sums[k]);
        for w in 0..LANES / I::LANES {
            let wide = isa.widen_f64(sums[k][w]);
            for h in 0..2 {
                to[2 * w + h] = isa.add_f64(wide[h], to[2 * w + h]);
            }
        }
    }
}

/// Some values, and what they became.
type Part<'a, F, I> = (&'a [<F as Lane>::Vector<I>], &'a [<I as Isa>::F32]);

/// A run whose sums in f32 do not tell whether it is added up so. If it is not, it is added up in f64
/// here; tells which. It has at least one value.
struct UnsureRun<'a, F> {
    values: &'a [F],
    dequantized: &'a [f32],
    sums: &'a mut ErrorSums,
}

impl<F: Lane> Kernel for UnsureRun<'_, F> {
    type Output = bool;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> bool {
        let mut largest = [isa.splat_i32(0); 2];
        let whole = self.values.len() - self.values.len() % LANES;
        let (values, rest) = self.values.split_at(whole);
        let (dequantized, rest_dequantized) = self.dequantized.split_at(whole);
        let mut last_values = [F::zeroed(); LANES];
        let mut last_dequantized = [0.0; LANES];
        last_values[..rest.len()].copy_from_slice(rest);
        last_dequantized[..rest.len()].copy_from_slice(rest_dequantized);
        let parts: [Part<'_, F, I>; 2] = [
            (
                bytemuck::cast_slice(values),
                bytemuck::cast_slice(dequantized),
            ),
            (
                bytemuck::cast_slice(&last_values),
                bytemuck::cast_slice(&last_dequantized),
            ),
        ];
        for (values, dequantized) in parts {
            for i in 0..values.len() {
                let value = F::widen(isa, values[i]);
                let error = isa.sub(value, dequantized[i]);
                largest[0] = isa.max_i32(largest[0], isa.magnitude_bits(value));
                largest[1] = isa.max_i32(largest[1], isa.magnitude_bits(error));
            }
        }
        let is_plain = is_plain::<I>(largest[0]) && is_plain::<I>(largest[1]);
        if is_plain && !self.sums.wide {
            return true;
        }
        let mut finite = isa.splat_i32(0);
        let mut max = isa.splat(0.0);
        for (values, dequantized) in parts {
            add_wide::<I, F>(
                isa,
                values,
                dequantized,
                &mut self.sums.sums,
                &mut finite,
                &mut max,
            );
        }
        self.sums.raise::<I>(max);
        self.sums.non_finite += (whole + LANES) as u64 - lane_sum(finite);
        false
    }
}

/// Whether the largest lane, as bits of magnitudes, is 0 or within [`STATS_PLAIN`].
#[inline(always)]
fn is_plain<I: Isa>(magnitudes: I::I32) -> bool {
    let mut largest = 0;
    for &lane in bytemuck::cast_slice::<I::I32, i32>(&[magnitudes]) {
        largest = Ord::max(largest, lane);
    }
    let (least, most) = (
        STATS_PLAIN.0.to_bits() as i32,
        STATS_PLAIN.1.to_bits() as i32,
    );
    largest == 0 || least <= largest && largest <= most
}

/// Adds elements in f64, those whose error is finite, and counts them.
#[inline(always)]
fn add_wide<I: Isa, F: Lane>(
    isa: I,
    values: &[F::Vector<I>],
    dequantized: &[I::F32],
    sums: &mut [[f64; LANES]; 3],
    finite: &mut I::I32,
    max: &mut I::F32,
) {
    let zero = isa.splat(0.0);
    let [signal, noise, absolute] = sums;
    let signal: &mut [I::F64] = bytemuck::cast_slice_mut(signal);
    let noise: &mut [I::F64] = bytemuck::cast_slice_mut(noise);
    let absolute: &mut [I::F64] = bytemuck::cast_slice_mut(absolute);
    for i in 0..values.len() {
        let mut value = F::widen(isa, values[i]);
        let mut error = isa.sub(value, dequantized[i]);
        // NaN where the error is not finite; then both count as 0.
        let marker = isa.mul(error, zero);
        isa.count_finite(marker, finite);
        value = isa.if_number(marker, value, zero);
        error = isa.abs(isa.if_number(marker, error, zero));
        *max = isa.max(error, *max);
        let (wide, wide_error) = (isa.widen_f64(value), isa.widen_f64(error));
        for h in 0..2 {
            let lane = (2 * i + h) % (2 * LANES / I::LANES);
            signal[lane] = isa.add_square_f64(wide[h], signal[lane]);
            noise[lane] = isa.add_square_f64(wide_error[h], noise[lane]);
            absolute[lane] = isa.add_f64(wide_error[h], absolute[lane]);
        }
    }
}
