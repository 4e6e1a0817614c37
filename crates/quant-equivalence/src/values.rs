//! Values, made by integer arithmetic: no machine can make others.

use quant_core::{FloatType, Params, Scheme};
use quant_simd::Element;
use quant_testkit::hurtful::{self, Bits, Random};

/// Floats that can be made from bits.
pub trait Value: Element + Bits {}
impl Value for f32 {}
impl Value for half::f16 {}
impl Value for half::bf16 {}

/// Bits of the mantissa without the leading one, and of the exponent.
const fn format(of: FloatType) -> (i32, i32) {
    match of {
        FloatType::F32 => (23, 8),
        FloatType::F16 => (10, 5),
        FloatType::Bf16 => (7, 8),
    }
}

/// `magnitude * 2^exponent`, rounded to `F`, ties to even; infinity beyond its largest number.
/// The magnitude has less than 63 bits.
pub fn compose<F: Bits>(negative: bool, magnitude: u64, exponent: i32) -> F {
    let (mantissa, exponent_bits) = format(F::TYPE);
    let bias = (1 << (exponent_bits - 1)) - 1;
    let infinity = ((1_u64 << exponent_bits) - 1) << mantissa;
    // Of the last place: that of zero and subnormals is the smallest there is.
    let smallest = 1 - bias - mantissa;
    let last = match magnitude.checked_ilog2() {
        Some(top) => (top as i32 + exponent - mantissa).max(smallest),
        None => smallest,
    };
    let rounded = match last - exponent {
        _ if magnitude == 0 => 0,
        shift @ ..=0 => magnitude << -shift,
        shift @ 64.. => magnitude >> shift.min(63),
        shift => {
            let (kept, rest) = (magnitude >> shift, magnitude & ((1 << shift) - 1));
            let half = 1 << (shift - 1);
            kept + u64::from(rest > half || (rest == half && kept % 2 == 1))
        }
    };
    // The leading one of a normal number is the last bit of its exponent.
    let bits = (((last - smallest) as u64) << mantissa) + rounded;
    let sign = u64::from(negative) << (mantissa + exponent_bits);
    F::from_bits((bits.min(infinity) | sign) as u32)
}

/// A scale as an integer and an exponent; 1/128 in place of 0.
fn decompose(scale: f32) -> (u64, i32) {
    let bits = scale.to_bits();
    match (bits >> 23, u64::from(bits & 0x7f_ffff)) {
        (0, 0) => (1, -7),
        (0, mantissa) => (mantissa, -149),
        (exponent, mantissa) => (mantissa | 0x80_0000, exponent as i32 - 150),
    }
}

/// Makes values for a scheme and parameters.
pub struct Values<F> {
    scheme: Scheme,
    zero_point: i32,
    scale: (u64, i32),
    edges: Vec<F>,
}

/// What a call is given, by the number that chooses it.
const KINDS: [&str; 8] = [
    "ordinary",
    "ordinary, edges and ties",
    "ordinary, edges and ties",
    "ties and their neighbours",
    "any bits",
    "edges",
    "one ordinary value",
    "one edge among ordinary values",
];

impl<F: Value> Values<F> {
    pub fn new(scheme: Scheme, params: Params) -> Self {
        Self {
            scheme,
            zero_point: params.zero_point(),
            scale: decompose(params.scale()),
            edges: hurtful::edges(),
        }
    }

    /// Up to 1.2 times what the codes can stand for.
    fn ordinary(&self, random: &mut Random) -> F {
        let reach = (self.scheme.qmax() - self.scheme.qmin()) as usize * 6 / 5;
        let sixteenths = random.below(reach << 16) as u64;
        let (mantissa, exponent) = self.scale;
        compose(random.below(2) == 1, mantissa * sixteenths, exponent - 16)
    }

    /// At or beside a half-integer multiple of the scale.
    fn tie(&self, random: &mut Random) -> F {
        let (qmin, qmax) = (self.scheme.qmin(), self.scheme.qmax());
        let step = qmin - self.zero_point - 2 + random.below((qmax - qmin) as usize + 5) as i32;
        let halves = 2 * step + 1;
        let (mantissa, exponent) = self.scale;
        let magnitude = mantissa * u64::from(halves.unsigned_abs());
        let tie: F = compose(halves < 0, magnitude, exponent - 1);
        tie.neighbour(random.below(7) as i32 - 3)
    }

    fn edge(&self, random: &mut Random) -> F {
        self.edges[random.below(self.edges.len())]
    }

    /// So many values, and what kind they are of.
    pub fn draw(&self, random: &mut Random, count: usize) -> (&'static str, Vec<F>) {
        let kind = random.below(KINDS.len());
        if kind == 4 {
            return (KINDS[kind], random.any(count));
        }
        let constant = self.ordinary(random);
        let place = random.below(count.max(1));
        let draw = |i: usize| match kind {
            1 | 2 => match random.below(8) {
                0 => self.edge(random),
                1 | 2 => self.tie(random),
                _ => self.ordinary(random),
            },
            3 => self.tie(random),
            5 => self.edge(random),
            6 => constant,
            7 if i == place => self.edge(random),
            _ => self.ordinary(random),
        };
        (KINDS[kind], (0..count).map(draw).collect())
    }
}

/// Values that have parameters in most schemes: ordinary, zeros of both signs, one value, of one
/// sign, or on the ties of a scale that is a power of two; now and then of any size.
pub fn block<F: Value>(random: &mut Random, scheme: Scheme, count: usize) -> Vec<F> {
    let kind = random.below(10);
    let size = match random.below(16) {
        0 => random.below(300) as i32 - 150,
        _ => random.below(8) as i32 - 5,
    };
    let fraction = |random: &mut Random| random.below(1 << 20) as u64;
    let constant = fraction(random);
    let width = (scheme.qmax() - scheme.qmin()) as u64;
    let draw = |i: usize| match kind {
        0 => compose(i % 2 == 1, 0, 0),
        1 => compose(constant % 2 == 1, constant, size - 20),
        2 => compose(constant % 2 == 1, constant * (i as u64 % 2), size - 20),
        3 | 4 => compose(kind == 4, (1 << 19) + fraction(random) / 2, size - 20),
        5 if i == 0 => compose(false, width, size - 1),
        5 => compose(
            random.below(2) == 1,
            2 * random.below(128) as u64 + 1,
            size - 2,
        ),
        _ => compose(random.below(2) == 1, fraction(random), size - 20),
    };
    (0..count).map(draw).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::{bf16, f16};

    /// The processor and `half` round in the same way.
    #[test]
    fn composed_values_are_rounded_to_nearest_even() {
        let mut random = Random(1);
        for _ in 0..200_000 {
            let magnitude = random.bits() >> (11 + random.below(53));
            let exponent = random.below(300) as i32 - 200;
            let wide = magnitude as f64 * 2.0_f64.powi(exponent);
            assert_eq!(compose::<f32>(true, magnitude, exponent), -wide as f32);
            // Exact in f32, as long as it is not infinite.
            let (magnitude, exponent) = (magnitude >> 29, exponent.max(-149));
            let wide = (magnitude as f64 * 2.0_f64.powi(exponent)) as f32;
            assert_eq!(
                compose::<f16>(false, magnitude, exponent),
                f16::from_f32(wide)
            );
            assert_eq!(
                compose::<bf16>(false, magnitude, exponent),
                bf16::from_f32(wide)
            );
        }
    }

    #[test]
    fn decomposed_scales_are_themselves() {
        for scale in hurtful::scales(FloatType::F32) {
            let (mantissa, exponent) = decompose(scale);
            let again = compose::<f32>(false, mantissa, exponent);
            assert!(again == scale || scale == 0.0, "{scale:e}");
        }
    }
}
