//! The error of a quantization.

/// Elements per partial sum of [`ErrorStats`].
pub const STATS_CHUNK: usize = 65_536;

const LANES: usize = 16;

/// What a quantization lost. An error is a difference of two f32, rounded to f32; sums are in f64,
/// where the square of an f32 is exact.
///
/// The order of summation is fixed, so that the figures are the same on every machine and for any
/// number of threads: a tensor is cut into chunks of [`STATS_CHUNK`] elements in row-major order;
/// within a chunk, element `i` goes to lane `i % 16`; lanes are added in halves, the first half to
/// the second one, until one is left; chunks are added in order.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ErrorStats {
    /// Elements compared, non-finite ones included.
    pub count: u64,
    /// Elements that were NaN or infinite, or whose error is: left out of everything else.
    pub non_finite: u64,
    /// Elements whose code was clipped.
    pub saturated: u64,
    /// Sum of the squared values.
    pub signal: f64,
    /// Sum of the squared errors.
    pub noise: f64,
    /// Sum of the absolute errors.
    pub absolute: f64,
    /// The largest absolute error.
    pub max_absolute: f64,
}

impl ErrorStats {
    /// The statistics of one chunk: `values` against their dequantized values. `saturated` is left 0.
    ///
    /// # Panics
    /// If the lengths differ, or exceed [`STATS_CHUNK`].
    pub fn of_chunk(values: impl ExactSizeIterator<Item = (f32, f32)>) -> Self {
        Self::of_weights(values, None)
    }

    /// [`of_chunk`](Self::of_chunk), in which each squared error counts as often as its weight says.
    ///
    /// # Panics
    /// If the lengths differ, or exceed [`STATS_CHUNK`].
    pub fn of_weighted_chunk(
        values: impl ExactSizeIterator<Item = (f32, f32)>,
        weights: &[f32],
    ) -> Self {
        assert_eq!(values.len(), weights.len(), "one weight per value");
        Self::of_weights(values, Some(weights))
    }

    fn of_weights(
        values: impl ExactSizeIterator<Item = (f32, f32)>,
        weights: Option<&[f32]>,
    ) -> Self {
        assert!(values.len() <= STATS_CHUNK, "more than one chunk");
        let mut stats = Self {
            count: values.len() as u64,
            ..Self::default()
        };
        let (mut signal, mut noise, mut absolute) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
        for (i, (value, dequantized)) in values.enumerate() {
            let error = value - dequantized;
            if !error.is_finite() {
                stats.non_finite += 1;
                continue;
            }
            let (value, error) = (f64::from(value), f64::from(error));
            signal[i % LANES] += value * value;
            let weight = weights.map_or(1.0, |weights| f64::from(weights[i]));
            noise[i % LANES] += error * error * weight;
            absolute[i % LANES] += error.abs();
            stats.max_absolute = stats.max_absolute.max(error.abs());
        }
        stats.signal = sum(signal);
        stats.noise = sum(noise);
        stats.absolute = sum(absolute);
        stats
    }

    /// The statistics of this chunk and the next ones.
    pub fn then(self, next: Self) -> Self {
        Self {
            count: self.count + next.count,
            non_finite: self.non_finite + next.non_finite,
            saturated: self.saturated + next.saturated,
            signal: self.signal + next.signal,
            noise: self.noise + next.noise,
            absolute: self.absolute + next.absolute,
            max_absolute: self.max_absolute.max(next.max_absolute),
        }
    }

    /// Signal to quantization noise, `10 log10(signal / noise)`, in dB; `+inf` without any error.
    pub fn sqnr_db(&self) -> f64 {
        if self.noise == 0.0 {
            f64::INFINITY
        } else {
            10.0 * libm::log10(self.signal / self.noise)
        }
    }

    /// The mean absolute error; 0 where nothing was compared.
    pub fn mean_absolute(&self) -> f64 {
        match self.count - self.non_finite {
            0 => 0.0,
            compared => self.absolute / compared as f64,
        }
    }
}

/// The sum of lanes, halves to halves.
fn sum(mut lanes: [f64; LANES]) -> f64 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}
