//! Which constants are quantized, and how.

use std::collections::{BTreeSet, HashSet};

use quant_core::{Blocks, Dialect, FloatType, GeometryError, IntType, OffsetKind};
use quant_simd::TensorQuantizer;

use super::graph::{Constant, Graph, Use};
use super::package::Package;
use super::program::{Held, Program, TensorType, Value};
use super::schema::DataType;
use crate::options::Settings;
use crate::report::Decision;
use crate::unmatched::{Known, Unmatched};
use crate::{Error, QuantizeOptions};

/// The first version whose weights may have 4 bits, or blocks: iOS18.
pub(crate) const BLOCKWISE: u64 = 9;
/// Fewer elements stand in the model itself, and are not worth anything else.
pub(crate) const FILE_ELEMENTS: usize = 10;

/// A constant that is reported, and what is to be done with it.
#[derive(Debug)]
pub(crate) struct Choice<'p, 'a> {
    /// Position among the graph's constants.
    pub constant: usize,
    pub name: String,
    pub dtype: String,
    pub shape: Vec<usize>,
    /// Where it is no constexpr operation.
    pub value: Option<&'p Value<'a>>,
    pub decision: Decision,
    /// Whether it is left alone for want of an axis that the options name.
    pub lacks_axis: bool,
    pub uses: &'p [Use<'p, 'a>],
}

/// The type in Core ML.
///
/// # Errors
/// Core ML has no such type for weights with scales.
pub(crate) fn data_type(dtype: IntType) -> Result<DataType, String> {
    match dtype {
        IntType::Int8 => Ok(DataType::INT8),
        IntType::Uint8 => Ok(DataType::UINT8),
        IntType::Int4 => Ok(DataType::INT4),
        IntType::Uint4 => Ok(DataType::UINT4),
        IntType::Int2
        | IntType::Uint2
        | IntType::Int3
        | IntType::Uint3
        | IntType::Int5
        | IntType::Uint5
        | IntType::Int6
        | IntType::Uint6 => Err(format!(
            "Core ML cannot store codes of type {dtype}; use int8, uint8, int4 or uint4"
        )),
    }
}

pub(crate) fn float_type(dtype: DataType) -> Option<FloatType> {
    match dtype {
        DataType::FLOAT16 => Some(FloatType::F16),
        DataType::FLOAT32 => Some(FloatType::F32),
        _ => None,
    }
}

/// A constant's name for people.
pub(crate) fn shown_name(program: &Program<'_>, constant: &Constant<'_, '_>) -> String {
    program.shown(constant.function, constant.operation.name())
}

/// The value of a constant that stands in a weight file, or would if coremltools had written the
/// package.
pub(crate) fn weight<'p, 'a>(
    program: &Program<'a>,
    constant: &Constant<'p, 'a>,
) -> Option<&'p Value<'a>> {
    let value = constant.operation.attribute("val")?;
    let since_18 = program.stage(constant.function).specification >= BLOCKWISE;
    let belongs = |kind: &TensorType| {
        let known = match kind.dtype {
            DataType::FLOAT16 | DataType::FLOAT32 | DataType::INT8 | DataType::UINT8 => true,
            DataType::INT16 | DataType::UINT16 | DataType::INT32 | DataType::UINT32 => since_18,
            _ => false,
        };
        let elements = kind.shape().map(|shape| shape.iter().product::<usize>());
        known && elements.is_some_and(|elements| elements >= FILE_ELEMENTS)
    };
    match value.held {
        Held::Blob(_) => Some(value),
        Held::Tensor(_) => value.kind.as_ref().is_some_and(belongs).then_some(value),
        Held::Other => None,
    }
}

/// Goes through the constants that are weights, and says what is noteworthy.
pub(crate) fn select<'p, 'a>(
    package: &'p Package<'a>,
    graph: &'p Graph<'p, 'a>,
    options: &QuantizeOptions,
    warnings: &mut Vec<String>,
) -> Result<Vec<Choice<'p, 'a>>, Error> {
    let program = &package.program;
    let mut choices = Vec::new();
    for (index, constant) in graph.constants.iter().enumerate() {
        let operation = constant.operation;
        let output = operation
            .outputs
            .first()
            .and_then(|output| output.kind.as_ref());
        let name = shown_name(program, constant);
        let mut choice = Choice {
            constant: index,
            dtype: output.map_or(String::new(), |kind| kind.dtype.name()),
            shape: output.and_then(|kind| kind.shape()).unwrap_or_default(),
            value: None,
            decision: Decision::LeaveAlone(String::new()),
            lacks_axis: false,
            uses: &constant.consumers,
            name,
        };
        if operation.is_constexpr() {
            let what = match operation.kind {
                "constexpr_affine_dequantize" | "constexpr_blockwise_shift_scale" => "quantized",
                "constexpr_lut_to_dense" => "palettized",
                "constexpr_sparse_to_dense" => "pruned",
                _ => "compressed",
            };
            choice.decision = Decision::LeaveAlone(format!("already {what} ({})", operation.kind));
            choices.push(choice);
            continue;
        }
        let Some(value) = weight(program, constant) else {
            continue;
        };
        choice.value = Some(value);
        let decide = Decide {
            package,
            value,
            options,
            constant,
            shape: &choice.shape,
            name: &choice.name,
        };
        let dtype = output.map(|kind| kind.dtype);
        choice.decision = decide.decide(dtype, &mut choice.lacks_axis, warnings)?;
        choices.push(choice);
    }
    Ok(choices)
}

/// Names and patterns of the options that match no weight, and no operation that takes one.
pub(crate) fn unmatched(
    program: &Program<'_>,
    graph: &Graph<'_, '_>,
    choices: &[Choice<'_, '_>],
    options: &QuantizeOptions,
) -> Vec<Unmatched> {
    let listed: HashSet<usize> = choices.iter().map(|choice| choice.constant).collect();
    // Biases and other small tensors have names, too, that a user may give.
    let is_weight = |(index, constant): &(usize, &Constant<'_, '_>)| {
        let output = constant.operation.outputs.first();
        let kind = output.and_then(|output| output.kind.as_ref());
        listed.contains(index)
            || kind.is_some_and(|kind| float_type(kind.dtype).is_some() && !kind.dims.is_empty())
    };
    let weights: Vec<_> = graph
        .constants
        .iter()
        .enumerate()
        .filter(is_weight)
        .collect();
    let names: Vec<_> = weights
        .iter()
        .map(|(_, one)| shown_name(program, one))
        .collect();
    let own = weights.iter().map(|(_, one)| one.operation.name());
    let own: Vec<_> = own.chain(names.iter().map(String::as_str)).collect();
    let mut found = options.unmatched(&Known::new("weight", own.iter().copied()));
    if let Some(config) = &options.config {
        let uses = || weights.iter().flat_map(|(_, one)| &one.consumers);
        let names = uses().map(|one| one.operation.name());
        let names = names.chain(weights.iter().map(|(_, one)| one.operation.name()));
        let names = Known::new("weight, and no operation that takes one", names);
        let types = Known::new(
            "type of an operation that takes a weight",
            uses().map(|one| one.operation.kind),
        );
        found.extend(config.unmatched(&names, &types));
    }
    found
}

struct Decide<'s, 'p, 'a> {
    package: &'s Package<'a>,
    value: &'s Value<'a>,
    options: &'s QuantizeOptions,
    constant: &'s Constant<'p, 'a>,
    shape: &'s [usize],
    name: &'s str,
}

impl Decide<'_, '_, '_> {
    fn decide(
        &self,
        dtype: Option<DataType>,
        lacks_axis: &mut bool,
        warnings: &mut Vec<String>,
    ) -> Result<Decision, Error> {
        let alone = |reason: String| Ok(Decision::LeaveAlone(reason));
        let Some(source) = dtype.and_then(float_type) else {
            return alone(
                dtype.map_or("no tensor".into(), |dtype| format!("type {}", dtype.name())),
            );
        };
        if let Some(reason) = self.left_out()? {
            return alone(reason.into());
        }
        let (rank, elements) = (self.shape.len(), self.shape.iter().product::<usize>());
        let settings = match self.settings() {
            Ok(None) => return alone("left out by the configuration".into()),
            _ if rank < 2 => return alone(format!("rank {rank}")),
            Err(reason) => return Ok(Decision::Skip(reason)),
            Ok(Some(settings)) => settings,
        };
        let least = settings.min_elements.max(FILE_ELEMENTS - 1);
        if elements <= least {
            return alone(format!("{elements} elements, not more than {least}"));
        }
        self.check_format(&settings, source)?;
        if let Some(problem) = settings.misfit(rank) {
            let path = self.package.model_path();
            return Err(Error::tensor(&path, self.name, problem));
        }
        let blocks = self.channel_axes(&settings, warnings);
        let blocks = blocks.and_then(|axes| self.blocks(&settings, axes, lacks_axis));
        Ok(match blocks {
            Err(reason) => Decision::Skip(reason),
            Ok(blocks) => Decision::Quantize(TensorQuantizer {
                backend: self.options.backend,
                scheme: settings.scheme,
                source,
                blocks,
            }),
        })
    }

    /// Why it is left alone, whatever the settings are.
    fn left_out(&self) -> Result<Option<&'static str>, Error> {
        // By its own name or, where there are several functions, the one that is shown.
        let names = [self.constant.operation.name(), self.name];
        let uses = &self.constant.consumers;
        Ok(if self.package.data(self.value)?.is_none() {
            Some("its values stand in the model in a way that quant does not know")
        } else if let Some(reason) = self.options.left_out(&names) {
            Some(reason)
        } else if self.constant.is_result {
            Some("a result of the function")
        } else if uses.is_empty() {
            Some("feeds no operation")
        } else if uses.iter().any(|one| one.operation.is_constexpr()) {
            Some("feeds a constexpr operation")
        } else {
            None
        })
    }

    /// The axes of output and input channels, or why there are none.
    fn channel_axes(
        &self,
        settings: &Settings,
        warnings: &mut Vec<String>,
    ) -> Result<(isize, isize), String> {
        match self.axes() {
            Some(axes) => Ok(axes),
            None if !settings.granularity.needs_no_axis() => Err(self.torn()),
            None if settings.granularity.is_blockwise() => Ok((0, 1)),
            None if self.options.exact_selection => Err(self.torn()),
            None => {
                warnings.push(format!(
                    "`{}` {}; one scale for all of it needs no axis, so it is quantized (coremltools leaves it in float, as does --exact-selection)",
                    self.name,
                    self.torn()
                ));
                Ok((0, 1))
            }
        }
    }

    /// The blocks, or why there can be none.
    fn blocks(
        &self,
        settings: &Settings,
        (output, input): (isize, isize),
        lacks_axis: &mut bool,
    ) -> Result<Blocks, String> {
        let granularity = settings
            .granularity
            .with_axes(self.shape.len(), output, input);
        let blocks = Blocks::new(self.shape, &granularity).map_err(|error| {
            *lacks_axis = !matches!(error, GeometryError::BlockTooLarge { .. });
            error.to_string()
        })?;
        let mut axes = self.shape.iter().zip(blocks.block_sizes()).enumerate();
        match axes.find(|(_, (dim, block))| *dim % *block != 0) {
            None => Ok(blocks),
            Some((axis, (dim, block))) => Err(format!(
                "blocks of {block} do not divide axis {axis}, which has {dim} elements"
            )),
        }
    }

    fn settings(&self) -> Result<Option<Settings>, String> {
        let Some(config) = &self.options.config else {
            return Ok(Some(self.options.settings()));
        };
        let consumers: Vec<_> = self.constant.consumers.iter().map(Use::consumer).collect();
        let found = config.of_constant(self.constant.operation.name(), &consumers)?;
        Ok(found.cloned())
    }

    /// What this version of the format cannot say.
    fn check_format(&self, settings: &Settings, source: FloatType) -> Result<(), Error> {
        let path = self.package.model_path();
        let bad = |problem: &str| Err(Error::tensor(&path, self.name, problem));
        if let Err(problem) = data_type(settings.scheme.dtype) {
            return bad(&problem);
        }
        let dialect = settings.scheme.dialect;
        if settings.scheme.offset() == OffsetKind::Bias {
            return bad(&format!(
                "the dialect {dialect} stores float biases, for which the format has no place"
            ));
        }
        if dialect.scale_type(source) != source {
            let name = match dialect == Dialect::F32 {
                true => "wide",
                false => dialect.name(),
            };
            return bad(&format!(
                "--dialect {name} stores f32 scales, which turn f16 weights into f32; Core ML needs the dialect coremltools"
            ));
        }
        if self
            .package
            .program
            .stage(self.constant.function)
            .specification
            >= BLOCKWISE
        {
            return Ok(());
        }
        let again = "convert the model again with minimum_deployment_target=ct.target.iOS18 or later, or use int8 or uint8, per tensor or channel";
        if settings.granularity.is_blockwise() {
            return bad(&format!("blocks are supported since iOS18; {again}"));
        }
        if settings.scheme.dtype.bits() == 4 {
            return bad(&format!("4-bit weights are supported since iOS18; {again}"));
        }
        Ok(())
    }

    /// The axes of output and input channels, if all consumers agree.
    fn axes(&self) -> Option<(isize, isize)> {
        let rank = self.shape.len() as isize;
        let count = |axis: isize| if axis < 0 { axis + rank } else { axis };
        let uses = self.constant.consumers.iter();
        let all: BTreeSet<_> = uses
            .map(|one| (count(one.axes.0), count(one.axes.1)))
            .collect();
        let first = all.first().copied();
        first.filter(|_| all.len() == 1)
    }

    fn torn(&self) -> String {
        let uses = self.constant.consumers.iter();
        let axes: Vec<String> = uses
            .map(|one| {
                let (kind, name) = (one.operation.kind, one.operation.name());
                format!("{kind} `{name}` {}", one.axes.0)
            })
            .collect();
        format!(
            "feeds operations that want different axes of output channels ({})",
            axes.join(", ")
        )
    }
}
