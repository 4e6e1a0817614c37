use quant_core::{FloatType, IntType, Params, Scheme};
use quant_simd::Backend;
use quant_testkit::hurtful::{self, Random};
use xxhash_rust::xxh64::xxh64;

use crate::Record;
use crate::buffer::Buffer;
use crate::values::Value;

/// One call: the choices that all functions share, and where they record what they do.
pub struct Case<'a> {
    pub backend: Backend,
    pub random: Random,
    pub record: &'a mut Record,
    pub float: FloatType,
    pub scheme: Scheme,
    /// Float types and schemes are gone through for each of these.
    pub round: usize,
}

/// Every length up to this one is met, by every float type and scheme.
const LENGTHS: usize = 259;

impl<'a> Case<'a> {
    pub fn new(function: &str, index: usize, backend: Backend, record: &'a mut Record) -> Self {
        let seed = xxh64(function.as_bytes(), index as u64);
        let schemes = scheme_count();
        let case = Self {
            backend,
            random: Random(seed),
            record,
            float: FloatType::ALL[index / schemes % FloatType::ALL.len()],
            scheme: scheme(index % schemes),
            round: index / schemes / FloatType::ALL.len(),
        };
        case.record.parameter("values of type", case.float.name());
        let Scheme {
            dtype,
            mode,
            dialect,
        } = case.scheme;
        let scheme = [dtype.name(), mode.name(), dialect.name()];
        case.record.parameter("scheme", scheme.join(" "));
        case
    }

    /// Every length in turn, then any: now and then beyond what functions do at a time.
    pub fn len(&mut self) -> usize {
        let len = match self.random.below(24) {
            _ if self.round <= LENGTHS => self.round,
            0 => 2040 + self.random.below(2100),
            _ => self.random.below(900),
        };
        self.record.parameter("elements", len);
        len
    }

    /// Where a buffer lies, in elements behind a multiple of 64 bytes.
    pub fn offset(&mut self, of: &str) -> usize {
        let offset = match self.random.below(3) {
            0 => 0,
            _ => self.random.below(65),
        };
        self.record.parameter(&format!("offset of {of}"), offset);
        offset
    }

    /// An input, recorded.
    pub fn input<T: bytemuck::Pod>(&mut self, name: &str, elements: &[T]) -> Buffer {
        let buffer = Buffer::of(elements, self.offset(name));
        self.record.bytes(name, buffer.get());
        buffer
    }

    /// Buffer for an output.
    pub fn output<T: bytemuck::Pod>(&mut self, name: &str, count: usize) -> Buffer {
        let offset = self.offset(name);
        Buffer::unwritten::<T>(count, offset)
    }

    /// The type that scales are stored in: mostly the scheme's own.
    pub fn scale_type(&mut self) -> FloatType {
        match self.random.below(4) {
            0 => FloatType::ALL[self.random.below(3)],
            _ => self.scheme.dialect.scale_type(self.float),
        }
    }

    /// A scale and zero point: hurtful ones, or any.
    pub fn params(&mut self, scale_type: FloatType) -> Params {
        let (scheme, random) = (self.scheme, &mut self.random);
        let zero_points = hurtful::zero_points(scheme);
        let codes = (scheme.qmax() - scheme.qmin() + 1) as usize;
        let zero_point = match random.below(4) {
            0 => scheme.qmin() + random.below(codes) as i32,
            _ => zero_points[random.below(zero_points.len())],
        };
        let scale = match random.below(4) {
            0 => any_scale(random, scale_type),
            1 => SCALES.with(|all| {
                let held = &all[scale_type as usize];
                held[random.below(held.len())]
            }),
            _ => SCALES.with(|all| all[scale_type as usize][random.below(7)]),
        };
        let params = Params::new(scheme, scale, zero_point, scale_type).expect("a legal pair");
        self.record.bytes("scale", &scale.to_bits().to_le_bytes());
        self.record.bytes("zero point", &zero_point.to_le_bytes());
        self.record.parameter("scale's type", scale_type.name());
        params
    }

    /// Codes of any bits; the low ones only where the type has 4.
    pub fn codes(&mut self, dtype: IntType, count: usize) -> Vec<u8> {
        let mask = if dtype.bits() == 4 { 15 } else { 255 };
        let mut codes = Vec::with_capacity(count + 8);
        while codes.len() < count {
            let bits = self.random.bits().to_le_bytes();
            codes.extend(bits.map(|byte| byte & mask));
        }
        codes.truncate(count);
        codes
    }

    /// Codes as they are stored.
    pub fn stored_codes(&mut self, count: usize) -> Vec<u8> {
        let mut stored = self.codes(IntType::Uint8, self.scheme.dtype.storage_len(count));
        if let (4, 1, Some(last)) = (self.scheme.dtype.bits(), count % 2, stored.last_mut()) {
            *last &= 15;
        }
        stored
    }
}

thread_local! {
    static SCALES: [Vec<f32>; 3] = FloatType::ALL.map(hurtful::scales);
    static SCHEMES: Vec<Scheme> = hurtful::schemes();
}

fn scheme(index: usize) -> Scheme {
    SCHEMES.with(|all| all[index])
}

fn scheme_count() -> usize {
    SCHEMES.with(Vec::len)
}

/// Any finite bits, without a sign.
fn any_scale(random: &mut Random, scale_type: FloatType) -> f32 {
    fn of<F: Value>(random: &mut Random) -> f32 {
        let infinity = F::from_f32(f32::INFINITY).bits();
        F::from_bits(random.below(infinity as usize) as u32).to_f32()
    }
    match scale_type {
        FloatType::F32 => of::<f32>(random),
        FloatType::F16 => of::<half::f16>(random),
        FloatType::Bf16 => of::<half::bf16>(random),
    }
}

/// Calls a generic function with the case's float type.
macro_rules! by_float {
    ($function:ident($case:expr)) => {
        match $case.float {
            quant_core::FloatType::F32 => $function::<f32>($case),
            quant_core::FloatType::F16 => $function::<half::f16>($case),
            quant_core::FloatType::Bf16 => $function::<half::bf16>($case),
        }
    };
}
pub(crate) use by_float;
