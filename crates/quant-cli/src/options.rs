//! Groups of options that several commands share.

use clap::builder::{PossibleValue, TypedValueParser};
use clap::{Args, ValueHint};
use quant_core::{IntType, Mode, Scheme};
use quant_models::{Error, Job, patterns};
use quant_simd::Backend;
use regex::Regex;

use crate::choices::{byte_type, named};

/// Of a command that writes a file or a folder.
#[derive(Args)]
pub struct ForceOption {
    /// Replace what exists
    #[arg(short, long)]
    pub force: bool,
}

/// Of a command that writes a model.
#[derive(Args)]
pub struct SyncOption {
    /// Do not wait for the disk: sooner done, but a power cut soon after may leave an incomplete result
    #[arg(long)]
    no_sync: bool,
}

impl SyncOption {
    /// The job that waits as the option says.
    pub fn of<'a>(&self, job: &Job<'a>) -> Job<'a> {
        job.with_sync(!self.no_sync)
    }
}

#[derive(Args)]
pub struct QuietOption {
    /// Print nothing but errors and warnings
    #[arg(short, long)]
    pub quiet: bool,
}

#[derive(Args)]
pub struct JsonOption {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct ThreadsOption {
    /// Number of threads; 0 means one per core
    #[arg(short = 'j', long, default_value_t = 0, value_name = "N", value_hint = ValueHint::Other,
        value_parser = clap::value_parser!(u16).range(0..=1024))]
    pub threads: u16,
}

#[derive(Args)]
pub struct BackendOption {
    /// One of those that `quant backends` lists [default: the first of them]
    #[arg(long, value_name = "NAME", value_parser = BackendName, hide_possible_values = true)]
    pub backend: Option<String>,
}

/// Takes any name, so that one that this machine lacks can be told from one that nobody has; knows
/// those that shells complete.
#[derive(Clone)]
struct BackendName;

impl TypedValueParser for BackendName {
    type Value = String;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<String, clap::Error> {
        clap::builder::StringValueParser::new().parse_ref(command, argument, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let names = Backend::available().iter().map(|backend| backend.name());
        Some(Box::new(
            names
                .map(PossibleValue::new)
                .collect::<Vec<_>>()
                .into_iter(),
        ))
    }
}

impl BackendOption {
    /// The backend of that name, or the default.
    pub fn find(&self) -> Result<Backend, Error> {
        let Some(name) = &self.backend else {
            return Ok(Backend::detect());
        };
        Backend::by_name(name).map_err(|_| {
            Error::Option(format!(
                "no backend `{name}` on this machine; `quant backends` lists them"
            ))
        })
    }
}

/// Of a command that can stop short of writing.
#[derive(Args)]
pub struct CautionOptions {
    /// Exit 3, without output, if something that was selected cannot be quantized
    #[arg(long)]
    pub strict: bool,
    /// Say what would be done, and write nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// What goes beside the weights of a sharded model.
#[derive(Args)]
pub struct WeightsOnlyOption {
    /// Sharded models: do not copy config.json, the tokenizer and what else a loader needs
    #[arg(long)]
    pub weights_only: bool,
}

/// Which tensors or operations are meant.
#[derive(Args)]
pub struct NameOptions {
    /// Only what has a name that matches; repeatable
    #[arg(long, value_name = "REGEX", value_hint = ValueHint::Other)]
    include: Vec<String>,
    /// Nothing that has a name that matches; repeatable
    #[arg(long, value_name = "REGEX", value_hint = ValueHint::Other)]
    exclude: Vec<String>,
}

impl NameOptions {
    pub fn include(&self) -> Result<Vec<Regex>, Error> {
        patterns("--include", &self.include)
    }

    pub fn exclude(&self) -> Result<Vec<Regex>, Error> {
        patterns("--exclude", &self.exclude)
    }
}

/// How activations are quantized, where the command is about nothing else.
#[derive(Args)]
pub struct ActivationScheme {
    /// Type of the codes
    #[arg(long, value_parser = byte_type(), default_value = "int8")]
    pub dtype: IntType,
    /// Range symmetric about zero, or as it is
    #[arg(long, value_parser = named::<Mode>(), default_value = "symmetric")]
    pub mode: Mode,
}

impl ActivationScheme {
    pub fn scheme(&self) -> Scheme {
        Scheme::new(self.dtype, self.mode)
    }
}
