//! All 2^32 f32 inputs, by every backend.
//!
//! The reference is slow, so it is not run on each of them. For fixed parameters its codes never
//! fall as the value grows: dividing by a positive scale, rounding, adding the zero point and
//! clipping are each monotone. At most 255 thresholds describe them completely, and a binary search
//! with the reference itself finds each; NaN is one more case. The description is then compared
//! with the reference, run directly, around each threshold and on a dense sample.

use std::time::Instant;

use quant_core::{FloatType, Packing, Params, Scheme, reference};
use quant_simd::Backend;
use quant_testkit::hurtful;
use rayon::prelude::*;

use super::{Expect, Row, sum};

/// Values at a time, which stay in the first caches with their codes.
const CHUNK: usize = 1 << 13;
const CHUNKS: u32 = 1 << 19;
const INFINITY: u32 = 0x7f80_0000;
/// Of the reference's inputs, those run directly: each this many, a prime.
const SAMPLE: usize = 4093;
/// Values on each side of a threshold that are run directly.
const AROUND: i64 = 64;

/// Values, their codes, and the bytes that these are, by the reference and by a backend. Kept from
/// chunk to chunk: fresh memory takes longer than a kernel.
#[derive(Default)]
struct Chunk {
    values: Vec<f32>,
    codes: Vec<u8>,
    want: Vec<u8>,
    got: Vec<u8>,
}

/// The codes of one scheme and parameters, by the reference.
struct Staircase {
    scheme: Scheme,
    params: Params,
    /// The first position of each code that occurs, ascending.
    steps: Vec<(i64, u8)>,
}

/// The place of a value that is no NaN among the ordered values; zeros are next to each other.
fn position(bits: u32) -> i64 {
    match bits >> 31 {
        0 => i64::from(bits),
        _ => -1 - i64::from(bits & 0x7fff_ffff),
    }
}

fn at(position: i64) -> f32 {
    match position {
        0.. => f32::from_bits(position as u32),
        _ => -f32::from_bits((-1 - position) as u32),
    }
}

impl Staircase {
    fn new(scheme: Scheme, params: Params) -> Self {
        let code = |position| Self::reference(scheme, params, at(position));
        let value = |position| scheme.dtype.value(code(position));
        let (first, last) = (position(INFINITY | 1 << 31), position(INFINITY));
        let mut steps = vec![(first, code(first))];
        while value(steps[steps.len() - 1].0) < value(last) {
            let (mut low, mut high) = (steps[steps.len() - 1].0, last);
            let below = value(low);
            while high - low > 1 {
                let middle = low + (high - low) / 2;
                match value(middle) > below {
                    true => high = middle,
                    false => low = middle,
                }
            }
            steps.push((high, code(high)));
        }
        let this = Self {
            scheme,
            params,
            steps,
        };
        this.verify();
        this
    }

    fn reference(scheme: Scheme, params: Params, value: f32) -> u8 {
        let mut code = [0];
        reference::quantize(&[value], scheme, params, &mut code);
        code[0]
    }

    fn of(&self, bits: u32) -> u8 {
        if bits & 0x7fff_ffff > INFINITY {
            return match self.params.scale() == 0.0 {
                true => 0,
                false => self.params.zero_point() as u8,
            };
        }
        let position = position(bits);
        self.steps[self.steps.partition_point(|step| step.0 <= position) - 1].1
    }

    /// The bits of the values around every threshold.
    fn around(&self) -> impl Iterator<Item = u32> {
        let steps = self.steps.iter();
        steps.flat_map(|step| self.around_step(step.0))
    }

    fn around_step(&self, step: i64) -> impl Iterator<Item = u32> + use<> {
        let (first, last) = (position(INFINITY | 1 << 31), position(INFINITY));
        let around = (step - AROUND).max(first)..=(step + AROUND).min(last);
        around.map(|position| at(position).to_bits())
    }

    fn verify(&self) {
        let sample = (0..=u32::MAX).step_by(SAMPLE);
        for bits in self.around().chain(sample) {
            let value = f32::from_bits(bits);
            let code = Self::reference(self.scheme, self.params, value);
            assert_eq!(
                code,
                self.of(bits),
                "{value:e}: the reference is no staircase"
            );
        }
    }

    /// The codes of consecutive bits of one sign.
    fn fill(&self, first: u32, codes: &mut [u8]) {
        let end = first + (codes.len() - 1) as u32;
        let mut start = 0;
        while start < codes.len() {
            let bits = first + start as u32;
            let code = self.of(bits);
            // As far as the code stays the same.
            let same = if bits & 0x7fff_ffff > INFINITY {
                codes.len()
            } else {
                let position = position(bits);
                let above = self.steps.partition_point(|step| step.0 <= position);
                let last = match bits >> 31 {
                    0 => self
                        .steps
                        .get(above)
                        .map_or(INFINITY, |step| step.0 as u32 - 1),
                    _ => at(self.steps[above - 1].0).to_bits(),
                };
                (last.min(end) - first) as usize + 1
            };
            codes[start..same].fill(code);
            start = same;
        }
    }

    /// Compares a backend on chunk `number`.
    fn chunk(&self, backend: Backend, number: u32, chunk: &mut Chunk) -> (u64, Option<String>) {
        let first = number * CHUNK as u32;
        chunk.values.resize(CHUNK, 0.0);
        chunk.codes.resize(CHUNK, 0);
        for (i, value) in (0..CHUNK as u32).zip(&mut chunk.values) {
            *value = f32::from_bits(first + i);
        }
        self.fill(first, &mut chunk.codes);
        let non_finite = match (first & 0x7fff_ffff) >= INFINITY {
            true => CHUNK as u64,
            false => 0,
        };
        self.compare(backend, chunk, non_finite)
    }

    /// Compares a backend around every threshold. One at a time: infinities would send what lies
    /// around the others the slow way, too.
    fn thresholds(&self, backend: Backend) -> (u64, Option<String>) {
        let (mut differing, mut first) = (0, None);
        let mut chunk = Chunk::default();
        for step in &self.steps {
            let bits = || self.around_step(step.0);
            chunk.values = bits().map(f32::from_bits).collect();
            chunk.codes = bits().map(|bits| self.of(bits)).collect();
            let non_finite = chunk.values.iter().filter(|value| !value.is_finite());
            let non_finite = non_finite.count() as u64;
            let (count, what) = self.compare(backend, &mut chunk, non_finite);
            differing += count;
            first = first.or(what);
        }
        (differing, first)
    }

    /// How many codes differ, and the first.
    fn compare(
        &self,
        backend: Backend,
        chunk: &mut Chunk,
        non_finite: u64,
    ) -> (u64, Option<String>) {
        let Chunk {
            values,
            codes,
            want,
            got,
        } = chunk;
        let len = self.scheme.dtype.storage_len(codes.len());
        let want: &[u8] = match self.scheme.dtype.packing() {
            Packing::Bytes => codes,
            Packing::Nibbles | Packing::Bits(_) => {
                want.resize(len, 0);
                self.pack(codes, want);
                want
            }
        };
        got.resize(len, 0);
        got.fill(0xaa);
        let bad = backend.quantize(values, self.scheme, self.params, got);
        if bad != non_finite {
            let counts = format!("{bad} non-finite values, not {non_finite}");
            return (1, Some(self.describe(backend, &counts)));
        }
        if want == got {
            return (0, None);
        }
        let differing: Vec<usize> = (0..len).filter(|&i| want[i] != got[i]).collect();
        let (i, per_byte) = (differing[0], 8 / self.scheme.dtype.bits() as usize);
        let (bits, want, got) = (values[i * per_byte].to_bits(), want[i], got[i]);
        let what = format!("bits {bits:#010x}: want {want:#04x}, got {got:#04x}");
        (differing.len() as u64, Some(self.describe(backend, &what)))
    }

    /// Eight codes, which are whole bytes, are mostly like the eight before: the reference packs
    /// only those that are not.
    fn pack(&self, codes: &[u8], packed: &mut [u8]) {
        let dtype = self.scheme.dtype;
        let (mut before, mut bytes) = (&[][..], [0; 8]);
        let groups = packed.chunks_mut(dtype.bits() as usize);
        for (codes, packed) in codes.chunks(8).zip(groups) {
            let bytes = &mut bytes[..packed.len()];
            if codes != before {
                reference::pack(codes, dtype, bytes);
                before = codes;
            }
            packed.copy_from_slice(bytes);
        }
    }

    fn describe(&self, backend: Backend, what: &str) -> String {
        let (scheme, params) = (self.scheme, self.params);
        format!("{} {scheme:?} {params:?}, {what}", backend.name())
    }
}

/// Shows a table row per backend; `reduced`: one chunk of 256, another for each scale, and what lies around
/// the thresholds.
pub fn rows(reduced: bool, show: &mut impl FnMut(Row)) {
    let mut schemes = hurtful::schemes();
    schemes.retain(|it| it.dialect == quant_core::Dialect::Coremltools);
    let mut settings = Vec::new();
    for (i, scale) in hurtful::scales(FloatType::F32).into_iter().enumerate() {
        for k in 0..2 {
            // Over all scales, each scheme meets each of its zero points.
            let scheme = schemes[(2 * i + k) % schemes.len()];
            let zero_points = hurtful::zero_points(scheme);
            let zero_point = zero_points[(i / 4 + k) % zero_points.len()];
            let params = Params::new(scheme, scale, zero_point, FloatType::F32);
            settings.push((scheme, params.expect("a legal pair")));
        }
    }
    let new = |&(scheme, params)| Staircase::new(scheme, params);
    let staircases: Vec<Staircase> = settings.par_iter().map(new).collect();
    let row = |&backend: &Backend| {
        let start = Instant::now();
        let stride = if reduced { 256 } else { 1 };
        let compare = |(i, staircase): (usize, &Staircase)| {
            (0..CHUNKS / stride)
                .into_par_iter()
                .map_init(Chunk::default, |chunk, group| {
                    let within = (group + i as u32).wrapping_mul(2_654_435_761) >> 16;
                    staircase.chunk(backend, group * stride + within % stride, chunk)
                })
                .chain(rayon::iter::once(staircase.thresholds(backend)))
                .reduce(|| (0, None), sum)
        };
        let (differences, first) = staircases
            .iter()
            .enumerate()
            .map(compare)
            .fold((0, None), sum);
        let row = Row {
            scales: staircases.len() as u64 / 2,
            inputs: staircases.len() as u64 * u64::from(CHUNKS / stride) * CHUNK as u64,
            differences,
            first,
            seconds: start.elapsed().as_secs_f64(),
            ..Row::default()
        };
        row.named(&format!("f32 inputs, {}", backend.name()), Expect::Equal)
    };
    for backend in Backend::available() {
        show(row(backend));
    }
}
