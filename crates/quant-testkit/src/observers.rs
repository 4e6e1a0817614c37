//! Golden observers: ranges, thresholds and parameters of activations that torch, coremltools and
//! onnxruntime themselves computed.
//!
//! `golden/make_observers.py` made the file and describes its fields.

use serde::Deserialize;

static FILE: &str = include_str!("../golden/observers.json");

/// The whole file.
///
/// # Panics
/// If it is not what is described here.
pub fn golden() -> Golden {
    serde_json::from_str(FILE).expect("golden observers")
}

/// What each framework computed.
#[derive(Debug, Deserialize)]
pub struct Golden {
    /// torch's observers, and one of coremltools.optimize.torch.
    pub torch: Vec<Batches>,
    /// coremltools' graph pass.
    pub coremltools: Vec<Activation>,
    /// onnxruntime's histograms.
    pub onnxruntime: Vec<Threshold>,
}

/// Batches that were observed in order.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Batches {
    /// The values of each.
    pub batches: Vec<Vec<f32>>,
    /// `MinMaxObserver`.
    pub min_max: Observed,
    /// `MovingAverageMinMaxObserver`, constant 0.01.
    pub moving_average: Observed,
    /// `EMAMinMaxObserver`, ratio 0.9.
    pub ratio: Observed,
}

/// A range, and what became of it.
#[derive(Debug, Deserialize)]
pub struct Observed {
    /// The lower bound.
    pub min: f32,
    /// The upper bound.
    pub max: f32,
    /// For each integer type and mode.
    #[serde(default)]
    pub params: Vec<Parameters>,
}

/// Scale and zero point.
#[derive(Debug, Deserialize)]
pub struct Parameters {
    /// Name of the integer type.
    pub dtype: String,
    /// Name of the mode.
    pub mode: String,
    /// None where it is not finite.
    pub scale: Option<f32>,
    /// 0 where none is stored.
    pub zero_point: i32,
}

/// What coremltools made of a range.
#[derive(Debug, Deserialize)]
pub struct Activation {
    /// The lower bound.
    pub min: f32,
    /// The upper bound.
    pub max: f32,
    /// Scale and zero point; a scale of 0 where it failed.
    #[serde(flatten)]
    pub params: Parameters,
    /// Whether the zero point is stored.
    pub stored: bool,
}

/// What onnxruntime made of a histogram.
#[derive(Debug, Deserialize)]
pub struct Threshold {
    /// What was observed.
    pub data: Data,
    /// `percentile` or `entropy`.
    pub method: String,
    /// Percent, of the first.
    pub percentile: Option<f64>,
    /// Name of the mode, of the first.
    pub mode: Option<String>,
    /// The lower threshold.
    pub low: f32,
    /// The upper threshold.
    pub high: f32,
}

/// How values are made.
#[derive(Debug, Deserialize)]
pub struct Data {
    /// `normal`, `relu`, `heavy` or `uniform`.
    pub shape: String,
    /// Of the random numbers.
    pub seed: u64,
    /// How many.
    pub count: u64,
    /// One more value.
    pub peak: f32,
}

impl Data {
    /// The values: numbers that look random, made by integer arithmetic, and the peak at the end.
    /// None is near the edge of a bin.
    pub fn values(&self) -> Vec<f32> {
        // The peak is just below a power of two.
        let grid = self.peak.abs().next_up() / 8192.0;
        let values = (0..self.count).map(|index| ((self.value(index) / grid).floor() + 0.5) * grid);
        values.chain([self.peak]).collect()
    }

    fn value(&self, index: u64) -> f32 {
        let random = |lane: u64| {
            // splitmix64
            let mut z = (self.seed << 32) + index * 8 + lane;
            z = z.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ z >> 31
        };
        if self.shape == "uniform" {
            return ((random(0) >> 40) as i64 - (1 << 23)) as f32 / (1 << 23) as f32;
        }
        let pieces = (0..16).map(|piece| (random(piece / 4) >> (piece % 4 * 16) & 0xffff) as i64);
        let normal = (pieces.sum::<i64>() - 16 * 0x8000) as f32 / (1 << 16) as f32;
        match self.shape.as_str() {
            "relu" => normal.max(0.0),
            "heavy" => {
                let octave = (random(4) & !random(5) & 0xf_ffff).count_ones().min(11);
                normal * (1 << octave) as f32 / 32.0
            }
            _ => normal,
        }
    }
}
