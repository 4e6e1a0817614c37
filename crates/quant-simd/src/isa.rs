//! What quantization needs from an instruction set.

use bytemuck::Pod;

/// Groups after which a kernel looks whether the fast path was good enough.
pub const TILE: usize = 32;

/// Bytes that are stored past the cache at once: while they are, nothing is read.
pub const LARGEST_BURST: usize = 1024;

/// A piece of work that exists once and runs on every instruction set.
///
/// `run` and all that it calls must be `#[inline(always)]`, and no closure may be handed to a
/// standard adaptor in there: what is not inlined into [`Isa::run`] loses its instruction set, and
/// each of its operations becomes a call.
pub trait Kernel {
    /// What comes out.
    type Output;
    /// Does it.
    fn run<I: Isa>(self, isa: I) -> Self::Output;
}

/// How the bits of lanes compare.
pub trait Order {
    /// Whether they have a sign.
    const IS_SIGNED: bool;
    /// The larger.
    fn larger<I: Isa>(isa: I, a: I::I32, b: I::I32) -> I::I32;
}

/// As integers.
pub struct Signed;
/// As integers without a sign.
pub struct Unsigned;

impl Order for Signed {
    const IS_SIGNED: bool = true;
    #[inline(always)]
    fn larger<I: Isa>(isa: I, a: I::I32, b: I::I32) -> I::I32 {
        isa.max_i32(a, b)
    }
}

impl Order for Unsigned {
    const IS_SIGNED: bool = false;
    #[inline(always)]
    fn larger<I: Isa>(isa: I, a: I::I32, b: I::I32) -> I::I32 {
        isa.max_u32(a, b)
    }
}

/// An instruction set: a token whose existence proves that the machine has it.
///
/// A *vector* has [`LANES`](Self::LANES) lanes of 32 bits; a *group* is the four vectors whose
/// codes fill one register. Vectors are plain data with the alignment of their elements, so that
/// slices can be cast to them. Lanes are in memory order, whatever the instructions in between.
pub trait Isa: Copy {
    /// f32 lanes of a vector.
    const LANES: usize;
    /// Whether multiplying by a reciprocal, which takes a fused multiply-add, beats a division.
    const RECIPROCAL: bool;
    /// Whether [`min`](Self::min) and [`max`](Self::max) give `b` for every NaN `a`; else not for
    /// a signaling one.
    const MIN_SKIPS_NAN: bool;
    /// Whether there are [`min_or_nan`](Self::min_or_nan) and [`max_or_nan`](Self::max_or_nan).
    const KEEPS_NAN: bool = false;
    /// Whether a number broadcast from memory costs nothing as an operand, but a shuffle as a
    /// register that several operations share.
    const TWINS: bool = false;
    /// Whether [`larger_magnitude_bits`](Self::larger_magnitude_bits) leaves a NaN out.
    const MAGNITUDE_SKIPS_NAN: bool = false;
    /// Whether what is NaN, or beyond every integer, is rounded to the smallest i32.
    const ROUND_SHOWS_NAN: bool = false;
    /// Whether codes of 4 bits are dealt with in two groups at a time where they can: a group fills half
    /// a register.
    const TWO_GROUPS: bool = false;
    /// Whether bits of an integer choose lanes at no cost.
    const HAS_MASKS: bool = false;
    /// Whether there are enough registers for two loops in one.
    const HAS_MANY_REGISTERS: bool = false;
    /// How many times too large [`round_away_i16`](Self::round_away_i16) wants its numbers.
    const AWAY: f32 = 1.0;
    /// Whether [`narrow_shuffled_i8`](Self::narrow_shuffled_i8) saves anything.
    const SHUFFLES: bool = false;
    /// Whether [`stream`](Self::stream) stores past the cache; else loops that stream do not exist.
    const STREAMS: bool = false;
    /// Bytes of values that are read before their codes are stored past the cache, where as many, farther
    /// on, are then asked for; none where reading needs no such help and as many codes as
    /// [`LARGEST_BURST`] are stored at once.
    const READ_AHEAD: Option<usize> = None;
    /// `LANES` f32.
    type F32: Pod;
    /// `LANES / 2` f64.
    type F64: Pod;
    /// `LANES` i32.
    type I32: Pod;
    /// `2 * LANES` i16.
    type I16: Pod;
    /// `4 * LANES` codes.
    type I8: Pod;
    /// `LANES` numbers of 16 bits: f16 or bf16.
    type U16: Pod;
    /// `4 * LANES` codes of 4 bits.
    type Nibbles: Pod;
    /// Remembers whether [`round_i16`](Self::round_i16) met what it cannot do.
    type Sticky: Copy;
    /// What turns 4-bit codes of one block into values.
    type NibbleParams: Copy;

    /// Runs `kernel` compiled for this instruction set.
    fn run<K: Kernel>(self, kernel: K) -> K::Output;

    /// The same value in every lane.
    fn splat(self, value: f32) -> Self::F32;
    /// The same value in every lane.
    fn splat_i32(self, value: i32) -> Self::I32;
    /// The same value in every lane.
    fn splat_i16(self, value: i16) -> Self::I16;
    /// The same value in every lane.
    fn splat_i8(self, value: i8) -> Self::I8;

    /// `a + b`.
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a - b`.
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a * b`.
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a / b`.
    fn div(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a * b + c`, rounded once.
    fn fma(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32;
    /// The smaller; `b`, which is a number, where `a` is NaN, but see
    /// [`MIN_SKIPS_NAN`](Self::MIN_SKIPS_NAN).
    fn min(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// The larger, as [`min`](Self::min).
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// The smaller; NaN where one of them is, if [`KEEPS_NAN`](Self::KEEPS_NAN).
    #[inline(always)]
    fn min_or_nan(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        self.min(a, b)
    }
    /// The larger, as [`min_or_nan`](Self::min_or_nan).
    #[inline(always)]
    fn max_or_nan(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        self.max(a, b)
    }
    /// Adds 1 to `count` where `a` is neither NaN nor infinite.
    fn count_finite(self, a: Self::F32, count: &mut Self::I32);
    /// `then` where `test` is a number, else `otherwise`.
    fn if_number(self, test: Self::F32, then: Self::F32, otherwise: Self::F32) -> Self::F32;

    /// `|a|`.
    #[inline(always)]
    fn abs(self, a: Self::F32) -> Self::F32 {
        bytemuck::cast(self.magnitude_bits(a))
    }
    /// The bits of `|a|`: as integers they compare like the magnitudes, NaN above Inf.
    fn magnitude_bits(self, a: Self::F32) -> Self::I32;
    /// Bits that compare as integers like the floats do; its own inverse.
    fn ordered_bits(self, a: Self::I32) -> Self::I32;
    /// The larger of two integers.
    fn max_i32(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// The smaller of two integers.
    fn min_i32(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// Whether every lane is in `[low, high]`.
    #[inline(always)]
    fn all_in_i32(self, a: Self::I32, low: i32, high: i32) -> bool {
        let mut all = true;
        for &lane in bytemuck::cast_slice::<_, i32>(core::slice::from_ref(&a)) {
            all &= low <= lane && lane <= high;
        }
        all
    }
    /// The larger of two integers without a sign.
    fn max_u32(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// The smaller of two integers without a sign.
    fn min_u32(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// `a - b`.
    fn sub_i32(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// [`magnitude_bits`](Self::magnitude_bits) of the larger one; but see
    /// [`MAGNITUDE_SKIPS_NAN`](Self::MAGNITUDE_SKIPS_NAN).
    fn larger_magnitude_bits(self, a: Self::F32, b: Self::F32) -> Self::I32;
    /// Lane `i` is the largest lane of `vectors[i]`, for the first `LANES` of them.
    #[inline(always)]
    fn lane_maxima(self, vectors: &[Self::I32; 16]) -> Self::I32 {
        let mut fours = [self.splat_i32(0); 4];
        for i in 0..Self::LANES / 4 {
            let [a, b] = [vectors[4 * i], vectors[4 * i + 1]];
            let [c, d] = [vectors[4 * i + 2], vectors[4 * i + 3]];
            fours[i] = self.four_maxima::<Signed>([a, b, c, d]);
        }
        self.join_maxima::<Signed>(fours)
    }
    /// The first half of [`lane_maxima`](Self::lane_maxima), in any order of bits: of every four lanes
    /// of `vectors[i]` the largest one becomes lane `i` of these four.
    fn four_maxima<O: Order>(self, vectors: [Self::I32; 4]) -> Self::I32;
    /// The second half: lane `4 * i + j` is the largest one of lanes `j` of every four of `fours[i]`,
    /// for the first `LANES / 4` of them.
    fn join_maxima<O: Order>(self, fours: [Self::I32; 4]) -> Self::I32;
    /// Adds 1 to `count` where `a` equals `b`.
    fn count_equal(self, a: Self::I32, b: Self::I32, count: &mut Self::I32);

    /// Rounds ties to even. Void unless the magnitude is below 2^31.
    fn round_i32(self, a: Self::F32) -> Self::I32;
    /// Rounds `a / AWAY` and `b / AWAY`, ties away from 0. Void unless the magnitudes are below 2^14;
    /// but NaN gives less than -128 where [`MAGNITUDE_SKIPS_NAN`](Self::MAGNITUDE_SKIPS_NAN).
    fn round_away_i16(self, a: Self::F32, b: Self::F32) -> Self::I16;
    /// Rounds to zero. Void unless the magnitude is below 2^31.
    fn truncate_i32(self, a: Self::F32) -> Self::I32;
    /// Clamps to `[low, high]` and rounds ties to even; NaN gives 0.
    fn clamp_round(self, a: Self::F32, low: Self::F32, high: Self::F32) -> Self::I32;
    /// `a * b` rounded to zero, less 1 where `a` is below zero. Void unless the product's magnitude
    /// is below 2^31.
    fn bin(self, a: Self::F32, b: Self::F32) -> Self::I32;
    /// To float, exactly below 2^24.
    fn to_f32(self, a: Self::I32) -> Self::F32;

    /// A sticky flag that is not set.
    fn sticky_clear(self) -> Self::Sticky;
    /// Rounds ties to even, saturating. Raises `sticky` where a lane is NaN or Inf (and, on some
    /// machines, for finite values below -2^15 or from 2^31); then the result is void.
    fn round_i16(self, a: Self::F32, b: Self::F32, sticky: &mut Self::Sticky) -> Self::I16;
    /// [`round_i16`](Self::round_i16) that need not saturate: what does not fit is void. Nor need it
    /// set the flag where [`larger_magnitude_bits`](Self::larger_magnitude_bits) leaves no NaN out.
    #[inline(always)]
    fn round_small_i16(self, a: Self::F32, b: Self::F32, sticky: &mut Self::Sticky) -> Self::I16 {
        self.round_i16(a, b, sticky)
    }
    /// Whether the flag was set: then the slow path does the tile again.
    fn needs_fallback(self, sticky: Self::Sticky) -> bool;
    /// To 16 bits, saturating.
    fn narrow_i16(self, a: Self::I32, b: Self::I32) -> Self::I16;
    /// `a + b`, saturating.
    fn add_i16(self, a: Self::I16, b: Self::I16) -> Self::I16;
    /// The smaller.
    fn min_i16(self, a: Self::I16, b: Self::I16) -> Self::I16;
    /// The larger.
    fn max_i16(self, a: Self::I16, b: Self::I16) -> Self::I16;
    /// The larger of two without a sign.
    fn max_u16(self, a: Self::I16, b: Self::I16) -> Self::I16;
    /// To 8 bits, saturating. If `ZIPPED`, each argument was narrowed from vectors as
    /// [`widen_bf16_zipped`](Self::widen_bf16_zipped) gives them.
    fn narrow_i8<const ZIPPED: bool>(self, a: Self::I16, b: Self::I16) -> Self::I8;
    /// [`narrow_i8`](Self::narrow_i8) that need not saturate: what does not fit is void.
    #[inline(always)]
    fn narrow_small_i8<const ZIPPED: bool>(self, a: Self::I16, b: Self::I16) -> Self::I8 {
        self.narrow_i8::<ZIPPED>(a, b)
    }
    /// [`narrow_small_i8`](Self::narrow_small_i8) in whatever order is cheapest, if
    /// [`SHUFFLES`](Self::SHUFFLES): [`unshuffle_i8`](Self::unshuffle_i8) restores it, after what is
    /// done to each code by itself.
    #[inline(always)]
    fn narrow_shuffled_i8(self, a: Self::I16, b: Self::I16) -> Self::I8 {
        self.narrow_small_i8::<false>(a, b)
    }
    /// The order of what [`narrow_shuffled_i8`](Self::narrow_shuffled_i8) gave, if
    /// [`SHUFFLES`](Self::SHUFFLES).
    #[inline(always)]
    fn unshuffle_i8<const ZIPPED: bool>(self, a: Self::I8) -> Self::I8 {
        a
    }
    /// The smaller.
    fn min_i8(self, a: Self::I8, b: Self::I8) -> Self::I8;
    /// Whether a lane is below `bound`.
    #[inline(always)]
    fn is_any_below(self, a: Self::I8, bound: i8) -> bool {
        let mut any = false;
        for &lane in bytemuck::cast_slice::<_, i8>(core::slice::from_ref(&a)) {
            any |= lane < bound;
        }
        any
    }
    /// Clamps to `[low, high]`.
    fn clamp_i8(self, a: Self::I8, low: Self::I8, high: Self::I8) -> Self::I8;
    /// `a ^ b`.
    fn xor_i8(self, a: Self::I8, b: Self::I8) -> Self::I8;
    /// The low four bits of every code, the first of a pair in the low nibble.
    fn pack(self, codes: Self::I8) -> Self::Nibbles;
    /// [`pack`](Self::pack) of two registers.
    #[inline(always)]
    fn pack_two(self, codes: [Self::I8; 2]) -> [Self::Nibbles; 2] {
        codes.map(|codes| self.pack(codes))
    }
    /// The low four bits of `low`, and those of `high` above them. If `CLEAN`, there are no others.
    fn join_nibbles<const CLEAN: bool>(self, low: Self::I8, high: Self::I8) -> Self::I8;
    /// Bit 4 of every code, the first one's lowest.
    #[inline(always)]
    fn fifth_bits(self, codes: Self::I8) -> u64 {
        let mut bits = 0;
        let words = bytemuck::cast_slice::<_, [u8; 8]>(core::slice::from_ref(&codes));
        for (i, word) in words.iter().enumerate() {
            let lowest = u64::from_le_bytes(*word) >> 4 & 0x0101_0101_0101_0101;
            // The multiplication gathers them in the highest byte.
            bits |= lowest.wrapping_mul(0x0102_0408_1020_4080) >> 56 << (8 * i);
        }
        bits
    }
    /// Codes of 0 to 15.
    fn unpack(self, nibbles: Self::Nibbles) -> Self::I8;
    /// Extends the sign of codes of 0 to 15: from 8 on they are negative.
    fn extend_nibble(self, codes: Self::I8) -> Self::I8;
    /// Widens bytes, with or without a sign.
    fn widen_codes<const SIGNED: bool>(self, codes: &Self::I8) -> [Self::I32; 4];
    /// Of `LANES` bytes with a sign, those that begin at `part * LANES`.
    fn widen_bytes(self, bytes: &[u8; 32], part: usize) -> Self::I32;
    /// The low nibbles and the high ones of `LANES` bytes, those that begin at `part * LANES`.
    fn widen_nibbles(self, bytes: &[u8; 16], part: usize) -> [Self::I32; 2];
    /// `value` in each lane whose bit is set, else 0; the first lane's bit is `first`. See
    /// [`HAS_MASKS`](Self::HAS_MASKS).
    #[inline(always)]
    fn where_set(self, bits: u32, first: usize, value: i32) -> Self::I32 {
        let mut lanes = [self.splat_i32(0)];
        let each = bytemuck::cast_slice_mut::<_, i32>(&mut lanes);
        for (i, lane) in each.iter_mut().enumerate() {
            *lane = (bits >> (first + i) & 1) as i32 * value;
        }
        lanes[0]
    }

    /// What [`dequantize_nibbles`](Self::dequantize_nibbles) needs to know of a block.
    fn nibble_params(self, signed: bool, scale: f32, zero_point: i32) -> Self::NibbleParams;
    /// The same, if it is needed for one block only.
    #[inline(always)]
    fn nibble_params_once(self, signed: bool, scale: f32, zero_point: i32) -> Self::NibbleParams {
        self.nibble_params(signed, scale, zero_point)
    }
    /// `scale * (code - zero_point)`, the first two vectors by `kernel_params[0]`, the others by
    /// `kernel_params[1]`.
    fn dequantize_nibbles<const SIGNED: bool>(
        self,
        nibbles: &Self::Nibbles,
        kernel_params: [Self::NibbleParams; 2],
    ) -> [Self::F32; 4];
    /// The same for two groups of one block.
    #[inline(always)]
    fn dequantize_two_nibbles<const SIGNED: bool>(
        self,
        nibbles: &[Self::Nibbles; 2],
        kernel_params: Self::NibbleParams,
    ) -> [[Self::F32; 4]; 2] {
        let one = |nibbles| self.dequantize_nibbles::<SIGNED>(nibbles, [kernel_params; 2]);
        [one(&nibbles[0]), one(&nibbles[1])]
    }

    /// To 11 significant bits, the nearest; void between two of them, which a quotient of f16 by
    /// f16 never is, and for NaN of more than 11 significant bits.
    fn round_quotient(self, a: Self::F32) -> Self::F32;
    /// f16 to f32.
    fn widen_f16(self, a: Self::U16) -> Self::F32;
    /// f32 to f16, ties to even.
    fn narrow_f16(self, a: Self::F32) -> Self::U16;
    /// bf16 to f32.
    fn widen_bf16(self, a: Self::U16) -> Self::F32;
    /// bf16 to f32, in whatever order is cheapest; narrowing restores it.
    fn widen_bf16_zipped(self, a: Self::U16, b: Self::U16) -> [Self::F32; 2];
    /// f32 to bf16, ties to even. Void for NaN.
    fn narrow_bf16(self, a: Self::F32) -> Self::U16;

    /// To f64: the lower lanes, the upper lanes.
    fn widen_f64(self, a: Self::F32) -> [Self::F64; 2];
    /// `a + b`.
    fn add_f64(self, a: Self::F64, b: Self::F64) -> Self::F64;
    /// `a * a + b`, for `a` whose square is exact.
    fn add_square_f64(self, a: Self::F64, b: Self::F64) -> Self::F64;

    /// Asks for the memory that lies `ahead` bytes behind `from`, where that is worth an instruction;
    /// it need not exist.
    #[inline(always)]
    fn prefetch<T: Pod>(self, _from: &[T], _ahead: usize) {}
    /// A non-temporal store where the instruction set has one and `to` is aligned to its size;
    /// else stores. Ends with [`fence`](Self::fence).
    fn stream<T: Pod>(self, to: &mut T, value: T);
    /// Orders what was streamed before whatever comes next.
    fn fence(self);
}
