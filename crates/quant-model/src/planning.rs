//! Carrying out a plan: from what it says to decisions, and back.

use std::collections::{HashMap, VecDeque};

use quant_core::{Blocks, GgmlType, IntType, Scheme, Search};
use quant_simd::TensorQuantizer;

use crate::block_quantizer::{BlockQuantizer, BlockSource};
use crate::facts::{Axes, Facts, Storage};
use crate::format::{OpenModel, Unsupported};
use crate::plan::{PlannedTensor, TensorSpec};
use crate::policy::{self, Decided};
use crate::report::Decision;
use crate::settings::{Grouping, Settings};
use crate::unmatched::Known;
use crate::{Error, Job, Plan, QuantizeOptions};

impl TensorSpec {
    pub(crate) fn from_quantizer(quantizer: &TensorQuantizer) -> Self {
        Self {
            dtype: Some(quantizer.scheme.dtype),
            mode: Some(quantizer.scheme.mode),
            dialect: Some(quantizer.scheme.dialect),
            blocks: Some(quantizer.blocks.block_sizes().to_vec()),
            bits: None,
            group_size: None,
            block_type: None,
            search: Some(quantizer.search).filter(|&search| search != Search::None),
        }
    }

    pub(crate) fn of_blocks(quantizer: &BlockQuantizer) -> Self {
        Self {
            block_type: Some(quantizer.block_type),
            ..Self::default()
        }
    }

    /// The type of the blocks, if it is one of these.
    fn block_type(&self, defaults: &QuantizeOptions) -> Result<Option<GgmlType>, String> {
        let given = self.block_type.or(defaults.block_type);
        let alone = Self {
            block_type: self.block_type,
            ..Self::default()
        };
        if given.is_none() || *self == alone {
            return Ok(given);
        }
        Err("`type` excludes `dtype`, `bits`, `mode`, `dialect`, `blocks`, `group_size` and `search`; give it alone".into())
    }

    /// With what the format has by default where nothing is given.
    fn settings(&self, defaults: &QuantizeOptions) -> Result<Settings, String> {
        let dtype = match (self.dtype, self.bits) {
            (Some(_), Some(_)) => {
                return Err("`dtype` and `bits` exclude each other; give one of them".into());
            }
            (Some(dtype), None) => dtype,
            (None, Some(bits)) => {
                let dtype = IntType::new(bits, defaults.scheme.dtype.is_signed());
                dtype.ok_or_else(|| format!("`bits` {bits}; give 2, 3, 4, 5, 6 or 8"))?
            }
            (None, None) => defaults.scheme.dtype,
        };
        let granularity = match (&self.blocks, self.group_size) {
            (Some(_), Some(_)) => {
                return Err(
                    "`blocks` and `group_size` exclude each other; give one of them".into(),
                );
            }
            (Some(blocks), None) => Grouping::Blocks(blocks.clone()),
            (None, Some(0)) => return Err("`group_size` 0; give a number of elements".into()),
            (None, Some(size)) => Grouping::Groups(size),
            (None, None) => defaults.granularity.clone(),
        };
        Ok(Settings {
            scheme: Scheme {
                dtype,
                mode: self.mode.unwrap_or(defaults.scheme.mode),
                dialect: self.dialect.unwrap_or(defaults.scheme.dialect),
            },
            granularity,
            block_type: None,
            min_elements: 0,
            all_axes: false,
        })
    }
}

impl Plan {
    /// One decision per tensor of a model.
    ///
    /// # Errors
    /// A plan that does not fit the model, or that the format cannot carry out.
    pub(crate) fn apply(
        &self,
        model: &dyn OpenModel,
        tensors: &[Facts],
        options: &QuantizeOptions,
        job: &Job<'_>,
    ) -> Result<Decided, Error> {
        let mut places: HashMap<&str, VecDeque<usize>> = HashMap::new();
        for (index, facts) in tensors.iter().enumerate() {
            places.entry(&facts.name).or_default().push_back(index);
        }
        let unplanned = || Decision::LeaveAlone("not in the plan".into());
        let mut decisions: Vec<_> = tensors.iter().map(|_| unplanned()).collect();
        let defaults = QuantizeOptions::for_encoding(self.format);
        for planned in &self.tensors {
            job.check()?;
            let name = &planned.name;
            let index = match places.get_mut(name.as_str()).map(VecDeque::pop_front) {
                Some(Some(index)) => index,
                Some(None) => return Err(self.bad(name, "is in the plan twice; remove one")),
                None => return Err(self.unknown(name, tensors)),
            };
            let decided = self.decide(model, &tensors[index], planned, &defaults, options);
            decisions[index] = decided?;
        }
        Ok(Decided {
            decisions,
            ..Decided::default()
        })
    }

    fn unknown(&self, name: &str, tensors: &[Facts]) -> Error {
        let known = Known::new("tensor", tensors.iter().map(|facts| facts.name.as_str()));
        let told = known.tell("the plan's", &[name]);
        self.bad(
            name,
            told.first().map_or(String::new(), ToString::to_string),
        )
    }

    /// Refuses an entry about another tensor of that name.
    fn check(&self, facts: &Facts, planned: &PlannedTensor) -> Result<(), Error> {
        let bad = |problem: String| self.bad(&planned.name, problem);
        if let Some(shape) = &planned.shape
            && *shape != facts.shape
        {
            return Err(bad(format!(
                "shape {shape:?} in the plan, {:?} in the model; make the plan again",
                facts.shape
            )));
        }
        if let Some(dtype) = &planned.dtype
            && *dtype != facts.dtype
        {
            return Err(bad(format!(
                "type {dtype} in the plan, {} in the model; make the plan again",
                facts.dtype
            )));
        }
        Ok(())
    }

    fn decide(
        &self,
        model: &dyn OpenModel,
        facts: &Facts,
        planned: &PlannedTensor,
        defaults: &QuantizeOptions,
        options: &QuantizeOptions,
    ) -> Result<Decision, Error> {
        let bad = |problem: String| self.bad(&planned.name, problem);
        self.check(facts, planned)?;
        let Some(spec) = &planned.quantize else {
            let reason = planned.reason.as_deref().unwrap_or("left out by the plan");
            return Ok(Decision::LeaveAlone(reason.into()));
        };
        let source = match (&facts.storage, facts.pinned) {
            (Storage::Float(source), None) => BlockSource::Float(*source),
            (Storage::Blocks(from), None) => BlockSource::Blocks(*from),
            (Storage::Other(why), _) => return Err(bad(format!("cannot be quantized: {why}"))),
            (_, Some(why)) => return Err(bad(format!("cannot be quantized: {why}"))),
        };
        let (rank, elements) = (facts.shape.len(), facts.element_count());
        if rank < 2 || elements < model.least_elements() {
            return Err(bad(format!(
                "cannot be quantized: rank {rank}, {elements} elements"
            )));
        }
        if let Some(block_type) = spec.block_type(defaults).map_err(bad)? {
            let blocks = policy::blocks(model, facts, source, block_type, options)?;
            return blocks.map(Decision::Blocks).map_err(bad);
        }
        let source = match source {
            BlockSource::Float(source) => source,
            BlockSource::Blocks(from) => {
                return Err(bad(format!(
                    "cannot be quantized: already quantized, {from}"
                )));
            }
        };
        let mut settings = spec.settings(defaults).map_err(bad)?;
        let cut = match &facts.axes {
            Axes::Agreed { output, input } => settings.granularity.with_axes(rank, *output, *input),
            _ if settings.granularity.needs_no_axis() => settings.granularity.with_axes(rank, 0, 1),
            _ => return Err(bad("its axes are not known; give `blocks`".into())),
        };
        let blocks = Blocks::new(&facts.shape, &cut).map_err(|error| bad(error.to_string()))?;
        settings.granularity = granularity(&blocks);
        model.check(facts, &settings)?;
        let quantizer = TensorQuantizer {
            backend: options.backend,
            search: spec.search.unwrap_or_default(),
            ..TensorQuantizer::new(settings.scheme, source, blocks)
        };
        match model.supports(facts, &quantizer, options) {
            Ok(()) => Ok(Decision::Quantize(quantizer)),
            Err(Unsupported::Fail(error)) => Err(error),
            Err(Unsupported::Skip(problem) | Unsupported::Mistake(problem)) => Err(bad(problem)),
        }
    }
}

/// The plainest words for some blocks.
fn granularity(blocks: &Blocks) -> Grouping {
    let counts = blocks.scale_shape();
    let mut axes = counts.iter().enumerate().filter(|(_, count)| **count > 1);
    match (axes.next(), axes.next()) {
        (None, _) => Grouping::PerTensor,
        (Some((axis, _)), None) if blocks.block_sizes()[axis] == 1 => Grouping::PerChannel {
            axis: Some(axis as isize),
        },
        _ => Grouping::Blocks(blocks.block_sizes().to_vec()),
    }
}
