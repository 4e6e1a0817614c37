//! A package among the formats: its facts.

use std::path::Path;

use quant_model::error::option;
use quant_model::facts::Facts;
use quant_model::format::{
    Activations, Format, Inserted, OpenModel, ResultKind, Rules, Unsupported, Work,
};
use quant_model::io::Data;
use quant_model::report::Decision;
use quant_model::settings::Settings;
use quant_model::stored::TensorView;
use quant_model::structure::Structure;
use quant_model::unmatched::Unmatched;
use quant_model::{
    ActivationOptions, DequantizeOptions, Encoding, Error, Job, QuantizeOptions, Report, Restored,
    WantedActivations,
};
use quant_simd::TensorQuantizer;

use super::folder::{Folder, is_package};
use super::graph::{Constant, Graph};
use super::inspect::stored;
use super::output::size;
use super::package::Package;
use super::select::{self, Candidate, FILE_ELEMENTS};
use super::size::bytes_of;
use super::structure::structure;
use super::weight_layout::WeightLayout;
use super::{activations, dequantize, quantize};

const NO_ENCODING: &str = "this format is for safetensors; a Core ML package has one of its own";

/// Core ML packages.
pub struct CoreMl;

/// What results are.
const PACKAGE: ResultKind = ResultKind::package("a Core ML package", "mlpackage");

impl Format for CoreMl {
    fn model(&self) -> &'static str {
        "a Core ML package"
    }

    fn matches(&self, path: &Path) -> bool {
        is_package(path)
    }

    fn open(&self, path: &Path, _job: &Job<'_>, work: Work<'_>) -> Result<(), Error> {
        let folder = Folder::open(path)?;
        let package = Package::open(&folder)?;
        work(&Opened::new(&package))
    }

    fn has_activations(&self) -> bool {
        true
    }

    fn result(&self, _model: &Path) -> ResultKind {
        PACKAGE
    }
}

struct Opened<'p, 'a> {
    package: &'p Package<'a>,
    graph: Graph<'p, 'a>,
    candidates: Vec<Candidate<'p, 'a>>,
}

impl<'p, 'a> Opened<'p, 'a> {
    fn new(package: &'p Package<'a>) -> Self {
        let graph = Graph::new(&package.program);
        Self {
            candidates: select::candidates(&package.program, &graph),
            graph,
            package,
        }
    }

    fn constant(&self, candidate: &Candidate<'_, '_>) -> &Constant<'p, 'a> {
        &self.graph.constants[candidate.constant]
    }
}

impl OpenModel for Opened<'_, '_> {
    fn bytes(&self) -> Result<u64, Error> {
        size(self.package.path)
    }

    fn check_options(&self, options: &QuantizeOptions) -> Result<(), Error> {
        let bad = |problem: &str| Err(Error::file(self.package.path, problem));
        if !options.experts.is_default() {
            return bad(&format!(
                "{} and {} are for safetensors; in a Core ML package the operations say which axes their weights have",
                option("experts"),
                option("expert_axes")
            ));
        }
        match options.encoding() == Encoding::Native {
            true => Ok(()),
            false => bad(NO_ENCODING),
        }
    }

    fn facts(
        &self,
        _options: &QuantizeOptions,
        job: &Job<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<Vec<Facts>, Error> {
        warnings.extend(self.package.warnings());
        let facts = self
            .candidates
            .iter()
            .enumerate()
            .map(|(index, candidate)| {
                job.check()?;
                let constant = self.constant(candidate);
                select::facts(self.package, constant, candidate, index)
            });
        facts.collect()
    }

    fn rules<'o>(&self, options: &'o QuantizeOptions) -> Result<Rules<'o>, Error> {
        Ok(Box::new(move |facts| match &options.config {
            None => Ok(Some(options.settings())),
            Some(config) => {
                let name = facts.alias.as_deref().unwrap_or(&facts.name);
                Ok(config.of_constant(name, &facts.consumers)?.cloned())
            }
        }))
    }

    fn least_elements(&self) -> usize {
        FILE_ELEMENTS
    }

    fn check(&self, facts: &Facts, settings: &Settings) -> Result<(), Error> {
        let constant = self.constant(&self.candidates[facts.index]);
        select::check(self.package, constant, facts, settings)
    }

    fn supports(
        &self,
        _facts: &Facts,
        quantizer: &TensorQuantizer,
        _options: &QuantizeOptions,
    ) -> Result<(), Unsupported> {
        select::check_blocks(&quantizer.blocks).map_err(Unsupported::Skip)
    }

    fn stored_len(
        &self,
        facts: &Facts,
        quantizer: &TensorQuantizer,
        _options: &QuantizeOptions,
    ) -> usize {
        let constant = self.constant(&self.candidates[facts.index]);
        let since_18 = select::since_18(&self.package.program, constant);
        let layout = WeightLayout::new(quantizer, since_18);
        layout.map_or(0, |layout| layout.len())
    }

    fn data(&self, tensor: usize) -> Result<Data<'_>, Error> {
        match self.candidates[tensor].value {
            Some(value) => Ok(self.package.data(value)?.unwrap_or(Data::EMPTY)),
            None => Ok(Data::EMPTY),
        }
    }

    fn advice(&self, decisions: &[Decision], options: &QuantizeOptions) -> Vec<String> {
        quantize::advice(decisions, options.target)
    }

    fn unmatched(&self, options: &QuantizeOptions) -> Vec<Unmatched> {
        let program = &self.package.program;
        select::unmatched(program, &self.graph, &self.candidates, options)
    }

    fn bytes_of(
        &self,
        decisions: &[Decision],
        _options: &QuantizeOptions,
        job: &Job<'_>,
    ) -> Result<Option<u64>, Error> {
        let (graph, candidates) = (&self.graph, &self.candidates);
        bytes_of(self.package, graph, candidates, decisions, job).map(Some)
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
            self.package,
            &self.graph,
            &self.candidates,
            decisions,
            output,
            options,
            job,
            report,
        )
    }

    fn dequantize(
        &self,
        output: &Path,
        _options: &DequantizeOptions,
        job: &Job<'_>,
    ) -> Result<Restored, Error> {
        dequantize::dequantize(self.package, &self.graph, output, job)
    }

    fn stored(&self, _job: &Job<'_>) -> Result<Vec<TensorView<'_>>, Error> {
        stored(self.package)
    }

    fn structure(&self) -> Structure {
        structure(&self.package.program)
    }

    fn activations(&self) -> Option<&dyn Activations> {
        Some(self)
    }
}

impl Activations for Opened<'_, '_> {
    fn with_pairs(
        &self,
        options: &ActivationOptions,
        work: &mut dyn FnMut(Inserted, &dyn OpenModel) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let (model, inserted) = activations::insert(self.package, options, 2)?;
        let package = self.package.with_model(&model)?;
        work(inserted, &Opened::new(&package))
    }

    fn quantize(
        &self,
        output: &Path,
        options: &ActivationOptions,
        job: &Job<'_>,
    ) -> Result<Report, Error> {
        activations::quantize(self.package, output, options, job)
    }

    fn wanted(&self, options: &ActivationOptions) -> Result<WantedActivations, Error> {
        activations::wanted(self.package, options)
    }
}
