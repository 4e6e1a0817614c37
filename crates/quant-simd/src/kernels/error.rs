//! The error of a quantization.

use quant_core::ErrorStats;

use super::{Group, groups, lane_sum, padded};
use crate::isa::{Isa, Kernel, TILE};
use crate::lane::Lane;

/// The sums of [`ErrorStats`] within one chunk, lane by lane.
#[derive(Clone, Copy, Debug, Default)]
pub struct ErrorSums {
    signal: [f64; 16],
    noise: [f64; 16],
    absolute: [f64; 16],
    max: f32,
    count: u64,
    non_finite: u64,
}

impl ErrorSums {
    /// The statistics; `saturated` is 0.
    pub fn stats(&self) -> ErrorStats {
        ErrorStats {
            count: self.count,
            non_finite: self.non_finite,
            saturated: 0,
            signal: sum(self.signal),
            noise: sum(self.noise),
            absolute: sum(self.absolute),
            max_absolute: self.max.into(),
        }
    }
}

/// As [`ErrorStats`] adds up lanes.
fn sum(lanes: [f64; 16]) -> f64 {
    let mut lanes = lanes;
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
    }
    lanes[0]
}

/// Adds some values of a chunk, and their dequantized values, to its sums. All but the last call for a chunk take a
/// multiple of 16 values.
///
/// The fast path takes all values to be finite; the sums tell when they were not.
pub struct AddErrors<'a, F> {
    /// The values.
    pub values: &'a [F],
    /// What they became.
    pub dequantized: &'a [f32],
    /// The sums so far.
    pub sums: &'a mut ErrorSums,
}

/// The sums in registers; those of an instruction set that needs fewer are the first.
#[derive(Clone, Copy)]
struct Sums<I: Isa> {
    signal: [I::F64; 8],
    noise: [I::F64; 8],
    absolute: [I::F64; 8],
    max: I::F32,
}

#[inline(always)]
fn load<V: bytemuck::Pod>(sums: &[f64; 16]) -> [V; 8] {
    let mut registers = [V::zeroed(); 8];
    let from: &[V] = bytemuck::cast_slice(sums);
    registers[..from.len()].copy_from_slice(from);
    registers
}

#[inline(always)]
fn store<V: bytemuck::Pod>(registers: [V; 8], sums: &mut [f64; 16]) {
    let to: &mut [V] = bytemuck::cast_slice_mut(sums);
    let count = to.len();
    to.copy_from_slice(&registers[..count]);
}

impl<I: Isa> Sums<I> {
    /// Adds groups; how many lanes were finite, if `CHECKED`.
    #[inline(always)]
    fn add<F: Lane, const CHECKED: bool>(
        &mut self,
        isa: I,
        values: &[Group<F, I>],
        dequantized: &[Group<f32, I>],
    ) -> u64 {
        let mut sums = *self;
        let zero = isa.splat(0.0);
        let mut finite = isa.splat_i32(0);
        for (group, dequantized) in values.iter().zip(dequantized) {
            for v in 0..4 {
                let mut value = F::widen(isa, group[v]);
                let mut error = isa.sub(value, dequantized[v]);
                if CHECKED {
                    // NaN where the error is not finite; then both count as 0.
                    let marker = isa.mul(error, zero);
                    isa.count_finite(marker, &mut finite);
                    value = isa.if_number(marker, value, zero);
                    error = isa.if_number(marker, error, zero);
                }
                let absolute = isa.abs(error);
                sums.max = isa.max(absolute, sums.max);
                let (wide, wide_absolute) = (isa.widen_f64(value), isa.widen_f64(absolute));
                for h in 0..2 {
                    let lane = (2 * v + h) % (32 / I::LANES);
                    let [signal, noise, absolute] = [
                        &mut sums.signal[lane],
                        &mut sums.noise[lane],
                        &mut sums.absolute[lane],
                    ];
                    *signal = isa.add_square_f64(wide[h], *signal);
                    *noise = isa.add_square_f64(wide_absolute[h], *noise);
                    *absolute = isa.add_f64(wide_absolute[h], *absolute);
                }
            }
        }
        *self = sums;
        lane_sum(finite)
    }

    /// Whether no value so far was NaN or infinite, on the fast path.
    #[inline(always)]
    fn is_finite(&self) -> bool {
        let mut finite = true;
        for &lane in bytemuck::cast_slice::<_, f64>(&self.noise) {
            finite &= lane.is_finite();
        }
        finite
    }
}

impl<F: Lane> Kernel for AddErrors<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (values, rest) = groups::<Group<F, I>, F>(self.values);
        let (dequantized, rest_dequantized) = groups::<Group<f32, I>, f32>(self.dequantized);
        let mut sums = Sums::<I> {
            signal: load(&self.sums.signal),
            noise: load(&self.sums.noise),
            absolute: load(&self.sums.absolute),
            max: isa.splat(self.sums.max),
        };
        for (values, dequantized) in values.chunks(4 * TILE).zip(dequantized.chunks(4 * TILE)) {
            let before = sums;
            sums.add::<F, false>(isa, values, dequantized);
            if !sums.is_finite() {
                sums = before;
                let lanes = (values.len() * 4 * I::LANES) as u64;
                self.sums.non_finite += lanes - sums.add::<F, true>(isa, values, dequantized);
            }
        }
        if !rest.is_empty() {
            // Padding adds zeros to the sums, and is finite.
            let values = [padded::<Group<F, I>, F>(rest)];
            let dequantized = [padded::<Group<f32, I>, f32>(rest_dequantized)];
            let lanes = 4 * I::LANES as u64;
            self.sums.non_finite += lanes - sums.add::<F, true>(isa, &values, &dequantized);
        }
        self.sums.count += self.values.len() as u64;
        store(sums.signal, &mut self.sums.signal);
        store(sums.noise, &mut self.sums.noise);
        store(sums.absolute, &mut self.sums.absolute);
        let max = [sums.max];
        for &lane in bytemuck::cast_slice::<I::F32, f32>(&max) {
            self.sums.max = self.sums.max.max(lane);
        }
    }
}
