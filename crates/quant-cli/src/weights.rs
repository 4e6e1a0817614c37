//! Options that say which weights are quantized, and how.

use std::path::{Path, PathBuf};

use clap::{Args, ValueHint};
use quant_core::{Dialect, GgmlType, IntType, Mode, Scheme, Search};
use quant_models::{
    Config, Encoding, Error, ExpertAxes, Experts, Grouping, Preset, QuantizeOptions, encoding_of,
    patterns,
};

use crate::choices::{Granularity, code_type, dialect, expert_axes, named, search};
use crate::options::NameOptions;

#[derive(Args)]
pub struct WeightOptions {
    /// How the result is written: safetensors laid out in one of three ways, or a .gguf file; Core ML and
    /// Core AI models keep their own format [default: native; of a .gguf file gguf]
    #[arg(long, value_name = "NAME", value_parser = named::<Encoding>())]
    format: Option<Encoding>,
    /// With --format gguf: the type of the blocks [default: q8_0]
    #[arg(long = "type", id = "type", value_name = "NAME", value_parser = named::<GgmlType>())]
    block_type: Option<GgmlType>,
    /// With --format gguf: quantize anew what is in blocks already, which loses more than the float
    /// model would
    #[arg(long)]
    requantize: bool,
    /// Bits per code, in a format that has a dialect of its own
    #[arg(long, value_name = "N", value_hint = ValueHint::Other)]
    bits: Option<u32>,
    /// Elements per scale along the last axis, in such a format; with compressed-tensors, 0 is a scale
    /// per channel
    #[arg(long, value_name = "N", value_hint = ValueHint::Other)]
    group_size: Option<usize>,
    /// With --format compressed-tensors: bits of weights and activations, with zero points or without
    /// [default: w4a16]
    #[arg(long, value_name = "NAME", value_parser = named::<Preset>())]
    preset: Option<Preset>,
    /// Type of the codes [with --dialect coreai-torch: int4]
    #[arg(
        long,
        value_parser = code_type(),
        default_value = "int8",
        default_value_if("dialect", "coreai-torch", "int4")
    )]
    dtype: IntType,
    /// Range symmetric about zero, or that of the values [default: symmetric, or the preset's]
    #[arg(long, value_parser = named::<Mode>())]
    mode: Option<Mode>,
    /// Which elements share a scale [with --dialect coreai-torch: per-block]
    #[arg(
        long,
        value_enum,
        default_value = "per-channel",
        default_value_if("dialect", "coreai-torch", "per-block")
    )]
    granularity: Granularity,
    /// Output-channel axis; negative axes count from the end [default: 0; Core ML, Core AI: by the
    /// operation]
    #[arg(long, allow_negative_numbers = true, value_hint = ValueHint::Other)]
    axis: Option<isize>,
    /// Elements per block along one axis, for per-block
    ///
    /// A block is this many elements of the block axis at one index of the output-channel axis, and all
    /// of the other axes: of a convolution's [output, input, height, width], 32 input channels with
    /// their whole kernels; of a tensor [64, 128, 3], 32 times 3 elements. Of stacked experts, which
    /// have rank 3, it is 32 inputs of one output row of one expert. 0 stands for all of the axis.
    #[arg(long, default_value_t = 32, value_hint = ValueHint::Other)]
    block_size: usize,
    /// The axis that is cut into blocks, for per-block [default: 1, of stacked experts that of the
    /// inputs; Core ML, Core AI: by the operation]
    #[arg(long, allow_negative_numbers = true, value_hint = ValueHint::Other)]
    block_axis: Option<isize>,
    /// A block size per axis, in place of --granularity; 0 or missing means the whole axis
    #[arg(long, value_delimiter = ',', value_name = "A,B,...", value_hint = ValueHint::Other)]
    block: Vec<usize>,
    /// A coremltools configuration, YAML or JSON, in place of the options above
    #[arg(long, value_name = "FILE.yaml", value_hint = ValueHint::FilePath)]
    config: Option<PathBuf>,
    /// Whose arithmetic: coremltools'; the same in f32 with f32 scales; for Core AI models coreai-opt's
    #[arg(long, value_parser = dialect(), default_value = "coremltools")]
    dialect: Dialect,
    /// How scales are chosen
    #[arg(long, value_parser = search(), default_value = "none")]
    search: Search,
    /// With --search mse: weigh errors by how large the inputs of weights are, as `quant calibrate
    /// --importance` finds it, or an imatrix of llama.cpp (.gguf, .dat)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    importance: Option<PathBuf>,
    /// Only tensors with more elements, and of rank 2 or more [with --dialect coreai: 1024, coreai-torch:
    /// 0]
    #[arg(long, default_value = "2048", default_value_ifs([("dialect", "coreai", "1024"), ("dialect", "coreai-torch", "0")]), value_hint = ValueHint::Other)]
    min_elements: usize,
    #[command(flatten)]
    names: NameOptions,
    /// Safetensors: tensors of rank 3 whose name matches are stacked experts; repeatable [default: by
    /// name]
    ///
    /// Stacked experts get a scale per expert and output row, and blocks along the inputs, as if each
    /// expert were a tensor of its own; --axis, --block-axis or --block say otherwise. By default they
    /// are known by their names, such as mlp.experts.gate_up_proj or down_proj.
    #[arg(long, value_name = "REGEX", value_hint = ValueHint::Other)]
    experts: Vec<String>,
    /// Safetensors: how stacked experts lie [default: as the lengths of a layer's two projections say,
    /// else output-input]
    #[arg(long, value_parser = expert_axes())]
    expert_axes: Option<ExpertAxes>,
    /// Core ML: leave alone whatever coremltools leaves alone
    #[arg(long)]
    exact_selection: bool,
}

impl WeightOptions {
    fn granularity(&self) -> Grouping {
        let axis = self.axis;
        match self.granularity {
            _ if !self.block.is_empty() => Grouping::Blocks(self.block.clone()),
            Granularity::PerTensor => Grouping::PerTensor,
            Granularity::PerChannel => Grouping::PerChannel { axis },
            Granularity::PerBlock => Grouping::PerBlock {
                axis,
                block_axis: self.block_axis,
                block_size: self.block_size,
            },
        }
    }

    pub fn options(&self, model: &Path) -> Result<QuantizeOptions, Error> {
        let scheme = Scheme {
            dtype: self.dtype,
            mode: self.mode.unwrap_or_default(),
            dialect: self.dialect,
        };
        let config = self.config.as_ref();
        let config = config.map(|path| Config::open(path, scheme.dialect));
        let importance = self
            .importance
            .as_deref()
            .map(quant_models::open_importance);
        let format = self.format.unwrap_or_else(|| encoding_of(model));
        let mut options = QuantizeOptions::for_encoding(format);
        // An encoding has these options, or some of its own.
        if format.takes("dtype") {
            options.scheme = scheme;
            options.granularity = self.granularity();
        }
        if format.takes("min_elements") {
            options.min_elements = self.min_elements;
        }
        if let Some(block_type) = self.block_type {
            options.block_type = Some(block_type);
        }
        if let Some(preset) = self.preset {
            options = options.with_preset(preset);
        }
        if let Some(mode) = self.mode.filter(|_| format.takes("mode")) {
            options.scheme.mode = mode;
        }
        if let Some(bits) = self.bits {
            options = options.with_bits(bits)?;
        }
        if let Some(size) = self.group_size {
            options = options.with_group_size(size);
        }
        Ok(options
            .with_requantize(self.requantize)
            .with_config(config.transpose()?)
            .with_include(self.names.include()?)
            .with_exclude(self.names.exclude()?)
            .with_experts(
                Experts::default()
                    .with_names(patterns("--experts", &self.experts)?)
                    .with_axes(self.expert_axes),
            )
            .with_exact_selection(self.exact_selection)
            .with_search(self.search)
            .with_importance(importance.transpose()?))
    }
}
