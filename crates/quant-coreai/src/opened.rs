//! A Core AI model among the formats: its facts.

use std::path::Path;

use quant_core::Dialect;
use quant_simd::TensorQuantizer;

use crate::graph::Weight;
use crate::model::{Model, with_model};
use crate::structure::structure;
use crate::types::{ConstantValue, Element};
use crate::{dequantize, folder, hash, parts, quantize};
use quant_model::error::option;
use quant_model::facts::{Axes, Facts, Storage};
use quant_model::format::{Format, OpenModel, ResultKind, Rules, Unsupported, Work};
use quant_model::io::Data;
use quant_model::report::Decision;
use quant_model::settings::Settings;
use quant_model::stored::TensorView;
use quant_model::structure::Structure;
use quant_model::unmatched::{Known, Unmatched};
use quant_model::{DequantizeOptions, Encoding, Error, Job, QuantizeOptions, Report, Restored};

/// A splat of more bytes is not looked at.
const LARGEST_SPLAT: usize = 1 << 20;

/// Core AI models.
pub struct CoreAi;

/// What results are.
const MODEL: ResultKind = ResultKind::package("a Core AI model", "aimodel");

impl Format for CoreAi {
    fn model(&self) -> &'static str {
        "a Core AI model"
    }

    fn matches(&self, path: &Path) -> bool {
        folder::is_model(path)
    }

    fn open(&self, path: &Path, _job: &Job<'_>, work: Work<'_>) -> Result<(), Error> {
        let file = folder::open(path)?;
        with_model(path, &file, |model| work(&Opened { model }))
    }

    fn has_activations(&self) -> bool {
        false
    }

    fn result(&self, _model: &Path) -> ResultKind {
        MODEL
    }
}

struct Opened<'m> {
    model: &'m Model<'m>,
}

impl Opened<'_> {
    fn storage(&self, weight: &Weight<'_>) -> Storage {
        let Element::Float(float) = weight.kind.element else {
            return Storage::Other(format!("type {}", weight.kind.element.name()));
        };
        match weight.payload {
            None => Storage::Other("already quantized (blockwise_shift_scale)".into()),
            Some(ConstantValue::Splat(_)) => {
                Storage::Other("one value throughout, stored once".into())
            }
            Some(ConstantValue::Dense(_)) => {
                Storage::Other("a small constant, which stands in the program itself".into())
            }
            Some(ConstantValue::Resource(_)) if self.model.data(weight).is_none() => {
                Storage::Other("its values are stored in a way that quant does not know".into())
            }
            Some(ConstantValue::Resource(_)) => Storage::Float(float),
        }
    }

    fn bytes(&self, weight: &Weight<'_>) -> u64 {
        match weight.payload {
            Some(ConstantValue::Splat(bytes) | ConstantValue::Dense(bytes)) => bytes.len() as u64,
            Some(ConstantValue::Resource(number)) => self.model.tables.resources[number]
                .blob
                .map_or(0, |blob| blob.len),
            None => 0,
        }
    }

    fn one<'s>(&'s self, weight: &'s Weight<'_>) -> Result<TensorView<'s>, Error> {
        let model = self.model;
        let mut stored = TensorView {
            path: model.path,
            key: weight.name.clone(),
            name: weight.name.clone(),
            dtype: weight.kind.element.name(),
            shape: weight.kind.shape.clone(),
            float: parts::float(&weight.kind),
            bytes: Data::EMPTY,
            quantized: None,
            blocks: None,
            consumers: model.graph.consumers(model.tables, weight.node),
            kind: None,
            others: Vec::new(),
        };
        let len = weight.kind.element.storage_len(weight.kind.count);
        let bytes = match weight.payload {
            None => {
                match parts::read(model, weight)? {
                    Some((codes, parts)) => {
                        stored.dtype = parts.quantizer.scheme.dtype.name().into();
                        stored.bytes = codes;
                        stored.quantized = Some(parts);
                    }
                    None => {
                        stored.float = None;
                        stored.kind = Some("blockwise_shift_scale".into());
                    }
                }
                return Ok(stored);
            }
            Some(ConstantValue::Dense(bytes)) => Some(Data::Memory(bytes.into())),
            Some(ConstantValue::Splat(element)) => {
                let fits = len.is_some_and(|len| len <= LARGEST_SPLAT);
                fits.then(|| Data::Memory(element.repeat(weight.kind.count).into()))
            }
            Some(ConstantValue::Resource(number)) => model.resource(number),
        };
        match bytes.filter(|bytes| Some(bytes.len()) == len) {
            Some(bytes) => stored.bytes = bytes,
            None => stored.float = None,
        }
        Ok(stored)
    }
}

impl OpenModel for Opened<'_> {
    fn bytes(&self) -> Result<u64, Error> {
        folder::size(self.model.path)
    }

    fn check_options(&self, options: &QuantizeOptions) -> Result<(), Error> {
        let bad = |problem: String| Err(Error::file(self.model.path, problem));
        if !options.experts.is_default() {
            return bad(format!(
                "{} and {} are for safetensors; in a Core AI model the operations say which axes their weights have",
                option("experts"),
                option("expert_axes")
            ));
        }
        if options.config.is_some() {
            return bad("configurations of coremltools are for Core ML packages; a Core AI model takes options, or a plan".into());
        }
        match options.encoding() == Encoding::Native {
            true => Ok(()),
            false => {
                bad("this format is for safetensors; a Core AI model has one of its own".into())
            }
        }
    }

    fn facts(
        &self,
        _options: &QuantizeOptions,
        job: &Job<'_>,
        _warnings: &mut Vec<String>,
    ) -> Result<Vec<Facts>, Error> {
        let model = self.model;
        let facts = model
            .graph
            .weights
            .iter()
            .enumerate()
            .map(|(index, weight)| {
                job.check()?;
                let (output, input) = model.graph.axes(model.tables, weight);
                Ok(Facts {
                    index,
                    name: weight.name.clone(),
                    alias: None,
                    file: model.file.file.path().to_owned(),
                    dtype: weight.kind.element.name(),
                    shape: weight.kind.shape.clone(),
                    bytes: self.bytes(weight),
                    storage: self.storage(weight),
                    axes: Axes::Agreed { output, input },
                    consumers: model.graph.consumers(model.tables, weight.node),
                    pinned: model.graph.pinned(model.tables, weight),
                })
            });
        facts.collect()
    }

    fn rules<'o>(&self, options: &'o QuantizeOptions) -> Result<Rules<'o>, Error> {
        Ok(Box::new(move |_| Ok(Some(options.settings()))))
    }

    fn check(&self, facts: &Facts, settings: &Settings) -> Result<(), Error> {
        let bad = |problem: String| Err(Error::tensor(&facts.file, &facts.name, problem));
        let (dtype, dialect) = (settings.scheme.dtype, settings.scheme.dialect);
        if Element::Integer(dtype).encoded().is_none() {
            return bad(format!(
                "Core AI cannot store codes of type {dtype}; use int8, uint8, int4, uint4, int2 or uint2"
            ));
        }
        if !matches!(dialect, Dialect::Coreai | Dialect::CoreaiTorch) {
            return bad(format!(
                "the dialect {dialect} is none of Core AI's; give {} or {}",
                option(&format!("dialect {}", Dialect::Coreai)),
                option(&format!("dialect {}", Dialect::CoreaiTorch)),
            ));
        }
        Ok(())
    }

    fn supports(
        &self,
        _facts: &Facts,
        quantizer: &TensorQuantizer,
        _options: &QuantizeOptions,
    ) -> Result<(), Unsupported> {
        let blocks = &quantizer.blocks;
        let mut axes = blocks.shape().iter().zip(blocks.block_sizes()).enumerate();
        match axes.find(|(_, (dim, block))| *dim % *block != 0) {
            None => Ok(()),
            Some((axis, (dim, block))) => Err(Unsupported::Skip(format!(
                "blocks of {block} do not divide axis {axis}, which has {dim} elements"
            ))),
        }
    }

    fn stored_len(
        &self,
        _facts: &Facts,
        quantizer: &TensorQuantizer,
        _options: &QuantizeOptions,
    ) -> usize {
        let zero_points = quantizer
            .scheme
            .dtype
            .storage_len(quantizer.zero_points_len());
        quantizer.codes_len() + quantizer.scales_len() + zero_points
    }

    fn data(&self, tensor: usize) -> Result<Data<'_>, Error> {
        let data = self.model.data(&self.model.graph.weights[tensor]);
        Ok(data.unwrap_or(Data::EMPTY))
    }

    fn unmatched(&self, options: &QuantizeOptions) -> Vec<Unmatched> {
        let weights = self.model.graph.weights.iter();
        let names = weights.map(|weight| weight.name.as_str());
        options.unmatched(&Known::new("weight", names))
    }

    fn quantize(
        &self,
        output: &Path,
        decisions: &[Decision],
        options: &QuantizeOptions,
        job: &Job<'_>,
        report: &mut Report,
    ) -> Result<(), Error> {
        quantize::quantize(self.model, output, decisions, options, job, report)
    }

    fn dequantize(
        &self,
        output: &Path,
        _options: &DequantizeOptions,
        job: &Job<'_>,
    ) -> Result<Restored, Error> {
        dequantize::dequantize(self.model, output, job)
    }

    fn stored(&self, job: &Job<'_>) -> Result<Vec<TensorView<'_>>, Error> {
        let stored = self.model.graph.weights.iter().map(|weight| {
            job.check()?;
            self.one(weight)
        });
        stored.collect()
    }

    fn check_written(&self, job: &Job<'_>) -> Result<Option<String>, Error> {
        hash::check(self.model.path, &self.model.file.file, job)
    }

    fn structure(&self) -> Structure {
        structure(self.model)
    }
}
