//! The smallest and largest value, of a tensor or of each of its channels.

use alloc::{vec, vec::Vec};

use super::{MergeError, ObserveError};
use crate::{Blocks, Float, Granularity, ValueRange};

/// How many values were seen, and the range of those that are finite.
///
/// NaN and infinities are counted and left out of the range: [`ValueRange::non_finite`] of it says how
/// many they were. The state depends only on the multiset of values, not on their order, nor on how
/// they were split between observers that are [merged](Self::merge): counts are integers, minimum
/// and maximum are associative and commutative, and a bound that is zero is `+0.0`.
///
/// ```
/// use quant_core::observer::MinMax;
/// let mut observer = MinMax::EMPTY;
/// observer.observe(&[0.5_f32, -2.0, f32::INFINITY]);
/// let range = observer.range().unwrap();
/// assert_eq!((range.min, range.max), (-2.0, 0.5));
/// assert_eq!((observer.count(), observer.non_finite()), (3, 1));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MinMax {
    count: u64,
    range: ValueRange,
}

impl MinMax {
    /// Of no values.
    pub const EMPTY: Self = Self {
        count: 0,
        range: ValueRange::EMPTY,
    };

    /// Of `values`.
    pub fn from_values<F: Float>(values: &[F]) -> Self {
        let mut found = Self::EMPTY;
        found.observe(values);
        found
    }

    /// Of `count` values whose range is known, for instance from a faster search. `range` is that of
    /// the finite ones; its `non_finite` counts the others.
    ///
    /// # Panics
    /// If a bound is infinite although there are finite values, or if there are none although
    /// `range` has bounds.
    pub fn from_range(count: u64, range: ValueRange) -> Self {
        match count == range.non_finite {
            true => assert!(range.is_empty(), "no bounds without finite values"),
            false => assert!(
                count > range.non_finite
                    && range.min.is_finite()
                    && range.max.is_finite()
                    && range.min <= range.max,
                "finite values have finite bounds"
            ),
        }
        let counted = Self {
            count: count - range.non_finite,
            range: ValueRange::EMPTY,
        };
        counted.and(&Self {
            count: range.non_finite,
            range,
        })
    }

    /// Takes more values.
    pub fn observe<F: Float>(&mut self, values: &[F]) {
        for value in values {
            let value = value.to_f32();
            let of_one = match value.is_finite() {
                true => ValueRange {
                    min: value,
                    max: value,
                    non_finite: 0,
                },
                false => ValueRange {
                    non_finite: 1,
                    ..ValueRange::EMPTY
                },
            };
            self.merge(&Self {
                count: 1,
                range: of_one,
            });
        }
    }

    /// As if the values of `other` had been observed here.
    pub fn merge(&mut self, other: &Self) {
        *self = self.and(other);
    }

    fn and(&self, other: &Self) -> Self {
        Self {
            count: self.count + other.count,
            range: self.range.merge(other.range),
        }
    }

    /// Values seen, non-finite ones included.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// How many of them were NaN or infinite.
    pub const fn non_finite(&self) -> u64 {
        self.range.non_finite
    }

    /// The range of the finite ones, if there were any.
    pub fn range(&self) -> Option<ValueRange> {
        (!self.range.is_empty()).then_some(self.range)
    }
}

impl Default for MinMax {
    fn default() -> Self {
        Self::EMPTY
    }
}

/// A [`MinMax`] for each index of one axis.
///
/// ```
/// use quant_core::observer::ChannelMinMax;
/// let mut observer = ChannelMinMax::new(2);
/// observer.observe(&[1.0_f32, 2.0, 3.0, -4.0, 5.0, 6.0], &[3, 2], 1)?;
/// let max = observer.channels().iter().map(|channel| channel.range().unwrap().max);
/// assert_eq!(max.collect::<Vec<_>>(), [5.0, 6.0]);
/// # Ok::<(), quant_core::observer::ObserveError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ChannelMinMax {
    channels: Vec<MinMax>,
}

impl ChannelMinMax {
    /// For a tensor with so many channels.
    pub fn new(channels: usize) -> Self {
        Self {
            channels: vec![MinMax::EMPTY; channels],
        }
    }

    /// Takes a tensor, row-major, whose channels lie along `axis`; a negative one counts from the
    /// end. Other axes may differ from one tensor to the next.
    ///
    /// # Errors
    /// No such axis; another number of channels; a number of values that is not that of the shape.
    /// Then nothing was observed.
    pub fn observe<F: Float>(
        &mut self,
        values: &[F],
        shape: &[usize],
        axis: isize,
    ) -> Result<(), ObserveError> {
        let blocks = self.blocks(values.len(), shape, axis)?;
        for run in blocks.runs(0..values.len()) {
            self.channels[run.scale].observe(&values[run.elements]);
        }
        Ok(())
    }

    /// Which of the values of such a tensor belong to which channel: [`Blocks::runs`], whose
    /// `scale` is the channel.
    ///
    /// # Errors
    /// As [`observe`](Self::observe).
    pub fn blocks(
        &self,
        values: usize,
        shape: &[usize],
        axis: isize,
    ) -> Result<Blocks, ObserveError> {
        let blocks = Blocks::new(shape, &Granularity::PerChannel { axis })?;
        let from_front = axis.rem_euclid(shape.len() as isize) as usize;
        let (got, expected) = (shape[from_front], self.channels.len());
        if got != expected {
            return Err(ObserveError::Channels { got, expected });
        }
        if values != blocks.element_count() {
            return Err(ObserveError::Elements {
                got: values,
                expected: blocks.element_count(),
            });
        }
        Ok(blocks)
    }

    /// As if the tensors of `other` had been observed here.
    ///
    /// # Errors
    /// Another number of channels.
    pub fn merge(&mut self, other: &Self) -> Result<(), MergeError> {
        if self.channels.len() != other.channels.len() {
            return Err(MergeError::Configuration);
        }
        for (channel, other) in self.channels.iter_mut().zip(&other.channels) {
            channel.merge(other);
        }
        Ok(())
    }

    /// One per channel.
    pub fn channels(&self) -> &[MinMax] {
        &self.channels
    }

    /// One per channel, for values that were found by a faster search.
    pub fn channels_mut(&mut self) -> &mut [MinMax] {
        &mut self.channels
    }

    /// The range of all channels together.
    pub fn whole(&self) -> MinMax {
        let mut whole = MinMax::EMPTY;
        for channel in &self.channels {
            whole.merge(channel);
        }
        whole
    }
}
