//! How to quantize a model, whatever its format.

use std::path::Path;
use std::sync::Arc;

use quant_core::{GgmlType, IntType, Mode, Scheme, Search, named};
use quant_simd::Backend;
use regex::Regex;

use crate::settings::Settings;
use crate::unmatched::{Known, Unmatched};
use crate::{
    ActivationOptions, Asked, Config, Encoding, Error, GivenCodes, Grouping, InputImportance,
    Inputs, Plan,
};

/// What to do with a tensor that holds NaN or infinities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum NonFinite {
    /// End with an error.
    #[default]
    Error,
    /// Leave the tensor in float.
    Skip,
}

named!(NonFinite, "way with NaN and infinities": Error "error", Skip "skip");

/// Where a Core ML model is to run.
// Exhaustive: advice and candidates depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ComputeUnit {
    /// The Apple Neural Engine.
    NeuralEngine,
    /// The GPU.
    Gpu,
    /// The CPU.
    Cpu,
}

named!(ComputeUnit, "compute unit": NeuralEngine "ane", Gpu "gpu", Cpu "cpu");

/// The axes of a stack of experts behind the experts' own, which is the first.
// Exhaustive: each is cut along axes of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpertAxes {
    /// `[experts, output, input]`, as most models have it.
    OutputInput,
    /// `[experts, input, output]`, as gpt-oss and Llama 4 have it.
    InputOutput,
}

named!(
    ExpertAxes, "order of axes":
    OutputInput "output-input", InputOutput "input-output",
);

/// Safetensors: which tensors of rank 3 are stacks of experts. Such a tensor gets a scale per expert
/// and output channel, and blocks along its input channels, where no axis is given.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Experts {
    /// Those whose name one of these matches; where empty, those whose names say so, such as
    /// `model.layers.0.mlp.experts.gate_up_proj`.
    pub names: Vec<Regex>,
    /// How they lie; where not given, as the lengths of both projections of a layer say, else
    /// [`ExpertAxes::OutputInput`].
    pub axes: Option<ExpertAxes>,
}

impl Experts {
    quant_core::setters! {
        with_names names: Vec<Regex>,
        with_axes axes: impl Into<Option<ExpertAxes>>,
    }

    /// Whether nothing was given.
    #[doc(hidden)]
    pub fn is_default(&self) -> bool {
        self.names.is_empty() && self.axes.is_none()
    }
}

/// How to quantize a model.
///
/// ```
/// use quant_core::{IntType, Mode, Scheme};
/// use quant_model::{Grouping, QuantizeOptions};
///
/// let options = QuantizeOptions::default()
///     .with_scheme(Scheme::new(IntType::Int4, Mode::Symmetric))
///     .with_granularity(Grouping::Groups(32))
///     .with_strict(true);
/// assert!(options.strict && options.config.is_none());
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct QuantizeOptions {
    /// Integer type, mode and dialect.
    pub scheme: Scheme,
    /// Which elements share a scale.
    pub granularity: Grouping,
    /// How scales are chosen.
    pub search: Search,
    /// Codes that were found elsewhere, in place of those that the values have: each the nearest.
    pub codes: Option<Arc<GivenCodes>>,
    /// How large the inputs of weights are: a search weighs errors by it.
    pub importance: Option<InputImportance>,
    /// GGUF: the type of the blocks, in place of scheme and granularity.
    pub block_type: Option<GgmlType>,
    /// GGUF: quantize anew what is in blocks already. It loses more than the float model would.
    pub requantize: bool,
    /// How quantized tensors lie in the files. [`QuantizeOptions::for_encoding`] has the scheme and
    /// the granularity that go with it.
    pub encoding: Encoding,
    /// Only tensors with more elements than this are quantized, and only those of rank 2 or more.
    pub min_elements: usize,
    /// What to do with each tensor. It takes the place of the fields above, and of `config`, `include`
    /// and `exclude`.
    pub plan: Option<Plan>,
    /// A configuration file of coremltools. For the tensors that it names it takes the place of integer
    /// type, mode, granularity and `min_elements`.
    pub config: Option<Config>,
    /// If there are any: only tensors whose name matches one of these are quantized.
    pub include: Vec<Regex>,
    /// Tensors whose name matches one of these stay in float.
    pub exclude: Vec<Regex>,
    /// Safetensors: stacks of experts.
    pub experts: Experts,
    /// What to do about NaN and infinities.
    pub non_finite: NonFinite,
    /// Core ML: quantize activations too, before the weights.
    pub activations: Option<ActivationOptions>,
    /// Core ML: leave alone whatever coremltools leaves alone.
    pub exact_selection: bool,
    /// Core ML: where the model is to run; the report warns of what is known to run badly there.
    pub target: Option<ComputeUnit>,
    /// End with an error where a selected tensor cannot be quantized, a name or pattern matches
    /// nothing, or nothing is quantized at all.
    pub strict: bool,
    /// Report what would be done, and write nothing.
    pub dry_run: bool,
    /// A sharded model: do not copy the small files beside the weights that a loader needs, such as
    /// `config.json` and the tokenizer.
    pub weights_only: bool,
    /// The kernels to use.
    pub backend: Backend,
    /// Whether the report tells each tensor's error, which takes a third of the time.
    pub stats: bool,
}

impl Default for QuantizeOptions {
    fn default() -> Self {
        Self {
            scheme: Scheme::new(IntType::Int8, Mode::Symmetric),
            granularity: Grouping::PerChannel { axis: None },
            block_type: None,
            requantize: false,
            search: Search::None,
            codes: None,
            importance: None,
            encoding: Encoding::Native,
            min_elements: 2048,
            plan: None,
            config: None,
            include: Vec::new(),
            exclude: Vec::new(),
            experts: Experts::default(),
            non_finite: NonFinite::Error,
            activations: None,
            exact_selection: false,
            target: None,
            strict: false,
            dry_run: false,
            weights_only: false,
            backend: Backend::detect(),
            stats: true,
        }
    }
}

impl QuantizeOptions {
    quant_core::setters! {
        with_scheme scheme: Scheme,
        with_granularity granularity: Grouping,
        with_search search: Search,
        with_codes codes: impl Into<Option<Arc<GivenCodes>>>,
        with_importance importance: impl Into<Option<InputImportance>>,
        with_block_type block_type: impl Into<Option<GgmlType>>,
        with_requantize requantize: bool,
        with_encoding encoding: Encoding,
        with_min_elements min_elements: usize,
        with_plan plan: impl Into<Option<Plan>>,
        with_config config: impl Into<Option<Config>>,
        with_include include: Vec<Regex>,
        with_exclude exclude: Vec<Regex>,
        with_experts experts: Experts,
        with_non_finite non_finite: NonFinite,
        with_activations activations: impl Into<Option<ActivationOptions>>,
        with_exact_selection exact_selection: bool,
        with_target target: impl Into<Option<ComputeUnit>>,
        with_strict strict: bool,
        with_dry_run dry_run: bool,
        with_weights_only weights_only: bool,
        with_backend backend: Backend,
        with_stats stats: bool,
    }

    /// The same with codes of so many bits, of the sign that they have.
    ///
    /// ```
    /// let options = quant_model::QuantizeOptions::default().with_bits(4)?;
    /// assert_eq!(options.scheme.dtype.name(), "int4");
    /// # Ok::<(), quant_model::Error>(())
    /// ```
    ///
    /// # Errors
    /// There are no codes of so many bits.
    pub fn with_bits(mut self, bits: u32) -> Result<Self, Error> {
        let dtype = IntType::new(bits, self.scheme.dtype.is_signed());
        self.scheme.dtype = dtype.ok_or_else(|| {
            Error::Option(format!("codes of {bits} bits: give 2, 3, 4, 5, 6 or 8"))
        })?;
        Ok(self)
    }

    /// The same with groups of so many elements along the last axis.
    #[must_use]
    pub fn with_group_size(mut self, size: usize) -> Self {
        self.granularity = Grouping::Groups(size);
        self
    }

    /// The groups that all tensors were to have, whatever became of each: of the plan, where there is one.
    pub fn asked(&self) -> Option<Asked> {
        match (&self.plan, &self.granularity) {
            (Some(plan), _) => plan.asked,
            (None, &Grouping::Groups(group_size)) => Some(Asked {
                dtype: self.scheme.dtype,
                group_size,
            }),
            (None, _) => None,
        }
    }

    /// The settings that hold where no configuration file says anything else.
    #[doc(hidden)]
    pub fn settings(&self) -> Settings {
        Settings {
            scheme: self.scheme,
            granularity: self.granularity.clone(),
            block_type: self.block_type,
            min_elements: self.min_elements,
            all_axes: false,
        }
    }

    /// What the work reads, beside the model at `model`: no output may touch it.
    pub fn inputs(&self, model: &Path) -> Inputs {
        let mut inputs = match &self.activations {
            Some(activations) => activations.inputs(model),
            None => Inputs::of_model(model),
        };
        if let Some(config) = &self.config {
            inputs.file(config.path(), "the configuration");
        }
        if let Some(importance) = &self.importance {
            inputs.file(importance.path(), "the importance");
        }
        if let Some(plan) = &self.plan {
            inputs.file(plan.path(), "the plan");
        }
        inputs
    }

    /// Where importance is from, as a plan says it.
    pub(crate) fn importance_path(&self) -> Option<String> {
        let path = self.importance.as_ref().map(InputImportance::path);
        path.map(|path| path.to_string_lossy().into_owned())
    }

    /// The codes that a tensor is given.
    #[doc(hidden)]
    pub fn given(&self, tensor: &str) -> Option<&[u8]> {
        self.codes.as_ref().and_then(|codes| codes.of(tensor))
    }

    /// How quantized tensors lie in the files.
    #[doc(hidden)]
    pub fn encoding(&self) -> Encoding {
        self.plan.as_ref().map_or(self.encoding, |plan| plan.format)
    }

    /// Why a tensor that goes by these names is not to be touched.
    #[doc(hidden)]
    pub fn left_out(&self, names: &[&str]) -> Option<&'static str> {
        left_out(&self.include, &self.exclude, names)
    }

    /// Patterns that match none of these names.
    #[doc(hidden)]
    pub fn unmatched(&self, known: &Known<'_>) -> Vec<Unmatched> {
        unmatched(&self.include, &self.exclude, known)
    }
}

/// Why patterns leave out what goes by these names.
pub fn left_out(include: &[Regex], exclude: &[Regex], names: &[&str]) -> Option<&'static str> {
    let matches = |regex: &Regex| names.iter().any(|name| regex.is_match(name));
    let any = |patterns: &[Regex]| patterns.iter().any(matches);
    if any(exclude) {
        return Some("excluded by name");
    }
    (!include.is_empty() && !any(include)).then_some("not included by name")
}

/// Patterns that match none of these names.
pub fn unmatched(include: &[Regex], exclude: &[Regex], known: &Known<'_>) -> Vec<Unmatched> {
    let mut found = known.patterns("include", include);
    found.extend(known.patterns("exclude", exclude));
    found
}
