//! Plain arrays: the backend of every machine, and what the compiler makes of them.

use bytemuck::Pod;
use half::{bf16, f16};

use crate::isa::{Isa, Kernel, Order};

/// The token, which any machine may hold.
#[derive(Clone, Copy)]
pub struct Scalar;

/// Adding and subtracting it rounds to an integer, ties to even, below a magnitude of 2^22.
const ROUND: f32 = 12_582_912.0;

/// The f32 below 1/2. A magnitude to which it is added, and which is then rounded to zero, is rounded
/// with ties away from 0: 1/2 itself would take the number below 1/2 to 1.
const BELOW_HALF: f32 = 0.499_999_97;

macro_rules! lanes {
    ($count:literal, |$i:ident| $value:expr) => {{
        let mut lanes = [Default::default(); $count];
        for $i in 0..$count {
            lanes[$i] = $value;
        }
        lanes
    }};
}

impl Isa for Scalar {
    const LANES: usize = 4;
    const RECIPROCAL: bool = false;
    const MIN_SKIPS_NAN: bool = true;
    type F32 = [f32; 4];
    type F64 = [f64; 2];
    type I32 = [i32; 4];
    type I16 = [i16; 8];
    type I8 = [i8; 16];
    type U16 = [u16; 4];
    type Nibbles = [u8; 8];
    type Sticky = bool;
    /// Scale and zero point.
    type NibbleParams = (f32, i32);

    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }

    #[inline(always)]
    fn splat(self, value: f32) -> [f32; 4] {
        [value; 4]
    }
    #[inline(always)]
    fn splat_i32(self, value: i32) -> [i32; 4] {
        [value; 4]
    }
    #[inline(always)]
    fn splat_i16(self, value: i16) -> [i16; 8] {
        [value; 8]
    }
    #[inline(always)]
    fn splat_i8(self, value: i8) -> [i8; 16] {
        [value; 16]
    }

    #[inline(always)]
    fn add(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        lanes!(4, |i| a[i] + b[i])
    }
    #[inline(always)]
    fn sub(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        lanes!(4, |i| a[i] - b[i])
    }
    #[inline(always)]
    fn mul(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        lanes!(4, |i| a[i] * b[i])
    }
    #[inline(always)]
    fn div(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        lanes!(4, |i| a[i] / b[i])
    }
    #[inline(always)]
    fn fma(self, a: [f32; 4], b: [f32; 4], c: [f32; 4]) -> [f32; 4] {
        lanes!(4, |i| a[i].mul_add(b[i], c[i]))
    }
    #[inline(always)]
    fn min(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        lanes!(4, |i| if a[i] < b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn max(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        lanes!(4, |i| if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn count_finite(self, a: [f32; 4], count: &mut [i32; 4]) {
        for i in 0..4 {
            count[i] += i32::from(a[i].is_finite());
        }
    }
    #[inline(always)]
    fn if_number(self, test: [f32; 4], then: [f32; 4], otherwise: [f32; 4]) -> [f32; 4] {
        lanes!(4, |i| if test[i].is_nan() {
            otherwise[i]
        } else {
            then[i]
        })
    }

    #[inline(always)]
    fn magnitude_bits(self, a: [f32; 4]) -> [i32; 4] {
        lanes!(4, |i| a[i].to_bits() as i32 & 0x7fff_ffff)
    }
    #[inline(always)]
    fn ordered_bits(self, a: [i32; 4]) -> [i32; 4] {
        lanes!(4, |i| a[i] ^ (a[i] >> 31 & 0x7fff_ffff))
    }
    #[inline(always)]
    fn max_i32(self, a: [i32; 4], b: [i32; 4]) -> [i32; 4] {
        lanes!(4, |i| if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn min_i32(self, a: [i32; 4], b: [i32; 4]) -> [i32; 4] {
        lanes!(4, |i| if a[i] < b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn max_u32(self, a: [i32; 4], b: [i32; 4]) -> [i32; 4] {
        lanes!(4, |i| if a[i] as u32 > b[i] as u32 {
            a[i]
        } else {
            b[i]
        })
    }
    #[inline(always)]
    fn min_u32(self, a: [i32; 4], b: [i32; 4]) -> [i32; 4] {
        lanes!(4, |i| if (a[i] as u32) < b[i] as u32 {
            a[i]
        } else {
            b[i]
        })
    }
    #[inline(always)]
    fn sub_i32(self, a: [i32; 4], b: [i32; 4]) -> [i32; 4] {
        lanes!(4, |i| a[i].wrapping_sub(b[i]))
    }
    #[inline(always)]
    fn larger_magnitude_bits(self, a: [f32; 4], b: [f32; 4]) -> [i32; 4] {
        self.max_i32(self.magnitude_bits(a), self.magnitude_bits(b))
    }
    #[inline(always)]
    fn four_maxima<O: Order>(self, vectors: [[i32; 4]; 4]) -> [i32; 4] {
        let column = |lane: usize| lanes!(4, |i| vectors[i][lane]);
        let low = O::larger(self, column(0), column(1));
        O::larger(self, low, O::larger(self, column(2), column(3)))
    }
    #[inline(always)]
    fn join_maxima<O: Order>(self, fours: [[i32; 4]; 4]) -> [i32; 4] {
        fours[0]
    }
    #[inline(always)]
    fn count_equal(self, a: [i32; 4], b: [i32; 4], count: &mut [i32; 4]) {
        for i in 0..4 {
            count[i] += i32::from(a[i] == b[i]);
        }
    }

    #[inline(always)]
    fn round_i32(self, a: [f32; 4]) -> [i32; 4] {
        lanes!(4, |i| a[i].round_ties_even() as i32)
    }
    #[inline(always)]
    fn round_away_i16(self, a: [f32; 4], b: [f32; 4]) -> [i16; 8] {
        let round = |a: f32| (a + BELOW_HALF.copysign(a)) as i16;
        lanes!(8, |i| round(if i < 4 { a[i] } else { b[i - 4] }))
    }
    #[inline(always)]
    fn truncate_i32(self, a: [f32; 4]) -> [i32; 4] {
        lanes!(4, |i| a[i] as i32)
    }
    #[inline(always)]
    fn clamp_round(self, a: [f32; 4], low: [f32; 4], high: [f32; 4]) -> [i32; 4] {
        lanes!(4, |i| {
            let number = if a[i].is_nan() { 0.0 } else { a[i] };
            let number = if number > low[i] { number } else { low[i] };
            let number = if number < high[i] { number } else { high[i] };
            ((number + ROUND).to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32)
        })
    }
    #[inline(always)]
    fn bin(self, a: [f32; 4], b: [f32; 4]) -> [i32; 4] {
        lanes!(4, |i| (a[i] * b[i]) as i32 - i32::from(a[i] < 0.0))
    }
    #[inline(always)]
    fn to_f32(self, a: [i32; 4]) -> [f32; 4] {
        lanes!(4, |i| a[i] as f32)
    }

    #[inline(always)]
    fn sticky_clear(self) -> bool {
        false
    }
    #[inline(always)]
    fn round_i16(self, a: [f32; 4], b: [f32; 4], sticky: &mut bool) -> [i16; 8] {
        for i in 0..4 {
            *sticky |= !a[i].is_finite() | !b[i].is_finite();
        }
        self.narrow_i16(self.round_i32(a), self.round_i32(b))
    }
    #[inline(always)]
    fn needs_fallback(self, sticky: bool) -> bool {
        sticky
    }
    #[inline(always)]
    fn narrow_i16(self, a: [i32; 4], b: [i32; 4]) -> [i16; 8] {
        let narrow = |wide: i32| wide.clamp(i16::MIN.into(), i16::MAX.into()) as i16;
        lanes!(8, |i| narrow(if i < 4 { a[i] } else { b[i - 4] }))
    }
    #[inline(always)]
    fn add_i16(self, a: [i16; 8], b: [i16; 8]) -> [i16; 8] {
        lanes!(8, |i| a[i].saturating_add(b[i]))
    }
    #[inline(always)]
    fn min_i16(self, a: [i16; 8], b: [i16; 8]) -> [i16; 8] {
        lanes!(8, |i| Ord::min(a[i], b[i]))
    }
    #[inline(always)]
    fn max_i16(self, a: [i16; 8], b: [i16; 8]) -> [i16; 8] {
        lanes!(8, |i| Ord::max(a[i], b[i]))
    }
    #[inline(always)]
    fn max_u16(self, a: [i16; 8], b: [i16; 8]) -> [i16; 8] {
        lanes!(8, |i| Ord::max(a[i] as u16, b[i] as u16) as i16)
    }
    #[inline(always)]
    fn narrow_i8<const ZIPPED: bool>(self, a: [i16; 8], b: [i16; 8]) -> [i8; 16] {
        let narrow = |wide: i16| wide.clamp(i8::MIN.into(), i8::MAX.into()) as i8;
        lanes!(16, |i| narrow(if i < 8 { a[i] } else { b[i - 8] }))
    }
    #[inline(always)]
    fn min_i8(self, a: [i8; 16], b: [i8; 16]) -> [i8; 16] {
        lanes!(16, |i| Ord::min(a[i], b[i]))
    }
    #[inline(always)]
    fn clamp_i8(self, a: [i8; 16], low: [i8; 16], high: [i8; 16]) -> [i8; 16] {
        lanes!(16, |i| Ord::min(Ord::max(a[i], low[i]), high[i]))
    }
    #[inline(always)]
    fn xor_i8(self, a: [i8; 16], b: [i8; 16]) -> [i8; 16] {
        lanes!(16, |i| a[i] ^ b[i])
    }
    #[inline(always)]
    fn pack(self, codes: [i8; 16]) -> [u8; 8] {
        lanes!(8, |i| codes[2 * i] as u8 & 15
            | (codes[2 * i + 1] as u8) << 4)
    }
    #[inline(always)]
    fn join_nibbles<const CLEAN: bool>(self, low: [i8; 16], high: [i8; 16]) -> [i8; 16] {
        lanes!(16, |i| low[i] & 15 | high[i] << 4)
    }
    #[inline(always)]
    fn unpack(self, nibbles: [u8; 8]) -> [i8; 16] {
        lanes!(16, |i| (nibbles[i / 2] >> (i % 2 * 4) & 15) as i8)
    }
    #[inline(always)]
    fn extend_nibble(self, codes: [i8; 16]) -> [i8; 16] {
        lanes!(16, |i| (codes[i] ^ 8) - 8)
    }
    #[inline(always)]
    fn widen_codes<const SIGNED: bool>(self, codes: &[i8; 16]) -> [[i32; 4]; 4] {
        let widen = |code: i8| match SIGNED {
            true => i32::from(code),
            false => i32::from(code as u8),
        };
        lanes!(4, |vector| lanes!(4, |i| widen(codes[4 * vector + i])))
    }
    #[inline(always)]
    fn widen_bytes(self, bytes: &[u8; 32], part: usize) -> [i32; 4] {
        lanes!(4, |i| i32::from(bytes[4 * part + i] as i8))
    }
    #[inline(always)]
    fn widen_nibbles(self, bytes: &[u8; 16], part: usize) -> [[i32; 4]; 2] {
        [
            lanes!(4, |i| i32::from(bytes[4 * part + i] & 15)),
            lanes!(4, |i| i32::from(bytes[4 * part + i] >> 4)),
        ]
    }

    #[inline(always)]
    fn nibble_params(self, _: bool, scale: f32, zero_point: i32) -> (f32, i32) {
        (scale, zero_point)
    }
    #[inline(always)]
    fn dequantize_nibbles<const SIGNED: bool>(
        self,
        nibbles: &[u8; 8],
        kernel_params: [(f32, i32); 2],
    ) -> [[f32; 4]; 4] {
        let bias = if SIGNED { 8 } else { 0 };
        lanes!(4, |vector| lanes!(4, |i| {
            let nibble = nibbles[2 * vector + i / 2] >> (i % 2 * 4) & 15;
            let (scale, zero_point) = kernel_params[vector / 2];
            scale * ((i32::from(nibble) ^ bias) - bias - zero_point) as f32
        }))
    }

    #[inline(always)]
    fn round_quotient(self, a: [f32; 4]) -> [f32; 4] {
        lanes!(4, |i| f32::from_bits(
            a[i].to_bits().wrapping_add(0x1000) & !0x1fff
        ))
    }
    #[inline(always)]
    fn widen_f16(self, a: [u16; 4]) -> [f32; 4] {
        lanes!(4, |i| f16::from_bits(a[i]).to_f32())
    }
    #[inline(always)]
    fn narrow_f16(self, a: [f32; 4]) -> [u16; 4] {
        lanes!(4, |i| f16::from_f32(a[i]).to_bits())
    }
    #[inline(always)]
    fn widen_bf16(self, a: [u16; 4]) -> [f32; 4] {
        // Not `half`'s, which makes NaNs quiet: vectors keep their bits.
        lanes!(4, |i| f32::from_bits(u32::from(a[i]) << 16))
    }
    #[inline(always)]
    fn widen_bf16_zipped(self, a: [u16; 4], b: [u16; 4]) -> [[f32; 4]; 2] {
        [self.widen_bf16(a), self.widen_bf16(b)]
    }
    #[inline(always)]
    fn narrow_bf16(self, a: [f32; 4]) -> [u16; 4] {
        lanes!(4, |i| bf16::from_f32(a[i]).to_bits())
    }

    #[inline(always)]
    fn widen_f64(self, a: [f32; 4]) -> [[f64; 2]; 2] {
        [[a[0].into(), a[1].into()], [a[2].into(), a[3].into()]]
    }
    #[inline(always)]
    fn add_f64(self, a: [f64; 2], b: [f64; 2]) -> [f64; 2] {
        lanes!(2, |i| a[i] + b[i])
    }
    #[inline(always)]
    fn add_square_f64(self, a: [f64; 2], b: [f64; 2]) -> [f64; 2] {
        lanes!(2, |i| a[i] * a[i] + b[i])
    }

    #[inline(always)]
    fn stream<T: Pod>(self, to: &mut T, value: T) {
        *to = value;
    }
    #[inline(always)]
    fn fence(self) {}
}
