//! Ranges and parameters of one batch of blocks, for what quantizes it by other means.

use core::marker::PhantomData;

use quant_core::{Mode, Scheme};

use super::blocks::{BATCH, Bounds, Ranges, Rule, bound, params, ranges};
use super::groups;
use crate::isa::{Isa, Kernel};
use crate::lane::Lane;
use crate::params::{BlockParams, DIVISOR, Quotient, SCALE};

/// The parameters of one batch of blocks, to be encoded later; whether all blocks are ordinary. NaN may
/// go unnoticed.
pub struct FindBlockParams<'a, F, Q, const N: usize> {
    /// The values of [`BATCH`] blocks.
    pub values: &'a [F],
    /// Values per block, a power of two of at least two vectors.
    pub block_size: usize,
    /// Integer type, mode and dialect.
    pub scheme: Scheme,
    /// Buffer for the parameters.
    pub kernel_params: &'a mut BlockParams<N>,
    /// How to divide.
    pub marker: PhantomData<Q>,
}

impl<F: Lane, Q: Quotient, const N: usize> Kernel for FindBlockParams<'_, F, Q, N> {
    type Output = bool;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> bool {
        let (values, _) = groups::<F::Vector<I>, F>(self.values);
        match self.scheme.mode {
            Mode::Affine => self.terms_of::<I, 2>(isa, values),
            Mode::Symmetric => self.terms_of::<I, 1>(isa, values),
        }
    }
}

impl<F: Lane, Q: Quotient, const N: usize> FindBlockParams<'_, F, Q, N> {
    #[inline(always)]
    fn terms_of<I: Isa, const SIDES: usize>(self, isa: I, values: &[F::Vector<I>]) -> bool {
        let mut found = Ranges::default();
        ranges_of::<I, F, SIDES>(isa, values, self.block_size, &mut found);
        let kernel_params = self.kernel_params;
        let rule = Rule::new(self.scheme, F::TYPE);
        if !params::<I, Q, N>(isa, &rule, &mut found, kernel_params) {
            return false;
        }
        for block in 0..BATCH {
            let scale = kernel_params.floats[SCALE][block];
            kernel_params.floats[DIVISOR][block] = if scale == 0.0 { f32::INFINITY } else { scale };
        }
        true
    }
}

/// The ranges of one batch of blocks.
#[inline(always)]
fn ranges_of<I: Isa, F: Lane, const SIDES: usize>(
    isa: I,
    values: &[F::Vector<I>],
    block_size: usize,
    found: &mut Ranges,
) {
    let mut bounds = Bounds::<I, SIDES>::new(isa);
    let per_block = block_size / I::LANES;
    for index in 0..values.len() / per_block {
        let block = &values[index * per_block..][..per_block];
        bounds.set(index, bound::<I, F, SIDES>(isa, block));
    }
    ranges::<I, SIDES>(isa, &bounds, found);
}

/// The ranges of one batch of blocks, which hold 0; symmetric ones in symmetric mode. NaN may go
/// unnoticed.
pub struct FindBlockRanges<'a, F> {
    /// The values of [`BATCH`] blocks.
    pub values: &'a [F],
    /// Values per block, a power of two of at least two vectors.
    pub block_size: usize,
    /// What the ranges are for.
    pub mode: Mode,
    /// Where they go.
    pub found: &'a mut Ranges,
}

impl<F: Lane> Kernel for FindBlockRanges<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (values, _) = groups::<F::Vector<I>, F>(self.values);
        match self.mode {
            Mode::Affine => ranges_of::<I, F, 2>(isa, values, self.block_size, self.found),
            Mode::Symmetric => ranges_of::<I, F, 1>(isa, values, self.block_size, self.found),
        }
    }
}
