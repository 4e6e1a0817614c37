//! Activations: `quantize` and `dequantize` pairs as coremltools' `linear_quantize_activations` puts
//! them into a program, from ranges that are given.

mod insert;
mod net;
mod parameters;
mod simplify;
mod wanted;
mod write;

use std::collections::{HashMap, HashSet};
use std::path::Path;

use quant_core::Scheme;

use self::insert::{Inserter, Left};
use self::net::{Bound, Net};
use self::parameters::Parameters;
pub(crate) use self::wanted::wanted;
use super::output::{Target, size};
use super::package::Package;
use super::program::Program;
use crate::activations::{ActivationOptions, OperationReport, QuantizedActivation};
use crate::error::one_line;
use crate::{Error, Job, Report};

/// The first version with quantized activations: iOS17.
const FIRST: u64 = 8;
/// Names that a message lists at most.
const LISTED: usize = 5;

/// A model with quantized activations.
pub(crate) struct Inserted {
    /// `model.mlmodel`.
    pub model: Vec<u8>,
    pub operations: Vec<OperationReport>,
    pub warnings: Vec<String>,
}

/// How an operation's activations are quantized, or why they are not.
enum Chosen {
    Quantize(Scheme),
    Leave(&'static str),
}

/// Quantizes the activations of the package at `input`.
pub(crate) fn quantize(
    input: &Path,
    output: &Path,
    options: &ActivationOptions,
    job: &Job<'_>,
) -> Result<Report, Error> {
    let package = Package::open(input)?;
    let inserted = insert(&package, &package.program()?, options, 1)?;
    let mut report = Report {
        tensors: Vec::new(),
        operations: inserted.operations,
        warnings: inserted.warnings,
        bytes_before: size(input)?,
        bytes_after: None,
    };
    report.check_strict(options.strict)?;
    if options.dry_run {
        return Ok(report);
    }
    let target = Target::new(&package, output, job)?;
    target.put(&package.model, &inserted.model)?;
    let rest = target.copy_rest(&package, std::slice::from_ref(&package.model), job)?;
    target.finish(job)?;
    report.bytes_after = Some(inserted.model.len() as u64 + rest);
    Ok(report)
}

/// Puts pairs into all functions. coremltools simplifies whenever it saves: once for activations, and
/// again for weights, which may change a little more, and names.
///
/// # Errors
/// A model for a system that knows no quantized activations; parameters that its types cannot hold; a
/// model of which nothing is in the ranges.
pub(crate) fn insert(
    package: &Package,
    program: &Program<'_>,
    options: &ActivationOptions,
    saved: usize,
) -> Result<Inserted, Error> {
    let path = package.model_path();
    check_version(&path, program)?;
    let choose = |name: &str, kind: &str| options.choose(name, kind);
    let (mut nets, mut operations) = (Vec::new(), Vec::new());
    let (mut names, mut quantized) = (HashSet::new(), false);
    for function in &program.functions {
        for (_, block) in &function.blocks {
            let mut net = Net::of(&function.inputs, block);
            names.extend(net.vars.iter().map(|var| var.name.clone().into_owned()));
            let ranges = ranges(&net, options);
            let mut inserter = Inserter::new(&mut net, &choose, ranges);
            let done = inserter.run();
            let (changed, reports) = (inserter.changed, inserter.reports);
            quantized |= inserter.quantized;
            operations.extend(reports.into_values().map(|mut report| {
                if program.functions.len() > 1 {
                    report.name = format!("{}/{}", function.name, report.name);
                }
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
    let mut warnings = Vec::new();
    let strange = options.ranges.activations.keys();
    let strange: Vec<_> = strange.filter(|name| !names.contains(*name)).collect();
    let all = options.ranges.activations.len();
    if !quantized {
        return Err(Error::file(
            &options.path,
            nothing(&operations, strange.len() == all),
        ));
    }
    if !strange.is_empty() {
        warnings.push(format!(
            "{}: {} of {all} activations are not in the model: {}",
            options.path.display(),
            strange.len(),
            listed(strange.iter().map(|name| name.as_str()))
        ));
    }
    let model =
        write::write(&package.bytes, &nets).map_err(|problem| Error::file(&path, problem))?;
    Ok(Inserted {
        model,
        operations,
        warnings,
    })
}

fn check_version(path: &Path, program: &Program<'_>) -> Result<(), Error> {
    if program.specification >= FIRST {
        return Ok(());
    }
    let problem = format!(
        "specification version {}: activations are quantized since iOS17 and macOS14 (version {FIRST}); convert the model again with minimum_deployment_target=ct.target.iOS17 or later",
        program.specification
    );
    Err(Error::file(path, problem))
}

/// Why there is nothing to do.
fn nothing(operations: &[OperationReport], all_strange: bool) -> String {
    let missing = operations.iter().filter(|report| report.skipped);
    let reasons: Vec<_> = missing
        .filter_map(|report| report.reason.as_deref())
        .collect();
    match reasons.len() {
        0 => "the model has no operation whose activations could be quantized (conv, linear, add, avg_pool, max_pool)".into(),
        count if all_strange => format!(
            "holds no activation of the model; {count} operations want one: {}",
            listed(reasons.into_iter())
        ),
        count => format!(
            "holds the inputs of no operation that could be quantized; {count} want one: {}",
            listed(reasons.into_iter())
        ),
    }
}

fn listed<'n>(names: impl ExactSizeIterator<Item = &'n str>) -> String {
    let more = names.len().saturating_sub(LISTED);
    let shown: Vec<_> = names.take(LISTED).collect();
    one_line(match more {
        0 => shown.join(", "),
        _ => format!("{} and {more} more", shown.join(", ")),
    })
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

impl ActivationOptions {
    fn choose(&self, name: &str, kind: &str) -> Chosen {
        if let Some(reason) = crate::options::left_out(&self.include, &self.exclude, &[name]) {
            return Chosen::Leave(reason);
        }
        match self
            .config
            .as_ref()
            .map(|config| config.of_operation(name, kind))
        {
            None => Chosen::Quantize(self.scheme),
            Some(Some(settings)) => Chosen::Quantize(settings.scheme),
            Some(None) => Chosen::Leave("left out by the configuration"),
        }
    }
}

impl OperationReport {
    fn new(name: &str, operation: &str) -> Self {
        Self {
            name: name.into(),
            operation: operation.into(),
            quantized: Vec::new(),
            reason: None,
            skipped: false,
        }
    }

    fn leave(&mut self, left: Left) {
        self.skipped |= left.missing.is_some();
        self.reason = Some(left.reason);
    }
}

impl QuantizedActivation {
    fn new(name: &str, input: Option<&str>, range: (f32, f32), parameters: &Parameters) -> Self {
        Self {
            activation: name.into(),
            input: input.map(str::to_owned),
            min: range.0,
            max: range.1,
            dtype: parameters::int_name(parameters.dtype),
            scale: parameters.scale,
            zero_point: parameters.zero_point.unwrap_or(0),
        }
    }
}
