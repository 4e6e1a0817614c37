//! A model of another format, as it is written to a GGUF file.

use std::path::{Path, PathBuf};

use quant_core::{FloatType, Search};
use quant_simd::TensorQuantizer;

use crate::architecture::{self, Found};
use crate::file::{ALIGNMENT, beyond_ggml};
use crate::metadata;
use crate::types::TensorType;
use crate::write::{self, Content, Metadata, Plan, Planned, most};
use quant_model::error::option;
use quant_model::facts::{Facts, Storage};
use quant_model::format::{OpenModel, Rules, Unsupported};
use quant_model::io::Data;
use quant_model::report::Decision;
use quant_model::settings::Settings;
use quant_model::stored::TensorView;
use quant_model::unmatched::{Known, Unmatched};
use quant_model::{DequantizeOptions, Encoding, Error, Job, QuantizeOptions, Report, Restored};

pub(crate) struct Taken<'m> {
    model: &'m dyn OpenModel,
    path: PathBuf,
    family: Option<Found>,
    tensors: Vec<TakenTensor>,
    warnings: Vec<String>,
}

/// A tensor of the result.
struct TakenTensor {
    facts: Facts,
    /// Its number in the model.
    from: usize,
    /// Its shape there.
    shape: Vec<usize>,
}

/// Refuses options that have no meaning for the format.
pub(crate) fn check_options(path: &Path, options: &QuantizeOptions) -> Result<(), Error> {
    let bad = |option: String| {
        let problem = format!("{option} has no effect on what is written as GGUF");
        Err(Error::file(path, problem))
    };
    if options.config.is_some() {
        return bad(option("config"));
    }
    if options.search != Search::None {
        return bad(option("search"));
    }
    if !options.experts.is_default() {
        return bad(option("experts"));
    }
    Ok(())
}

/// What is said of a plan that wants codes of another kind.
pub(crate) fn only_blocks() -> Unsupported {
    let problem = "GGUF files hold blocks; give `type`, such as q8_0, in place of `dtype`";
    Unsupported::Skip(problem.into())
}

impl<'m> Taken<'m> {
    /// Looks at a model: which of its tensors are written, and under which names.
    pub fn new(
        model: &'m dyn OpenModel,
        path: &Path,
        options: &QuantizeOptions,
        job: &Job<'_>,
    ) -> Result<Self, Error> {
        model.check_options(options)?;
        check_options(path, options)?;
        let mut warnings = Vec::new();
        let facts = model.facts(options, job, &mut warnings)?;
        let names: Vec<&str> = facts.iter().map(|one| one.name.as_str()).collect();
        let family = architecture::find(&names).map_err(|problem| Error::file(path, problem))?;
        let mut taken = Self {
            model,
            path: path.to_owned(),
            family,
            tensors: Vec::new(),
            warnings,
        };
        let all = facts.len();
        for facts in facts {
            job.check()?;
            taken.tensors.extend(taken.tensor(facts)?);
        }
        taken.check_names()?;
        taken.tell(all);
        Ok(taken)
    }

    fn tensor(&self, mut facts: Facts) -> Result<Option<TakenTensor>, Error> {
        let from = facts.index;
        let shape = facts.shape.clone();
        let family = self.family.as_ref();
        let name = match family {
            None => facts.name.clone(),
            Some(family) => match family.name(&facts.name) {
                Some(name) => name,
                None => return Ok(None),
            },
        };
        stored_type(&facts)?;
        let checked = architecture::check(family.map(|it| it.architecture), &name, &shape);
        checked.map_err(|problem| Error::tensor(&facts.file, &facts.name, problem))?;
        let Some(family) = family else {
            return Ok(Some(TakenTensor { facts, from, shape }));
        };
        facts.shape = family.architecture.shape(&shape);
        facts.pinned = family.architecture.pinned(&name, &facts.shape);
        if name != facts.name {
            facts.alias = Some(std::mem::replace(&mut facts.name, name));
        }
        Ok(Some(TakenTensor { facts, from, shape }))
    }

    /// Two tensors of one name, once what stands before it is gone.
    fn check_names(&self) -> Result<(), Error> {
        let mut names = std::collections::HashSet::new();
        for tensor in &self.tensors {
            let name = &tensor.facts.name;
            if !names.insert(name) {
                let problem = "two tensors would have this name; give the diffusion model alone";
                return Err(Error::tensor(&tensor.facts.file, name, problem));
            }
        }
        Ok(())
    }

    /// What the user should know of the result.
    fn tell(&mut self, all: usize) {
        let Some(family) = &self.family else {
            self.warnings.push(
                "not a diffusion model that ComfyUI-GGUF knows: tensors keep their names, which llama.cpp does not read; libraries such as candle do".into(),
            );
            let tensors = self.tensors.iter().map(|tensor| &tensor.facts);
            let tensors = tensors.map(|facts| (facts.name.as_str(), facts.shape.len()));
            self.warnings.extend(beyond_ggml(tensors));
            return;
        };
        let left = all - self.tensors.len();
        if left > 0 {
            self.warnings.push(format!(
                "{left} of {all} tensors are no part of the diffusion model ({}), and are left out",
                family.architecture.name
            ));
        }
    }
}

/// The type of a tensor that is not quantized.
fn stored_type(facts: &Facts) -> Result<&'static TensorType, Error> {
    let known = TensorType::by_name(&facts.dtype).filter(|dtype| dtype.values == 1);
    known.ok_or_else(|| {
        let problem = format!(
            "type {}, for which GGUF has no place; convert it to F16 or I32 first, or leave it out of the model",
            facts.dtype
        );
        Error::tensor(&facts.file, &facts.name, problem)
    })
}

impl OpenModel for Taken<'_> {
    fn bytes(&self) -> Result<u64, Error> {
        self.model.bytes()
    }

    fn writes(&self, encoding: Encoding) -> bool {
        encoding == Encoding::Gguf
    }

    fn check_options(&self, _options: &QuantizeOptions) -> Result<(), Error> {
        Ok(())
    }

    fn facts(
        &self,
        _options: &QuantizeOptions,
        _job: &Job<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<Vec<Facts>, Error> {
        warnings.extend(self.warnings.iter().cloned());
        let tensors = self.tensors.iter().enumerate();
        Ok(tensors
            .map(|(index, tensor)| Facts {
                index,
                ..tensor.facts.clone()
            })
            .collect())
    }

    fn rules<'o>(&self, options: &'o QuantizeOptions) -> Result<Rules<'o>, Error> {
        let mut settings = options.settings();
        // A family has a number of its own.
        if self.family.is_some() {
            settings.min_elements = 0;
        }
        Ok(Box::new(move |_| Ok(Some(settings.clone()))))
    }

    fn has_blocks(&self) -> bool {
        true
    }

    fn check(&self, _facts: &Facts, _settings: &Settings) -> Result<(), Error> {
        Ok(())
    }

    fn supports(
        &self,
        _facts: &Facts,
        _quantizer: &TensorQuantizer,
        _options: &QuantizeOptions,
    ) -> Result<(), Unsupported> {
        Err(only_blocks())
    }

    fn data(&self, tensor: usize) -> Result<Data<'_>, Error> {
        self.model.data(self.tensors[tensor].from)
    }

    fn unmatched(&self, options: &QuantizeOptions) -> Vec<Unmatched> {
        let names = self.tensors.iter().flat_map(|tensor| tensor.facts.names());
        options.unmatched(&Known::new("tensor", names))
    }

    fn quantize(
        &self,
        output: &Path,
        decisions: &[Decision],
        options: &QuantizeOptions,
        job: &Job<'_>,
        report: &mut Report,
    ) -> Result<(), Error> {
        let tensors = self.tensors.iter().zip(decisions).enumerate();
        let tensors = tensors.map(|(index, (tensor, decision))| {
            let (dtype, content) = self.content(tensor, decision)?;
            let facts = &tensor.facts;
            let name = facts.alias.as_ref().unwrap_or(&facts.name);
            Ok(Planned {
                name: facts.name.clone(),
                shape: facts.shape.clone(),
                dtype,
                data: self.data(index)?,
                content,
                index,
                from: (facts.file.clone(), name.clone()),
            })
        });
        let tensors = tensors.collect::<Result<Vec<_>, Error>>()?;
        let plan = Plan {
            version: 3,
            alignment: ALIGNMENT,
            metadata: self.metadata(decisions),
            like: match self.tensors.first() {
                Some(tensor) => tensor.facts.file.clone(),
                None => self.path.clone(),
            },
            tensors,
        };
        write(&plan, output, &self.path, options, job, report)
    }

    fn dequantize(
        &self,
        output: &Path,
        options: &DequantizeOptions,
        job: &Job<'_>,
    ) -> Result<Restored, Error> {
        self.model.dequantize(output, options, job)
    }

    fn stored(&self, job: &Job<'_>) -> Result<Vec<TensorView<'_>>, Error> {
        self.model.stored(job)
    }
}

impl Taken<'_> {
    fn content<'d>(
        &self,
        tensor: &TakenTensor,
        decision: &'d Decision,
    ) -> Result<(&'static TensorType, Content<'d>), Error> {
        if let Decision::Blocks(quantizer) = decision {
            let dtype = TensorType::of_blocks(quantizer.block_type);
            return Ok((dtype, Content::Quantize(quantizer)));
        }
        let facts = &tensor.facts;
        let (Storage::Float(source), Some(family)) = (&facts.storage, &self.family) else {
            return Ok((stored_type(facts)?, Content::Copy));
        };
        let to = family
            .architecture
            .float(&facts.name, &tensor.shape, *source);
        let content = match to == *source {
            true => Content::Copy,
            false => Content::Convert(*source, to),
        };
        Ok((TensorType::of_floats(to), content))
    }

    fn metadata(&self, decisions: &[Decision]) -> Metadata<'static> {
        let mut found = Metadata::default();
        let name = self.family.as_ref();
        let name = name.map_or("unknown", |family| family.architecture.name);
        found.push(metadata::text(metadata::ARCHITECTURE, name));
        let floats = || {
            self.tensors
                .iter()
                .map(|tensor| tensor.facts.dtype.as_str())
        };
        let most = most(decisions).unwrap_or_else(|| {
            let bf16 = floats().filter(|dtype| *dtype == "BF16").count();
            TensorType::of_floats(match 2 * bf16 > self.tensors.len() {
                true => FloatType::Bf16,
                false => FloatType::F16,
            })
        });
        found.push_type(most);
        for tensor in &self.tensors {
            if tensor.shape != tensor.facts.shape {
                let key = format!("{}{}", metadata::SHAPE, tensor.facts.name);
                found.push(metadata::integers(&key, &tensor.shape));
            }
        }
        found
    }
}

/// Writes a file, and tells the report of it.
pub(crate) fn write(
    plan: &Plan<'_>,
    output: &Path,
    input: &Path,
    options: &QuantizeOptions,
    job: &Job<'_>,
    report: &mut Report,
) -> Result<(), Error> {
    let inputs = options.inputs(input);
    let tensors = &mut report.tensors;
    let mut measured = |index: usize, stats| tensors[index].set_stats(Some(&stats));
    let (bytes, warnings) = write::write(plan, output, &inputs, options.stats, job, &mut measured)?;
    report.warn(warnings);
    report.bytes_after = Some(bytes);
    Ok(())
}
