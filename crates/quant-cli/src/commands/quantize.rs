//! `quant quantize`.

use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, ValueHint};
use quant_core::Scheme;
use quant_models::{
    ActivationOptions, AtomicFile, Config, Encoding, Error, Experts, QuantizeOptions, patterns,
};
use serde_json::json;

use crate::choices::{ByteType, Dialect, Dtype, ExpertAxes, Granularity, Mode, NonFinite, Target};
use crate::options::{
    BackendOption, CautionOptions, ForceOption, JsonOption, NameOptions, ThreadsOption,
    WeightsOnlyOption, named,
};
use crate::paths::{Kind, default_output};
use crate::progress::{only_words_are_left, size_of, with_progress};
use crate::report::print_summary;
use crate::terminal::{json_text, print_json, warn};

const EXAMPLES: &str = "\
Examples:
  quant quantize model.safetensors
  quant quantize model.safetensors --dtype int4 --granularity per-block --block-size 32
  quant quantize model.safetensors --exclude '^lm_head' --dry-run
  quant quantize Model.mlpackage --config config.yaml -o Small.mlpackage
  quant quantize Model.mlpackage --ranges ranges.json";

/// Quantize a model's weights
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Quantize {
    /// A .safetensors file, a folder with an index or one file, an index, or an .mlpackage
    #[arg(value_hint = ValueHint::AnyPath)]
    model: PathBuf,
    /// The result [default: beside the model, as NAME.DTYPE.safetensors or .mlpackage]
    #[arg(short, long, value_hint = ValueHint::AnyPath)]
    output: Option<PathBuf>,
    /// Safetensors: how quantized tensors lie in the files
    #[arg(long, value_name = "NAME", value_parser = named::<Encoding>(), default_value = "native")]
    format: Encoding,
    /// Bits per code, in a format that has a dialect of its own
    #[arg(long, value_name = "N", value_hint = ValueHint::Other)]
    bits: Option<u32>,
    /// Elements per scale along the last axis, in such a format
    #[arg(long, value_name = "N", value_hint = ValueHint::Other)]
    group_size: Option<usize>,
    /// Type of the codes
    #[arg(long, value_enum, default_value = "int8")]
    dtype: Dtype,
    /// Range symmetric about zero, or that of the values
    #[arg(long, value_enum, default_value = "symmetric")]
    mode: Mode,
    /// Which elements share a scale
    #[arg(long, value_enum, default_value = "per-channel")]
    granularity: Granularity,
    /// Output-channel axis; negative axes count from the end [default: 0; Core ML: by the operation]
    #[arg(long, allow_negative_numbers = true, value_hint = ValueHint::Other)]
    axis: Option<isize>,
    /// Elements per block along one axis, for per-block
    ///
    /// A block is this many elements of the block axis at one index of the output-channel axis, and all
    /// of the other axes: of a convolution's [output, input, height, width], 32 input channels with
    /// their whole kernels; of a tensor [64, 128, 3], 32 times 3 elements. Of stacked experts, which
    /// have rank 3, it is 32 inputs of one output row of one expert.
    #[arg(long, default_value_t = 32, value_hint = ValueHint::Other)]
    block_size: usize,
    /// The axis that is cut into blocks, for per-block [default: 1, of stacked experts that of the
    /// inputs; Core ML: by the operation]
    #[arg(long, allow_negative_numbers = true, value_hint = ValueHint::Other)]
    block_axis: Option<isize>,
    /// A block size per axis, in place of --granularity; 0 or missing means the whole axis
    #[arg(long, value_delimiter = ',', value_name = "A,B,...", value_hint = ValueHint::Other)]
    block: Vec<usize>,
    /// A coremltools configuration, YAML or JSON, in place of the options above
    #[arg(long, value_name = "FILE.yaml", value_hint = ValueHint::FilePath)]
    config: Option<PathBuf>,
    /// Arithmetic as coremltools does it, or in f32 with f32 scales
    #[arg(long, value_enum, default_value = "coremltools")]
    dialect: Dialect,
    /// Only tensors with more elements, and of rank 2 or more
    #[arg(long, default_value_t = 2048, value_hint = ValueHint::Other)]
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
    #[arg(long, value_enum)]
    expert_axes: Option<ExpertAxes>,
    /// Core ML: quantize activations too; their ranges, as `quant activations` takes them
    #[arg(long, value_name = "FILE.json", value_hint = ValueHint::FilePath)]
    ranges: Option<PathBuf>,
    /// With --ranges: type of the activations' codes
    #[arg(long, value_enum, default_value = "int8")]
    activation_dtype: ByteType,
    /// With --ranges: range of the activations symmetric about zero, or as it is
    #[arg(long, value_enum, default_value = "symmetric")]
    activation_mode: Mode,
    /// Core ML: leave alone whatever coremltools leaves alone
    #[arg(long)]
    exact_selection: bool,
    /// Core ML: warn of what is known to run badly there
    #[arg(long, value_enum)]
    target: Option<Target>,
    /// What to do with a tensor that holds NaN or Inf
    #[arg(long, value_enum, default_value = "error")]
    non_finite: NonFinite,
    #[command(flatten)]
    backend: BackendOption,
    #[command(flatten)]
    threads: ThreadsOption,
    #[command(flatten)]
    caution: CautionOptions,
    #[command(flatten)]
    force: ForceOption,
    #[command(flatten)]
    weights_only: WeightsOnlyOption,
    /// Print nothing but errors and warnings, and do not measure what was lost: it is faster
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    json: JsonOption,
    /// Write the report as JSON to a file
    #[arg(long, value_name = "FILE.json", value_hint = ValueHint::FilePath)]
    report: Option<PathBuf>,
}

impl Quantize {
    fn options(&self) -> Result<QuantizeOptions, Error> {
        let scheme = Scheme {
            dtype: self.dtype.into(),
            mode: self.mode.into(),
            dialect: self.dialect.into(),
        };
        let axis = self.axis;
        let granularity = match self.granularity {
            _ if !self.block.is_empty() => quant_models::Granularity::Blocks(self.block.clone()),
            Granularity::PerTensor => quant_models::Granularity::PerTensor,
            Granularity::PerChannel => quant_models::Granularity::PerChannel { axis },
            Granularity::PerBlock => quant_models::Granularity::PerBlock {
                axis,
                block_axis: self.block_axis,
                block_size: self.block_size,
            },
        };
        let activations = self.ranges.as_ref().map(|path| {
            let mut activations = ActivationOptions::open(path)?;
            activations.scheme =
                Scheme::new(self.activation_dtype.into(), self.activation_mode.into());
            Ok::<_, Error>(activations)
        });
        let config = self.config.as_ref();
        let config = config.map(|path| Config::open(path, scheme.dialect));
        let mut options = QuantizeOptions::for_encoding(self.format);
        // An encoding has either these options or bits and groups.
        if self.format.takes("dtype") {
            options.scheme = scheme;
            options.granularity = granularity;
            options.min_elements = self.min_elements;
        }
        if let Some(bits) = self.bits {
            options = options.with_bits(bits)?;
        }
        if let Some(size) = self.group_size {
            options = options.with_group_size(size);
        }
        Ok(QuantizeOptions {
            config: config.transpose()?,
            include: self.names.include()?,
            exclude: self.names.exclude()?,
            experts: Experts {
                names: patterns("--experts", &self.experts)?,
                axes: self.expert_axes.map(Into::into),
            },
            non_finite: self.non_finite.into(),
            activations: activations.transpose()?,
            exact_selection: self.exact_selection,
            target: self.target.map(Into::into),
            strict: self.caution.strict,
            dry_run: self.caution.dry_run,
            weights_only: self.weights_only.weights_only,
            backend: self.backend.find()?,
            // Nobody would see them.
            stats: !self.quiet || self.json.json || self.report.is_some(),
            ..options
        })
    }

    pub fn run(&self) -> Result<(), Error> {
        let options = self.options()?;
        let output = match &self.output {
            Some(output) => {
                Kind::check_result(&self.model, &options.inputs(&self.model), output)?;
                output.clone()
            }
            None if options.config.is_some() => default_output(&self.model, "quantized"),
            None if self.format != Encoding::Native => {
                default_output(&self.model, self.format.name())
            }
            None => default_output(&self.model, options.scheme.dtype.name()),
        };
        // A report that cannot be written ends the work before it begins.
        let report_file = self.report.as_deref().map(|path| {
            let mut inputs = options.inputs(&self.model);
            inputs.output(&output);
            let file = AtomicFile::create(path, "report", self.force.force, &inputs)?;
            warn(file.warnings());
            Kind::Json.check(path)?;
            Ok::<_, Error>(file)
        });
        let report_file = report_file.transpose()?;
        let start = Instant::now();
        let quiet = self.quiet || self.json.json;
        let bytes = size_of(&self.model);
        let report = with_progress(
            self.threads.threads,
            quiet,
            self.force.force,
            bytes,
            |job| quant_models::quantize(&self.model, &output, &options, job),
        )?;
        let seconds = start.elapsed().as_secs_f64();
        let value = || {
            json!({
            "version": 1,
            "input": self.model.to_string_lossy(),
            "output": (!self.caution.dry_run).then(|| output.to_string_lossy()),
            "seconds": seconds,
            "bytes_before": report.bytes_before,
            "bytes_after": report.bytes_after,
            "warnings": report.warnings,
            "notes": report.notes,
            "copied": report.copied,
            "tensors": report.tensors,
            "operations": report.operations,
            })
        };
        warn(&report.warnings);
        if let Some(file) = report_file {
            file.commit(json_text(&value()).as_bytes())?;
        }
        only_words_are_left();
        match (self.json.json, self.quiet) {
            (true, _) => print_json(&value()),
            (false, true) => Ok(()),
            (false, false) => print_summary(&report, &output, seconds),
        }
    }
}
