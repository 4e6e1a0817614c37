//! Activations: `quantize` and `dequantize` pairs as coremltools' `linear_quantize_activations` puts
//! them into a program, from ranges that are given.

mod build;
mod insert;
mod names;
mod net;
mod parameters;
mod scales;
mod simplify;
mod wanted;
mod write;

use std::collections::{HashMap, HashSet};
use std::path::Path;

use quant_core::Scheme;
use quant_model::activations::{ActivationOptions, OperationReport, QuantizedActivation};
use quant_model::error::shortened;
use quant_model::format::Inserted;
use quant_model::options::{left_out, unmatched};
use quant_model::unmatched::{Known, Unmatched};
use quant_model::{Error, HintCommand, Job, Report};

use self::insert::{Inserter, UnquantizedError};
use self::net::{Bound, Net};
use self::parameters::Parameters;
pub(crate) use self::wanted::wanted;
use crate::mil::program::Program;
use crate::output::{Target, size};
use crate::package::Package;

/// The first version with quantized activations: iOS17.
const FIRST: u64 = 8;
/// Names that a message lists at most.
const LISTED: usize = 5;

/// How an operation's activations are quantized, or why they are not.
enum Chosen {
    Quantize(Scheme),
    Leave(&'static str),
}

/// Quantizes the activations of a package.
pub(crate) fn quantize(
    package: &Package<'_>,
    output: &Path,
    options: &ActivationOptions,
    job: &Job<'_>,
) -> Result<Report, Error> {
    let input = package.path;
    let (model, inserted) = insert(package, options, 1)?;
    let mut report = Report::default();
    report.operations = inserted.operations;
    report.warn(package.warnings());
    report.bytes_before = size(input)?;
    report.check(options.strict, &inserted.unmatched)?;
    if options.dry_run {
        return Ok(report);
    }
    let mut target = Target::new(package, &options.inputs(input), output, job)?;
    report.warn(std::mem::take(&mut target.warnings));
    target.put(package.model, &model)?;
    let rest = target.copy_rest(package, &[package.model.to_owned()], job)?;
    target.finish(job)?;
    report.bytes_after = Some(model.len() as u64 + rest);
    Ok(report)
}

/// `model.mlmodel` with pairs in all functions. coremltools simplifies whenever it saves: once for activations, and
/// again for weights, which may change a little more, and names.
///
/// # Errors
/// A model for a system that knows no quantized activations; parameters that its types cannot hold; a
/// model of which nothing is in the ranges.
pub(crate) fn insert(
    package: &Package<'_>,
    options: &ActivationOptions,
    saved: usize,
) -> Result<(Vec<u8>, Inserted), Error> {
    let program = &package.program;
    let path = package.model_path();
    check_version(&path, program)?;
    let choose = |name: &str, kind: &str| choose_for(options, name, kind);
    let (mut nets, mut operations) = (Vec::new(), Vec::new());
    let (mut names, mut quantized) = (HashSet::new(), false);
    let mut candidates = Vec::new();
    for (index, function) in program.functions.iter().enumerate() {
        for (_, block) in &function.blocks {
            let mut net = Net::new(&function.inputs, block);
            names.extend(net.vars.iter().map(|var| var.name.clone().into_owned()));
            let ranges = ranges(&net, options);
            let mut inserter = Inserter::new(&mut net, &choose, ranges);
            let done = inserter.run();
            let (changed, reports) = (inserter.changed, inserter.reports);
            quantized |= inserter.quantized;
            operations.extend(reports.into_values().map(|mut report| {
                candidates.push((report.name.clone(), report.operation.clone()));
                report.name = program.shown(index, &report.name);
                report
            }));
            done.map_err(|problem| Error::file(&options.path, problem))?;
            if changed {
                let mut done = net.simplify();
                for _ in 1..saved {
                    net.read_again();
                    done = done.and_then(|()| net.simplify());
                }
                done.map_err(|problem| Error::file(&path, problem))?;
            }
            nets.push(net);
        }
    }
    let unmatched = unmatched_names(options, &names, &candidates);
    if !quantized {
        return Err(match unmatched.first() {
            Some(one) if options.strict => Error::strict(one.to_string()),
            one => {
                let mut ranges = options.ranges.activations.keys();
                let known = ranges.any(|name| names.contains(name));
                Error::file(&options.path, nothing(&operations, known, one))
            }
        });
    }
    let model =
        write::write(package.bytes, &nets).map_err(|problem| Error::file(&path, problem))?;
    let inserted = Inserted {
        operations,
        unmatched,
    };
    Ok((model, inserted))
}

fn check_version(path: &Path, program: &Program<'_>) -> Result<(), Error> {
    let Some(old) = program
        .stages
        .iter()
        .find(|stage| stage.specification < FIRST)
    else {
        return Ok(());
    };
    let model = old.name.as_ref();
    let model = model.map_or(String::new(), |name| {
        format!("model `{name}` of the pipeline has ")
    });
    let problem = format!(
        "{model}specification version {}: activations are quantized since iOS17 and macOS14 (version {FIRST}); convert the model again with minimum_deployment_target=ct.target.iOS17 or later",
        old.specification
    );
    Err(Error::file(path, problem))
}

/// Why there is nothing to do; `known` where some range is that of an activation of the model.
fn nothing(operations: &[OperationReport], known: bool, unmatched: Option<&Unmatched>) -> String {
    let missing = operations.iter().filter(|report| report.skipped);
    let missing: Vec<_> = missing
        .filter_map(|report| report.reason.as_deref())
        .collect();
    let mut why = match (operations.first(), missing.len()) {
        (None, _) => "the model has no operation whose activations could be quantized (conv, linear, add, avg_pool, max_pool)".into(),
        (Some(first), 0) => format!(
            "no operation was quantized, of {}; the first, `{}`: {}",
            operations.len(),
            shortened(&first.name),
            first.reason.as_deref().unwrap_or_default()
        ),
        (_, count) if !known => format!(
            "holds no activation of the model; {count} operations need one: {}",
            listed(missing.into_iter())
        ),
        (_, count) => format!(
            "holds the inputs of no operation that could be quantized; {count} need one: {}",
            listed(missing.into_iter())
        ),
    };
    if let Some(unmatched) = unmatched {
        why += &format!("; {unmatched}");
    }
    why
}

fn listed<'n>(names: impl ExactSizeIterator<Item = &'n str>) -> String {
    let more = names.len().saturating_sub(LISTED);
    let shown: Vec<_> = names.take(LISTED).map(shortened).collect();
    match more {
        0 => shown.join(", "),
        _ => format!("{} and {more} more", shown.join(", ")),
    }
}

/// The ranges of a function's activations. Those of a `concat`'s inputs and output become one, so that
/// it can work on codes; coremltools leaves out what the function gives.
fn ranges(net: &Net<'_, '_>, options: &ActivationOptions) -> HashMap<String, (f32, f32)> {
    let given = options.ranges.activations.iter();
    let mut ranges: HashMap<String, (f32, f32)> = given
        .map(|(name, range)| (name.clone(), (range.min, range.max)))
        .collect();
    let mut groups: Vec<HashSet<&str>> = Vec::new();
    for op in net.ops.iter().filter(|op| op.kind == "concat") {
        if op.outputs.iter().any(|&var| net.vars[var].result) {
            continue;
        }
        let inputs = op.inputs.iter().filter(|(key, _)| *key == "values");
        let inputs = inputs
            .flat_map(|(_, bound)| bound)
            .filter_map(|bound| match bound {
                Bound::Var(var) => Some(var),
                _ => None,
            });
        let names = inputs.chain(&op.outputs).map(|&var| &*net.vars[var].name);
        let mut group: HashSet<&str> = names.collect();
        groups.retain(|other| {
            let joined = !group.is_disjoint(other);
            if joined {
                group.extend(other);
            }
            !joined
        });
        groups.push(group);
    }
    for group in groups {
        let united = group.iter().filter_map(|name| ranges.get(*name).copied());
        let united = united.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
        for name in group {
            if let (Some(united), Some(range)) = (united, ranges.get_mut(name)) {
                *range = united;
            }
        }
    }
    ranges
}

/// What names no variable, or no operation whose activations could be quantized.
fn unmatched_names(
    options: &ActivationOptions,
    variables: &HashSet<String>,
    operations: &[(String, String)],
) -> Vec<Unmatched> {
    let variables = Known::new("activation", variables.iter().map(String::as_str))
        .with_listed_by(HintCommand::ListActivations);
    let ranges = options.ranges.activations.keys().map(String::as_str);
    let mut found = variables.keys(&format!("{}:", options.path.display()), ranges);
    found.extend(unmatched_operations(options, operations));
    found
}

/// What names no operation whose activations could be quantized, of these names and types.
fn unmatched_operations(
    options: &ActivationOptions,
    operations: &[(String, String)],
) -> Vec<Unmatched> {
    let names = operations.iter().map(|(name, _)| name.as_str());
    let names = Known::new("operation whose activations could be quantized", names)
        .with_listed_by(HintCommand::ListActivations);
    let mut found = unmatched(&options.include, &options.exclude, &names);
    if let Some(config) = &options.config {
        let types = operations.iter().map(|(_, kind)| kind.as_str());
        let types = Known::new("type of such an operation", types)
            .with_listed_by(HintCommand::ListActivations);
        found.extend(config.unmatched(&names, &types));
    }
    found
}

fn choose_for(options: &ActivationOptions, name: &str, kind: &str) -> Chosen {
    if let Some(reason) = left_out(&options.include, &options.exclude, &[name]) {
        return Chosen::Leave(reason);
    }
    match options
        .config
        .as_ref()
        .map(|config| config.of_operation(name, kind))
    {
        None => Chosen::Quantize(options.scheme),
        Some(Some(settings)) => Chosen::Quantize(settings.scheme),
        Some(None) => Chosen::Leave("left out by the configuration"),
    }
}

fn leave(report: &mut OperationReport, left: UnquantizedError) {
    report.skipped |= left.missing.is_some();
    report.reason = Some(left.reason);
}

fn quantized(
    name: &str,
    input: Option<&str>,
    range: (f32, f32),
    parameters: &Parameters,
) -> QuantizedActivation {
    let codes = parameters::int_name(parameters.dtype);
    let params = (codes, parameters.scale, parameters.zero_point.unwrap_or(0));
    let mut quantized = QuantizedActivation::new(name, range, params);
    quantized.input = input.map(str::to_owned);
    quantized
}
