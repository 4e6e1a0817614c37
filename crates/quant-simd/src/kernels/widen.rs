//! Floats from floats.

use quant_core::FloatType;

use super::{groups, groups_mut, padded, unpadded};
use crate::isa::{Isa, Kernel};
use crate::lane::Lane;
use crate::params::round;

/// Widens to f32, exactly.
pub struct Widen<'a, F> {
    /// The values.
    pub from: &'a [F],
    /// As many.
    pub to: &'a mut [f32],
}

impl<F: Lane> Kernel for Widen<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (from, rest) = groups::<F::Vector<I>, F>(self.from);
        let (to, rest_to) = groups_mut::<I::F32, f32>(self.to);
        for (&from, to) in from.iter().zip(to) {
            *to = F::widen(isa, from);
        }
        if !rest.is_empty() {
            unpadded(F::widen(isa, padded::<F::Vector<I>, F>(rest)), rest_to);
        }
    }
}

/// Rounds to one type and from there to another.
pub struct Narrow<'a, F> {
    /// The values.
    pub from: &'a [f32],
    /// The type to round to first.
    pub through: FloatType,
    /// As many.
    pub to: &'a mut [F],
}

impl<F: Lane> Kernel for Narrow<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (from, rest) = groups::<I::F32, f32>(self.from);
        let (to, rest_to) = groups_mut::<F::Vector<I>, F>(self.to);
        for (&from, to) in from.iter().zip(to) {
            *to = F::narrow(isa, round(isa, from, self.through));
        }
        if !rest.is_empty() {
            let value = round(isa, padded::<I::F32, f32>(rest), self.through);
            unpadded(F::narrow(isa, value), rest_to);
        }
    }
}
