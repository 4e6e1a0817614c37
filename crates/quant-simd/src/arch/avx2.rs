//! AVX2 with FMA and F16C, as every x86-64 processor since Haswell and Zen has them.
//!
//! The packs work within the two lanes of 128 bits; one permutation per group puts codes right.

// Streaming stores, and conversions of f16 that pulp lacks.
#![allow(unsafe_code)]

use core::arch::x86_64::*;

use bytemuck::Pod;
use pulp::{cast, f32x8, f64x4, i8x32, i16x16, i32x8, u8x16, u16x8};

use crate::isa::{Isa, Kernel, Order};

pulp::simd_type! {
    /// The token.
    pub struct Avx2 {
        sse: "sse",
        sse2: "sse2",
        sse3: "sse3",
        ssse3: "ssse3",
        sse4_1: "sse4.1",
        sse4_2: "sse4.2",
        avx: "avx",
        avx2: "avx2",
        fma: "fma",
        f16c: "f16c",
    }
}

struct Call<K>(Avx2, K);

impl<K: Kernel> pulp::NullaryFnOnce for Call<K> {
    type Output = K::Output;
    #[inline(always)]
    fn call(self) -> K::Output {
        self.1.run(self.0)
    }
}

const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT;

impl Isa for Avx2 {
    const LANES: usize = 8;
    const RECIPROCAL: bool = true;
    const MIN_SKIPS_NAN: bool = true;
    const ROUND_SHOWS_NAN: bool = true;
    const AWAY: f32 = 2.0;
    const SHUFFLES: bool = true;
    const STREAMS: bool = true;
    const READ_AHEAD: Option<usize> = Some(1024);
    type F32 = f32x8;
    type F64 = f64x4;
    type I32 = i32x8;
    type I16 = i16x16;
    type I8 = i8x32;
    type U16 = u16x8;
    type Nibbles = u8x16;
    type Sticky = i16x16;
    /// Scale and zero point.
    type NibbleParams = (f32x8, i32x8);

    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        self.vectorize(Call(self, kernel))
    }

    #[inline(always)]
    fn splat(self, value: f32) -> f32x8 {
        cast(self.avx._mm256_set1_ps(value))
    }
    #[inline(always)]
    fn splat_i32(self, value: i32) -> i32x8 {
        cast(self.avx._mm256_set1_epi32(value))
    }
    #[inline(always)]
    fn splat_i16(self, value: i16) -> i16x16 {
        cast(self.avx._mm256_set1_epi16(value))
    }
    #[inline(always)]
    fn splat_i8(self, value: i8) -> i8x32 {
        cast(self.avx._mm256_set1_epi8(value))
    }

    #[inline(always)]
    fn add(self, a: f32x8, b: f32x8) -> f32x8 {
        cast(self.avx._mm256_add_ps(cast(a), cast(b)))
    }
    #[inline(always)]
    fn sub(self, a: f32x8, b: f32x8) -> f32x8 {
        cast(self.avx._mm256_sub_ps(cast(a), cast(b)))
    }
    #[inline(always)]
    fn mul(self, a: f32x8, b: f32x8) -> f32x8 {
        cast(self.avx._mm256_mul_ps(cast(a), cast(b)))
    }
    #[inline(always)]
    fn div(self, a: f32x8, b: f32x8) -> f32x8 {
        cast(self.avx._mm256_div_ps(cast(a), cast(b)))
    }
    #[inline(always)]
    fn fma(self, a: f32x8, b: f32x8, c: f32x8) -> f32x8 {
        cast(self.fma._mm256_fmadd_ps(cast(a), cast(b), cast(c)))
    }
    #[inline(always)]
    fn min(self, a: f32x8, b: f32x8) -> f32x8 {
        cast(self.avx._mm256_min_ps(cast(a), cast(b)))
    }
    #[inline(always)]
    fn max(self, a: f32x8, b: f32x8) -> f32x8 {
        cast(self.avx._mm256_max_ps(cast(a), cast(b)))
    }
    // Not a comparison of integers: LLVM may make that "ordered and not equal", which valgrind 3.19
    // takes for "unordered or not equal", and NaN for finite.
    #[inline(always)]
    fn count_finite(self, a: f32x8, count: &mut i32x8) {
        let (infinity, magnitude) = (self.splat(f32::INFINITY), self.magnitude_bits(a));
        let finite = self
            .avx
            ._mm256_cmp_ps::<_CMP_LT_OQ>(cast(magnitude), cast(infinity));
        *count = cast(self.avx2._mm256_sub_epi32(cast(*count), cast(finite)));
    }
    #[inline(always)]
    fn if_number(self, test: f32x8, then: f32x8, otherwise: f32x8) -> f32x8 {
        let number = self.avx._mm256_cmp_ps::<_CMP_ORD_Q>(cast(test), cast(test));
        cast(
            self.avx
                ._mm256_blendv_ps(cast(otherwise), cast(then), number),
        )
    }

    #[inline(always)]
    fn magnitude_bits(self, a: f32x8) -> i32x8 {
        let mask = self.splat_i32(0x7fff_ffff);
        cast(self.avx2._mm256_and_si256(cast(a), cast(mask)))
    }
    #[inline(always)]
    fn ordered_bits(self, a: i32x8) -> i32x8 {
        let sign = self.avx2._mm256_srai_epi32::<31>(cast(a));
        let flip = self
            .avx2
            ._mm256_and_si256(sign, cast(self.splat_i32(0x7fff_ffff)));
        cast(self.avx2._mm256_xor_si256(cast(a), flip))
    }
    #[inline(always)]
    fn max_i32(self, a: i32x8, b: i32x8) -> i32x8 {
        cast(self.avx2._mm256_max_epi32(cast(a), cast(b)))
    }
    #[inline(always)]
    fn min_i32(self, a: i32x8, b: i32x8) -> i32x8 {
        cast(self.avx2._mm256_min_epi32(cast(a), cast(b)))
    }
    #[inline(always)]
    fn all_in_i32(self, a: i32x8, low: i32, high: i32) -> bool {
        let below = self
            .avx2
            ._mm256_cmpgt_epi32(cast(self.splat_i32(low)), cast(a));
        let above = self
            .avx2
            ._mm256_cmpgt_epi32(cast(a), cast(self.splat_i32(high)));
        self.avx2
            ._mm256_movemask_epi8(self.avx2._mm256_or_si256(below, above))
            == 0
    }
    #[inline(always)]
    fn max_u32(self, a: i32x8, b: i32x8) -> i32x8 {
        cast(self.avx2._mm256_max_epu32(cast(a), cast(b)))
    }
    #[inline(always)]
    fn min_u32(self, a: i32x8, b: i32x8) -> i32x8 {
        cast(self.avx2._mm256_min_epu32(cast(a), cast(b)))
    }
    #[inline(always)]
    fn sub_i32(self, a: i32x8, b: i32x8) -> i32x8 {
        cast(self.avx2._mm256_sub_epi32(cast(a), cast(b)))
    }
    #[inline(always)]
    fn larger_magnitude_bits(self, a: f32x8, b: f32x8) -> i32x8 {
        self.max_i32(self.magnitude_bits(a), self.magnitude_bits(b))
    }
    #[inline(always)]
    fn four_maxima<O: Order>(self, v: [i32x8; 4]) -> i32x8 {
        let i = self.avx2;
        let mut pairs = [v[0]; 2];
        for n in 0..2 {
            let (a, b) = (cast(v[2 * n]), cast(v[2 * n + 1]));
            let (low, high) = (i._mm256_unpacklo_epi32(a, b), i._mm256_unpackhi_epi32(a, b));
            pairs[n] = O::larger(self, cast(low), cast(high));
        }
        let (a, b) = (cast(pairs[0]), cast(pairs[1]));
        let (low, high) = (i._mm256_unpacklo_epi64(a, b), i._mm256_unpackhi_epi64(a, b));
        O::larger(self, cast(low), cast(high))
    }
    #[inline(always)]
    fn join_maxima<O: Order>(self, fours: [i32x8; 4]) -> i32x8 {
        let (a, b) = (cast(fours[0]), cast(fours[1]));
        let low = self.avx2._mm256_permute2x128_si256::<0x20>(a, b);
        let high = self.avx2._mm256_permute2x128_si256::<0x31>(a, b);
        O::larger(self, cast(low), cast(high))
    }
    #[inline(always)]
    fn count_equal(self, a: i32x8, b: i32x8, count: &mut i32x8) {
        let equal = self.avx2._mm256_cmpeq_epi32(cast(a), cast(b));
        *count = cast(self.avx2._mm256_sub_epi32(cast(*count), equal));
    }

    #[inline(always)]
    fn round_i32(self, a: f32x8) -> i32x8 {
        cast(self.avx._mm256_cvtps_epi32(cast(a)))
    }
    #[inline(always)]
    fn round_away_i16(self, a: f32x8, b: f32x8) -> i16x16 {
        // Of twice a number, half of what is left of it, rounded up; a little more than half, so that
        // a negative one is below the tie. One multiplication, where an average with the sign takes two
        // operations, one of them a shift, for which there are fewer ports.
        let twice = self.narrow_i16(self.truncate_i32(a), self.truncate_i32(b));
        let half = self.splat_i16(0x4001);
        cast(self.avx2._mm256_mulhrs_epi16(cast(twice), cast(half)))
    }
    #[inline(always)]
    fn truncate_i32(self, a: f32x8) -> i32x8 {
        cast(self.avx._mm256_cvttps_epi32(cast(a)))
    }
    #[inline(always)]
    fn clamp_round(self, a: f32x8, low: f32x8, high: f32x8) -> i32x8 {
        let number = self.avx._mm256_cmp_ps::<_CMP_ORD_Q>(cast(a), cast(a));
        let a = self.avx._mm256_and_ps(cast(a), number);
        let a = self
            .avx
            ._mm256_min_ps(self.avx._mm256_max_ps(a, cast(low)), cast(high));
        cast(self.avx._mm256_cvtps_epi32(a))
    }
    #[inline(always)]
    fn bin(self, a: f32x8, b: f32x8) -> i32x8 {
        let below = self
            .avx
            ._mm256_cmp_ps::<_CMP_LT_OQ>(cast(a), cast(self.splat(0.0)));
        let towards_zero = self.avx._mm256_cvttps_epi32(cast(self.mul(a, b)));
        cast(self.avx2._mm256_add_epi32(towards_zero, cast(below)))
    }
    #[inline(always)]
    fn to_f32(self, a: i32x8) -> f32x8 {
        cast(self.avx._mm256_cvtepi32_ps(cast(a)))
    }

    #[inline(always)]
    fn sticky_clear(self) -> i16x16 {
        self.splat_i16(0)
    }
    // Where a conversion fails it gives the smallest i32, which narrows to the smallest i16.
    #[inline(always)]
    fn round_i16(self, a: f32x8, b: f32x8, sticky: &mut i16x16) -> i16x16 {
        let rounded = self.narrow_i16(self.round_i32(a), self.round_i32(b));
        *sticky = cast(self.avx2._mm256_min_epi16(cast(*sticky), cast(rounded)));
        rounded
    }
    #[inline(always)]
    fn needs_fallback(self, sticky: i16x16) -> bool {
        let smallest = self.splat_i16(i16::MIN);
        let found = self.avx2._mm256_cmpeq_epi16(cast(sticky), cast(smallest));
        self.avx2._mm256_movemask_epi8(found) != 0
    }
    #[inline(always)]
    fn narrow_i16(self, a: i32x8, b: i32x8) -> i16x16 {
        cast(self.avx2._mm256_packs_epi32(cast(a), cast(b)))
    }
    #[inline(always)]
    fn add_i16(self, a: i16x16, b: i16x16) -> i16x16 {
        cast(self.avx2._mm256_adds_epi16(cast(a), cast(b)))
    }
    #[inline(always)]
    fn min_i16(self, a: i16x16, b: i16x16) -> i16x16 {
        cast(self.avx2._mm256_min_epi16(cast(a), cast(b)))
    }
    #[inline(always)]
    fn max_i16(self, a: i16x16, b: i16x16) -> i16x16 {
        cast(self.avx2._mm256_max_epi16(cast(a), cast(b)))
    }
    #[inline(always)]
    fn max_u16(self, a: i16x16, b: i16x16) -> i16x16 {
        cast(self.avx2._mm256_max_epu16(cast(a), cast(b)))
    }
    #[inline(always)]
    fn narrow_i8<const ZIPPED: bool>(self, a: i16x16, b: i16x16) -> i8x32 {
        self.unshuffle_i8::<ZIPPED>(self.narrow_shuffled_i8(a, b))
    }
    #[inline(always)]
    fn narrow_shuffled_i8(self, a: i16x16, b: i16x16) -> i8x32 {
        cast(self.avx2._mm256_packs_epi16(cast(a), cast(b)))
    }
    #[inline(always)]
    fn unshuffle_i8<const ZIPPED: bool>(self, a: i8x32) -> i8x32 {
        let order = match ZIPPED {
            true => i32x8(0, 1, 4, 5, 2, 3, 6, 7),
            false => i32x8(0, 4, 1, 5, 2, 6, 3, 7),
        };
        cast(self.avx2._mm256_permutevar8x32_epi32(cast(a), cast(order)))
    }
    #[inline(always)]
    fn min_i8(self, a: i8x32, b: i8x32) -> i8x32 {
        cast(self.avx2._mm256_min_epi8(cast(a), cast(b)))
    }
    #[inline(always)]
    fn is_any_below(self, a: i8x32, bound: i8) -> bool {
        let bound = cast(self.splat_i8(bound));
        let below = self.avx2._mm256_cmpgt_epi8(bound, cast(a));
        self.avx2._mm256_movemask_epi8(below) != 0
    }
    #[inline(always)]
    fn clamp_i8(self, a: i8x32, low: i8x32, high: i8x32) -> i8x32 {
        let i = self.avx2;
        cast(i._mm256_min_epi8(i._mm256_max_epi8(cast(a), cast(low)), cast(high)))
    }
    #[inline(always)]
    fn xor_i8(self, a: i8x32, b: i8x32) -> i8x32 {
        cast(self.avx2._mm256_xor_si256(cast(a), cast(b)))
    }
    #[inline(always)]
    fn pack(self, codes: i8x32) -> u8x16 {
        let i = self.avx2;
        let low = i._mm256_and_si256(cast(codes), self.avx._mm256_set1_epi8(15));
        let pairs = i._mm256_maddubs_epi16(low, self.avx._mm256_set1_epi16(0x1001));
        let narrow = i._mm256_packus_epi16(pairs, pairs);
        let narrow = i._mm256_permute4x64_epi64::<0b1000>(narrow);
        cast(self.avx._mm256_castsi256_si128(narrow))
    }
    #[inline(always)]
    fn join_nibbles<const CLEAN: bool>(self, low: i8x32, high: i8x32) -> i8x32 {
        let (i, mask) = (self.avx2, cast(self.splat_i8(15)));
        let (low, high) = match CLEAN {
            true => (cast(low), cast(high)),
            false => (
                i._mm256_and_si256(cast(low), mask),
                i._mm256_and_si256(cast(high), mask),
            ),
        };
        cast(i._mm256_or_si256(low, i._mm256_slli_epi16::<4>(high)))
    }
    #[inline(always)]
    fn fifth_bits(self, codes: i8x32) -> u64 {
        let top = self.avx2._mm256_slli_epi16::<3>(cast(codes));
        u64::from(self.avx2._mm256_movemask_epi8(top) as u32)
    }
    #[inline(always)]
    fn unpack(self, nibbles: u8x16) -> i8x32 {
        let i = self.avx2;
        let pairs = i._mm256_cvtepu8_epi16(cast(nibbles));
        let both = i._mm256_or_si256(pairs, i._mm256_slli_epi16::<4>(pairs));
        cast(i._mm256_and_si256(both, self.avx._mm256_set1_epi8(15)))
    }
    #[inline(always)]
    fn extend_nibble(self, codes: i8x32) -> i8x32 {
        let eight = self.splat_i8(8);
        let flipped = self.xor_i8(codes, eight);
        cast(self.avx2._mm256_sub_epi8(cast(flipped), cast(eight)))
    }
    #[inline(always)]
    fn widen_codes<const SIGNED: bool>(self, codes: &i8x32) -> [i32x8; 4] {
        let quarters: &[[u64; 1]; 4] = &bytemuck::cast(*codes);
        let mut wide = [self.splat_i32(0); 4];
        for n in 0..4 {
            let quarter = cast([quarters[n][0], 0]);
            wide[n] = cast(match SIGNED {
                true => self.avx2._mm256_cvtepi8_epi32(quarter),
                false => self.avx2._mm256_cvtepu8_epi32(quarter),
            });
        }
        wide
    }
    #[inline(always)]
    fn widen_bytes(self, bytes: &[u8; 32], part: usize) -> i32x8 {
        let parts: [u64; 4] = cast(*bytes);
        cast(self.avx2._mm256_cvtepi8_epi32(cast([parts[part], 0])))
    }
    #[inline(always)]
    fn widen_nibbles(self, bytes: &[u8; 16], part: usize) -> [i32x8; 2] {
        let i = self.avx2;
        let parts: [u64; 2] = cast(*bytes);
        let both = i._mm256_cvtepu8_epi32(cast([parts[part], 0]));
        let low = i._mm256_and_si256(both, cast(self.splat_i32(15)));
        [cast(low), cast(i._mm256_srli_epi32::<4>(both))]
    }

    #[inline(always)]
    fn nibble_params(self, _: bool, scale: f32, zero_point: i32) -> (f32x8, i32x8) {
        (self.splat(scale), self.splat_i32(zero_point))
    }
    #[inline(always)]
    fn dequantize_nibbles<const SIGNED: bool>(
        self,
        nibbles: &u8x16,
        kernel_params: [(f32x8, i32x8); 2],
    ) -> [f32x8; 4] {
        let words: [i32; 4] = cast(*nibbles);
        let shifts = i32x8(28, 24, 20, 16, 12, 8, 4, 0);
        let mut values = [kernel_params[0].0; 4];
        for n in 0..4 {
            let (scale, zero_point) = kernel_params[n / 2];
            let word = cast(self.splat_i32(words[n]));
            let top = self.avx2._mm256_sllv_epi32(word, cast(shifts));
            let codes = match SIGNED {
                true => self.avx2._mm256_srai_epi32::<28>(top),
                false => self.avx2._mm256_srli_epi32::<28>(top),
            };
            let steps = self.sub_i32(cast(codes), zero_point);
            values[n] = self.mul(scale, self.to_f32(steps));
        }
        values
    }

    #[inline(always)]
    fn round_quotient(self, a: f32x8) -> f32x8 {
        let half = cast(self.splat_i32(0x1000));
        let mask = cast(self.splat_i32(!0x1fff));
        let sum = self.avx2._mm256_add_epi32(cast(a), half);
        cast(self.avx2._mm256_and_si256(sum, mask))
    }
    #[inline(always)]
    fn widen_f16(self, a: u16x8) -> f32x8 {
        // SAFETY: the token proves that F16C is there.
        cast(unsafe { _mm256_cvtph_ps(cast(a)) })
    }
    #[inline(always)]
    fn narrow_f16(self, a: f32x8) -> u16x8 {
        // SAFETY: the token proves that F16C is there.
        cast(unsafe { _mm256_cvtps_ph::<NEAREST>(cast(a)) })
    }
    #[inline(always)]
    fn widen_bf16(self, a: u16x8) -> f32x8 {
        let i = self.avx2;
        cast(i._mm256_slli_epi32::<16>(i._mm256_cvtepu16_epi32(cast(a))))
    }
    #[inline(always)]
    fn widen_bf16_zipped(self, a: u16x8, b: u16x8) -> [f32x8; 2] {
        let i = self.avx2;
        let (zero, both) = (cast(self.splat_i32(0)), cast([a, b]));
        [
            cast(i._mm256_unpacklo_epi16(zero, both)),
            cast(i._mm256_unpackhi_epi16(zero, both)),
        ]
    }
    #[inline(always)]
    fn narrow_bf16(self, a: f32x8) -> u16x8 {
        let i = self.avx2;
        let upper = i._mm256_srli_epi32::<16>(cast(a));
        let odd = i._mm256_and_si256(upper, cast(self.splat_i32(1)));
        let half = i._mm256_add_epi32(odd, cast(self.splat_i32(0x7fff)));
        let rounded = i._mm256_srli_epi32::<16>(i._mm256_add_epi32(cast(a), half));
        let narrow = i._mm256_packus_epi32(rounded, rounded);
        let narrow = i._mm256_permute4x64_epi64::<0b1000>(narrow);
        cast(self.avx._mm256_castsi256_si128(narrow))
    }

    #[inline(always)]
    fn widen_f64(self, a: f32x8) -> [f64x4; 2] {
        let low = self.avx._mm256_castps256_ps128(cast(a));
        let high = self.avx._mm256_extractf128_ps::<1>(cast(a));
        [
            cast(self.avx._mm256_cvtps_pd(low)),
            cast(self.avx._mm256_cvtps_pd(high)),
        ]
    }
    #[inline(always)]
    fn add_f64(self, a: f64x4, b: f64x4) -> f64x4 {
        cast(self.avx._mm256_add_pd(cast(a), cast(b)))
    }
    #[inline(always)]
    fn add_square_f64(self, a: f64x4, b: f64x4) -> f64x4 {
        cast(self.fma._mm256_fmadd_pd(cast(a), cast(a), cast(b)))
    }

    #[inline(always)]
    fn prefetch<T: Pod>(self, from: &[T], ahead: usize) {
        for line in (0..size_of_val(from)).step_by(64) {
            let place = from.as_ptr().cast::<i8>().wrapping_add(ahead + line);
            self.sse._mm_prefetch::<_MM_HINT_T1>(place);
        }
    }
    #[inline(always)]
    fn stream<T: Pod>(self, to: &mut T, value: T) {
        let place: *mut T = to;
        if size_of::<T>() == 32 && place.addr().is_multiple_of(32) {
            let value = bytemuck::cast(value);
            // SAFETY: `place` comes from a unique reference to 32 bytes of plain data, and was
            // just found to be aligned.
            unsafe { self.avx._mm256_stream_si256(place.cast(), value) };
        } else {
            *to = value;
        }
    }
    #[inline(always)]
    fn fence(self) {
        self.sse._mm_sfence();
    }
}
