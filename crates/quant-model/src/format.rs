//! What a file format can do: it states facts and applies decisions, and makes none.

use std::path::Path;

use quant_simd::TensorQuantizer;

use crate::error::command;
use crate::facts::Facts;
use crate::io::Data;
use crate::report::Decision;
use crate::settings::Settings;
use crate::stored::TensorView;
use crate::structure::Structure;
use crate::unmatched::Unmatched;
use crate::{
    ActivationOptions, Converted, DequantizeOptions, Encoding, Error, HintCommand, Job,
    OperationReport, QuantizeOptions, Report, Restored, WantedActivations,
};

/// A file format.
pub trait Format: Sync {
    /// What messages call a model of it.
    fn model(&self) -> &'static str;

    /// Whether a path is that of such a model, by its form or its name.
    fn matches(&self, path: &Path) -> bool;

    /// Opens a model for as long as `work` takes.
    ///
    /// # Errors
    /// A model that cannot be read; what `work` says.
    fn open(&self, path: &Path, job: &Job<'_>, work: Work<'_>) -> Result<(), Error>;

    /// Whether a model says where its activations are.
    fn has_activations(&self) -> bool;

    /// What a result is, whose name must not promise anything else.
    fn result(&self, model: &Path) -> ResultKind;

    /// How results are encoded where the options say nothing else.
    fn encoding(&self) -> Encoding {
        Encoding::Native
    }
}

/// A format that models of other formats are written in.
pub trait Target: Sync {
    /// What a result is.
    fn result(&self) -> ResultKind;

    /// The model as it is written, for as long as `work` takes.
    ///
    /// # Errors
    /// A model that has no place in the format; what `work` says.
    fn take(
        &self,
        model: &dyn OpenModel,
        path: &Path,
        options: &QuantizeOptions,
        job: &Job<'_>,
        work: Work<'_>,
    ) -> Result<(), Error>;

    /// Writes a model that is quantized, with the same codes and scales.
    ///
    /// # Errors
    /// Tensors that have no place there with the same values; then there is no output.
    fn convert(
        &self,
        model: &dyn OpenModel,
        path: &Path,
        output: &Path,
        job: &Job<'_>,
    ) -> Result<Converted, Error>;
}

/// What is done with an open model.
pub type Work<'w> = &'w mut dyn FnMut(&dyn OpenModel) -> Result<(), Error>;

/// What lies where a result is written.
// Exhaustive: whoever names or replaces a result must know what lies there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// One file. Its name ends so, without the dot, or in no way that promises anything else.
    File(&'static str),
    /// Files in a folder, whose name says nothing of them.
    Folder,
    /// A folder that tools know by this ending of its name: no other will do.
    Package(&'static str),
}

/// What a result is. Each format says what its own are, beside its [`Format`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResultKind {
    /// What people call it, with its article.
    pub what: &'static str,
    /// What it lies in.
    pub layout: Layout,
    /// Whether it is safetensors, which are tensors alone, so that other formats can say them, too. A GGUF
    /// file is not: its metadata says how the model runs.
    pub is_tensors: bool,
}

impl ResultKind {
    /// One file that is named so, whatever it is made of.
    pub const fn file(what: &'static str, extension: &'static str) -> Self {
        Self::new(what, Layout::File(extension))
    }

    /// A folder of files.
    pub const fn folder(what: &'static str) -> Self {
        Self::new(what, Layout::Folder)
    }

    /// A folder that tools know by the ending of its name.
    pub const fn package(what: &'static str, extension: &'static str) -> Self {
        Self::new(what, Layout::Package(extension))
    }

    const fn new(what: &'static str, layout: Layout) -> Self {
        Self {
            what,
            layout,
            is_tensors: false,
        }
    }

    /// The same, of [tensors alone](Self::is_tensors).
    #[must_use]
    pub const fn of_tensors(mut self) -> Self {
        self.is_tensors = true;
        self
    }

    /// How its name ends, without the dot; `None` for folders that are named as one likes.
    pub const fn extension(&self) -> Option<&'static str> {
        match self.layout {
            Layout::File(extension) | Layout::Package(extension) => Some(extension),
            Layout::Folder => None,
        }
    }
}

/// A model that is open.
pub trait OpenModel {
    /// Bytes of all of it.
    ///
    /// # Errors
    /// It cannot be looked at.
    fn bytes(&self) -> Result<u64, Error>;

    /// Whether it writes results of an encoding itself.
    fn writes(&self, encoding: Encoding) -> bool {
        encoding == Encoding::Native
    }

    /// Refuses options that have no meaning for it, and a model that is quantized already.
    ///
    /// # Errors
    /// What is refused, and what to do.
    fn check_options(&self, options: &QuantizeOptions) -> Result<(), Error>;

    /// Its tensors, in the order of reports; and what the user should know, a line each.
    ///
    /// # Errors
    /// A model that is damaged, or of which most is quantized already.
    fn facts(
        &self,
        options: &QuantizeOptions,
        job: &Job<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<Vec<Facts>, Error>;

    /// What finds how the options want a tensor quantized.
    ///
    /// # Errors
    /// A configuration that has no meaning for the format.
    fn rules<'o>(&self, options: &'o QuantizeOptions) -> Result<Rules<'o>, Error>;

    /// Changes the settings of a tensor to what a rule of the format wants for it.
    ///
    /// # Errors
    /// The rule leaves it alone: why.
    fn adjust(
        &self,
        _facts: &Facts,
        _options: &QuantizeOptions,
        _settings: &mut Settings,
    ) -> Result<(), String> {
        Ok(())
    }

    /// The fewest elements that can be quantized.
    fn least_elements(&self) -> usize {
        1
    }

    /// Whether its files hold blocks of ggml's types.
    fn has_blocks(&self) -> bool {
        false
    }

    /// Refuses settings that this version of the format cannot say.
    ///
    /// # Errors
    /// What it cannot say, and what to do.
    fn check(&self, facts: &Facts, settings: &Settings) -> Result<(), Error>;

    /// Whether the format has a place for what a quantization makes.
    ///
    /// # Errors
    /// Why not.
    fn supports(
        &self,
        facts: &Facts,
        quantizer: &TensorQuantizer,
        options: &QuantizeOptions,
    ) -> Result<(), Unsupported>;

    /// Bytes that a quantized tensor takes in a file: codes, scales, and zero points as the format packs
    /// them.
    fn stored_len(
        &self,
        _facts: &Facts,
        quantizer: &TensorQuantizer,
        _options: &QuantizeOptions,
    ) -> usize {
        quantizer.codes_len() + quantizer.scales_len() + quantizer.zero_points_len()
    }

    /// A float tensor's values.
    ///
    /// # Errors
    /// They cannot be found.
    fn data(&self, tensor: usize) -> Result<Data<'_>, Error>;

    /// What is known to run badly, a line each.
    fn advice(&self, _decisions: &[Decision], _options: &QuantizeOptions) -> Vec<String> {
        Vec::new()
    }

    /// Names and patterns of the options that match nothing.
    fn unmatched(&self, options: &QuantizeOptions) -> Vec<Unmatched>;

    /// Bytes of the files that [`quantize`](Self::quantize) would write by a plan of these decisions, where
    /// that is known before; without those that are copied.
    ///
    /// # Errors
    /// Decisions that do not go together.
    fn bytes_of(
        &self,
        _decisions: &[Decision],
        _options: &QuantizeOptions,
        _job: &Job<'_>,
    ) -> Result<Option<u64>, Error> {
        Ok(None)
    }

    /// Writes the model with these decisions, one per tensor.
    ///
    /// # Errors
    /// See [`Error`]; then there is no output.
    fn quantize(
        &self,
        output: &Path,
        decisions: &[Decision],
        options: &QuantizeOptions,
        job: &Job<'_>,
        report: &mut Report,
    ) -> Result<(), Error>;

    /// Refuses a model of which some quantized tensors can be restored and others, in the way of
    /// another tool or damaged, would silently stay as they are.
    ///
    /// # Errors
    /// The first of these, and what to do.
    fn check_restorable(&self, _job: &Job<'_>) -> Result<(), Error> {
        Ok(())
    }

    /// Writes the model with its quantized tensors as floats.
    ///
    /// # Errors
    /// See [`Error`]; then there is no output.
    fn dequantize(
        &self,
        output: &Path,
        options: &DequantizeOptions,
        job: &Job<'_>,
    ) -> Result<Restored, Error>;

    /// Writes the model, which is quantized, in an encoding that it [writes](Self::writes): the same
    /// codes, scales and zero points.
    ///
    /// # Errors
    /// Tensors that have no place there with the same values; then there is no output.
    fn convert(
        &self,
        path: &Path,
        _output: &Path,
        encoding: Encoding,
        _options: &DequantizeOptions,
        _job: &Job<'_>,
    ) -> Result<Converted, Error> {
        let problem = format!(
            "is not converted to {encoding}; {} restores it, and {} writes other formats from float models",
            command(HintCommand::Dequantize),
            command(HintCommand::Quantize)
        );
        Err(Error::file(path, problem))
    }

    /// What it says beside its tensors that no conversion keeps, a line each.
    fn lost(&self) -> Vec<String> {
        Vec::new()
    }

    /// Its tensors and their bytes.
    ///
    /// # Errors
    /// A model that is damaged.
    fn stored(&self, job: &Job<'_>) -> Result<Vec<TensorView<'_>>, Error>;

    /// Those of its tensors that another format takes: without those that mean nothing there.
    ///
    /// # Errors
    /// A model that is damaged.
    fn convertible(&self, job: &Job<'_>) -> Result<Vec<TensorView<'_>>, Error> {
        self.stored(job)
    }

    /// Whether its weights are what was written, where the format can say it; else what the user should
    /// know.
    ///
    /// # Errors
    /// They are not; [`Error::Interrupted`].
    fn check_written(&self, _job: &Job<'_>) -> Result<Option<String>, Error> {
        Ok(None)
    }

    /// What it consists of beside its tensors.
    fn structure(&self) -> Structure {
        Structure::default()
    }

    /// Its activations, in a format that knows them.
    fn activations(&self) -> Option<&dyn Activations> {
        None
    }
}

/// Finds the settings of a tensor: `None` leaves it in float, an error is about options that contradict
/// each other.
pub type Rules<'o> = Box<dyn Fn(&Facts) -> Result<Option<Settings>, String> + 'o>;

/// Why a quantization has no place in a file.
pub enum Unsupported {
    /// The tensor is left out.
    Skip(String),
    /// So is the tensor; if no other fits, the options are to blame, and the work ends.
    Mistake(String),
    /// The work ends.
    Fail(Error),
}

/// A model that says where its activations are.
pub trait Activations {
    /// The model with quantize and dequantize pairs, for as long as `work` takes.
    ///
    /// # Errors
    /// Options that do not fit; what `work` says.
    fn with_pairs(
        &self,
        options: &ActivationOptions,
        work: &mut dyn FnMut(Inserted, &dyn OpenModel) -> Result<(), Error>,
    ) -> Result<(), Error>;

    /// Writes the model with these pairs, and its weights as they are.
    ///
    /// # Errors
    /// See [`Error`]; then there is no output.
    fn quantize(
        &self,
        output: &Path,
        options: &ActivationOptions,
        job: &Job<'_>,
    ) -> Result<Report, Error>;

    /// The activations that need a range.
    ///
    /// # Errors
    /// Options that do not fit.
    fn wanted(&self, options: &ActivationOptions) -> Result<WantedActivations, Error>;
}

/// What was done with activations.
#[derive(Default)]
pub struct Inserted {
    /// Per operation whose activations could be quantized.
    pub operations: Vec<OperationReport>,
    /// Names and patterns of the options that match nothing.
    pub unmatched: Vec<Unmatched>,
}
