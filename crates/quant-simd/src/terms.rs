//! What the kernels need to know of scales and zero points.

use quant_core::{FloatType, IntType, Params, Scheme};

use crate::isa::Isa;
use crate::kernels::TILE;

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
}

impl CodeRange {
    /// Of `scheme`.
    pub fn of(scheme: Scheme) -> Self {
        let shift = match scheme.dtype {
            IntType::Uint8 => 128,
            _ => 0,
        };
        Self {
            low: (scheme.qmin() - shift) as i8,
            high: (scheme.qmax() - shift) as i8,
            shift,
        }
    }
}

/// The kinds of float terms: the scale to divide by, infinite for a block of zeros.
pub const DIVISOR: usize = 0;
/// `1 / scale`; 0 for a block of zeros.
pub const RECIPROCAL: usize = 1;
/// What the reciprocal lacks.
pub const RESIDUAL: usize = 2;
/// The scale to multiply steps by; for a block of zeros a zero of the sign that it gives.
pub const SCALE: usize = 3;

/// One block's terms.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terms {
    /// By kind.
    pub floats: [f32; 4],
    /// The zero point, shifted as [`CodeRange`] says; that of code 0 for a block of zeros.
    pub zero_point: i32,
}

impl Terms {
    /// For values of type `source`; and the division that they allow.
    pub fn of(scheme: Scheme, source: FloatType, params: Params) -> (Self, Division) {
        let shift = CodeRange::of(scheme).shift;
        let scale = params.scale();
        let arithmetic = scheme.dialect.arithmetic(source);
        if scale == 0.0 {
            let zero = if params.zero_point() > 0 { -0.0 } else { 0.0 };
            let terms = Self {
                floats: [f32::INFINITY, 0.0, 0.0, zero],
                zero_point: -shift,
            };
            let division = match arithmetic {
                FloatType::F16 => Division::Half,
                _ => Division::Exact,
            };
            return (terms, division);
        }
        let reciprocal = 1.0 / scale;
        let residual = (-scale).mul_add(reciprocal, 1.0) / scale;
        let terms = Self {
            floats: [scale, reciprocal, residual, scale],
            zero_point: params.zero_point() - shift,
        };
        let exact = (EXACT_SCALES.0..=EXACT_SCALES.1).contains(&scale);
        let division = match arithmetic {
            FloatType::F16 if FloatType::F16.round(scale) == scale => Division::Half,
            FloatType::F32 if exact => Division::Exact,
            _ => Division::Divide,
        };
        (terms, division)
    }
}

impl Terms {
    /// For codes as they are stored: the scale, and the zero point as it is.
    pub fn stored(params: Params) -> Self {
        Self {
            floats: [params.scale(); 4],
            zero_point: params.zero_point(),
        }
    }
}

/// Terms of many blocks, each kind in a row.
#[derive(Clone, Copy)]
pub struct TermRows<'a> {
    /// By kind.
    pub floats: [&'a [f32]; 4],
    /// Zero points.
    pub zero_points: &'a [i32],
}

impl TermRows<'_> {
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

/// [`TermRows`] that own their memory.
#[derive(Clone, Debug, Default)]
pub struct TermTable {
    floats: [Vec<f32>; 4],
    zero_points: Vec<i32>,
    division: Option<Division>,
    has_zero_points: bool,
}

impl TermTable {
    /// Appends a block's terms, `count` times.
    pub fn push(&mut self, terms: Terms, division: Division, count: usize) {
        self.division = Some(self.division.map_or(division, |known| known.and(division)));
        let end = self.zero_points.len() + count;
        for (row, float) in self.floats.iter_mut().zip(terms.floats) {
            row.resize(end, float);
        }
        self.zero_points.resize(end, terms.zero_point);
        self.has_zero_points |= terms.zero_point != 0;
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
    pub fn rows(&self) -> TermRows<'_> {
        let [a, b, c, d] = &self.floats;
        TermRows {
            floats: [a, b, c, d],
            zero_points: &self.zero_points,
        }
    }
}

/// Where a kernel finds the terms of the elements at hand. A *pair* is two vectors of elements.
pub trait Source: Copy {
    /// Whether a pair has one scale and zero point.
    const SHARED: bool;
    /// Whether there are zero points, as codes are shifted.
    const ZERO_POINTS: bool;
    /// The terms of one tile, loaded or at hand.
    type Loaded<I: Isa>: Copy;
    /// Terms for a tile of elements that starts with this pair.
    fn load<I: Isa>(self, isa: I, first_pair: usize) -> Self::Loaded<I>;
    /// Float terms of one kind, for both vectors of a pair of the tile.
    fn floats<I: Isa>(
        self,
        isa: I,
        loaded: &Self::Loaded<I>,
        kind: usize,
        pair: usize,
    ) -> [I::F32; 2];
    /// Zero points of both vectors.
    fn zero_points<I: Isa>(self, isa: I, loaded: &Self::Loaded<I>, pair: usize) -> [I::I32; 2];
    /// Zero points of the pair.
    fn narrow_zero_points<I: Isa>(self, isa: I, loaded: &Self::Loaded<I>, pair: usize) -> I::I16;
    /// What turns 4-bit codes of the pair into values, if `SHARED`.
    fn nibble_terms<I: Isa>(
        self,
        isa: I,
        loaded: &Self::Loaded<I>,
        signed: bool,
        pair: usize,
    ) -> I::NibbleTerms;
}

/// The same terms for all elements.
#[derive(Clone, Copy)]
pub struct Uniform<const ZERO_POINTS: bool>(pub Terms);

/// [`Uniform`] in registers.
#[derive(Clone, Copy)]
pub struct UniformTerms<I: Isa> {
    floats: [I::F32; 4],
    zero_point: I::I32,
    narrow_zero_point: I::I16,
}

impl<const ZERO_POINTS: bool> Source for Uniform<ZERO_POINTS> {
    const SHARED: bool = true;
    const ZERO_POINTS: bool = ZERO_POINTS;
    type Loaded<I: Isa> = UniformTerms<I>;
    #[inline(always)]
    fn load<I: Isa>(self, isa: I, _: usize) -> UniformTerms<I> {
        let [a, b, c, d] = self.0.floats;
        UniformTerms {
            floats: [isa.splat(a), isa.splat(b), isa.splat(c), isa.splat(d)],
            zero_point: isa.splat_i32(self.0.zero_point),
            narrow_zero_point: isa.splat_i16(self.0.zero_point as i16),
        }
    }
    #[inline(always)]
    fn floats<I: Isa>(self, _: I, loaded: &UniformTerms<I>, kind: usize, _: usize) -> [I::F32; 2] {
        [loaded.floats[kind]; 2]
    }
    #[inline(always)]
    fn zero_points<I: Isa>(self, _: I, loaded: &UniformTerms<I>, _: usize) -> [I::I32; 2] {
        [loaded.zero_point; 2]
    }
    #[inline(always)]
    fn narrow_zero_points<I: Isa>(self, _: I, loaded: &UniformTerms<I>, _: usize) -> I::I16 {
        loaded.narrow_zero_point
    }
    #[inline(always)]
    fn nibble_terms<I: Isa>(
        self,
        isa: I,
        _: &UniformTerms<I>,
        signed: bool,
        _: usize,
    ) -> I::NibbleTerms {
        isa.nibble_terms(signed, self.0.floats[SCALE], self.0.zero_point)
    }
}

/// Terms of up to so many blocks, a power of two.
pub struct BlockTerms<const BLOCKS: usize> {
    /// By kind.
    pub floats: [[f32; BLOCKS]; 4],
    /// Zero points.
    pub zero_points: [i32; BLOCKS],
    /// Whether some zero point is not 0, or codes are shifted.
    pub has_zero_points: bool,
}

impl<const BLOCKS: usize> Default for BlockTerms<BLOCKS> {
    fn default() -> Self {
        Self {
            floats: [[0.0; BLOCKS]; 4],
            zero_points: [0; BLOCKS],
            has_zero_points: false,
        }
    }
}

impl<const BLOCKS: usize> BlockTerms<BLOCKS> {
    /// One block's.
    pub fn of(&self, block: usize) -> Terms {
        Terms {
            floats: self.floats.map(|row| row[block]),
            zero_point: self.zero_points[block],
        }
    }

    /// One block's scale and zero point, as they are stored.
    pub fn params_of(&self, block: usize, scheme: Scheme) -> (f32, i32) {
        let zero_point = self.zero_points[block] + CodeRange::of(scheme).shift;
        (self.floats[SCALE][block], zero_point)
    }

    /// Without the first `count`, for as many elements less.
    pub fn skip(&self, count: usize) -> Self {
        let mut rest = Self {
            floats: self.floats,
            zero_points: self.zero_points,
            has_zero_points: self.has_zero_points,
        };
        for row in &mut rest.floats {
            row.rotate_left(count);
        }
        rest.zero_points.rotate_left(count);
        rest
    }
}

/// The same terms for the elements of a block; its size is a multiple of [`LARGEST_PAIR`].
#[derive(Clone, Copy)]
pub struct PerBlock<'a, B, const BLOCKS: usize, const ZERO_POINTS: bool> {
    /// Terms per block.
    pub terms: &'a BlockTerms<BLOCKS>,
    /// Elements per block.
    pub size: B,
}

/// Elements of the largest instruction set's pair.
pub const LARGEST_PAIR: usize = 32;

/// A block size, a power of two.
pub trait BlockSize: Copy {
    /// The power.
    fn log2(self) -> u32;
}

/// Blocks of 32, the usual size: loops over them are unrolled.
#[derive(Clone, Copy)]
pub struct Block32;

impl BlockSize for Block32 {
    #[inline(always)]
    fn log2(self) -> u32 {
        5
    }
}

/// Blocks of 2 to this power.
#[derive(Clone, Copy)]
pub struct PowerOfTwo(pub u32);

impl BlockSize for PowerOfTwo {
    #[inline(always)]
    fn log2(self) -> u32 {
        self.0
    }
}

impl<B: BlockSize, const BLOCKS: usize, const ZERO_POINTS: bool>
    PerBlock<'_, B, BLOCKS, ZERO_POINTS>
{
    /// The remainder is what it is, and spares the bounds check.
    #[inline(always)]
    fn block<I: Isa>(self, first_pair: usize, pair: usize) -> usize {
        (((first_pair + pair) * 2 * I::LANES) >> self.size.log2()) % BLOCKS
    }
}

impl<B: BlockSize, const BLOCKS: usize, const ZERO_POINTS: bool> Source
    for PerBlock<'_, B, BLOCKS, ZERO_POINTS>
{
    const SHARED: bool = true;
    const ZERO_POINTS: bool = ZERO_POINTS;
    type Loaded<I: Isa> = usize;
    #[inline(always)]
    fn load<I: Isa>(self, _: I, first_pair: usize) -> usize {
        first_pair
    }
    #[inline(always)]
    fn floats<I: Isa>(self, isa: I, first: &usize, kind: usize, pair: usize) -> [I::F32; 2] {
        [isa.splat(self.terms.floats[kind][self.block::<I>(*first, pair)]); 2]
    }
    #[inline(always)]
    fn zero_points<I: Isa>(self, isa: I, first: &usize, pair: usize) -> [I::I32; 2] {
        [isa.splat_i32(self.terms.zero_points[self.block::<I>(*first, pair)]); 2]
    }
    #[inline(always)]
    fn narrow_zero_points<I: Isa>(self, isa: I, first: &usize, pair: usize) -> I::I16 {
        isa.splat_i16(self.terms.zero_points[self.block::<I>(*first, pair)] as i16)
    }
    #[inline(always)]
    fn nibble_terms<I: Isa>(
        self,
        isa: I,
        first: &usize,
        signed: bool,
        pair: usize,
    ) -> I::NibbleTerms {
        let block = self.block::<I>(*first, pair);
        let zero_point = match ZERO_POINTS {
            true => self.terms.zero_points[block],
            false => 0,
        };
        isa.nibble_terms(signed, self.terms.floats[SCALE][block], zero_point)
    }
}

/// Elements that the rows of [`PerElement`] reach beyond the last one: a tile of the largest
/// instruction set.
pub const PADDING: usize = 4 * 16 * TILE;

/// Terms of its own for every element. The rows have [`PADDING`] at the end.
#[derive(Clone, Copy)]
pub struct PerElement<'a, const ZERO_POINTS: bool>(pub TermRows<'a>);

/// [`PerElement`] within a tile.
#[derive(Clone, Copy)]
pub struct TileTerms<'a, I: Isa> {
    floats: [&'a [[I::F32; 2]; 2 * TILE]; 4],
    zero_points: &'a [[I::I32; 2]; 2 * TILE],
}

#[inline(always)]
fn tile_of<V: bytemuck::Pod, T: bytemuck::Pod>(row: &[T], first_pair: usize) -> &[V; 2 * TILE] {
    let per_pair = size_of::<V>() / size_of::<T>();
    let row = &row[first_pair * per_pair..][..2 * TILE * per_pair];
    let pairs: &[V] = bytemuck::cast_slice(row);
    pairs.first_chunk().expect("as many as were cast")
}

impl<'a, const ZERO_POINTS: bool> Source for PerElement<'a, ZERO_POINTS> {
    const SHARED: bool = false;
    const ZERO_POINTS: bool = ZERO_POINTS;
    type Loaded<I: Isa> = TileTerms<'a, I>;
    #[inline(always)]
    fn load<I: Isa>(self, _: I, first_pair: usize) -> TileTerms<'a, I> {
        let [a, b, c, d] = self.0.floats;
        TileTerms {
            floats: [
                tile_of(a, first_pair),
                tile_of(b, first_pair),
                tile_of(c, first_pair),
                tile_of(d, first_pair),
            ],
            zero_points: tile_of(self.0.zero_points, first_pair),
        }
    }
    #[inline(always)]
    fn floats<I: Isa>(
        self,
        _: I,
        loaded: &TileTerms<'a, I>,
        kind: usize,
        pair: usize,
    ) -> [I::F32; 2] {
        loaded.floats[kind][pair % (2 * TILE)]
    }
    #[inline(always)]
    fn zero_points<I: Isa>(self, _: I, loaded: &TileTerms<'a, I>, pair: usize) -> [I::I32; 2] {
        loaded.zero_points[pair % (2 * TILE)]
    }
    #[inline(always)]
    fn narrow_zero_points<I: Isa>(
        self,
        isa: I,
        loaded: &TileTerms<'a, I>,
        pair: usize,
    ) -> I::I16 {
        let [a, b] = self.zero_points(isa, loaded, pair);
        isa.narrow_i16(a, b)
    }
    #[inline(always)]
    fn nibble_terms<I: Isa>(
        self,
        isa: I,
        _: &TileTerms<'a, I>,
        _: bool,
        _: usize,
    ) -> I::NibbleTerms {
        isa.nibble_terms(false, 0.0, 0)
    }
}
