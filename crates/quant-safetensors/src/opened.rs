//! A safetensors model among the formats: its facts.

use std::path::Path;

use quant_model::error::command;
use quant_model::facts::{Facts, Storage};
use quant_model::format::{Format, OpenModel, ResultKind, Rules, Unsupported, Work};
use quant_model::io::Data;
use quant_model::report::Decision;
use quant_model::settings::Settings;
use quant_model::stored::TensorView;
use quant_model::unmatched::{Known, Unmatched};
use quant_model::{
    Converted, DequantizeOptions, Encoding, Error, HintCommand, Job, Large, QuantizeOptions,
    Report, Restored,
};
use quant_simd::TensorQuantizer;

use super::convert;
use super::dequantize;
use super::encodings::{check_names, convention, encodings};
use super::experts::Stacks;
use super::foreign::Foreign;
use super::quantize;
use crate::{Entry, Model, SafetensorsFile, Tensor};

/// Safetensors files, and folders of them.
pub struct Safetensors;

/// What becomes of one file.
const FILE: ResultKind = ResultKind::file("a safetensors file", "safetensors").of_tensors();

/// What becomes of files and their index.
const FOLDER: ResultKind =
    ResultKind::folder("a folder of safetensors files and their index").of_tensors();

impl Format for Safetensors {
    fn model(&self) -> &'static str {
        "a safetensors model"
    }

    /// Whatever no other format claims: a message then says what it is.
    fn matches(&self, _path: &Path) -> bool {
        true
    }

    fn open(&self, path: &Path, job: &Job<'_>, work: Work<'_>) -> Result<(), Error> {
        let model = Large::new(Model::open_for(path, job)?, job);
        work(&Opened {
            entries: model.base.entries().collect(),
            model: &model,
            path,
        })
    }

    fn has_activations(&self) -> bool {
        false
    }

    fn result(&self, model: &Path) -> ResultKind {
        let has_index = |folder: &Path| {
            let mut files = std::fs::read_dir(folder).into_iter().flatten().flatten();
            files.any(|file| {
                file.file_name()
                    .to_string_lossy()
                    .ends_with(".safetensors.index.json")
            })
        };
        let is_index = model
            .extension()
            .is_some_and(|end| end.eq_ignore_ascii_case("json"));
        match is_index || model.is_dir() && has_index(model) {
            true => FOLDER,
            // A folder of one file without an index gives one file.
            false => FILE,
        }
    }
}

struct Opened<'m> {
    model: &'m Model,
    entries: Vec<(&'m SafetensorsFile, &'m str, &'m Entry)>,
    /// As given.
    path: &'m Path,
}

impl OpenModel for Opened<'_> {
    fn bytes(&self) -> Result<u64, Error> {
        Ok(self.model.base.files.iter().map(SafetensorsFile::len).sum())
    }

    fn writes(&self, encoding: Encoding) -> bool {
        encodings().any(|own| own == encoding)
    }

    fn check_options(&self, options: &QuantizeOptions) -> Result<(), Error> {
        if let Some(encoding) = self.model.said_encoding() {
            let by = match encoding == Encoding::Native {
                true => " by quant".to_owned(),
                false => format!(", in the format {encoding}"),
            };
            let problem = format!(
                "already quantized{by}; quantize the float model, or {} this one first",
                command(HintCommand::Dequantize)
            );
            return Err(Error::file(self.path, problem));
        }
        if !self.writes(options.encoding()) {
            return Ok(());
        }
        let convention = convention(options.encoding());
        convention.check_model(&self.model.base, options)
    }

    fn facts(
        &self,
        options: &QuantizeOptions,
        job: &Job<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<Vec<Facts>, Error> {
        let foreign = Foreign::find(self.model, job)?;
        if let Some(problem) = foreign.refusal() {
            return Err(Error::file(self.path, problem));
        }
        warnings.extend(foreign.warning());
        let stacks = Stacks::new(&options.experts, self.model);
        let facts = self
            .entries
            .iter()
            .enumerate()
            .map(|(index, &(file, name, entry))| {
                job.check()?;
                let storage = match (foreign.reason(name), entry.float_type()) {
                    (Some(reason), _) => Storage::Other(reason),
                    (None, Some(float)) => Storage::Float(float),
                    (None, None) => Storage::Other(format!("type {}", entry.dtype)),
                };
                Ok(Facts {
                    index,
                    name: name.into(),
                    alias: None,
                    file: file.path().to_owned(),
                    dtype: entry.dtype.clone(),
                    shape: entry.shape.clone(),
                    bytes: entry.len() as u64,
                    storage,
                    axes: stacks.axes(name, &entry.shape),
                    consumers: Vec::new(),
                    pinned: None,
                })
            });
        facts.collect()
    }

    fn rules<'o>(&self, options: &'o QuantizeOptions) -> Result<Rules<'o>, Error> {
        let patterns = options.config.as_ref().map(|config| config.patterns());
        let patterns = patterns.transpose()?;
        Ok(Box::new(move |facts| {
            Ok(match &patterns {
                None => Some(options.settings()),
                Some(patterns) => patterns.of(&facts.name).cloned(),
            })
        }))
    }

    fn adjust(
        &self,
        facts: &Facts,
        options: &QuantizeOptions,
        settings: &mut Settings,
    ) -> Result<(), String> {
        let convention = convention(options.encoding());
        convention.adjust(&self.model.base, facts, settings)
    }

    fn check(&self, _facts: &Facts, _settings: &Settings) -> Result<(), Error> {
        Ok(())
    }

    fn supports(
        &self,
        facts: &Facts,
        quantizer: &TensorQuantizer,
        options: &QuantizeOptions,
    ) -> Result<(), Unsupported> {
        let convention = convention(options.encoding());
        let supports = convention.supports(&facts.name, quantizer);
        supports.map_err(Unsupported::Mistake)?;
        let parts = convention.parts(&facts.name, quantizer);
        check_names(&self.model.base, &facts.file, &facts.name, &parts).map_err(Unsupported::Fail)
    }

    fn stored_len(
        &self,
        facts: &Facts,
        quantizer: &TensorQuantizer,
        options: &QuantizeOptions,
    ) -> usize {
        let parts = convention(options.encoding()).parts(&facts.name, quantizer);
        parts.all().map(|(_, part)| part.len).sum()
    }

    fn data(&self, tensor: usize) -> Result<Data<'_>, Error> {
        let (file, _, entry) = self.entries[tensor];
        Ok(file.data(entry))
    }

    fn advice(&self, decisions: &[Decision], options: &QuantizeOptions) -> Vec<String> {
        convention(options.encoding()).advice(&self.model.base, decisions)
    }

    fn unmatched(&self, options: &QuantizeOptions) -> Vec<Unmatched> {
        let known = Known::new("tensor", self.model.base.entries().map(|(_, name, _)| name));
        let mut found = options.unmatched(&known);
        found.extend(Stacks::new(&options.experts, self.model).unmatched());
        let patterns = options.config.as_ref().map(|config| config.patterns());
        if let Some(Ok(patterns)) = patterns {
            found.extend(patterns.unmatched(&known));
        }
        found
    }

    fn bytes_of(
        &self,
        decisions: &[Decision],
        options: &QuantizeOptions,
        job: &Job<'_>,
    ) -> Result<Option<u64>, Error> {
        quantize::bytes_of(self.model, decisions, options, job).map(Some)
    }

    fn quantize(
        &self,
        output: &Path,
        decisions: &[Decision],
        options: &QuantizeOptions,
        job: &Job<'_>,
        report: &mut Report,
    ) -> Result<(), Error> {
        quantize::quantize(
            self.model, self.path, output, decisions, options, job, report,
        )
    }

    fn dequantize(
        &self,
        output: &Path,
        options: &DequantizeOptions,
        job: &Job<'_>,
    ) -> Result<Restored, Error> {
        dequantize::dequantize(self.model, self.path, output, options, job)
    }

    fn convert(
        &self,
        path: &Path,
        output: &Path,
        encoding: Encoding,
        options: &DequantizeOptions,
        job: &Job<'_>,
    ) -> Result<Converted, Error> {
        convert::convert(
            self.model,
            path,
            output,
            encoding,
            options.weights_only,
            job,
        )
    }

    fn lost(&self) -> Vec<String> {
        let lost = |encoding| convention(encoding).lost(&self.model.base);
        let lost = self.model.encodings().flat_map(lost);
        lost.chain(self.model.activations_left_out()).collect()
    }

    fn check_restorable(&self, job: &Job<'_>) -> Result<(), Error> {
        self.model.check_restorable(job)
    }

    fn stored(&self, job: &Job<'_>) -> Result<Vec<TensorView<'_>>, Error> {
        self.model.stored(job)
    }

    fn convertible(&self, job: &Job<'_>) -> Result<Vec<TensorView<'_>>, Error> {
        let tensors = self.model.without_activations(self.model.tensors_for(job)?);
        Ok(tensors.into_iter().map(Tensor::into_stored).collect())
    }
}
