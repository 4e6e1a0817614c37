//! What model files of any format share: facts about their tensors, the plan that decides what
//! happens to each, the driver that carries it out, reports, and files that appear whole or not at all.
//!
//! A format implements [`Format`](format::Format) and [`OpenModel`](format::OpenModel). Whoever wants
//! to work on models takes the crate quant-models, which brings all formats together and has the
//! stable interface: the modules here may change with every version.
#![forbid(unsafe_code)]

pub mod activations;
pub mod block_quantizer;
mod config;
mod encoding;
pub mod error;
pub mod execute;
pub mod facts;
pub mod format;
mod given;
mod importance;
pub mod io;
mod job;
mod large;
pub mod mixed;
pub mod options;
mod patterns;
mod plan;
mod planning;
mod policy;
mod preset;
pub mod ranges;
pub mod recoded;
pub mod report;
pub mod restored;
pub mod scheme_record;
pub mod settings;
pub mod sniff;
pub mod stored;
pub mod structure;
mod text;
pub mod unique;
pub mod unmatched;
pub mod values;
mod weighing;

pub use activations::{
    ActivationOptions, OperationReport, QuantizedActivation, WantedActivation, WantedActivations,
};
pub use config::Config;
pub use encoding::Encoding;
pub use error::{Error, ErrorKind};
pub use format::{Layout, ResultKind};
pub use given::GivenCodes;
pub use importance::InputImportance;
pub use io::{AtomicFile, AtomicFolder, Inputs};
pub use job::{Job, total_bytes};
pub use large::Large;
pub use mixed::{
    Candidate, Compared, Curve, CurvePoint, Damage, Extent, FoundBy, MixedOptions, MixedSummary,
    MixedTarget, Part,
};
pub use options::{ComputeUnit, ExpertAxes, Experts, NonFinite, QuantizeOptions};
pub use patterns::patterns;
pub use plan::{Asked, Plan, PlannedTensor, Remarks, TensorSpec};
pub use preset::Preset;
pub use ranges::{ActivationRange, Ranges};
pub use report::{Report, TensorReport};
pub use restored::{Converted, DequantizeOptions, Restored};
pub use scheme_record::SchemeRecord;
pub use settings::{Consumer, Grouping};
pub use text::{Hint, HintCommand, HintKind, Note, columns, printable, shortened};
