//! Which constants are weights, and what the program says of them.

use std::collections::{BTreeSet, HashSet};

use quant_core::{Blocks, OffsetKind};
use quant_model::error::option;
use quant_model::facts::{Axes, Facts, Storage};
use quant_model::io::Data;
use quant_model::settings::Settings;
use quant_model::unmatched::{Known, Unmatched};
use quant_model::{Error, QuantizeOptions};

use super::graph::{Constant, Graph, Use};
use super::package::Package;
use crate::mil::dtype::{data_type, float_type};
use crate::mil::program::{Payload, Program, TensorType, Value};
use crate::mil::schema::DataType;

/// The first version whose weights may have 4 bits, or blocks: iOS18.
const BLOCKWISE: u64 = 9;
/// Fewer elements stand in the model itself, and are not worth anything else.
pub(crate) const FILE_ELEMENTS: usize = 10;

/// A constant that is reported: a weight, or one that is compressed.
#[derive(Debug)]
pub(crate) struct Candidate<'p, 'a> {
    /// Position among the graph's constants.
    pub constant: usize,
    pub name: String,
    pub dtype: String,
    pub shape: Vec<usize>,
    /// Where it is no constexpr operation.
    pub value: Option<&'p Value<'a>>,
}

/// A constant's name for people.
pub(crate) fn shown_name(program: &Program<'_>, constant: &Constant<'_, '_>) -> String {
    program.shown(constant.function, constant.operation.name())
}

/// Whether the constant's model may hold the operations of iOS 18.
pub(crate) fn since_18(program: &Program<'_>, constant: &Constant<'_, '_>) -> bool {
    program.stage(constant.function).specification >= BLOCKWISE
}

/// The value of a constant that stands in a weight file, or would if coremltools had written the
/// package.
pub(crate) fn weight<'p, 'a>(
    program: &Program<'a>,
    constant: &Constant<'p, 'a>,
) -> Option<&'p Value<'a>> {
    let value = constant.operation.attribute("val")?;
    let since_18 = since_18(program, constant);
    let belongs = |kind: &TensorType| {
        let known = match kind.dtype {
            DataType::FLOAT16 | DataType::FLOAT32 | DataType::INT8 | DataType::UINT8 => true,
            DataType::INT16 | DataType::UINT16 | DataType::INT32 | DataType::UINT32 => since_18,
            _ => false,
        };
        let elements = kind.shape().map(|shape| shape.iter().product::<usize>());
        known && elements.is_some_and(|elements| elements >= FILE_ELEMENTS)
    };
    match value.payload {
        Payload::Blob(_) => Some(value),
        Payload::Tensor(_) => value.kind.as_ref().is_some_and(belongs).then_some(value),
        Payload::Other => None,
    }
}

/// The constants that are weights, and compressed ones.
pub(crate) fn candidates<'p, 'a>(
    program: &'p Program<'a>,
    graph: &Graph<'p, 'a>,
) -> Vec<Candidate<'p, 'a>> {
    let constants = graph.constants.iter().enumerate();
    let found = constants.filter_map(|(index, constant)| {
        let value = weight(program, constant);
        if value.is_none() && !constant.operation.is_constexpr() {
            return None;
        }
        let kind = output(constant);
        Some(Candidate {
            constant: index,
            name: shown_name(program, constant),
            dtype: kind.map_or(String::new(), |kind| kind.dtype.name()),
            shape: kind.and_then(|kind| kind.shape()).unwrap_or_default(),
            value: value.filter(|_| !constant.operation.is_constexpr()),
        })
    });
    found.collect()
}

fn output<'p>(constant: &Constant<'p, '_>) -> Option<&'p TensorType> {
    let output = constant.operation.outputs.first();
    output.and_then(|output| output.kind.as_ref())
}

/// What the program says of a candidate.
pub(crate) fn facts(
    package: &Package<'_>,
    constant: &Constant<'_, '_>,
    candidate: &Candidate<'_, '_>,
    index: usize,
) -> Result<Facts, Error> {
    let data = match candidate.value {
        Some(value) => package.data(value)?,
        None => None,
    };
    let uses = &constant.consumers;
    let pinned = if constant.is_result {
        Some("a result of the function")
    } else if uses.is_empty() {
        Some("feeds no operation")
    } else if uses.iter().any(|one| one.operation.is_constexpr()) {
        Some("feeds a constexpr operation")
    } else {
        None
    };
    Ok(Facts {
        index,
        name: candidate.name.clone(),
        // By its own name or, where there are several functions, the one that is shown.
        alias: Some(constant.operation.name().to_owned()),
        file: package.model_path(),
        dtype: candidate.dtype.clone(),
        shape: candidate.shape.clone(),
        bytes: data.as_ref().map_or(0, Data::len) as u64,
        storage: storage(constant, data.is_some()),
        axes: axes(candidate.shape.len(), uses),
        consumers: uses.iter().map(Use::consumer).collect(),
        pinned,
    })
}

fn storage(constant: &Constant<'_, '_>, has_data: bool) -> Storage {
    let operation = constant.operation;
    if operation.is_constexpr() {
        let what = match operation.kind {
            "constexpr_affine_dequantize" | "constexpr_blockwise_shift_scale" => "quantized",
            "constexpr_lut_to_dense" => "palettized",
            "constexpr_sparse_to_dense" => "pruned",
            _ => "compressed",
        };
        return Storage::Other(format!("already {what} ({})", operation.kind));
    }
    let Some(dtype) = output(constant).map(|kind| kind.dtype) else {
        return Storage::Other("no tensor".into());
    };
    match float_type(dtype) {
        None => Storage::Other(format!("type {}", dtype.name())),
        Some(_) if !has_data => {
            Storage::Other("its values stand in the model in a way that quant does not know".into())
        }
        Some(float) => Storage::Float(float),
    }
}

/// The axes of output and input channels, as all consumers want them.
fn axes(rank: usize, uses: &[Use<'_, '_>]) -> Axes {
    let rank = rank as isize;
    let count = |axis: isize| if axis < 0 { axis + rank } else { axis };
    let all = uses
        .iter()
        .map(|one| (count(one.axes.0), count(one.axes.1)));
    let all: BTreeSet<_> = all.collect();
    if let (Some(&(output, input)), 1) = (all.first(), all.len()) {
        return Axes::Agreed { output, input };
    }
    let axes = uses.iter().map(|one| {
        let (kind, name) = (one.operation.kind, one.operation.name());
        format!("{kind} `{name}` {}", one.axes.0)
    });
    let axes: Vec<String> = axes.collect();
    Axes::Conflicting(format!(
        "feeds operations that need different axes of output channels ({})",
        axes.join(", ")
    ))
}

/// Names and patterns of the options that match no weight, and no operation that takes one.
pub(crate) fn unmatched(
    program: &Program<'_>,
    graph: &Graph<'_, '_>,
    choices: &[Candidate<'_, '_>],
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

/// Refuses settings that this version of the format cannot say.
///
/// # Errors
/// What it cannot say, and what to do.
pub(crate) fn check(
    package: &Package<'_>,
    constant: &Constant<'_, '_>,
    facts: &Facts,
    settings: &Settings,
) -> Result<(), Error> {
    let bad = |problem: &str| Err(Error::tensor(&facts.file, &facts.name, problem));
    if let Err(problem) = data_type(settings.scheme.dtype) {
        return bad(&problem);
    }
    let dialect = settings.scheme.dialect;
    if settings.scheme.offset() == OffsetKind::Bias {
        return bad(&format!(
            "the dialect {dialect} stores float biases, for which the format has no place"
        ));
    }
    let is_wider =
        matches!(facts.storage, Storage::Float(source) if dialect.scale_type(source) != source);
    if is_wider {
        return bad(&format!(
            "{} stores f32 scales, which turn f16 weights into f32; Core ML needs the dialect coremltools",
            option(&format!("dialect {dialect}"))
        ));
    }
    if !since_18(&package.program, constant) {
        let again = "convert the model again with minimum_deployment_target=ct.target.iOS18 or later, or use int8 or uint8, per tensor or channel";
        if settings.granularity.is_blockwise() {
            return bad(&format!("blocks are supported since iOS18; {again}"));
        }
        if settings.scheme.dtype.bits() == 4 {
            return bad(&format!("4-bit weights are supported since iOS18; {again}"));
        }
    }
    match settings.misfit(facts.shape.len()) {
        Some(problem) => bad(&problem),
        None => Ok(()),
    }
}

/// Whether blocks divide their axes, as Core ML wants it.
///
/// # Errors
/// Which do not.
pub(crate) fn check_blocks(blocks: &Blocks) -> Result<(), String> {
    let mut axes = blocks.shape().iter().zip(blocks.block_sizes()).enumerate();
    match axes.find(|(_, (dim, block))| *dim % *block != 0) {
        None => Ok(()),
        Some((axis, (dim, block))) => Err(format!(
            "blocks of {block} do not divide axis {axis}, which has {dim} elements"
        )),
    }
}
