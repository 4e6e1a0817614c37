//! NEON, as every 64-bit Arm processor has it.
//!
//! Long: one trait, which is written in one piece.

// Conversions of f16 that pulp lacks.
#![allow(unsafe_code)]

use core::arch::aarch64::*;

use bytemuck::Pod;
use pulp::aarch64::Neon as Token;
use pulp::{cast, f32x4, f64x2, i8x16, i16x8, i32x4};

use crate::isa::{Isa, Kernel, Order};

/// The token.
#[derive(Clone, Copy)]
pub struct Neon(Token);

impl Neon {
    /// The token, if the processor has it.
    pub fn try_new() -> Option<Self> {
        Token::try_new().map(Self)
    }
}

/// What turns codes of 4 bits into values.
#[derive(Clone, Copy)]
pub struct NibbleParams {
    /// The number that every code stands for, as bf16: the lower bytes and the upper ones.
    steps: [i8x16; 2],
    /// What is subtracted from it.
    zero_point: f32x4,
    scale: f32x4,
}

impl Neon {
    /// The values of codes of 0 to 15.
    #[inline(always)]
    fn dequantize_codes(self, codes: i8x16, params: NibbleParams) -> [f32x4; 4] {
        let n = self.0.neon;
        let [low, high] = params
            .steps
            .map(|steps| n.vqtbl1q_s8(cast(steps), cast(codes)));
        let halves = [n.vzip1q_s8(low, high), n.vzip2q_s8(low, high)];
        let mut values = [params.scale; 4];
        for i in 0..2 {
            let half = cast(halves[i]);
            let low = n.vshll_n_u16::<16>(n.vget_low_u16(half));
            let high = n.vshll_high_n_u16::<16>(half);
            for (value, step) in values[2 * i..].iter_mut().zip([low, high]) {
                let step = self.sub(cast(step), params.zero_point);
                *value = self.mul(params.scale, step);
            }
        }
        values
    }
}

struct Call<K>(Neon, K);

impl<K: Kernel> pulp::NullaryFnOnce for Call<K> {
    type Output = K::Output;
    #[inline(always)]
    fn call(self) -> K::Output {
        self.1.run(self.0)
    }
}

/// Where each vector of a group finds its bytes, for the top of its lanes. Beyond a register, a
/// look-up finds 0.
const TOPS: [[[u8; 4]; 4]; 4] = orders(3);
/// The same, for the bottom of the lanes.
const BOTTOMS: [[[u8; 4]; 4]; 4] = orders(0);

const fn orders(byte: usize) -> [[[u8; 4]; 4]; 4] {
    let mut orders = [[[255; 4]; 4]; 4];
    let mut code = 0;
    while code < 16 {
        orders[code / 4][code % 4][byte] = code as u8;
        code += 1;
    }
    orders
}

impl Isa for Neon {
    const LANES: usize = 4;
    const RECIPROCAL: bool = true;
    const MIN_SKIPS_NAN: bool = false;
    const KEEPS_NAN: bool = true;
    const TWO_GROUPS: bool = true;
    type F32 = f32x4;
    type F64 = f64x2;
    type I32 = i32x4;
    type I16 = i16x8;
    type I8 = i8x16;
    type U16 = [u16; 4];
    type Nibbles = [u8; 8];
    /// Sums of products, that take turns: each waits for the one before it.
    type Sticky = [f32x4; 2];
    type NibbleParams = NibbleParams;

    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        self.0.vectorize(Call(self, kernel))
    }

    #[inline(always)]
    fn splat(self, value: f32) -> f32x4 {
        cast(self.0.neon.vdupq_n_f32(value))
    }
    #[inline(always)]
    fn splat_i32(self, value: i32) -> i32x4 {
        cast(self.0.neon.vdupq_n_s32(value))
    }
    #[inline(always)]
    fn splat_i16(self, value: i16) -> i16x8 {
        cast(self.0.neon.vdupq_n_s16(value))
    }
    #[inline(always)]
    fn splat_i8(self, value: i8) -> i8x16 {
        cast(self.0.neon.vdupq_n_s8(value))
    }

    #[inline(always)]
    fn add(self, a: f32x4, b: f32x4) -> f32x4 {
        cast(self.0.neon.vaddq_f32(cast(a), cast(b)))
    }
    #[inline(always)]
    fn sub(self, a: f32x4, b: f32x4) -> f32x4 {
        cast(self.0.neon.vsubq_f32(cast(a), cast(b)))
    }
    #[inline(always)]
    fn mul(self, a: f32x4, b: f32x4) -> f32x4 {
        cast(self.0.neon.vmulq_f32(cast(a), cast(b)))
    }
    #[inline(always)]
    fn div(self, a: f32x4, b: f32x4) -> f32x4 {
        cast(self.0.neon.vdivq_f32(cast(a), cast(b)))
    }
    #[inline(always)]
    fn fma(self, a: f32x4, b: f32x4, c: f32x4) -> f32x4 {
        cast(self.0.neon.vfmaq_f32(cast(c), cast(a), cast(b)))
    }
    #[inline(always)]
    fn min(self, a: f32x4, b: f32x4) -> f32x4 {
        cast(self.0.neon.vminnmq_f32(cast(a), cast(b)))
    }
    #[inline(always)]
    fn max(self, a: f32x4, b: f32x4) -> f32x4 {
        cast(self.0.neon.vmaxnmq_f32(cast(a), cast(b)))
    }
    #[inline(always)]
    fn min_or_nan(self, a: f32x4, b: f32x4) -> f32x4 {
        cast(self.0.neon.vminq_f32(cast(a), cast(b)))
    }
    #[inline(always)]
    fn max_or_nan(self, a: f32x4, b: f32x4) -> f32x4 {
        cast(self.0.neon.vmaxq_f32(cast(a), cast(b)))
    }
    #[inline(always)]
    fn count_finite(self, a: f32x4, count: &mut i32x4) {
        // A lane of all ones is -1.
        let infinity = cast(self.splat(f32::INFINITY));
        let finite = self.0.neon.vcaltq_f32(cast(a), infinity);
        *count = self.sub_i32(*count, cast(finite));
    }
    #[inline(always)]
    fn if_number(self, test: f32x4, then: f32x4, otherwise: f32x4) -> f32x4 {
        let number = self.0.neon.vceqq_f32(cast(test), cast(test));
        cast(self.0.neon.vbslq_f32(number, cast(then), cast(otherwise)))
    }

    #[inline(always)]
    fn magnitude_bits(self, a: f32x4) -> i32x4 {
        cast(self.0.neon.vabsq_f32(cast(a)))
    }
    #[inline(always)]
    fn ordered_bits(self, a: i32x4) -> i32x4 {
        let n = self.0.neon;
        let sign = n.vshrq_n_s32::<31>(cast(a));
        let flip = n.vandq_s32(sign, cast(self.splat_i32(0x7fff_ffff)));
        cast(n.veorq_s32(cast(a), flip))
    }
    #[inline(always)]
    fn max_i32(self, a: i32x4, b: i32x4) -> i32x4 {
        cast(self.0.neon.vmaxq_s32(cast(a), cast(b)))
    }
    #[inline(always)]
    fn min_i32(self, a: i32x4, b: i32x4) -> i32x4 {
        cast(self.0.neon.vminq_s32(cast(a), cast(b)))
    }
    #[inline(always)]
    fn max_u32(self, a: i32x4, b: i32x4) -> i32x4 {
        cast(self.0.neon.vmaxq_u32(cast(a), cast(b)))
    }
    #[inline(always)]
    fn min_u32(self, a: i32x4, b: i32x4) -> i32x4 {
        cast(self.0.neon.vminq_u32(cast(a), cast(b)))
    }
    #[inline(always)]
    fn sub_i32(self, a: i32x4, b: i32x4) -> i32x4 {
        cast(self.0.neon.vsubq_s32(cast(a), cast(b)))
    }
    #[inline(always)]
    fn larger_magnitude_bits(self, a: f32x4, b: f32x4) -> i32x4 {
        self.max_i32(self.magnitude_bits(a), self.magnitude_bits(b))
    }
    #[inline(always)]
    fn four_maxima<O: Order>(self, v: [i32x4; 4]) -> i32x4 {
        let n = self.0.neon;
        macro_rules! maxima {
            ($pairwise:ident) => {{
                let low = n.$pairwise(cast(v[0]), cast(v[1]));
                let high = n.$pairwise(cast(v[2]), cast(v[3]));
                cast(n.$pairwise(low, high))
            }};
        }
        match O::IS_SIGNED {
            true => maxima!(vpmaxq_s32),
            false => maxima!(vpmaxq_u32),
        }
    }
    #[inline(always)]
    fn join_maxima<O: Order>(self, fours: [i32x4; 4]) -> i32x4 {
        fours[0]
    }
    #[inline(always)]
    fn count_equal(self, a: i32x4, b: i32x4, count: &mut i32x4) {
        let equal = self.0.neon.vceqq_s32(cast(a), cast(b));
        *count = self.sub_i32(*count, cast(equal));
    }

    #[inline(always)]
    fn round_i32(self, a: f32x4) -> i32x4 {
        cast(self.0.neon.vcvtnq_s32_f32(cast(a)))
    }
    #[inline(always)]
    fn round_away_i16(self, a: f32x4, b: f32x4) -> i16x8 {
        let n = self.0.neon;
        let (a, b) = (n.vcvtaq_s32_f32(cast(a)), n.vcvtaq_s32_f32(cast(b)));
        cast(n.vuzp1q_s16(cast(a), cast(b)))
    }
    #[inline(always)]
    fn truncate_i32(self, a: f32x4) -> i32x4 {
        cast(self.0.neon.vcvtq_s32_f32(cast(a)))
    }
    #[inline(always)]
    fn clamp_round(self, a: f32x4, low: f32x4, high: f32x4) -> i32x4 {
        // NaN is converted to 0.
        self.round_i32(self.min_or_nan(self.max_or_nan(a, low), high))
    }
    #[inline(always)]
    fn bin(self, a: f32x4, b: f32x4) -> i32x4 {
        let n = self.0.neon;
        let below = n.vcltzq_f32(cast(a));
        let towards_zero = n.vcvtq_s32_f32(cast(self.mul(a, b)));
        cast(n.vaddq_s32(towards_zero, cast(below)))
    }
    #[inline(always)]
    fn to_f32(self, a: i32x4) -> f32x4 {
        cast(self.0.neon.vcvtq_f32_s32(cast(a)))
    }

    #[inline(always)]
    fn sticky_clear(self) -> [f32x4; 2] {
        [self.splat(0.0); 2]
    }
    // A conversion does not tell where it fails. The product is not finite where a factor is not,
    // and neither is any sum from then on; two huge factors set the sticky flag needlessly.
    #[inline(always)]
    fn round_i16(self, a: f32x4, b: f32x4, sticky: &mut [f32x4; 2]) -> i16x8 {
        *sticky = [sticky[1], self.fma(a, b, sticky[0])];
        self.narrow_i16(self.round_i32(a), self.round_i32(b))
    }
    #[inline(always)]
    fn round_small_i16(self, a: f32x4, b: f32x4, _: &mut [f32x4; 2]) -> i16x8 {
        let (a, b) = (self.round_i32(a), self.round_i32(b));
        cast(self.0.neon.vuzp1q_s16(cast(a), cast(b)))
    }
    #[inline(always)]
    fn needs_fallback(self, sticky: [f32x4; 2]) -> bool {
        let larger = self.max_i32(
            self.magnitude_bits(sticky[0]),
            self.magnitude_bits(sticky[1]),
        );
        self.0.neon.vmaxvq_s32(cast(larger)) >= 0x7f80_0000
    }
    #[inline(always)]
    fn narrow_i16(self, a: i32x4, b: i32x4) -> i16x8 {
        let low = self.0.neon.vqmovn_s32(cast(a));
        cast(self.0.neon.vqmovn_high_s32(low, cast(b)))
    }
    #[inline(always)]
    fn add_i16(self, a: i16x8, b: i16x8) -> i16x8 {
        cast(self.0.neon.vqaddq_s16(cast(a), cast(b)))
    }
    #[inline(always)]
    fn min_i16(self, a: i16x8, b: i16x8) -> i16x8 {
        cast(self.0.neon.vminq_s16(cast(a), cast(b)))
    }
    #[inline(always)]
    fn max_i16(self, a: i16x8, b: i16x8) -> i16x8 {
        cast(self.0.neon.vmaxq_s16(cast(a), cast(b)))
    }
    #[inline(always)]
    fn max_u16(self, a: i16x8, b: i16x8) -> i16x8 {
        cast(self.0.neon.vmaxq_u16(cast(a), cast(b)))
    }
    #[inline(always)]
    fn narrow_i8<const ZIPPED: bool>(self, a: i16x8, b: i16x8) -> i8x16 {
        let low = self.0.neon.vqmovn_s16(cast(a));
        cast(self.0.neon.vqmovn_high_s16(low, cast(b)))
    }
    #[inline(always)]
    fn narrow_small_i8<const ZIPPED: bool>(self, a: i16x8, b: i16x8) -> i8x16 {
        cast(self.0.neon.vuzp1q_s8(cast(a), cast(b)))
    }
    #[inline(always)]
    fn min_i8(self, a: i8x16, b: i8x16) -> i8x16 {
        cast(self.0.neon.vminq_s8(cast(a), cast(b)))
    }
    #[inline(always)]
    fn clamp_i8(self, a: i8x16, low: i8x16, high: i8x16) -> i8x16 {
        let a = self.0.neon.vmaxq_s8(cast(a), cast(low));
        cast(self.0.neon.vminq_s8(a, cast(high)))
    }
    #[inline(always)]
    fn xor_i8(self, a: i8x16, b: i8x16) -> i8x16 {
        cast(self.0.neon.veorq_s8(cast(a), cast(b)))
    }
    #[inline(always)]
    fn pack(self, codes: i8x16) -> [u8; 8] {
        // The insertion keeps the low four bits.
        let second = self.0.neon.vshrq_n_u16::<8>(cast(codes));
        let both = self.0.neon.vsliq_n_u16::<4>(cast(codes), second);
        cast(self.0.neon.vmovn_u16(both))
    }
    #[inline(always)]
    fn pack_two(self, [a, b]: [i8x16; 2]) -> [[u8; 8]; 2] {
        let n = self.0.neon;
        let first = n.vuzp1q_s8(cast(a), cast(b));
        let second = n.vuzp2q_s8(cast(a), cast(b));
        cast(self.join_nibbles::<false>(cast(first), cast(second)))
    }
    #[inline(always)]
    fn join_nibbles<const CLEAN: bool>(self, low: i8x16, high: i8x16) -> i8x16 {
        // The insertion keeps the low four bits.
        cast(self.0.neon.vsliq_n_u8::<4>(cast(low), cast(high)))
    }
    #[inline(always)]
    fn unpack(self, nibbles: [u8; 8]) -> i8x16 {
        let n = self.0.neon;
        let twice = cast(n.vdupq_n_u64(cast(nibbles)));
        let first = n.vandq_u8(twice, n.vdupq_n_u8(15));
        cast(n.vzip1q_u8(first, n.vshrq_n_u8::<4>(twice)))
    }
    #[inline(always)]
    fn extend_nibble(self, codes: i8x16) -> i8x16 {
        let top = self.0.neon.vshlq_n_s8::<4>(cast(codes));
        cast(self.0.neon.vshrq_n_s8::<4>(top))
    }
    #[inline(always)]
    fn widen_codes<const SIGNED: bool>(self, codes: &i8x16) -> [i32x4; 4] {
        let n = self.0.neon;
        let mut wide = [self.splat_i32(0); 4];
        for i in 0..4 {
            let order = if SIGNED { TOPS[i] } else { BOTTOMS[i] };
            let lanes = cast(n.vqtbl1q_s8(cast(*codes), cast(order)));
            // A conversion to float takes the shift in.
            wide[i] = match SIGNED {
                true => cast(n.vshrq_n_s32::<24>(lanes)),
                false => cast(lanes),
            };
        }
        wide
    }
    #[inline(always)]
    fn widen_bytes(self, bytes: &[u8; 32], part: usize) -> i32x4 {
        let n = self.0.neon;
        let halves: &[i8x16; 2] = bytemuck::cast_ref(bytes);
        let tops = n.vqtbl1q_s8(cast(halves[part / 4]), cast(TOPS[part % 4]));
        cast(n.vshrq_n_s32::<24>(cast(tops)))
    }
    #[inline(always)]
    fn widen_nibbles(self, bytes: &[u8; 16], part: usize) -> [i32x4; 2] {
        let n = self.0.neon;
        let low = n.vandq_u8(cast(*bytes), n.vdupq_n_u8(15));
        let high = n.vshrq_n_u8::<4>(cast(*bytes));
        let order = cast(BOTTOMS[part]);
        [
            cast(n.vqtbl1q_s8(cast(low), order)),
            cast(n.vqtbl1q_s8(cast(high), order)),
        ]
    }

    #[inline(always)]
    fn nibble_params(self, signed: bool, scale: f32, zero_point: i32) -> NibbleParams {
        let n = self.0.neon;
        let codes = match signed {
            true => i8x16(0, 1, 2, 3, 4, 5, 6, 7, -8, -7, -6, -5, -4, -3, -2, -1),
            false => i8x16(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
        };
        let zero_points = self.splat_i8(zero_point as i8);
        let steps = cast(n.vsubq_s8(cast(codes), cast(zero_points)));
        // The upper half of f32 holds any integer of 8 bits.
        let f = self.widen_codes::<true>(&steps);
        let f = f.map(|steps| cast(self.to_f32(steps)));
        let halves: [_; 2] = [n.vuzp2q_s16(f[0], f[1]), n.vuzp2q_s16(f[2], f[3])];
        let [a, b] = halves.map(|halves| cast(halves));
        NibbleParams {
            steps: [cast(n.vuzp1q_s8(a, b)), cast(n.vuzp2q_s8(a, b))],
            zero_point: self.splat(0.0),
            scale: self.splat(scale),
        }
    }
    #[inline(always)]
    fn nibble_params_once(self, signed: bool, scale: f32, zero_point: i32) -> NibbleParams {
        NibbleParams {
            zero_point: self.to_f32(self.splat_i32(zero_point)),
            ..self.nibble_params(signed, scale, 0)
        }
    }
    #[inline(always)]
    fn dequantize_nibbles<const SIGNED: bool>(
        self,
        nibbles: &[u8; 8],
        kernel_params: [NibbleParams; 2],
    ) -> [f32x4; 4] {
        // Blocks are larger than a group.
        self.dequantize_codes(self.unpack(*nibbles), kernel_params[0])
    }
    #[inline(always)]
    fn dequantize_two_nibbles<const SIGNED: bool>(
        self,
        nibbles: &[[u8; 8]; 2],
        kernel_params: NibbleParams,
    ) -> [[f32x4; 4]; 2] {
        let n = self.0.neon;
        let nibbles = cast(*nibbles);
        let (first, second) = (
            n.vandq_u8(nibbles, n.vdupq_n_u8(15)),
            n.vshrq_n_u8::<4>(nibbles),
        );
        [
            self.dequantize_codes(cast(n.vzip1q_u8(first, second)), kernel_params),
            self.dequantize_codes(cast(n.vzip2q_u8(first, second)), kernel_params),
        ]
    }

    #[inline(always)]
    fn round_quotient(self, a: f32x4) -> f32x4 {
        let n = self.0.neon;
        let half = cast(self.splat_i32(0x1000));
        let mask = cast(self.splat_i32(!0x1fff));
        cast(n.vandq_s32(n.vaddq_s32(cast(a), half), mask))
    }
    #[inline(always)]
    fn widen_f16(self, a: [u16; 4]) -> f32x4 {
        // SAFETY: the token proves that the processor has NEON.
        cast(unsafe { vcvt_f32_f16(vreinterpret_f16_u16(cast(a))) })
    }
    #[inline(always)]
    fn narrow_f16(self, a: f32x4) -> [u16; 4] {
        // SAFETY: the token proves that the processor has NEON.
        cast(unsafe { vreinterpret_u16_f16(vcvt_f16_f32(cast(a))) })
    }
    #[inline(always)]
    fn widen_bf16(self, a: [u16; 4]) -> f32x4 {
        let n = self.0.neon;
        cast(n.vshlq_n_u32::<16>(n.vmovl_u16(cast(a))))
    }
    #[inline(always)]
    fn widen_bf16_zipped(self, a: [u16; 4], b: [u16; 4]) -> [f32x4; 2] {
        [self.widen_bf16(a), self.widen_bf16(b)]
    }
    #[inline(always)]
    fn narrow_bf16(self, a: f32x4) -> [u16; 4] {
        // A lane of all ones is -1: the half is 0x8000 where the upper half is odd.
        let n = self.0.neon;
        let odd = n.vtstq_u32(cast(a), cast(self.splat_i32(0x1_0000)));
        let rounded = n.vaddq_u32(cast(a), cast(self.splat_i32(0x7fff)));
        cast(n.vsubhn_u32(rounded, odd))
    }

    #[inline(always)]
    fn widen_f64(self, a: f32x4) -> [f64x2; 2] {
        let n = self.0.neon;
        let low = n.vcvt_f64_f32(n.vget_low_f32(cast(a)));
        [cast(low), cast(n.vcvt_high_f64_f32(cast(a)))]
    }
    #[inline(always)]
    fn add_f64(self, a: f64x2, b: f64x2) -> f64x2 {
        cast(self.0.neon.vaddq_f64(cast(a), cast(b)))
    }
    #[inline(always)]
    fn add_square_f64(self, a: f64x2, b: f64x2) -> f64x2 {
        cast(self.0.neon.vfmaq_f64(cast(b), cast(a), cast(a)))
    }

    #[inline(always)]
    fn stream<T: Pod>(self, to: &mut T, value: T) {
        *to = value;
    }
    #[inline(always)]
    fn fence(self) {}
}
