//! The error of a quantization.

use quant_core::ErrorStats;

use super::{Group, TILE, groups, lane_sum, padded};
use crate::Element;
use crate::isa::{Isa, Kernel};

/// The sums of [`ErrorStats`] within one chunk, lane by lane.
#[derive(Clone, Copy, Debug, Default)]
pub struct ErrorSums {
    signal: [f64; 8],
    noise: [f64; 8],
    absolute: [f64; 8],
    max: [f64; 8],
    count: u64,
    non_finite: u64,
}

impl ErrorSums {
    /// The statistics; `saturated` is 0.
    pub fn stats(&self) -> ErrorStats {
        let sum = |[a, b, c, d, e, f, g, h]: [f64; 8]| ((a + e) + (c + g)) + ((b + f) + (d + h));
        ErrorStats {
            count: self.count,
            non_finite: self.non_finite,
            saturated: 0,
            signal: sum(self.signal),
            noise: sum(self.noise),
            absolute: sum(self.absolute),
            max_absolute: self.max.into_iter().fold(0.0, f64::max),
        }
    }
}

/// Adds what some values of a chunk became to its sums. All but the last call for a chunk take a
/// multiple of 8 values.
///
/// The fast way takes all values to be finite; the sums tell when they were not.
pub struct AddErrors<'a, F> {
    /// The values.
    pub values: &'a [F],
    /// What they became.
    pub became: &'a [f32],
    /// The sums so far.
    pub sums: &'a mut ErrorSums,
}

/// The sums in registers; those of an instruction set that needs fewer are the first.
#[derive(Clone, Copy)]
struct Sums<I: Isa> {
    signal: [I::F64; 4],
    noise: [I::F64; 4],
    absolute: [I::F64; 4],
    max: [I::F64; 4],
}

#[inline(always)]
fn load<V: bytemuck::Pod>(sums: &[f64; 8]) -> [V; 4] {
    let mut registers = [V::zeroed(); 4];
    let from: &[V] = bytemuck::cast_slice(sums);
    registers[..from.len()].copy_from_slice(from);
    registers
}

#[inline(always)]
fn store<V: bytemuck::Pod>(registers: [V; 4], sums: &mut [f64; 8]) {
    let to: &mut [V] = bytemuck::cast_slice_mut(sums);
    let count = to.len();
    to.copy_from_slice(&registers[..count]);
}

impl<I: Isa> Sums<I> {
    /// Adds groups; how many lanes were finite, if `CHECKED`.
    #[inline(always)]
    fn add<F: Element, const CHECKED: bool>(
        &mut self,
        isa: I,
        values: &[Group<F, I>],
        became: &[Group<f32, I>],
    ) -> u64 {
        let mut sums = *self;
        let zero = isa.splat(0.0);
        let mut finite = isa.splat_i32(0);
        for (group, became) in values.iter().zip(became) {
            for v in 0..4 {
                let (mut value, mut became) = (F::widen(isa, group[v]), became[v]);
                if CHECKED {
                    // NaN where one of them is not finite; then both count as 0.
                    let marker = isa.add(isa.mul(value, zero), isa.mul(became, zero));
                    isa.count_finite(marker, &mut finite);
                    value = isa.if_number(marker, value, zero);
                    became = isa.if_number(marker, became, zero);
                }
                let (wide, wide_became) = (isa.widen_f64(value), isa.widen_f64(became));
                for h in 0..2 {
                    let lane = (2 * v + h) % (16 / I::LANES);
                    let error = isa.sub_f64(wide[h], wide_became[h]);
                    let absolute = isa.abs_f64(error);
                    let signal = isa.mul_f64(wide[h], wide[h]);
                    let noise = isa.mul_f64(error, error);
                    sums.signal[lane] = isa.add_f64(sums.signal[lane], signal);
                    sums.noise[lane] = isa.add_f64(sums.noise[lane], noise);
                    sums.absolute[lane] = isa.add_f64(sums.absolute[lane], absolute);
                    sums.max[lane] = isa.max_f64(absolute, sums.max[lane]);
                }
            }
        }
        *self = sums;
        lane_sum(finite)
    }

    /// Whether no value so far was NaN or infinite, in the fast way.
    #[inline(always)]
    fn is_finite(&self) -> bool {
        let mut finite = true;
        for &lane in bytemuck::cast_slice::<_, f64>(&self.noise) {
            finite &= lane.is_finite();
        }
        finite
    }
}

impl<F: Element> Kernel for AddErrors<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (values, rest) = groups::<Group<F, I>, F>(self.values);
        let (became, rest_became) = groups::<Group<f32, I>, f32>(self.became);
        let mut sums = Sums::<I> {
            signal: load(&self.sums.signal),
            noise: load(&self.sums.noise),
            absolute: load(&self.sums.absolute),
            max: load(&self.sums.max),
        };
        for (values, became) in values.chunks(4 * TILE).zip(became.chunks(4 * TILE)) {
            let before = sums;
            sums.add::<F, false>(isa, values, became);
            if !sums.is_finite() {
                sums = before;
                let lanes = (values.len() * 4 * I::LANES) as u64;
                self.sums.non_finite += lanes - sums.add::<F, true>(isa, values, became);
            }
        }
        if !rest.is_empty() {
            // Padding adds zeros to the sums, and is finite.
            let values = [padded::<Group<F, I>, F>(rest)];
            let became = [padded::<Group<f32, I>, f32>(rest_became)];
            let lanes = 4 * I::LANES as u64;
            self.sums.non_finite += lanes - sums.add::<F, true>(isa, &values, &became);
        }
        self.sums.count += self.values.len() as u64;
        store(sums.signal, &mut self.sums.signal);
        store(sums.noise, &mut self.sums.noise);
        store(sums.absolute, &mut self.sums.absolute);
        store(sums.max, &mut self.sums.max);
    }
}
