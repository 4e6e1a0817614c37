//! The error of a quantization.

/// Elements per partial sum of [`ErrorStats`].
pub const STATS_CHUNK: usize = 65_536;

/// Elements of a chunk that are added up in f32 before they go to f64, see [`ErrorStats`].
pub const STATS_RUN: usize = 1024;

/// Elements of a run that are added up one by one: eight per lane.
pub const STATS_STEP: usize = 128;

/// The smallest and the largest magnitude whose squares are added up in f32, 2^-50 and 2^50: what
/// underflows beside a square of the smallest one is nothing to it, and no sum overflows.
pub const STATS_PLAIN: (f32, f32) = (
    f32::from_bits((127 - 50) << 23),
    f32::from_bits((127 + 50) << 23),
);

const LANES: usize = 16;

/// What a quantization lost. An error is a difference of two f32, rounded to f32. Sums are within
/// 1e-6 of the exact ones.
///
/// The order of summation is fixed, so that the figures are the same on every machine and for any
/// number of threads. A tensor is cut into chunks of [`STATS_CHUNK`] elements in row-major order, a
/// chunk into runs of [`STATS_RUN`]. Element `i` of a chunk goes to lane `i % 16`. Where all errors of a
/// run are finite, and the largest magnitude of its values and that of its errors are each 0 or within
/// [`STATS_PLAIN`], squares are rounded to f32, lanes are added up in f32 within [`STATS_STEP`]
/// elements, these sums in f32 within the run, and what comes out in f64. Other runs are added up in
/// f64, element by element; the square of an f32 is exact there. At the end of a chunk its lanes are
/// added in halves, the first half to the second one, until one is left; chunks are added in order.
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
        Self::of_pairs(values, None, false)
    }

    /// [`of_chunk`](Self::of_chunk), in f64 whatever the values: which of two scales loses less may hang
    /// on the last bits.
    pub(crate) fn of_chunk_in_f64(values: impl ExactSizeIterator<Item = (f32, f32)>) -> Self {
        Self::of_pairs(values, None, true)
    }

    /// [`of_chunk`](Self::of_chunk) in f64, in which each squared error counts as often as its weight says.
    ///
    /// # Panics
    /// If the lengths differ, or exceed [`STATS_CHUNK`].
    pub fn of_weighted_chunk(
        values: impl ExactSizeIterator<Item = (f32, f32)>,
        weights: &[f32],
    ) -> Self {
        assert_eq!(values.len(), weights.len(), "one weight per value");
        Self::of_pairs(values, Some(weights), true)
    }

    fn of_pairs(
        values: impl ExactSizeIterator<Item = (f32, f32)>,
        weights: Option<&[f32]>,
        wide: bool,
    ) -> Self {
        assert!(values.len() <= STATS_CHUNK, "more than one chunk");
        let mut stats = Self {
            count: values.len() as u64,
            ..Self::default()
        };
        let mut sums = Sums::default();
        let mut run = [Element::default(); STATS_RUN];
        let mut filled = 0;
        for (i, (value, dequantized)) in values.enumerate() {
            run[filled] = Element {
                value,
                error: value - dequantized,
                weight: weights.map_or(1.0, |weights| weights[i]),
            };
            filled += 1;
            if filled == STATS_RUN {
                stats.add(&run, wide, &mut sums);
                filled = 0;
            }
        }
        stats.add(&run[..filled], wide, &mut sums);
        stats.signal = sum(sums.signal);
        stats.noise = sum(sums.noise);
        stats.absolute = sum(sums.absolute);
        stats
    }

    /// Adds a run.
    fn add(&mut self, run: &[Element], wide: bool, sums: &mut Sums) {
        for element in run {
            match element.error.is_finite() {
                true => self.max_absolute = self.max_absolute.max(element.error.abs().into()),
                false => self.non_finite += 1,
            }
        }
        match !wide && is_plain(run) {
            true => sums.add_plain(run),
            false => sums.add_wide(run),
        }
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

/// One of a run.
#[derive(Clone, Copy, Default)]
struct Element {
    value: f32,
    error: f32,
    weight: f32,
}

/// Whether a run is added up in f32.
fn is_plain(run: &[Element]) -> bool {
    let (mut value, mut error) = (0.0_f32, 0.0_f32);
    for element in run {
        if !element.error.is_finite() {
            return false;
        }
        value = value.max(element.value.abs());
        error = error.max(element.error.abs());
    }
    let is_plain = |largest| largest == 0.0 || STATS_PLAIN.0 <= largest && largest <= STATS_PLAIN.1;
    is_plain(value) && is_plain(error)
}

/// The sums of a chunk, lane by lane.
#[derive(Default)]
struct Sums {
    signal: [f64; LANES],
    noise: [f64; LANES],
    absolute: [f64; LANES],
}

impl Sums {
    fn add_plain(&mut self, run: &[Element]) {
        let mut of_run = [[0.0_f32; LANES]; 3];
        for step in run.chunks(STATS_STEP) {
            let mut of_step = [[0.0_f32; LANES]; 3];
            for (i, &Element { value, error, .. }) in step.iter().enumerate() {
                of_step[0][i % LANES] += value * value;
                of_step[1][i % LANES] += error * error;
                of_step[2][i % LANES] += error.abs();
            }
            for (sums, added) in of_run.iter_mut().flatten().zip(of_step.iter().flatten()) {
                *sums += added;
            }
        }
        let to = [&mut self.signal, &mut self.noise, &mut self.absolute];
        for (to, from) in to.into_iter().zip(of_run) {
            for (to, from) in to.iter_mut().zip(from) {
                *to += f64::from(from);
            }
        }
    }

    fn add_wide(&mut self, run: &[Element]) {
        for (i, element) in run.iter().enumerate() {
            if !element.error.is_finite() {
                continue;
            }
            let (value, error) = (f64::from(element.value), f64::from(element.error));
            self.signal[i % LANES] += value * value;
            self.noise[i % LANES] += error * error * f64::from(element.weight);
            self.absolute[i % LANES] += error.abs();
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
