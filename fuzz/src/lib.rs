//! What several targets need: choices out of fuzzed bytes, and tensors in memory.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Mutex;

use arbitrary::{Result, Unstructured};
use quant_core::{
    Dialect, Float, FloatType, Granularity, IntType, Mode, OffsetKind, Params, Scheme,
};
use quant_models::{Error, Job};
use quant_simd::Sink;

/// A scheme with a zero point, or without any offset.
pub fn scheme(u: &mut Unstructured<'_>) -> Result<Scheme> {
    let (dtype, mode) = (*u.choose(&IntType::ALL)?, *u.choose(&Mode::ALL)?);
    let mut schemes = Dialect::ALL
        .map(|it| Scheme::new(dtype, mode).with_dialect(it))
        .to_vec();
    schemes.retain(|scheme| scheme.offset() != OffsetKind::Bias);
    Ok(*u.choose(&schemes)?)
}

/// A granularity, which may not fit any shape.
pub fn granularity(u: &mut Unstructured<'_>) -> Result<Granularity> {
    let axis = |u: &mut Unstructured<'_>| Ok(isize::from(u.arbitrary::<i8>()? % 6));
    Ok(match u.int_in_range(0..=3)? {
        0 => Granularity::PerTensor,
        1 => Granularity::PerChannel { axis: axis(u)? },
        2 => Granularity::PerBlock {
            axis: axis(u)?,
            block_axis: axis(u)?,
            block_size: size(u)?,
        },
        _ => {
            let rank = u.int_in_range(0..=5)?;
            Granularity::Blocks((0..rank).map(|_| size(u)).collect::<Result<_>>()?)
        }
    })
}

/// Small, mostly.
pub fn size(u: &mut Unstructured<'_>) -> Result<usize> {
    match u.int_in_range(0..=20)? {
        0 => u.arbitrary(),
        1 => u.int_in_range(0..=70_000),
        2..5 => u.int_in_range(0..=260),
        _ => u.int_in_range(0..=9),
    }
}

/// Legal parameters of any bits.
pub fn params(u: &mut Unstructured<'_>, scheme: Scheme, scale_type: FloatType) -> Result<Params> {
    let scale = scale_type.round(f32::from_bits(u.arbitrary::<u32>()? & 0x7fff_ffff));
    let scale = if scale.is_finite() { scale } else { 0.5 };
    let zero_point = u.int_in_range(scheme.qmin()..=scheme.qmax())?;
    Ok(Params::new(scheme, scale, zero_point, scale_type).expect("a legal pair"))
}

/// Values of any bits, and some near multiples of the scale.
pub fn values<F: Float>(u: &mut Unstructured<'_>, count: usize, scale: f32) -> Result<Vec<F>> {
    let one = |u: &mut Unstructured<'_>| {
        Ok(F::from_f32(match u.arbitrary::<u8>()? % 4 {
            0 => f32::from_bits(u.arbitrary()?),
            1 => f32::from(u.arbitrary::<i8>()?) * scale,
            _ => (f32::from(u.arbitrary::<i8>()?) + 0.5) * scale,
        }))
    };
    (0..count).map(|_| one(u)).collect()
}

/// Takes a tensor's parts.
pub struct Memory {
    pub codes: Mutex<Vec<u8>>,
    pub scales: Mutex<Vec<u8>>,
    pub zero_points: Mutex<Vec<u8>>,
}

impl Memory {
    /// With room for so many bytes of each.
    pub fn new(codes: usize, scales: usize, zero_points: usize) -> Self {
        let filled = |len| Mutex::new(vec![0xcd; len]);
        Self {
            codes: filled(codes),
            scales: filled(scales),
            zero_points: filled(zero_points),
        }
    }
}

fn put(to: &Mutex<Vec<u8>>, offset: usize, bytes: &[u8]) -> std::result::Result<(), Infallible> {
    to.lock().unwrap()[offset..offset + bytes.len()].copy_from_slice(bytes);
    Ok(())
}

impl Sink for Memory {
    type Error = Infallible;
    fn codes(&self, offset: usize, bytes: &[u8]) -> std::result::Result<(), Infallible> {
        put(&self.codes, offset, bytes)
    }
    fn scales(&self, offset: usize, bytes: &[u8]) -> std::result::Result<(), Infallible> {
        put(&self.scales, offset, bytes)
    }
    fn zero_points(&self, offset: usize, bytes: &[u8]) -> std::result::Result<(), Infallible> {
        put(&self.zero_points, offset, bytes)
    }
}

/// Nobody looks on, nothing is replaced, and nothing waits for the disk.
pub static JOB: Job<'static> = Job::UNWATCHED.with_sync(false);

/// What a refusal must be: one line without control characters, of a size that can be read; and the
/// folder holds what it held before.
pub fn check_refusal(error: &Error, folder: &Path, held: &[&str]) {
    let text = error.to_string();
    assert!(!text.chars().any(char::is_control), "{text:?}");
    assert!(!text.is_empty() && text.len() < 20_000, "{text}");
    let names = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    let mut held = held.to_vec();
    held.sort();
    assert_eq!(names, held, "{text}");
}
