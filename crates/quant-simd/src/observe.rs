//! quant-core's observers, fast.

use quant_core::ValueRange;
use quant_core::observer::{ChannelMinMax, Histogram, MinMax, ObserveError, Observer};

use crate::kernels::histogram::{CELLS, histogram_len};
use crate::{Backend, Element};

/// Values that are observed at a time, so that they are still in the cache when they are counted.
const CHUNK: usize = 65_536;

/// Values that are counted one by one sooner than the kernel's cells are cleared and added up.
const FEW: usize = 256;

/// Values among which infinite ones are left out by the reference.
const PIECE: usize = 1024;

impl Backend {
    /// The count of `values`, and the range of the finite ones: [`MinMax::from_values`].
    ///
    /// ```
    /// let found = quant_simd::Backend::detect().min_max(&[0.5_f32, -2.0, f32::INFINITY]);
    /// assert_eq!(found.range().unwrap().max, 0.5);
    /// assert_eq!((found.count(), found.non_finite()), (3, 1));
    /// ```
    pub fn min_max<F: Element>(self, values: &[F]) -> MinMax {
        let range = self.range(values);
        let count = values.len() as u64;
        if is_finite(&range) {
            return MinMax::from_range(count, range);
        }
        if values.len() <= PIECE {
            return MinMax::from_values(values);
        }
        let mut found = MinMax::EMPTY;
        for piece in values.chunks(PIECE) {
            found.merge(&self.min_max(piece));
        }
        found
    }

    /// [`ChannelMinMax::observe`].
    ///
    /// # Errors
    /// As there.
    pub fn observe_channels<F: Element>(
        self,
        values: &[F],
        shape: &[usize],
        axis: isize,
        observer: &mut ChannelMinMax,
    ) -> Result<(), ObserveError> {
        let blocks = observer.blocks(values.len(), shape, axis)?;
        let channels = observer.channels_mut();
        let count = channels.len();
        if blocks.block_sizes().last() == Some(&1) && !values.is_empty() {
            let mut ranges = vec![ValueRange::EMPTY; count];
            self.column_ranges(values, &mut ranges);
            for (i, (channel, range)) in channels.iter_mut().zip(ranges).enumerate() {
                match is_finite(&range) {
                    true => {
                        channel.merge(&MinMax::from_range((values.len() / count) as u64, range))
                    }
                    false => {
                        for value in values[i..].iter().step_by(count) {
                            channel.observe(&[*value]);
                        }
                    }
                }
            }
            return Ok(());
        }
        for run in blocks.runs(0..values.len()) {
            channels[run.scale].merge(&self.min_max(&values[run.elements]));
        }
        Ok(())
    }

    /// [`Histogram::observe`].
    ///
    /// ```
    /// use quant_core::observer::Histogram;
    /// let (mut fast, mut sure) = (Histogram::new(2048)?, Histogram::new(2048)?);
    /// let values: Vec<f32> = (0..5000).map(|i| (i as f32).sin()).collect();
    /// quant_simd::Backend::detect().observe_histogram(&values, &mut fast);
    /// sure.observe(&values);
    /// assert_eq!(fast, sure);
    /// # Ok::<(), quant_core::observer::ConfigError>(())
    /// ```
    pub fn observe_histogram<F: Element>(self, values: &[F], histogram: &mut Histogram) {
        for chunk in values.chunks(CHUNK) {
            let found = self.min_max(chunk);
            histogram.observe_with(&found, |exponent, counts| {
                self.count(chunk, &found, exponent, counts);
            });
        }
    }

    /// [`Observer::observe`]: a whole sample.
    pub fn observe<F: Element>(self, values: &[F], observer: &mut Observer) {
        self.observe_part(values, observer);
        observer.end_sample();
    }

    /// [`Observer::observe_part`].
    pub fn observe_part<F: Element>(self, values: &[F], observer: &mut Observer) {
        let chunk_len = match observer.histogram() {
            Some(_) => CHUNK,
            None => values.len().max(1),
        };
        for chunk in values.chunks(chunk_len) {
            let found = self.min_max(chunk);
            observer.observe_part_with(&found, |exponent, counts| {
                self.count(chunk, &found, exponent, counts);
            });
        }
    }

    /// Adds 1 to the count of each finite value's bin.
    fn count<F: Element>(self, values: &[F], found: &MinMax, exponent: i32, counts: &mut [u64]) {
        if values.len() <= FEW {
            return Histogram::count(values, exponent, counts);
        }
        let mut cells = [0; CELLS];
        let bins = counts.len();
        if found.non_finite() == 0 {
            F::count_bins(self, values, exponent, bins, &mut cells);
        } else {
            for piece in values.chunks(PIECE) {
                match self.range(piece).non_finite {
                    0 => F::count_bins(self, piece, exponent, bins, &mut cells),
                    _ => Histogram::count(piece, exponent, counts),
                }
            }
        }
        let (first, others) = cells.split_at_mut(histogram_len(bins));
        // No sum overflows: there are at most CHUNK values.
        for other in others.chunks(first.len()) {
            for (sum, cell) in first[..bins].iter_mut().zip(other) {
                *sum += cell;
            }
        }
        for (count, &cell) in counts.iter_mut().zip(&*first) {
            *count += u64::from(cell);
        }
    }
}

/// Whether no infinity took part.
fn is_finite(range: &ValueRange) -> bool {
    range.is_empty() || range.min.is_finite() && range.max.is_finite()
}
