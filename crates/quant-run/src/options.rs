//! How a model runs.

/// How a model runs.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RunOptions {
    /// Which function; `None` is the model's default.
    pub function: Option<String>,
    /// Round every value of type float16 to float16, as a device does that computes in it.
    pub round_f16: bool,
    /// Leave activations as they are where the model quantizes them: what quantized weights alone do
    /// to its answers.
    pub float_activations: bool,
    /// Bytes that weights and the values of a run may take at a time.
    pub memory: usize,
    /// Bytes of weights, as f32, that stay in memory from one use to the next, and at most half of
    /// [`memory`](Self::memory). Larger models read the others from their files for each use, where
    /// they have the types that they are stored in.
    pub keep_weights: usize,
    /// The model runs once: weights that one operation uses once do not stay in memory.
    pub single_pass: bool,
    /// How often the loops of a model may go round in a run.
    pub max_iterations: u64,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            function: None,
            round_f16: false,
            float_activations: false,
            memory: 8 << 30,
            keep_weights: 1 << 30,
            single_pass: false,
            max_iterations: 100_000,
        }
    }
}
