//! Where kernels find the parameters of the elements at hand.

use crate::isa::{Isa, TILE};
use crate::params::{BlockRows, KernelParams, ParamRows, SCALE};

/// Where a kernel finds the parameters of the elements at hand. A *pair* is two vectors of elements.
pub trait ParamSource: Copy {
    /// Whether a pair has one scale and zero point.
    const SHARED: bool;
    /// Whether there are zero points, as codes are shifted.
    const ZERO_POINTS: bool;
    /// The same parameters, and zero points whether there are any or not: for what need not exist twice.
    type Full: ParamSource;
    /// The same as one of those.
    fn full(self) -> Self::Full;
    /// The parameters of one tile, loaded or at hand.
    type Loaded<I: Isa>: Copy;
    /// Parameters for a tile of elements that starts with this pair.
    fn load<I: Isa>(self, isa: I, first_pair: usize) -> Self::Loaded<I>;
    /// Float parameters of one kind, for both vectors of a pair of the tile.
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
    fn nibble_params<I: Isa>(
        self,
        isa: I,
        loaded: &Self::Loaded<I>,
        signed: bool,
        pair: usize,
    ) -> I::NibbleParams;
}

/// The same parameters for all elements.
#[derive(Clone, Copy)]
pub struct Uniform<const ZERO_POINTS: bool>(pub KernelParams);

/// [`Uniform`] in registers.
#[derive(Clone, Copy)]
pub struct UniformTerms<I: Isa> {
    floats: [I::F32; 4],
    zero_point: I::I32,
    narrow_zero_point: I::I16,
}

impl<const ZERO_POINTS: bool> ParamSource for Uniform<ZERO_POINTS> {
    const SHARED: bool = true;
    const ZERO_POINTS: bool = ZERO_POINTS;
    type Full = Uniform<true>;
    #[inline(always)]
    fn full(self) -> Uniform<true> {
        Uniform(self.0)
    }
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
    fn nibble_params<I: Isa>(
        self,
        isa: I,
        _: &UniformTerms<I>,
        signed: bool,
        _: usize,
    ) -> I::NibbleParams {
        isa.nibble_params(signed, self.0.floats[SCALE], self.0.zero_point)
    }
}

/// The same parameters for the elements of a block; its size is a multiple of [`LARGEST_PAIR`].
#[derive(Clone, Copy)]
pub struct PerBlock<'a, B, const BLOCKS: usize, const ZERO_POINTS: bool> {
    /// Parameters per block.
    pub kernel_params: BlockRows<'a, BLOCKS>,
    /// Elements per block.
    pub size: B,
}

/// Elements of the largest instruction set's pair.
pub const LARGEST_PAIR: usize = 32;
/// Blocks that are given their parameters at once.
pub const BLOCKS: usize = 512;
/// The largest blocks that are done many at a time. Larger ones are worth a kernel each.
pub const LARGEST_BLOCK: usize = 256;

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

impl<'a, B: BlockSize, const BLOCKS: usize, const ZERO_POINTS: bool> ParamSource
    for PerBlock<'a, B, BLOCKS, ZERO_POINTS>
{
    const SHARED: bool = true;
    const ZERO_POINTS: bool = ZERO_POINTS;
    type Full = PerBlock<'a, PowerOfTwo, BLOCKS, true>;
    #[inline(always)]
    fn full(self) -> Self::Full {
        PerBlock {
            kernel_params: self.kernel_params,
            size: PowerOfTwo(self.size.log2()),
        }
    }
    type Loaded<I: Isa> = usize;
    #[inline(always)]
    fn load<I: Isa>(self, _: I, first_pair: usize) -> usize {
        first_pair + self.kernel_params.start / (2 * I::LANES)
    }
    #[inline(always)]
    fn floats<I: Isa>(self, isa: I, first: &usize, kind: usize, pair: usize) -> [I::F32; 2] {
        let block = self.block::<I>(*first, pair);
        let [first, second] = self.kernel_params.floats[kind];
        let second = if I::TWINS { second } else { first };
        [isa.splat(first[block]), isa.splat(second[block])]
    }
    #[inline(always)]
    fn zero_points<I: Isa>(self, isa: I, first: &usize, pair: usize) -> [I::I32; 2] {
        [isa.splat_i32(self.kernel_params.zero_points[self.block::<I>(*first, pair)]); 2]
    }
    #[inline(always)]
    fn narrow_zero_points<I: Isa>(self, isa: I, first: &usize, pair: usize) -> I::I16 {
        isa.splat_i16(self.kernel_params.zero_points[self.block::<I>(*first, pair)] as i16)
    }
    #[inline(always)]
    fn nibble_params<I: Isa>(
        self,
        isa: I,
        first: &usize,
        signed: bool,
        pair: usize,
    ) -> I::NibbleParams {
        let block = self.block::<I>(*first, pair);
        let zero_point = match ZERO_POINTS {
            true => self.kernel_params.zero_points[block],
            false => 0,
        };
        isa.nibble_params_once(
            signed,
            self.kernel_params.floats[SCALE][0][block],
            zero_point,
        )
    }
}

/// Elements that the rows of [`PerElement`] reach beyond the last one: a tile of the largest
/// instruction set.
pub const PADDING: usize = 4 * 16 * TILE;

/// Parameters of its own for every element. The rows have [`PADDING`] at the end.
#[derive(Clone, Copy)]
pub struct PerElement<'a, const ZERO_POINTS: bool>(pub ParamRows<'a>);

/// [`PerElement`] within a tile.
#[derive(Clone, Copy)]
pub struct TileParams<'a, I: Isa> {
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

impl<'a, const ZERO_POINTS: bool> ParamSource for PerElement<'a, ZERO_POINTS> {
    const SHARED: bool = false;
    const ZERO_POINTS: bool = ZERO_POINTS;
    type Full = PerElement<'a, true>;
    #[inline(always)]
    fn full(self) -> Self::Full {
        PerElement(self.0)
    }
    type Loaded<I: Isa> = TileParams<'a, I>;
    #[inline(always)]
    fn load<I: Isa>(self, _: I, first_pair: usize) -> TileParams<'a, I> {
        let [a, b, c, d] = self.0.floats;
        TileParams {
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
        loaded: &TileParams<'a, I>,
        kind: usize,
        pair: usize,
    ) -> [I::F32; 2] {
        loaded.floats[kind][pair % (2 * TILE)]
    }
    #[inline(always)]
    fn zero_points<I: Isa>(self, _: I, loaded: &TileParams<'a, I>, pair: usize) -> [I::I32; 2] {
        loaded.zero_points[pair % (2 * TILE)]
    }
    #[inline(always)]
    fn narrow_zero_points<I: Isa>(self, isa: I, loaded: &TileParams<'a, I>, pair: usize) -> I::I16 {
        let [a, b] = self.zero_points(isa, loaded, pair);
        isa.narrow_i16(a, b)
    }
    #[inline(always)]
    fn nibble_params<I: Isa>(
        self,
        isa: I,
        _: &TileParams<'a, I>,
        _: bool,
        _: usize,
    ) -> I::NibbleParams {
        isa.nibble_params(false, 0.0, 0)
    }
}
