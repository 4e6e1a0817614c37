//! A GGUF file among the formats: its facts.

use std::path::Path;

use quant_core::FloatType;
use quant_simd::TensorQuantizer;

use crate::architecture::{self, Architecture};
use crate::file::{GgufFile, MAGIC, TensorEntry, beyond_ggml};
use crate::metadata::{self, Value};
use crate::taken::{self, Taken};
use crate::types::TensorType;
use crate::write::{Content, Metadata, Plan, Planned, most};
use crate::{convert, dequantize};
use quant_model::error::option;
use quant_model::facts::{Axes, Facts, Storage};
use quant_model::format::{Format, OpenModel, ResultKind, Rules, Target, Unsupported, Work};
use quant_model::io::Data;
use quant_model::report::Decision;
use quant_model::settings::Settings;
use quant_model::stored::TensorView;
use quant_model::unmatched::{Known, Unmatched};
use quant_model::{
    Converted, DequantizeOptions, Encoding, Error, Job, QuantizeOptions, Report, Restored,
};

/// GGUF files.
#[derive(Clone, Copy, Debug)]
pub struct Gguf;

/// What results are.
const FILE: ResultKind = ResultKind::file("a GGUF file", "gguf");

impl Target for Gguf {
    fn result(&self) -> ResultKind {
        FILE
    }

    fn take(
        &self,
        model: &dyn OpenModel,
        path: &Path,
        options: &QuantizeOptions,
        job: &Job<'_>,
        work: Work<'_>,
    ) -> Result<(), Error> {
        work(&Taken::new(model, path, options, job)?)
    }

    fn convert(
        &self,
        model: &dyn OpenModel,
        path: &Path,
        output: &Path,
        job: &Job<'_>,
    ) -> Result<Converted, Error> {
        convert::convert(model, path, output, job)
    }
}

impl Format for Gguf {
    fn model(&self) -> &'static str {
        "a GGUF file"
    }

    /// By its name, or its first bytes.
    fn matches(&self, path: &Path) -> bool {
        use std::io::Read as _;
        let by_name = path
            .extension()
            .is_some_and(|end| end.eq_ignore_ascii_case("gguf"));
        let is_file = std::fs::metadata(path).is_ok_and(|found| found.is_file());
        let mut head = [0; MAGIC.len()];
        let mut read = || std::fs::File::open(path)?.read_exact(&mut head);
        is_file && (by_name || read().is_ok() && head == *MAGIC)
    }

    fn open(&self, path: &Path, job: &Job<'_>, work: Work<'_>) -> Result<(), Error> {
        let file = GgufFile::open(path, job)?;
        work(&Opened { file: &file })
    }

    fn has_activations(&self) -> bool {
        false
    }

    fn result(&self, _model: &Path) -> ResultKind {
        FILE
    }

    fn encoding(&self) -> Encoding {
        Encoding::Gguf
    }
}

struct Opened<'f> {
    file: &'f GgufFile,
}

impl Opened<'_> {
    fn architecture(&self) -> Option<&'static Architecture> {
        match self.file.value(metadata::ARCHITECTURE) {
            Some(Value::Text(name)) => architecture::by_name(name),
            _ => None,
        }
    }

    fn pinned(&self, tensor: &TensorEntry) -> Option<&'static str> {
        match self.architecture() {
            Some(architecture) => architecture.pinned(&tensor.name, &tensor.shape),
            None => architecture::pinned(&tensor.name)
                .or((architecture::axes(&tensor.shape) < 2).then_some("of one axis")),
        }
    }
}

impl OpenModel for Opened<'_> {
    fn bytes(&self) -> Result<u64, Error> {
        Ok(self.file.len())
    }

    fn writes(&self, encoding: Encoding) -> bool {
        encoding == Encoding::Gguf
    }

    fn check_options(&self, options: &QuantizeOptions) -> Result<(), Error> {
        let encoding = options.encoding();
        if !self.writes(encoding) {
            let problem = format!(
                "a GGUF file, which is quantized to GGUF: give {}, not {encoding}; quant quantizes models of other formats from their .safetensors",
                option("format gguf")
            );
            return Err(Error::file(self.file.path(), problem));
        }
        taken::check_options(self.file.path(), options)
    }

    fn facts(
        &self,
        _options: &QuantizeOptions,
        job: &Job<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<Vec<Facts>, Error> {
        // Loaders of the families that are known were built for them.
        if self.architecture().is_none() {
            let tensors = self.file.tensors.iter();
            let tensors = tensors.map(|tensor| (tensor.name.as_str(), tensor.shape.len()));
            warnings.extend(beyond_ggml(tensors));
        }
        let tensors = self.file.tensors.iter().enumerate();
        let facts = tensors.map(|(index, tensor)| {
            job.check()?;
            let (float, blocks) = (tensor.dtype.float(), tensor.dtype.blocks());
            let storage = match (float, blocks) {
                (Some(float), _) => Storage::Float(float),
                (None, Some(blocks)) => Storage::Blocks(blocks),
                (None, None) => Storage::Other(format!("type {}", tensor.dtype.name)),
            };
            Ok(Facts {
                index,
                name: tensor.name.clone(),
                alias: None,
                file: self.file.path().to_owned(),
                dtype: tensor.dtype.name.into(),
                shape: tensor.shape.clone(),
                bytes: tensor.len as u64,
                storage,
                axes: Axes::Agreed {
                    output: 0,
                    input: 1,
                },
                consumers: Vec::new(),
                pinned: self.pinned(tensor),
            })
        });
        facts.collect()
    }

    fn rules<'o>(&self, options: &'o QuantizeOptions) -> Result<Rules<'o>, Error> {
        Ok(Box::new(|_| Ok(Some(options.settings()))))
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
        Err(taken::only_blocks())
    }

    fn data(&self, tensor: usize) -> Result<Data<'_>, Error> {
        Ok(self.file.data(&self.file.tensors[tensor]))
    }

    fn unmatched(&self, options: &QuantizeOptions) -> Vec<Unmatched> {
        let names = self.file.tensors.iter().map(|tensor| tensor.name.as_str());
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
        let tensors = self.file.tensors.iter().zip(decisions).enumerate();
        let tensors = tensors.map(|(index, (tensor, decision))| {
            let (dtype, content) = match decision {
                Decision::Blocks(quantizer) => (
                    TensorType::of_blocks(quantizer.block_type),
                    Content::Quantize(quantizer),
                ),
                Decision::Quantize(_) | Decision::LeaveAlone(_) | Decision::Skip(_) => {
                    (tensor.dtype, Content::Copy)
                }
            };
            Planned::new(self.file, index, dtype, content)
        });
        let tensors: Vec<_> = tensors.collect();
        let plan = Plan {
            version: self.file.version,
            alignment: self.file.alignment,
            metadata: Metadata::with_type(self.file, most(decisions)),
            tensors,
            like: self.file.path().to_owned(),
        };
        taken::write(&plan, output, self.file.path(), options, job, report)
    }

    fn dequantize(
        &self,
        output: &Path,
        _options: &DequantizeOptions,
        job: &Job<'_>,
    ) -> Result<Restored, Error> {
        dequantize::dequantize(self.file, output, job)
    }

    fn stored(&self, job: &Job<'_>) -> Result<Vec<TensorView<'_>>, Error> {
        let tensors = self.file.tensors.iter().map(|tensor| {
            job.check()?;
            let (float, blocks) = (tensor.dtype.float(), tensor.dtype.blocks());
            Ok(TensorView {
                path: self.file.path(),
                name: tensor.name.clone(),
                key: tensor.name.clone(),
                dtype: tensor.dtype.name.into(),
                shape: self.used_shape(tensor),
                float: float.or(blocks.map(|_| FloatType::F32)),
                bytes: self.file.data(tensor),
                quantized: None,
                blocks: blocks.map(|blocks| (blocks, tensor.shape.clone())),
                consumers: Vec::new(),
                kind: None,
                others: Vec::new(),
            })
        });
        tensors.collect()
    }
}

impl Opened<'_> {
    /// The shape that a tensor has where it is used, which is not always that of its rows.
    fn used_shape(&self, tensor: &TensorEntry) -> Vec<usize> {
        let key = format!("{}{}", metadata::SHAPE, tensor.name);
        let Some(Value::Integers(shape)) = self.file.value(&key) else {
            return tensor.shape.clone();
        };
        let dims = shape.iter().map(|dim| usize::try_from(*dim).ok());
        let dims: Option<Vec<usize>> = dims.collect();
        let product = |dims: &[usize]| dims.iter().try_fold(1_usize, |a, &b| a.checked_mul(b));
        match dims {
            Some(dims) if product(&dims) == Some(tensor.elements()) => dims,
            _ => tensor.shape.clone(),
        }
    }
}
