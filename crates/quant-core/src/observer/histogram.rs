//! A histogram whose state depends on nothing but the values.

use alloc::{vec, vec::Vec};

use super::{ConfigError, MergeError, MinMax};
use crate::{Float, ValueRange};

/// Counts of finite values in bins of equal width, and the exact [`MinMax`].
///
/// With `N` bins, bin `i` holds the values `x` with `floor(|x| / 2^k)` equal to `i - N/2` where `x`
/// is at least 0 (zeros of either sign are), and equal to `N/2 - 1 - i` where it is negative. So
/// bins are aligned at zero, and each has its mirror image. `k` is the smallest exponent, but at
/// least -126, for which all values have a bin.
///
/// As larger values come, `k` grows, and each bin takes in two of its former neighbours: no value
/// is read again. The exponent follows from the largest magnitude alone, and the bin of a value from
/// the value and the exponent; hence the state depends only on the multiset of values, not on their
/// order, nor on how they were split between histograms that are [merged](Self::merge).
///
/// ```
/// use quant_core::observer::Histogram;
/// let mut whole = Histogram::new(2048)?;
/// whole.observe(&[0.25_f32, -3.0, 100.0]);
///
/// let (mut left, mut right) = (Histogram::new(2048)?, Histogram::new(2048)?);
/// left.observe(&[100.0_f32]);
/// right.observe(&[-3.0_f32, 0.25]);
/// right.merge(&left)?;
/// assert_eq!(whole, right);
/// assert_eq!(whole.bin_width(), 0.125);
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    pub(super) values: MinMax,
    pub(super) exponent: i32,
    pub(super) counts: Vec<u64>,
}

/// The exponent of the narrowest bin: its width and the reciprocal are normal numbers.
const MIN_EXPONENT: i32 = -126;

impl Histogram {
    /// The smallest number of bins.
    pub const MIN_BINS: usize = 128;
    /// The largest number of bins.
    pub const MAX_BINS: usize = 8192;

    /// Of no values.
    ///
    /// # Errors
    /// A number of bins that is not a power of two from [`MIN_BINS`](Self::MIN_BINS) to
    /// [`MAX_BINS`](Self::MAX_BINS).
    pub fn new(bins: usize) -> Result<Self, ConfigError> {
        if !bins.is_power_of_two() || !(Self::MIN_BINS..=Self::MAX_BINS).contains(&bins) {
            return Err(ConfigError::Bins);
        }
        Ok(Self {
            values: MinMax::EMPTY,
            exponent: MIN_EXPONENT,
            counts: vec![0; bins],
        })
    }

    /// Takes more values.
    pub fn observe<F: Float>(&mut self, values: &[F]) {
        self.observe_with(&MinMax::from_values(values), |exponent, counts| {
            Self::count(values, exponent, counts);
        });
    }

    /// Adds 1 to the bin of each finite value, for bins `2^exponent` wide.
    ///
    /// # Panics
    /// If a value has no bin.
    pub fn count<F: Float>(values: &[F], exponent: i32, counts: &mut [u64]) {
        for value in values {
            let value = value.to_f32();
            if value.is_finite() {
                counts[bin_of(value, exponent, counts.len())] += 1;
            }
        }
    }

    /// Takes values whose range was found, and which `count` counts: it is given the exponent of
    /// the bins' width, and does what [`count`](Self::count) does. For faster searches and counts
    /// than [`observe`](Self::observe).
    pub fn observe_with(&mut self, values: &MinMax, count: impl FnOnce(i32, &mut [u64])) {
        self.values.merge(values);
        let abs_max = values.range().map_or(0.0, |range| range.abs_max());
        self.coarsen(exponent_of(abs_max, self.counts.len()));
        count(self.exponent, &mut self.counts);
    }

    /// Makes the bins at least as wide as the exponent says.
    fn coarsen(&mut self, exponent: i32) {
        if exponent > self.exponent {
            let mut wide = vec![0; self.counts.len()];
            add_coarser(&self.counts, exponent - self.exponent, &mut wide);
            self.counts = wide;
            self.exponent = exponent;
        }
    }

    /// As if the values of `other` had been observed here.
    ///
    /// # Errors
    /// Another number of bins.
    pub fn merge(&mut self, other: &Self) -> Result<(), MergeError> {
        if self.counts.len() != other.counts.len() {
            return Err(MergeError::Configuration);
        }
        self.observe_with(&other.values, |exponent, counts| {
            add_coarser(&other.counts, exponent - other.exponent, counts);
        });
        Ok(())
    }

    /// Count and range of the values.
    pub const fn values(&self) -> &MinMax {
        &self.values
    }

    /// The exact range of the finite values, if there were any.
    pub fn range(&self) -> Option<ValueRange> {
        self.values.range()
    }

    /// Counts per bin, from the most negative values to the most positive ones.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// `k`: bins are `2^k` wide.
    pub const fn exponent(&self) -> i32 {
        self.exponent
    }

    /// The width of a bin, `2^k`.
    pub fn bin_width(&self) -> f64 {
        power_of_two(self.exponent)
    }

    /// Where bin `i` begins and bin `i - 1` ends; for `i` from 0 to the number of bins.
    pub fn edge(&self, i: usize) -> f64 {
        (i as f64 - (self.counts.len() / 2) as f64) * self.bin_width()
    }
}

/// The smallest exponent for which values of this magnitude have a bin.
pub(super) fn exponent_of(abs_max: f32, bins: usize) -> i32 {
    let exponent = (abs_max.to_bits() >> 23) as i32 - 127;
    Ord::max(exponent + 2 - bins.ilog2() as i32, MIN_EXPONENT)
}

fn bin_of(value: f32, exponent: i32, bins: usize) -> usize {
    // A power of two: the product is exact.
    let magnitude = (f64::from(value.abs()) * power_of_two(-exponent)) as usize;
    match value < 0.0 {
        true => bins / 2 - 1 - magnitude,
        false => bins / 2 + magnitude,
    }
}

/// Adds counts to bins that are `2^shift` times as wide.
fn add_coarser(counts: &[u64], shift: i32, wide: &mut [u64]) {
    let middle = counts.len() as isize / 2;
    for (i, count) in counts.iter().enumerate() {
        let from_middle = (i as isize - middle) >> shift.min(31);
        wide[(middle + from_middle) as usize] += count;
    }
}

/// `2^exponent`, for exponents of normal f64.
fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}
