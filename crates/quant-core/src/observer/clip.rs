//! From a histogram to the range that is worth keeping.

use alloc::vec::Vec;

use super::Histogram;
use crate::{IntType, Mode, Scheme, ValueRange};

/// Codes per sign and zero that [`Histogram::entropy`] reduces a distribution to.
const QUANTIZED_BINS: usize = 128;

/// What [`Histogram::entropy`] puts into empty bins.
const SMOOTHING: f64 = 0.0001;

impl Histogram {
    /// The narrowest range of whole bins that holds `percentile` percent of the values, cut to the
    /// exact minimum and maximum. [`Mode::Symmetric`]: of magnitudes. [`Mode::Affine`]: half of what
    /// is left out on either side. `None` without finite values.
    ///
    /// onnxruntime's `PercentileCalibrater` does the same, but takes the inner edge of the bin
    /// where the percentile is reached: one bin less, so that 100 percent clips.
    ///
    /// # Panics
    /// If `percentile` is not in (0, 100].
    pub fn percentile(&self, percentile: f64, mode: Mode) -> Option<ValueRange> {
        assert!(
            percentile > 0.0 && percentile <= 100.0,
            "a percentile in (0, 100]"
        );
        let total = self.finite_count() as f64;
        let half = self.counts().len() / 2;
        match mode {
            Mode::Symmetric => {
                let magnitudes = (0..half).map(|bin| self.mirrored(bin));
                let bin = reaches(magnitudes, percentile / 100.0 * total)?;
                let threshold = self.edge(half + bin + 1);
                self.clip(-threshold, threshold)
            }
            Mode::Affine => {
                let cut = (100.0 - percentile) / 200.0;
                let counts = || self.counts().iter().copied();
                let low = reaches(counts(), cut * total)?;
                let high = reaches(counts(), (1.0 - cut) * total)?;
                self.clip(self.edge(low), self.edge(high + 1))
            }
        }
    }

    /// The range about zero whose values, put into 128 bins, lose the least information: the
    /// smallest Kullback-Leibler divergence between their distribution, with what lies outside moved
    /// to the ends, and the quantized one. Cut to the exact minimum and maximum. `None` without
    /// finite values.
    ///
    /// Migacz, *8-bit Inference with TensorRT* (GTC 2017), as onnxruntime's `EntropyCalibrater`
    /// has it, on bins as far as the largest magnitude, in f64 where that computes in f32, sums in
    /// order. The windows have one bin more above zero than below, as there.
    pub fn entropy(&self) -> Option<ValueRange> {
        let half = self.used_half();
        let middle = self.counts().len() / 2;
        let counts = &self.counts()[middle - half..middle + half];
        let mut best = (f64::INFINITY, half);
        for reach in QUANTIZED_BINS / 2..=half {
            let end = Ord::min(half + reach + 1, counts.len());
            let divergence = divergence(counts, half - reach, end);
            if divergence < best.0 {
                best = (divergence, reach);
            }
        }
        let upper = Ord::min(best.1 + 1, half);
        self.clip(self.edge(middle - best.1), self.edge(middle + upper))
    }

    /// The range whose quantization to this type and mode has the smallest mean squared error,
    /// with every value in the middle of its bin. `None` without finite values.
    ///
    /// Candidates are the exact range and those that end at the edges of bins, as far down as one
    /// step of a code is one bin: with few bins per code there are few. Of equal errors the wider
    /// range wins. [`Mode::Symmetric`]: ranges about zero. [`Mode::Affine`]: the upper end is
    /// chosen first, then the lower one, again and again until neither moves.
    pub fn mse(&self, dtype: IntType, mode: Mode) -> Option<ValueRange> {
        let exact = self.range()?;
        let scheme = Scheme::new(dtype, mode);
        let (mut min, mut max) = (f64::from(exact.min), f64::from(exact.max));
        let ends = |count: usize| (1..=count).rev().map(|end| end as f64 * self.bin_width());
        let steps = f64::from(scheme.qmax() - scheme.qmin());
        let mut least = self.squared_error(scheme, min, max);
        let mut improves = |low: f64, high: f64| {
            let error = match (high - low) / steps >= self.bin_width() {
                true => self.squared_error(scheme, low, high),
                false => f64::INFINITY,
            };
            let better = error < least;
            if better {
                least = error;
            }
            better
        };
        if mode == Mode::Symmetric {
            let abs_max = f64::from(exact.abs_max());
            let mut best = abs_max;
            for end in ends(self.used_half()).filter(|&end| end < abs_max) {
                if improves(-end, end) {
                    best = end;
                }
            }
            return self.clip(-best, best);
        }
        (min, max) = (min.min(0.0), max.max(0.0));
        let widest = (min, max);
        loop {
            let before = (min, max);
            for end in ends(self.used_half()).filter(|&end| end < widest.1) {
                if improves(min, end) {
                    max = end;
                }
            }
            for end in ends(self.used_half()).filter(|&end| -end > widest.0) {
                if improves(-end, max) {
                    min = -end;
                }
            }
            if before == (min, max) {
                return self.clip(min, max);
            }
        }
    }

    /// The sum of squared errors with this range, every value in the middle of its bin. Arithmetic
    /// in f64, bins in order.
    fn squared_error(&self, scheme: Scheme, min: f64, max: f64) -> f64 {
        let (min, max) = match scheme.mode {
            Mode::Symmetric => {
                let abs_max = min.abs().max(max.abs());
                (-abs_max, abs_max)
            }
            Mode::Affine => (min.min(0.0), max.max(0.0)),
        };
        let (qmin, qmax) = (f64::from(scheme.qmin()), f64::from(scheme.qmax()));
        let scale = (max - min) / (qmax - qmin);
        if scale == 0.0 {
            return 0.0;
        }
        let zero_point = libm::rint(qmin - min / scale);
        let mut sum = 0.0;
        for (bin, &count) in self.counts().iter().enumerate() {
            if count > 0 {
                let value = self.edge(bin) + 0.5 * self.bin_width();
                let code = (libm::rint(value / scale) + zero_point).clamp(qmin, qmax);
                let error = value - scale * (code - zero_point);
                sum += count as f64 * (error * error);
            }
        }
        sum
    }

    fn finite_count(&self) -> u64 {
        self.values().count() - self.values().non_finite()
    }

    /// The values with magnitudes in the `bin`-th bin from zero.
    fn mirrored(&self, bin: usize) -> u64 {
        let middle = self.counts().len() / 2;
        self.counts()[middle + bin] + self.counts()[middle - 1 - bin]
    }

    /// How many bins from zero on hold all magnitudes.
    fn used_half(&self) -> usize {
        let half = self.counts().len() / 2;
        let last = (0..half).rev().find(|&bin| self.mirrored(bin) > 0);
        last.map_or(0, |last| last + 1)
    }

    /// The exact range, cut to these ends.
    fn clip(&self, low: f64, high: f64) -> Option<ValueRange> {
        let exact = self.range()?;
        // An end outside f32's range is no end.
        Some(ValueRange {
            min: (low as f32).max(exact.min) + 0.0,
            max: (high as f32).min(exact.max) + 0.0,
            non_finite: exact.non_finite,
        })
    }
}

/// The first bin with which the sum of counts is at least `target`.
fn reaches(counts: impl Iterator<Item = u64>, target: f64) -> Option<usize> {
    let mut sum = 0;
    for (bin, count) in counts.enumerate() {
        sum += count;
        if sum as f64 >= target {
            return Some(bin);
        }
    }
    None
}

/// How much is lost where `counts[start..end]` is quantized, and all other values are moved to its
/// ends; infinite where nothing can be said.
fn divergence(counts: &[u64], start: usize, end: usize) -> f64 {
    let inside = &counts[start..end];
    let mut moved = inside.to_vec();
    moved[0] += counts[..start].iter().sum::<u64>();
    moved[inside.len() - 1] += counts[end..].iter().sum::<u64>();

    let width = inside.len() / QUANTIZED_BINS;
    let mut quantized = alloc::vec![0; inside.len()];
    for index in 0..QUANTIZED_BINS {
        let bins = index * width..(index + 1) * width;
        let last = index == QUANTIZED_BINS - 1;
        let summed = bins.start..if last { inside.len() } else { bins.end };
        let sum: u64 = inside[summed].iter().sum();
        let occupied = moved[bins.clone()].iter().filter(|&&count| count > 0);
        if let Some(mean) = sum.checked_div(occupied.count() as u64) {
            quantized[bins].fill(mean);
        }
    }

    let (Some(p), Some(q)) = (smooth(&moved), smooth(&quantized)) else {
        return f64::INFINITY;
    };
    let (mut sum, mut p_total, mut q_total) = (0.0, 0.0, 0.0);
    for (&p, &q) in p.iter().zip(&q) {
        sum += p * libm::log(p / q);
        p_total += p;
        q_total += q;
    }
    sum / p_total + libm::log(q_total / p_total)
}

/// The counts with something in empty bins, taken evenly from the others; nothing where these have
/// too little.
fn smooth(counts: &[u64]) -> Option<Vec<f64>> {
    let empty = counts.iter().filter(|&&count| count == 0).count();
    let taken = SMOOTHING * empty as f64 / (counts.len() - empty) as f64;
    let smoothed = |&count: &u64| match count {
        0 => SMOOTHING,
        _ => count as f64 - taken,
    };
    (taken < 1.0).then(|| counts.iter().map(smoothed).collect())
}
