//! What can be said on the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::calibrate::Calibrate;
use crate::plot::Plot;

/// Linear quantization of model files, with the arithmetic of coremltools.
#[derive(Parser)]
#[command(name = "quant", version)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLE: &str = "\
Each conv, linear, add, avg_pool and max_pool gets what it takes through a pair of quantize and
dequantize, and so does what takes its output, after the activation function where one follows, as
coremltools' linear_quantize_activations does it. Operations without a range are listed, and left in
float. Weights stay as they are; `quant quantize --ranges` does both.

Ranges are JSON, by the names of the model's variables, which --list shows:

  {\"version\": 1, \"activations\": {\"input\": {\"min\": 0, \"max\": 1}, \"conv_1\": {\"min\": -3.5, \"max\": 4}}}

The whole way:

  quant activations Model.mlpackage --list              # record these, as recorded/NAME/000001.npy
  quant calibrate recorded -o ranges.json
  quant plot ranges.json -o ranges.html
  quant activations Model.mlpackage --ranges ranges.json -o Model.a8.mlpackage";

#[derive(Subcommand)]
pub enum Command {
    /// Quantize a model's weights
    Quantize(Quantize),
    /// Quantize the activations of an .mlpackage, as their ranges say
    #[command(after_long_help = EXAMPLE)]
    Activations(Activations),
    // Without words here, --help shows those of the arguments, with examples.
    Calibrate(Calibrate),
    Plot(Plot),
    /// Turn a quantized model back into a float one
    Dequantize(Dequantize),
    /// List a model's tensors
    Inspect {
        /// A .safetensors file, a folder with an index, an index, or an .mlpackage
        file: PathBuf,
        /// Look at the values too: share of zeros, number of different values
        #[arg(long)]
        values: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Compare two models, quantized or not; exit 1 when they differ
    Diff {
        /// The first model
        a: PathBuf,
        /// The second model
        b: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List what this machine can run, the default first
    Backends {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Dtype {
    Int8,
    Uint8,
    Int4,
    Uint4,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Byte {
    Int8,
    Uint8,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Mode {
    #[value(alias = "linear_symmetric")]
    Symmetric,
    #[value(alias = "linear")]
    Affine,
}

#[derive(Clone, Copy, ValueEnum)]
#[expect(clippy::enum_variant_names, reason = "the field's names")]
pub enum Granularity {
    #[value(alias = "per_tensor")]
    PerTensor,
    #[value(alias = "per_channel")]
    PerChannel,
    #[value(alias = "per_block")]
    PerBlock,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Dialect {
    Coremltools,
    Wide,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum NonFinite {
    Error,
    Skip,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Target {
    /// The Apple Neural Engine
    Ane,
    Gpu,
    Cpu,
}

#[derive(Args)]
pub struct Quantize {
    /// A .safetensors file, a folder with an index, an index, or an .mlpackage
    pub model: PathBuf,
    /// The result [default: beside the model, as NAME.DTYPE.safetensors or .mlpackage]
    #[arg(short)]
    pub output: Option<PathBuf>,
    /// Type of the codes
    #[arg(long, value_enum, default_value = "int8")]
    pub dtype: Dtype,
    /// Range symmetric about zero, or that of the values
    #[arg(long, value_enum, default_value = "symmetric")]
    pub mode: Mode,
    /// Which elements share a scale
    #[arg(long, value_enum, default_value = "per-channel")]
    pub granularity: Granularity,
    /// Output-channel axis; negative axes count from the end [default: 0; Core ML: by the operation]
    #[arg(long, allow_negative_numbers = true)]
    pub axis: Option<isize>,
    /// Elements per block, for per-block
    #[arg(long, default_value_t = 32)]
    pub block_size: usize,
    /// The axis that is cut into blocks, for per-block [default: 1; Core ML: by the operation]
    #[arg(long, allow_negative_numbers = true)]
    pub block_axis: Option<isize>,
    /// A block size per axis; 0 or missing means the whole axis
    #[arg(long, value_delimiter = ',', value_name = "A,B,...",
        conflicts_with_all = ["granularity", "axis", "block_size", "block_axis"])]
    pub block: Vec<usize>,
    /// A coremltools configuration, YAML or JSON, in place of the options above
    #[arg(long, value_name = "FILE.yaml", conflicts_with_all = ["dtype", "mode", "granularity",
        "axis", "block_size", "block_axis", "block", "min_elements"])]
    pub config: Option<PathBuf>,
    /// Arithmetic as coremltools does it, or in f32 with f32 scales
    #[arg(long, value_enum, default_value = "coremltools")]
    pub dialect: Dialect,
    /// Only tensors with more elements, and of rank 2 or more
    #[arg(long, default_value_t = 2048)]
    pub min_elements: usize,
    /// Only tensors whose name matches; repeatable
    #[arg(long, value_name = "REGEX")]
    pub include: Vec<String>,
    /// No tensors whose name matches; repeatable
    #[arg(long, value_name = "REGEX")]
    pub exclude: Vec<String>,
    /// Core ML: quantize activations too; their ranges, as `quant activations` takes them
    #[arg(long, value_name = "FILE.json")]
    pub ranges: Option<PathBuf>,
    /// Type of the activations' codes
    #[arg(long, value_enum, default_value = "int8", requires = "ranges")]
    pub activation_dtype: Byte,
    /// Range of the activations symmetric about zero, or as it is
    #[arg(long, value_enum, default_value = "symmetric", requires = "ranges")]
    pub activation_mode: Mode,
    /// Core ML: leave alone whatever coremltools leaves alone
    #[arg(long)]
    pub exact_selection: bool,
    /// Core ML: warn of what is known to run badly there
    #[arg(long, value_enum)]
    pub target: Option<Target>,
    /// What to do with a tensor that holds NaN or Inf
    #[arg(long, value_enum, default_value = "error")]
    pub non_finite: NonFinite,
    /// One of those that `quant backends` lists [default: the first of them]
    #[arg(long, value_name = "NAME")]
    pub backend: Option<String>,
    /// Number of threads; 0 means one per core
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=1024))]
    pub threads: u16,
    /// Exit 3, without output, if a selected tensor cannot be quantized
    #[arg(long)]
    pub strict: bool,
    /// Say what would be done, and write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Replace an existing output, and report
    #[arg(long)]
    pub force: bool,
    /// Print nothing but errors, and do not measure what was lost: it is faster
    #[arg(long)]
    pub quiet: bool,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
    /// Write the report as JSON to a file
    #[arg(long, value_name = "FILE.json")]
    pub report: Option<PathBuf>,
}

#[derive(Args)]
pub struct Activations {
    /// An .mlpackage for iOS17 or later
    pub model: PathBuf,
    /// The ranges of its activations, by the names that --list shows
    #[arg(long, value_name = "FILE.json", required_unless_present = "list")]
    pub ranges: Option<PathBuf>,
    /// List the activations that want a range, and write nothing
    #[arg(long, conflicts_with_all = ["ranges", "output", "strict", "dry_run", "force", "quiet"])]
    pub list: bool,
    /// The result [default: beside the model, as NAME.activations.mlpackage]
    #[arg(short)]
    pub output: Option<PathBuf>,
    /// Type of the codes
    #[arg(long, value_enum, default_value = "int8")]
    pub dtype: Byte,
    /// Range symmetric about zero, or as it is
    #[arg(long, value_enum, default_value = "symmetric")]
    pub mode: Mode,
    /// A coremltools configuration, YAML or JSON, in place of --dtype and --mode
    #[arg(long, value_name = "FILE.yaml", conflicts_with_all = ["dtype", "mode"])]
    pub config: Option<PathBuf>,
    /// Only operations whose name matches; repeatable
    #[arg(long, value_name = "REGEX")]
    pub include: Vec<String>,
    /// No operations whose name matches; repeatable
    #[arg(long, value_name = "REGEX")]
    pub exclude: Vec<String>,
    /// Exit 3, without output, if an activation has no range
    #[arg(long)]
    pub strict: bool,
    /// Say what would be done, and write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Replace an existing output
    #[arg(long)]
    pub force: bool,
    /// Print nothing but errors
    #[arg(long)]
    pub quiet: bool,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct Dequantize {
    /// A model quantized by quant, or an .mlpackage quantized by anyone
    pub file: PathBuf,
    /// The result [default: beside the model, as NAME.float.safetensors or .mlpackage]
    #[arg(short)]
    pub output: Option<PathBuf>,
    /// Number of threads; 0 means one per core
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=1024))]
    pub threads: u16,
    /// Replace an existing output
    #[arg(long)]
    pub force: bool,
    /// Print nothing but errors
    #[arg(long)]
    pub quiet: bool,
}
