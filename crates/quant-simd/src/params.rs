//! What the kernels need to know of scales and zero points.

use quant_core::{FloatType, IntType, Params, Scheme};

use crate::isa::Isa;
use crate::memory::{self, NoMemory};

/// The smallest and the largest scale for which [`Exact`] rounds to the same integers as a
/// division, 2^-96 and 2^64: between them nothing that matters under- or overflows.
pub const EXACT_SCALES: (f32, f32) = (
    f32::from_bits((127 - 96) << 23),
    f32::from_bits((127 + 64) << 23),
);

/// How a quotient `value / scale` is had without a division per element.
///
/// `reciprocal` is `1 / scale`; `residual` is what that lacks, `(1 - scale * reciprocal) / scale`.
/// A multiplication in place of this last division is not enough: it fails where all bits of the
/// scale's significand are set.
pub trait Quotient: Copy {
    /// Whether it takes a division after all.
    const DIVIDES: bool = false;
    /// Whether the zero point is added to the quotient before this is rounded to an integer.
    const ADDS_FIRST: bool = false;
    /// The type that the quotient is rounded to before it is rounded to an integer.
    const ROUND: FloatType = FloatType::F32;
    /// The quotient, or something that rounds to the same integer.
    fn quotient<I: Isa>(isa: I, value: I::F32, reciprocal: I::F32, residual: I::F32) -> I::F32;
}

/// One multiplication and one fused multiply-add, for quotients in f32 (Brisebarre, Muller and
/// Raina, "Accelerating correctly rounded floating-point division when the divisor is known in
/// advance", IEEE Trans. Computers 53, 2004). `cargo xtask exhaustive` proves it for the scales
/// between [`EXACT_SCALES`].
#[derive(Clone, Copy)]
pub struct Exact;

impl Quotient for Exact {
    #[inline(always)]
    fn quotient<I: Isa>(isa: I, value: I::F32, reciprocal: I::F32, residual: I::F32) -> I::F32 {
        isa.fma(value, reciprocal, isa.mul(value, residual))
    }
}

/// One multiplication, for quotients of f16 by f16 that are rounded to f16: they stay clear of the
/// middle between two f16. `cargo xtask exhaustive` proves it for all of them.
#[derive(Clone, Copy)]
pub struct Half;

impl Quotient for Half {
    const ROUND: FloatType = FloatType::F16;
    #[inline(always)]
    fn quotient<I: Isa>(isa: I, value: I::F32, reciprocal: I::F32, _: I::F32) -> I::F32 {
        isa.round_quotient(isa.mul(value, reciprocal))
    }
}

/// A division per element, where nothing else is proven. Kernels that know it divide themselves,
/// by [`DIVISOR`].
#[derive(Clone, Copy)]
pub struct Divide;

impl Quotient for Divide {
    const DIVIDES: bool = true;
    #[inline(always)]
    fn quotient<I: Isa>(isa: I, value: I::F32, reciprocal: I::F32, _: I::F32) -> I::F32 {
        isa.mul(value, reciprocal)
    }
}

/// [`Divide`], and the zero point is added to the quotient before this is rounded to an integer.
#[derive(Clone, Copy)]
pub struct DivideAndAdd;

impl Quotient for DivideAndAdd {
    const DIVIDES: bool = true;
    const ADDS_FIRST: bool = true;
    #[inline(always)]
    fn quotient<I: Isa>(isa: I, value: I::F32, reciprocal: I::F32, residual: I::F32) -> I::F32 {
        Divide::quotient(isa, value, reciprocal, residual)
    }
}

/// Rounds to f16 and back.
#[inline(always)]
pub fn round_f16<I: Isa>(isa: I, value: I::F32) -> I::F32 {
    isa.widen_f16(isa.narrow_f16(value))
}

/// Rounds to `float` and back.
#[inline(always)]
pub fn round<I: Isa>(isa: I, value: I::F32, float: FloatType) -> I::F32 {
    match float {
        FloatType::F32 => value,
        FloatType::F16 => round_f16(isa, value),
        FloatType::Bf16 => isa.widen_bf16(isa.narrow_bf16(value)),
    }
}

/// Which [`Quotient`] serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Division {
    /// [`Exact`].
    Exact,
    /// [`Half`].
    Half,
    /// A division per element, where nothing else is proven.
    Divide,
}

impl Division {
    /// What serves for both.
    pub fn and(self, other: Self) -> Self {
        match self == other {
            true => self,
            false => Self::Divide,
        }
    }
}

/// The codes of a scheme as signed bytes: an unsigned type of 8 bits is shifted by 128, which
/// flips the highest bit.
#[derive(Clone, Copy, Debug)]
pub struct CodeRange {
    /// The smallest.
    pub low: i8,
    /// The largest.
    pub high: i8,
    /// Subtracted from codes and zero points.
    pub shift: i32,
    /// What codes and zero points, shifted, are less where a zero point is added to a quotient.
    pub added_shift: i32,
}

/// [`CodeRange::shift`] of an integer type.
#[inline]
pub fn code_shift(dtype: IntType) -> i32 {
    match dtype.max_value() > i8::MAX.into() {
        true => 128,
        false => 0,
    }
}

impl CodeRange {
    /// Of `scheme`.
    #[inline]
    pub fn new(scheme: Scheme) -> Self {
        let shift = code_shift(scheme.dtype);
        // Once: what a dialect answers is a call, and a few values take no longer than some of these.
        let (low, high) = scheme.dialect.code_range(scheme.dtype, scheme.mode);
        Self {
            low: (low - shift) as i8,
            high: (high - shift) as i8,
            shift,
            added_shift: scheme.zero_point_shift() - shift,
        }
    }
}

impl CodeRange {
    /// Whether the lanes of both are codes.
    #[inline(always)]
    pub fn holds<I: Isa>(self, least: I::I16, most: I::I16) -> bool {
        let mut within = true;
        for &lane in bytemuck::cast_slice::<I::I16, i16>(&[least, most]) {
            within &= i16::from(self.low) <= lane && lane <= i16::from(self.high);
        }
        within
    }
}

/// The kinds of float parameters: the scale to divide by, infinite for a block of zeros.
pub const DIVISOR: usize = 0;
/// `1 / scale`; 0 for a block of zeros.
pub const RECIPROCAL: usize = 1;
/// What the reciprocal lacks.
pub const RESIDUAL: usize = 2;
/// The scale to multiply steps by; for a block of zeros a zero of the sign that it gives.
pub const SCALE: usize = 3;

/// One block's parameters.
#[derive(Clone, Copy, Debug, Default)]
pub struct KernelParams {
    /// By kind.
    pub floats: [f32; 4],
    /// The zero point, shifted as [`CodeRange`] says; that of code 0 for a block of zeros.
    pub zero_point: i32,
}

impl KernelParams {
    /// For values of type `source`; and the division that they allow.
    pub fn new(scheme: Scheme, source: FloatType, params: Params) -> (Self, Division) {
        let shift = code_shift(scheme.dtype);
        let scale = params.scale();
        let rounding = scheme.dialect.rounding(source);
        if scale == 0.0 {
            let zero = if params.zero_point() > 0 { -0.0 } else { 0.0 };
            let kernel_params = Self {
                floats: [f32::INFINITY, 0.0, 0.0, zero],
                zero_point: -shift,
            };
            let division = match rounding {
                FloatType::F16 => Division::Half,
                FloatType::F32 | FloatType::Bf16 => Division::Exact,
            };
            return (kernel_params, division);
        }
        let reciprocal = 1.0 / scale;
        let residual = (-scale).mul_add(reciprocal, 1.0) / scale;
        let kernel_params = Self {
            floats: [scale, reciprocal, residual, scale],
            zero_point: params.zero_point() - shift,
        };
        let proven = match rounding {
            FloatType::F16 => FloatType::F16.round(scale) == scale,
            // Below zero all steps are the same but for their sign.
            FloatType::F32 => (EXACT_SCALES.0..=EXACT_SCALES.1).contains(&scale.abs()),
            FloatType::Bf16 => false,
        };
        let division = match (proven, rounding) {
            (true, FloatType::F16) => Division::Half,
            (true, FloatType::F32 | FloatType::Bf16) => Division::Exact,
            (false, _) => Division::Divide,
        };
        (kernel_params, division)
    }
}

impl KernelParams {
    /// For codes as they are stored: the scale, and the zero point as it is.
    pub fn stored(params: Params) -> Self {
        Self {
            floats: [params.scale(); 4],
            zero_point: params.zero_point(),
        }
    }
}

/// Parameters of many blocks, each kind in a row.
#[derive(Clone, Copy)]
pub struct ParamRows<'a> {
    /// By kind.
    pub floats: [&'a [f32]; 4],
    /// Zero points.
    pub zero_points: &'a [i32],
}

impl ParamRows<'_> {
    /// Without the first `count` of each.
    pub fn skip(&self, count: usize) -> Self {
        let mut rest = *self;
        for row in &mut rest.floats {
            *row = &row[Ord::min(count, row.len())..];
        }
        rest.zero_points = &rest.zero_points[count..];
        rest
    }
}

/// [`ParamRows`] that own their memory.
#[derive(Clone, Debug, Default)]
pub struct ParamTable {
    floats: [Vec<f32>; 4],
    zero_points: Vec<i32>,
    division: Option<Division>,
    has_zero_points: bool,
}

impl ParamTable {
    /// Appends a block's parameters, `count` times.
    pub fn push(&mut self, kernel_params: KernelParams, division: Division, count: usize) {
        let pushed = self.try_push(kernel_params, division, count);
        pushed.unwrap_or_else(|lack| lack.end());
    }

    /// [`push`](Self::push), unless there is no memory.
    pub fn try_push(
        &mut self,
        kernel_params: KernelParams,
        division: Division,
        count: usize,
    ) -> Result<(), NoMemory> {
        self.division = Some(self.division.map_or(division, |known| known.and(division)));
        let end = self.zero_points.len() + count;
        for (row, float) in self.floats.iter_mut().zip(kernel_params.floats) {
            memory::resize(row, end, float)?;
        }
        memory::resize(&mut self.zero_points, end, kernel_params.zero_point)?;
        self.has_zero_points |= kernel_params.zero_point != 0;
        Ok(())
    }

    /// Appends what is there as often as that it is there so many times.
    pub fn try_repeat(&mut self, times: usize) -> Result<(), NoMemory> {
        for row in &mut self.floats {
            memory::repeat(row, times)?;
        }
        memory::repeat(&mut self.zero_points, times)
    }

    /// What serves for all blocks.
    pub fn division(&self) -> Division {
        self.division.unwrap_or(Division::Divide)
    }

    /// Whether some zero point is not 0.
    pub fn has_zero_points(&self) -> bool {
        self.has_zero_points
    }

    /// All of it.
    pub fn rows(&self) -> ParamRows<'_> {
        let [a, b, c, d] = &self.floats;
        ParamRows {
            floats: [a, b, c, d],
            zero_points: &self.zero_points,
        }
    }
}

/// Parameters of up to so many blocks, a power of two. No vector of them lies across cache lines.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub struct BlockParams<const BLOCKS: usize> {
    /// By kind.
    pub floats: [[f32; BLOCKS]; 4],
    /// Reciprocals again, see [`Isa::TWINS`].
    pub reciprocal_twins: [f32; BLOCKS],
    /// Residuals again.
    pub residual_twins: [f32; BLOCKS],
    /// Zero points.
    pub zero_points: [i32; BLOCKS],
}

impl<const BLOCKS: usize> Default for BlockParams<BLOCKS> {
    fn default() -> Self {
        Self {
            floats: [[0.0; BLOCKS]; 4],
            reciprocal_twins: [0.0; BLOCKS],
            residual_twins: [0.0; BLOCKS],
            zero_points: [0; BLOCKS],
        }
    }
}

impl<const BLOCKS: usize> BlockParams<BLOCKS> {
    /// One block's.
    pub fn of(&self, block: usize) -> KernelParams {
        KernelParams {
            // `map` would copy all rows.
            floats: core::array::from_fn(|kind| self.floats[kind][block]),
            zero_point: self.zero_points[block],
        }
    }

    /// Replaces one block's.
    pub fn set(&mut self, block: usize, own: KernelParams) {
        for (row, float) in self.floats.iter_mut().zip(own.floats) {
            row[block] = float;
        }
        self.reciprocal_twins[block] = own.floats[RECIPROCAL];
        self.residual_twins[block] = own.floats[RESIDUAL];
        self.zero_points[block] = own.zero_point;
    }

    /// One block's scale and zero point, as they are stored.
    pub fn params_of(&self, block: usize, scheme: Scheme) -> (f32, i32) {
        let zero_point = self.zero_points[block] + code_shift(scheme.dtype);
        (self.floats[SCALE][block], zero_point)
    }

    /// All of it.
    #[inline(always)]
    pub fn rows(&self) -> BlockRows<'_, BLOCKS> {
        let [divisors, reciprocals, residuals, scales] = &self.floats;
        BlockRows {
            floats: [
                [divisors; 2],
                [reciprocals, &self.reciprocal_twins],
                [residuals, &self.residual_twins],
                [scales; 2],
            ],
            zero_points: &self.zero_points,
            start: 0,
        }
    }
}

/// Parameters of up to so many blocks, a power of two, each kind in a row.
#[derive(Clone, Copy)]
pub struct BlockRows<'a, const BLOCKS: usize> {
    /// By kind; for the first and the second vector of a pair, the same numbers.
    pub floats: [[&'a [f32; BLOCKS]; 2]; 4],
    /// Zero points.
    pub zero_points: &'a [i32; BLOCKS],
    /// Elements that the parameters begin before the ones at hand.
    pub start: usize,
}

impl<'a, const BLOCKS: usize> BlockRows<'a, BLOCKS> {
    /// For codes as they are stored: scales and zero points as they are.
    pub fn stored(scales: &'a [f32; BLOCKS], zero_points: &'a [i32; BLOCKS]) -> Self {
        Self {
            floats: [[scales; 2]; 4],
            zero_points,
            start: 0,
        }
    }
}
