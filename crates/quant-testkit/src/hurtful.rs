//! Inputs that kernels get wrong: edge values, neighbours of ties, scales and zero points at the
//! ends of what is legal, and any bits at all.

use half::{bf16, f16};
use quant_core::{Dialect, Float, FloatType, IntType, Mode, OffsetKind, Params, Scheme};

/// A float type seen as bits.
pub trait Bits: Float {
    /// The value with these bits, of which only as many count as the type has.
    fn from_bits(bits: u32) -> Self;
    /// Its bits.
    fn bits(self) -> u32;

    /// The value `count` further from zero, or nearer for a negative `count`; never across zero.
    fn neighbour(self, count: i32) -> Self {
        let sign = 1 << (8 * Self::TYPE.size() - 1);
        let magnitude = (self.bits() & (sign - 1)).saturating_add_signed(count);
        Self::from_bits(self.bits() & sign | magnitude)
    }
}

impl Bits for f32 {
    fn from_bits(bits: u32) -> Self {
        Self::from_bits(bits)
    }
    fn bits(self) -> u32 {
        self.to_bits()
    }
}

impl Bits for f16 {
    fn from_bits(bits: u32) -> Self {
        Self::from_bits(bits as u16)
    }
    fn bits(self) -> u32 {
        self.to_bits().into()
    }
}

impl Bits for bf16 {
    fn from_bits(bits: u32) -> Self {
        Self::from_bits(bits as u16)
    }
    fn bits(self) -> u32 {
        self.to_bits().into()
    }
}

/// Numbers from a seed (splitmix64).
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number from 0 up to, but not including, `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.bits() % end as u64) as usize
    }

    /// A number of [-1, 1).
    pub fn unit(&mut self) -> f32 {
        (self.bits() as i64 >> 40) as f32 / (1 << 23) as f32
    }

    /// Values of any bits.
    pub fn any<F: Bits>(&mut self, count: usize) -> Vec<F> {
        (0..count)
            .map(|_| F::from_bits(self.bits() as u32))
            .collect()
    }

    /// Values of up to 1.2 times what the codes can stand for.
    pub fn ordinary<F: Bits>(&mut self, scheme: Scheme, params: Params, count: usize) -> Vec<F> {
        let reach = (scheme.qmax() - scheme.qmin()) as f32 * 1.2;
        (0..count)
            .map(|_| F::from_f32(self.unit() * reach * params.scale()))
            .collect()
    }
}

/// Zeros, subnormals, extremes, infinities, NaNs quiet and signaling, of both signs.
pub fn edges<F: Bits>() -> Vec<F> {
    let infinity = F::from_f32(f32::INFINITY).bits();
    let one_exponent = infinity & infinity.wrapping_neg();
    let magnitudes = [
        0,
        1,
        one_exponent - 1,
        one_exponent,
        one_exponent + 1,
        F::from_f32(1.0).bits(),
        infinity - 1,
        infinity,
        infinity + 1,
        infinity + one_exponent / 2 - 1,
        infinity + one_exponent / 2,
        infinity + one_exponent - 1,
    ];
    let sign = 1 << (8 * F::TYPE.size() - 1);
    let both = magnitudes.into_iter().flat_map(|bits| [bits, bits | sign]);
    both.map(F::from_bits).collect()
}

/// What lies at and around the half-integer multiples of the scale, from below the smallest code
/// to above the largest: where the code changes.
pub fn ties<F: Bits>(scheme: Scheme, params: Params) -> Vec<F> {
    let zero_point = params.zero_point();
    let steps = scheme.qmin() - zero_point - 2..=scheme.qmax() - zero_point + 2;
    steps
        .flat_map(|step| {
            let tie = (f64::from(step) + 0.5) * f64::from(params.scale());
            let nearest = F::from_f32(tie as f32);
            (-3..=3).map(move |count| nearest.neighbour(count))
        })
        .collect()
}

/// The integer types that coremltools has. Corpora and proofs go through them in this order.
pub const COREMLTOOLS_TYPES: [IntType; 4] =
    [IntType::Int8, IntType::Uint8, IntType::Int4, IntType::Uint4];

/// The schemes that kernels were made for: the types of coremltools in its dialect, and in f32.
pub fn schemes() -> Vec<Scheme> {
    let mut all = Vec::new();
    for dtype in COREMLTOOLS_TYPES {
        for mode in Mode::ALL {
            for dialect in [Dialect::Coremltools, Dialect::F32] {
                all.push(Scheme {
                    dtype,
                    mode,
                    dialect,
                });
            }
        }
    }
    all
}

/// Every scheme with a zero point or no offset that [`schemes`] lacks.
pub fn further_schemes() -> Vec<Scheme> {
    let (known, mut all) = (schemes(), Vec::new());
    for dtype in IntType::ALL {
        for mode in Mode::ALL {
            for dialect in Dialect::ALL {
                let scheme = Scheme::new(dtype, mode).with_dialect(dialect);
                if !known.contains(&scheme) && scheme.offset() != OffsetKind::Bias {
                    all.push(scheme);
                }
            }
        }
    }
    all
}

/// Scales that `scale_type` holds: ordinary ones first, then powers of two, mantissas of ones,
/// subnormals, both ends of the type, the ends of where a reciprocal and its correction are
/// normal numbers, and 0.
pub fn scales(scale_type: FloatType) -> Vec<f32> {
    let mut scales = vec![0.02, 0.043_7, 1.0 / 3.0, 7.3, 1.0, 0.007_812_5, 1024.0];
    // By bits: `powi` may differ between machines.
    let two_to = |exponent: i32| match exponent {
        -126.. => f32::from_bits(((exponent + 127) as u32) << 23),
        _ => f32::from_bits(1 << (exponent + 149)),
    };
    for exponent in [
        -149, -133, -127, -126, -125, -103, -102, -101, -25, -24, -23, -15, -14, -10, 15, 24, 77,
        78, 79, 100, 101, 103, 126, 127,
    ] {
        scales.push(two_to(exponent));
    }
    for exponent in [-126, -24, -8, 0, 9, 78, 127] {
        // All ones, and one step past a power of two.
        scales.extend([
            two_to(exponent).neighbour(0x7f_ffff),
            two_to(exponent).neighbour(1),
            two_to(exponent) * (2.0 - two_to(-10)),
            two_to(exponent) * (2.0 - two_to(-7)),
        ]);
    }
    scales.extend([6e-8, 3.1e-5, 6.0e-5, 6.2e-5, 255.0, 65504.0]);
    scales.extend([1e-45, 1e-40, 1e-39, 1e-38, 1e30, 3e38, f32::MAX, 0.0]);
    let mut held: Vec<f32> = Vec::new();
    for scale in scales {
        let scale = scale_type.round(scale);
        if scale.is_finite() && !held.contains(&scale) {
            held.push(scale);
        }
    }
    held
}

/// Zero points at the ends of the scheme's range, 0, its symmetric one, and one in between.
pub fn zero_points(scheme: Scheme) -> Vec<i32> {
    let (qmin, qmax) = (scheme.qmin(), scheme.qmax());
    let mut all = Vec::new();
    for zero_point in [
        scheme.symmetric_zero_point(),
        qmin + 3,
        qmin,
        qmax,
        0,
        qmax - 1,
    ] {
        if (qmin..=qmax).contains(&zero_point) && !all.contains(&zero_point) {
            all.push(zero_point);
        }
    }
    all
}

/// Every one of [`scales`] with two of [`zero_points`], and an ordinary one with all of them.
pub fn params(scheme: Scheme, scale_type: FloatType) -> Vec<Params> {
    let zero_points = zero_points(scheme);
    let new = |scale: f32, zero_point: i32| {
        Params::new(scheme, scale, zero_point, scale_type).expect("a legal pair")
    };
    let mut all = Vec::new();
    for (i, &scale) in scales(scale_type).iter().enumerate() {
        for k in 0..if i == 0 { zero_points.len() } else { 2 } {
            all.push(new(scale, zero_points[(2 * i + k) % zero_points.len()]));
        }
    }
    all
}
