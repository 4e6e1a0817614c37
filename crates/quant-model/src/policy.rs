//! What happens to each tensor of a model, and why: the only room that decides. It knows tensors by
//! their [facts](Facts), whatever their format.

use std::collections::BTreeMap;

use quant_core::{Blocks, GeometryError, GgmlType, Granularity as Cut};
use quant_simd::TensorQuantizer;

use crate::block_quantizer::{BlockQuantizer, BlockSource};
use crate::error::{one_line, option, shortened};
use crate::facts::{Axes, Facts, Storage};
use crate::format::{OpenModel, Unsupported};
use crate::options::ExpertAxes;
use crate::report::Decision;
use crate::settings::Settings;
use crate::values::position;
use crate::{Error, Grouping, Job, QuantizeOptions};

/// What was decided.
#[derive(Default)]
pub(crate) struct Decided {
    /// One per tensor.
    pub decisions: Vec<Decision>,
    /// What the user should know, a line each.
    pub warnings: Vec<String>,
    /// What was chosen where the options leave a choice, a line each.
    pub notes: Vec<String>,
}

/// Decides about all tensors.
///
/// # Errors
/// Options that the format cannot carry out, or that fit no tensor at all.
pub(crate) fn decide(
    model: &dyn OpenModel,
    tensors: &[Facts],
    options: &QuantizeOptions,
    job: &Job<'_>,
) -> Result<Decided, Error> {
    let mut policy = Policy {
        model,
        options,
        rules: model.rules(options)?,
        warnings: Vec::new(),
        stacks: BTreeMap::new(),
        mistake: None,
    };
    let mut decisions = Vec::new();
    for facts in tensors {
        job.check()?;
        decisions.push(policy.decide(facts)?);
    }
    let Policy {
        mistake,
        warnings,
        stacks,
        ..
    } = policy;
    // Axes that no tensor has are a mistake in the options. Blocks that fit none are not: coremltools and
    // coreai-opt skip what they do not fit, too.
    let fits =
        |decision: &Decision| matches!(decision, Decision::Quantize(_) | Decision::Blocks(_));
    match mistake {
        Some(error)
            if !decisions.iter().any(fits) && !options.strict && !options.exact_selection =>
        {
            return Err(error);
        }
        _ => {}
    }
    Ok(Decided {
        decisions,
        warnings,
        notes: stacks.iter().map(note).collect(),
    })
}

struct Policy<'p> {
    model: &'p dyn OpenModel,
    options: &'p QuantizeOptions,
    rules: crate::format::Rules<'p>,
    warnings: Vec<String>,
    /// Stacks of experts per layout: how many, the first one's name.
    stacks: BTreeMap<&'static str, (usize, String)>,
    /// The first tensor that the options do not fit.
    mistake: Option<Error>,
}

impl Policy<'_> {
    /// The reasons to leave a tensor alone, in this order.
    // Long: the reasons, in their order.
    fn decide(&mut self, facts: &Facts) -> Result<Decision, Error> {
        let alone = |reason: String| Ok(Decision::LeaveAlone(reason));
        let source = match &facts.storage {
            Storage::Float(source) => BlockSource::Float(*source),
            Storage::Blocks(from) if !self.options.requantize => {
                return alone(format!("already quantized, {from}"));
            }
            Storage::Blocks(from) => BlockSource::Blocks(*from),
            Storage::Other(why) => return alone(why.clone()),
        };
        if let Some(reason) = self.options.left_out(&facts.names()).or(facts.pinned) {
            return alone(reason.into());
        }
        let (rank, elements) = (facts.shape.len(), facts.element_count());
        let mut settings = match (self.rules)(facts) {
            Ok(None) => return alone("left out by the configuration".into()),
            _ if rank < 2 => return alone(format!("rank {rank}")),
            Err(reason) => return Ok(Decision::Skip(reason)),
            Ok(Some(settings)) => settings,
        };
        if elements == 0 {
            return alone("no elements".into());
        }
        if let Err(reason) = self.model.adjust(facts, self.options, &mut settings) {
            return alone(reason);
        }
        let least = settings.min_elements.max(self.model.least_elements() - 1);
        if elements <= least {
            return alone(format!("{elements} elements, not more than {least}"));
        }
        self.model.check(facts, &settings)?;
        let source = match (source, settings.block_type) {
            (source, Some(block_type)) => {
                let blocks = blocks(self.model, facts, source, block_type, self.options)?;
                return Ok(match blocks {
                    Ok(blocks) => Decision::Blocks(blocks),
                    Err(problem) => Decision::Skip(problem),
                });
            }
            (BlockSource::Float(source), None) => source,
            (BlockSource::Blocks(from), None) => {
                return alone(format!("already quantized, {from}"));
            }
        };
        if let Some(problem) = settings.misfit(rank) {
            return Ok(self.misfit(facts, problem, true));
        }
        let cut = match self.cut(facts, &settings) {
            Ok(cut) => cut,
            Err(reason) => return Ok(Decision::Skip(reason)),
        };
        let blocks = match Blocks::new(&facts.shape, &cut) {
            Ok(blocks) => blocks,
            Err(error) => {
                let is_mistake = !matches!(error, GeometryError::BlockTooLarge { .. });
                return Ok(self.misfit(facts, error.to_string(), is_mistake));
            }
        };
        let quantizer = TensorQuantizer {
            backend: self.options.backend,
            scheme: settings.scheme,
            source,
            blocks,
            search: self.options.search,
            importance: None,
        };
        match self.model.supports(facts, &quantizer, self.options) {
            Ok(()) => Ok(Decision::Quantize(quantizer)),
            Err(Unsupported::Fail(error)) => Err(error),
            Err(Unsupported::Skip(problem)) => Ok(Decision::Skip(problem)),
            Err(Unsupported::Mistake(problem)) => Ok(self.misfit(facts, problem, true)),
        }
    }

    fn misfit(&mut self, facts: &Facts, reason: String, is_mistake: bool) -> Decision {
        if is_mistake && self.mistake.is_none() {
            let problem = format!(
                "{reason}; choose another, or leave the tensor out with {}",
                option("exclude")
            );
            self.mistake = Some(Error::tensor(&facts.file, &facts.name, problem));
        }
        Decision::Skip(reason)
    }

    /// How a tensor is cut into blocks, or why it cannot be.
    fn cut(&mut self, facts: &Facts, settings: &Settings) -> Result<Cut, String> {
        let wanted = &settings.granularity;
        let with_axes = |output, input| Ok(wanted.with_axes(facts.shape.len(), output, input));
        match &facts.axes {
            Axes::Agreed { output, input } => with_axes(*output, *input),
            Axes::Stack(axes) => match wanted {
                Grouping::PerChannel { axis: None } => Ok(self.stack(facts, *axes, 0)),
                Grouping::PerBlock {
                    axis: None,
                    block_axis: None,
                    block_size,
                } => Ok(self.stack(facts, *axes, *block_size)),
                _ => with_axes(0, 1),
            },
            Axes::Conflicting(why) => {
                if !wanted.needs_no_axis() {
                    return Err(why.clone());
                }
                if !wanted.is_blockwise() {
                    if self.options.exact_selection {
                        return Err(why.clone());
                    }
                    self.warnings.push(format!(
                        "`{}` {why}; one scale for all of it needs no axis, so it is quantized (coremltools leaves it in float, as does {})",
                        facts.name,
                        option("exact_selection")
                    ));
                }
                with_axes(0, 1)
            }
        }
    }

    fn stack(&mut self, facts: &Facts, axes: ExpertAxes, size: usize) -> Cut {
        let found = self.stacks.entry(axes.name()).or_default();
        if found.0 == 0 {
            found.1.clone_from(&facts.name);
        }
        found.0 += 1;
        Cut::Blocks(match axes {
            ExpertAxes::OutputInput => vec![1, 1, size],
            ExpertAxes::InputOutput => vec![1, size, 1],
        })
    }
}

/// A tensor in blocks, or why it cannot be.
///
/// # Errors
/// A format without blocks.
pub(crate) fn blocks(
    model: &dyn OpenModel,
    facts: &Facts,
    source: BlockSource,
    block_type: GgmlType,
    options: &QuantizeOptions,
) -> Result<Result<BlockQuantizer, String>, Error> {
    if !model.has_blocks() {
        return Err(Error::Option(format!(
            "{} has no effect with {}",
            option("type"),
            option(&format!("format {}", options.encoding()))
        )));
    }
    Ok(
        BlockQuantizer::check_shape(&facts.shape).map(|()| BlockQuantizer {
            backend: options.backend,
            block_type,
            source,
            shape: facts.shape.clone(),
        }),
    )
}

/// What was chosen for stacked experts.
fn note((axes, (count, first)): (&&'static str, &(usize, String))) -> String {
    let other = match *axes {
        "output-input" => "input-output",
        _ => "output-input",
    };
    let shape = axes.replace('-', ", ");
    let tensors = if *count == 1 { "tensor" } else { "tensors" };
    one_line(format!(
        "{count} {tensors} of stacked experts as [experts, {shape}], such as `{}`: a scale per expert and output row, blocks along the input ({} where they are the other way round)",
        shortened(first),
        option(&format!("expert_axes {other}")),
    ))
}

/// Leaves tensors alone that hold NaN or infinities.
///
/// # Errors
/// Values that cannot be read.
pub(crate) fn skip_non_finite(
    model: &dyn OpenModel,
    tensors: &[Facts],
    decisions: &mut [Decision],
) -> Result<(), Error> {
    for (index, decision) in decisions.iter_mut().enumerate() {
        let found = match decision {
            Decision::Quantize(quantizer) => quantizer.non_finite_source(&model.data(index)?)?,
            Decision::Blocks(quantizer) => quantizer.non_finite(&model.data(index)?)?,
            Decision::LeaveAlone(_) | Decision::Skip(_) => None,
        };
        if let Some((first, count)) = found {
            let at = position(first, &tensors[index].shape);
            *decision = Decision::Skip(format!(
                "{count} {} NaN or Inf, the first at {at:?}",
                if count == 1 { "value is" } else { "values are" }
            ));
        }
    }
    Ok(())
}
