//! AVX-512 F, BW, CD, DQ and VL.
//!
//! The packs work within lanes of 128 bits, so codes leave them in the order 0, 4, 8, 12, 1, ...
//! of four; one permutation per group puts them right.
//!
//! Long: one trait, which is written in one piece.

// Streaming stores, and conversions of f16 that pulp lacks.
#![allow(unsafe_code)]

use core::arch::x86_64::*;

use bytemuck::Pod;
use pulp::x86::V4;
use pulp::{cast, f32x16, f64x8, i8x64, i16x32, i32x16, u8x16, u8x32, u16x16};

use crate::isa::{Isa, Kernel, Order};

/// The token.
#[derive(Clone, Copy)]
pub struct Avx512(V4);

impl Avx512 {
    /// The token, if processor and operating system have all of it. The cfg is set where a machine
    /// that has it must be tested as one that lacks it (`cargo xtask --hide avx512`).
    pub fn try_new() -> Option<Self> {
        if cfg!(quant_hide_avx512) {
            return None;
        }
        V4::try_new().map(Self)
    }
}

struct Call<K>(Avx512, K);

impl<K: Kernel> pulp::NullaryFnOnce for Call<K> {
    type Output = K::Output;
    #[inline(always)]
    fn call(self) -> K::Output {
        self.1.run(self.0)
    }
}

const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT;

impl Isa for Avx512 {
    const LANES: usize = 16;
    const RECIPROCAL: bool = true;
    const MIN_SKIPS_NAN: bool = true;
    const TWINS: bool = true;
    const MAGNITUDE_SKIPS_NAN: bool = true;
    const ROUND_SHOWS_NAN: bool = true;
    const HAS_MASKS: bool = true;
    const HAS_MANY_REGISTERS: bool = true;
    // Larger ones take up to a third longer on Zen 5.
    const AWAY: f32 = 2.0;
    const STREAMS: bool = true;
    type F32 = f32x16;
    type F64 = f64x8;
    type I32 = i32x16;
    type I16 = i16x32;
    type I8 = i8x64;
    type U16 = u16x16;
    type Nibbles = u8x32;
    type Sticky = i16x32;
    /// The value of every code.
    type NibbleParams = f32x16;

    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        self.0.vectorize(Call(self, kernel))
    }

    #[inline(always)]
    fn splat(self, value: f32) -> f32x16 {
        cast(self.0.avx512f._mm512_set1_ps(value))
    }
    #[inline(always)]
    fn splat_i32(self, value: i32) -> i32x16 {
        cast(self.0.avx512f._mm512_set1_epi32(value))
    }
    #[inline(always)]
    fn splat_i16(self, value: i16) -> i16x32 {
        cast(self.0.avx512f._mm512_set1_epi16(value))
    }
    #[inline(always)]
    fn splat_i8(self, value: i8) -> i8x64 {
        cast(self.0.avx512f._mm512_set1_epi8(value))
    }

    #[inline(always)]
    fn add(self, a: f32x16, b: f32x16) -> f32x16 {
        cast(self.0.avx512f._mm512_add_ps(cast(a), cast(b)))
    }
    #[inline(always)]
    fn sub(self, a: f32x16, b: f32x16) -> f32x16 {
        cast(self.0.avx512f._mm512_sub_ps(cast(a), cast(b)))
    }
    #[inline(always)]
    fn mul(self, a: f32x16, b: f32x16) -> f32x16 {
        cast(self.0.avx512f._mm512_mul_ps(cast(a), cast(b)))
    }
    #[inline(always)]
    fn div(self, a: f32x16, b: f32x16) -> f32x16 {
        cast(self.0.avx512f._mm512_div_ps(cast(a), cast(b)))
    }
    #[inline(always)]
    fn fma(self, a: f32x16, b: f32x16, c: f32x16) -> f32x16 {
        cast(self.0.avx512f._mm512_fmadd_ps(cast(a), cast(b), cast(c)))
    }
    #[inline(always)]
    fn min(self, a: f32x16, b: f32x16) -> f32x16 {
        cast(self.0.avx512f._mm512_min_ps(cast(a), cast(b)))
    }
    #[inline(always)]
    fn max(self, a: f32x16, b: f32x16) -> f32x16 {
        cast(self.0.avx512f._mm512_max_ps(cast(a), cast(b)))
    }
    #[inline(always)]
    fn count_finite(self, a: f32x16, count: &mut i32x16) {
        let f = self.0.avx512f;
        let infinity = cast(self.splat_i32(0x7f80_0000));
        let finite = f._mm512_cmplt_epi32_mask(cast(self.magnitude_bits(a)), infinity);
        let one = cast(self.splat_i32(1));
        *count = cast(f._mm512_mask_add_epi32(cast(*count), finite, cast(*count), one));
    }
    #[inline(always)]
    fn if_number(self, test: f32x16, then: f32x16, otherwise: f32x16) -> f32x16 {
        let f = self.0.avx512f;
        let number = f._mm512_cmp_ps_mask::<_CMP_ORD_Q>(cast(test), cast(test));
        cast(f._mm512_mask_blend_ps(number, cast(otherwise), cast(then)))
    }

    #[inline(always)]
    fn magnitude_bits(self, a: f32x16) -> i32x16 {
        let mask = self.splat_i32(0x7fff_ffff);
        cast(self.0.avx512f._mm512_and_si512(cast(a), cast(mask)))
    }
    #[inline(always)]
    fn ordered_bits(self, a: i32x16) -> i32x16 {
        let f = self.0.avx512f;
        let sign = f._mm512_srai_epi32::<31>(cast(a));
        let flip = f._mm512_and_si512(sign, cast(self.splat_i32(0x7fff_ffff)));
        cast(f._mm512_xor_si512(cast(a), flip))
    }
    #[inline(always)]
    fn max_i32(self, a: i32x16, b: i32x16) -> i32x16 {
        cast(self.0.avx512f._mm512_max_epi32(cast(a), cast(b)))
    }
    #[inline(always)]
    fn min_i32(self, a: i32x16, b: i32x16) -> i32x16 {
        cast(self.0.avx512f._mm512_min_epi32(cast(a), cast(b)))
    }
    #[inline(always)]
    fn all_in_i32(self, a: i32x16, low: i32, high: i32) -> bool {
        let f = self.0.avx512f;
        let above = f._mm512_sub_epi32(cast(a), f._mm512_set1_epi32(low));
        let width = f._mm512_set1_epi32(high.wrapping_sub(low));
        f._mm512_cmpgt_epu32_mask(above, width) == 0
    }
    #[inline(always)]
    fn max_u32(self, a: i32x16, b: i32x16) -> i32x16 {
        cast(self.0.avx512f._mm512_max_epu32(cast(a), cast(b)))
    }
    #[inline(always)]
    fn min_u32(self, a: i32x16, b: i32x16) -> i32x16 {
        cast(self.0.avx512f._mm512_min_epu32(cast(a), cast(b)))
    }
    #[inline(always)]
    fn sub_i32(self, a: i32x16, b: i32x16) -> i32x16 {
        cast(self.0.avx512f._mm512_sub_epi32(cast(a), cast(b)))
    }
    #[inline(always)]
    fn larger_magnitude_bits(self, a: f32x16, b: f32x16) -> i32x16 {
        // The maximum of the magnitudes, and the sign bit cleared.
        cast(self.0.avx512dq._mm512_range_ps::<0b1011>(cast(a), cast(b)))
    }
    #[inline(always)]
    fn four_maxima<O: Order>(self, v: [i32x16; 4]) -> i32x16 {
        let f = self.0.avx512f;
        let mut pairs = [v[0]; 2];
        for i in 0..2 {
            let (a, b) = (cast(v[2 * i]), cast(v[2 * i + 1]));
            let (low, high) = (f._mm512_unpacklo_epi32(a, b), f._mm512_unpackhi_epi32(a, b));
            pairs[i] = O::larger(self, cast(low), cast(high));
        }
        let (a, b) = (cast(pairs[0]), cast(pairs[1]));
        let (low, high) = (f._mm512_unpacklo_epi64(a, b), f._mm512_unpackhi_epi64(a, b));
        O::larger(self, cast(low), cast(high))
    }
    #[inline(always)]
    fn join_maxima<O: Order>(self, fours: [i32x16; 4]) -> i32x16 {
        let f = self.0.avx512f;
        let mut eights = [fours[0]; 2];
        for i in 0..2 {
            let (a, b) = (cast(fours[2 * i]), cast(fours[2 * i + 1]));
            let low = f._mm512_shuffle_i32x4::<0x44>(a, b);
            let high = f._mm512_shuffle_i32x4::<0xee>(a, b);
            eights[i] = O::larger(self, cast(low), cast(high));
        }
        let (a, b) = (cast(eights[0]), cast(eights[1]));
        let low = f._mm512_shuffle_i32x4::<0x88>(a, b);
        let high = f._mm512_shuffle_i32x4::<0xdd>(a, b);
        O::larger(self, cast(low), cast(high))
    }
    #[inline(always)]
    fn count_equal(self, a: i32x16, b: i32x16, count: &mut i32x16) {
        let f = self.0.avx512f;
        let equal = f._mm512_cmpeq_epi32_mask(cast(a), cast(b));
        let one = cast(self.splat_i32(1));
        *count = cast(f._mm512_mask_add_epi32(cast(*count), equal, cast(*count), one));
    }

    #[inline(always)]
    fn round_i32(self, a: f32x16) -> i32x16 {
        cast(self.0.avx512f._mm512_cvtps_epi32(cast(a)))
    }
    #[inline(always)]
    fn round_away_i16(self, a: f32x16, b: f32x16) -> i16x32 {
        // Of twice a number, half of what is left of it, rounded away from 0.
        let b512 = self.0.avx512bw;
        let twice = cast(self.narrow_i16(self.truncate_i32(a), self.truncate_i32(b)));
        cast(b512._mm512_avg_epu16(twice, b512._mm512_srai_epi16::<15>(twice)))
    }
    #[inline(always)]
    fn truncate_i32(self, a: f32x16) -> i32x16 {
        cast(self.0.avx512f._mm512_cvttps_epi32(cast(a)))
    }
    #[inline(always)]
    fn clamp_round(self, a: f32x16, low: f32x16, high: f32x16) -> i32x16 {
        let f = self.0.avx512f;
        let number = f._mm512_cmp_ps_mask::<_CMP_ORD_Q>(cast(a), cast(a));
        let a = f._mm512_min_ps(f._mm512_max_ps(cast(a), cast(low)), cast(high));
        cast(f._mm512_maskz_cvtps_epi32(number, a))
    }
    #[inline(always)]
    fn bin(self, a: f32x16, b: f32x16) -> i32x16 {
        let f = self.0.avx512f;
        let below = f._mm512_cmp_ps_mask::<_CMP_LT_OQ>(cast(a), cast(self.splat(0.0)));
        let towards_zero = f._mm512_cvttps_epi32(cast(self.mul(a, b)));
        let one = cast(self.splat_i32(1));
        cast(f._mm512_mask_sub_epi32(towards_zero, below, towards_zero, one))
    }
    #[inline(always)]
    fn to_f32(self, a: i32x16) -> f32x16 {
        cast(self.0.avx512f._mm512_cvtepi32_ps(cast(a)))
    }

    #[inline(always)]
    fn sticky_clear(self) -> i16x32 {
        self.splat_i16(0)
    }
    // Where a conversion fails it gives the smallest i32, which narrows to the smallest i16.
    #[inline(always)]
    fn round_i16(self, a: f32x16, b: f32x16, sticky: &mut i16x32) -> i16x32 {
        let rounded = self.narrow_i16(self.round_i32(a), self.round_i32(b));
        *sticky = cast(
            self.0
                .avx512bw
                ._mm512_min_epi16(cast(*sticky), cast(rounded)),
        );
        rounded
    }
    #[inline(always)]
    fn needs_fallback(self, sticky: i16x32) -> bool {
        let smallest = self.splat_i16(i16::MIN);
        let found = self.0.avx512bw;
        found._mm512_cmpeq_epi16_mask(cast(sticky), cast(smallest)) != 0
    }
    #[inline(always)]
    fn narrow_i16(self, a: i32x16, b: i32x16) -> i16x32 {
        cast(self.0.avx512bw._mm512_packs_epi32(cast(a), cast(b)))
    }
    #[inline(always)]
    fn add_i16(self, a: i16x32, b: i16x32) -> i16x32 {
        cast(self.0.avx512bw._mm512_adds_epi16(cast(a), cast(b)))
    }
    #[inline(always)]
    fn min_i16(self, a: i16x32, b: i16x32) -> i16x32 {
        cast(self.0.avx512bw._mm512_min_epi16(cast(a), cast(b)))
    }
    #[inline(always)]
    fn max_i16(self, a: i16x32, b: i16x32) -> i16x32 {
        cast(self.0.avx512bw._mm512_max_epi16(cast(a), cast(b)))
    }
    #[inline(always)]
    fn max_u16(self, a: i16x32, b: i16x32) -> i16x32 {
        cast(self.0.avx512bw._mm512_max_epu16(cast(a), cast(b)))
    }
    #[inline(always)]
    fn narrow_i8<const ZIPPED: bool>(self, a: i16x32, b: i16x32) -> i8x64 {
        let order = match ZIPPED {
            true => i32x16(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15),
            false => i32x16(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15),
        };
        let narrow = self.0.avx512bw._mm512_packs_epi16(cast(a), cast(b));
        cast(self.0.avx512f._mm512_permutexvar_epi32(cast(order), narrow))
    }
    #[inline(always)]
    fn min_i8(self, a: i8x64, b: i8x64) -> i8x64 {
        cast(self.0.avx512bw._mm512_min_epi8(cast(a), cast(b)))
    }
    #[inline(always)]
    fn is_any_below(self, a: i8x64, bound: i8) -> bool {
        let bound = cast(self.splat_i8(bound));
        self.0.avx512bw._mm512_cmplt_epi8_mask(cast(a), bound) != 0
    }
    #[inline(always)]
    fn clamp_i8(self, a: i8x64, low: i8x64, high: i8x64) -> i8x64 {
        let b = self.0.avx512bw;
        cast(b._mm512_min_epi8(b._mm512_max_epi8(cast(a), cast(low)), cast(high)))
    }
    #[inline(always)]
    fn xor_i8(self, a: i8x64, b: i8x64) -> i8x64 {
        cast(self.0.avx512f._mm512_xor_si512(cast(a), cast(b)))
    }
    #[inline(always)]
    fn pack(self, codes: i8x64) -> u8x32 {
        let (f, b) = (self.0.avx512f, self.0.avx512bw);
        let low = f._mm512_and_si512(cast(codes), f._mm512_set1_epi8(15));
        let pairs = b._mm512_maddubs_epi16(low, f._mm512_set1_epi16(0x1001));
        cast(b._mm512_cvtepi16_epi8(pairs))
    }
    #[inline(always)]
    fn pack_two(self, codes: [i8x64; 2]) -> [u8x32; 2] {
        let (f, b) = (self.0.avx512f, self.0.avx512bw);
        let pairs = |codes: i8x64| {
            let low = f._mm512_and_si512(cast(codes), f._mm512_set1_epi8(15));
            b._mm512_maddubs_epi16(low, f._mm512_set1_epi16(0x1001))
        };
        // By quarters of a register, one of the first, one of the second.
        let mixed = b._mm512_packus_epi16(pairs(codes[0]), pairs(codes[1]));
        let order = f._mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
        cast(f._mm512_permutexvar_epi64(order, mixed))
    }
    #[inline(always)]
    fn join_nibbles<const CLEAN: bool>(self, low: i8x64, high: i8x64) -> i8x64 {
        let (f, mask) = (self.0.avx512f, self.splat_i8(15));
        let high = self.0.avx512bw._mm512_slli_epi16::<4>(cast(high));
        // `mask ? low : high`.
        cast(f._mm512_ternarylogic_epi32::<0xca>(cast(mask), cast(low), high))
    }
    #[inline(always)]
    fn fifth_bits(self, codes: i8x64) -> u64 {
        let bit = cast(self.splat_i8(16));
        self.0.avx512bw._mm512_test_epi8_mask(cast(codes), bit)
    }
    #[inline(always)]
    fn unpack(self, nibbles: u8x32) -> i8x64 {
        let (f, b) = (self.0.avx512f, self.0.avx512bw);
        let pairs = b._mm512_cvtepu8_epi16(cast(nibbles));
        let both = f._mm512_or_si512(pairs, b._mm512_slli_epi16::<4>(pairs));
        cast(f._mm512_and_si512(both, f._mm512_set1_epi8(15)))
    }
    #[inline(always)]
    fn extend_nibble(self, codes: i8x64) -> i8x64 {
        let eight = self.splat_i8(8);
        let flipped = self.xor_i8(codes, eight);
        cast(self.0.avx512bw._mm512_sub_epi8(cast(flipped), cast(eight)))
    }
    #[inline(always)]
    fn widen_codes<const SIGNED: bool>(self, codes: &i8x64) -> [i32x16; 4] {
        let quarters: &[u8x16; 4] = bytemuck::cast_ref(codes);
        let f = self.0.avx512f;
        let mut wide = [self.splat_i32(0); 4];
        for i in 0..4 {
            wide[i] = cast(match SIGNED {
                true => f._mm512_cvtepi8_epi32(cast(quarters[i])),
                false => f._mm512_cvtepu8_epi32(cast(quarters[i])),
            });
        }
        wide
    }
    #[inline(always)]
    fn widen_bytes(self, bytes: &[u8; 32], part: usize) -> i32x16 {
        let parts: &[u8x16; 2] = bytemuck::cast_ref(bytes);
        cast(self.0.avx512f._mm512_cvtepi8_epi32(cast(parts[part])))
    }
    #[inline(always)]
    fn widen_nibbles(self, bytes: &[u8; 16], _: usize) -> [i32x16; 2] {
        let f = self.0.avx512f;
        let both = f._mm512_cvtepu8_epi32(cast(*bytes));
        let low = f._mm512_and_si512(both, cast(self.splat_i32(15)));
        [cast(low), cast(f._mm512_srli_epi32::<4>(both))]
    }
    #[inline(always)]
    fn where_set(self, bits: u32, first: usize, value: i32) -> i32x16 {
        let own = (bits >> first) as u16;
        cast(self.0.avx512f._mm512_maskz_set1_epi32(own, value))
    }

    #[inline(always)]
    fn nibble_params(self, signed: bool, scale: f32, zero_point: i32) -> f32x16 {
        let codes = match signed {
            true => i32x16(0, 1, 2, 3, 4, 5, 6, 7, -8, -7, -6, -5, -4, -3, -2, -1),
            false => i32x16(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
        };
        let steps = self.sub_i32(codes, self.splat_i32(zero_point));
        self.mul(self.splat(scale), self.to_f32(steps))
    }
    #[inline(always)]
    fn dequantize_nibbles<const SIGNED: bool>(
        self,
        nibbles: &u8x32,
        kernel_params: [f32x16; 2],
    ) -> [f32x16; 4] {
        // A permutation looks at the low four bits of an index only. Words are broadcast from
        // memory, since the ports that permute and shift are the ones that are short.
        let f = self.0.avx512f;
        let words: &[[u8; 4]; 8] = bytemuck::cast_ref(nibbles);
        let shifts = i32x16(0, 4, 8, 12, 16, 20, 24, 28, 0, 4, 8, 12, 16, 20, 24, 28);
        let mut values = [kernel_params[0]; 4];
        for i in 0..4 {
            let low = f._mm512_set1_epi32(i32::from_le_bytes(words[2 * i]));
            let high = i32::from_le_bytes(words[2 * i + 1]);
            let both = f._mm512_mask_set1_epi32(low, 0xff00, high);
            let codes = f._mm512_srlv_epi32(both, cast(shifts));
            values[i] = cast(f._mm512_permutexvar_ps(codes, cast(kernel_params[i / 2])));
        }
        values
    }

    #[inline(always)]
    fn round_quotient(self, a: f32x16) -> f32x16 {
        let f = self.0.avx512f;
        let half = cast(self.splat_i32(0x1000));
        let mask = cast(self.splat_i32(!0x1fff));
        cast(f._mm512_and_si512(f._mm512_add_epi32(cast(a), half), mask))
    }
    #[inline(always)]
    fn widen_f16(self, a: u16x16) -> f32x16 {
        cast(self.0.avx512f._mm512_cvtph_ps(cast(a)))
    }
    #[inline(always)]
    fn narrow_f16(self, a: f32x16) -> u16x16 {
        cast(self.0.avx512f._mm512_cvtps_ph::<NEAREST>(cast(a)))
    }
    #[inline(always)]
    fn widen_bf16(self, a: u16x16) -> f32x16 {
        let f = self.0.avx512f;
        cast(f._mm512_slli_epi32::<16>(f._mm512_cvtepu16_epi32(cast(a))))
    }
    #[inline(always)]
    fn widen_bf16_zipped(self, a: u16x16, b: u16x16) -> [f32x16; 2] {
        let b512 = self.0.avx512bw;
        let (zero, both) = (cast(self.splat_i32(0)), cast([a, b]));
        [
            cast(b512._mm512_unpacklo_epi16(zero, both)),
            cast(b512._mm512_unpackhi_epi16(zero, both)),
        ]
    }
    #[inline(always)]
    fn narrow_bf16(self, a: f32x16) -> u16x16 {
        let f = self.0.avx512f;
        let upper = f._mm512_srli_epi32::<16>(cast(a));
        let odd = f._mm512_and_si512(upper, cast(self.splat_i32(1)));
        let half = f._mm512_add_epi32(odd, cast(self.splat_i32(0x7fff)));
        let rounded = f._mm512_srli_epi32::<16>(f._mm512_add_epi32(cast(a), half));
        cast(f._mm512_cvtepi32_epi16(rounded))
    }

    #[inline(always)]
    fn widen_f64(self, a: f32x16) -> [f64x8; 2] {
        let f = self.0.avx512f;
        let low = f._mm512_castps512_ps256(cast(a));
        let high = self.0.avx512dq._mm512_extractf32x8_ps::<1>(cast(a));
        [cast(f._mm512_cvtps_pd(low)), cast(f._mm512_cvtps_pd(high))]
    }
    #[inline(always)]
    fn add_f64(self, a: f64x8, b: f64x8) -> f64x8 {
        cast(self.0.avx512f._mm512_add_pd(cast(a), cast(b)))
    }
    #[inline(always)]
    fn add_square_f64(self, a: f64x8, b: f64x8) -> f64x8 {
        cast(self.0.avx512f._mm512_fmadd_pd(cast(a), cast(a), cast(b)))
    }

    #[inline(always)]
    fn prefetch<T: Pod>(self, from: &[T], ahead: usize) {
        for line in (0..size_of_val(from)).step_by(64) {
            let place = from.as_ptr().cast::<i8>().wrapping_add(ahead + line);
            self.0.sse._mm_prefetch::<_MM_HINT_T1>(place);
        }
    }
    #[inline(always)]
    fn stream<T: Pod>(self, to: &mut T, value: T) {
        let place: *mut T = to;
        let aligned = place.addr().is_multiple_of(size_of::<T>());
        match size_of::<T>() {
            // SAFETY: `place` comes from a unique reference to 64 bytes of plain data, and is
            // aligned.
            64 if aligned => unsafe {
                let value = bytemuck::cast(value);
                self.0.avx512f._mm512_stream_si512(place.cast(), value);
            },
            // SAFETY: as above, with 32 bytes.
            32 if aligned => unsafe {
                let value = bytemuck::cast(value);
                self.0.avx._mm256_stream_si256(place.cast(), value);
            },
            _ => *to = value,
        }
    }
    #[inline(always)]
    fn fence(self) {
        self.0.sse._mm_sfence();
    }
}
