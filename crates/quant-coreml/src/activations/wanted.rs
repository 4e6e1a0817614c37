//! Which activations need ranges.

use std::collections::{BTreeSet, HashMap, HashSet};

use quant_model::activations::{ActivationOptions, WantedActivation, WantedActivations};
use quant_model::{Consumer, Error, unmatched};

use super::insert::Inserter;
use super::net::{Bound, Net, VarId};
use super::{Chosen, check_version, choose_for, unmatched_operations};
use crate::mil::read::tensor_type;
use crate::package::Package;

/// The activations of a package that need ranges, in the order of the program.
pub(crate) fn wanted(
    package: &Package<'_>,
    options: &ActivationOptions,
) -> Result<WantedActivations, Error> {
    let program = &package.program;
    let path = package.model_path();
    check_version(&path, program)?;
    let choose = |name: &str, kind: &str| choose_for(options, name, kind);
    let (mut all, mut candidates) = (Vec::new(), Vec::new());
    for (index, function) in program.functions.iter().enumerate() {
        let mut names = HashSet::new();
        for (_, block) in &function.blocks {
            let read = || Net::new(&function.inputs, block);
            let found = missing(read, &choose, &mut candidates).and_then(|vars| {
                let net = read();
                let of = vars.into_iter().map(|var| describe(&net, var));
                of.collect::<Result<Vec<_>, _>>()
            });
            let found = found.map_err(|problem| Error::file(&path, problem))?;
            for mut activation in found {
                activation.function = program.place(index);
                if names.insert(activation.name.clone()) {
                    all.push(activation);
                }
            }
        }
    }
    let missing = unmatched_operations(options, &candidates);
    let warnings = unmatched::warnings(options.strict, &missing)?;
    Ok(WantedActivations::new(all, warnings))
}

/// Pairs are inserted with a range for all that was missed, until nothing is: a range for one input
/// lets the other, and what the operation gives, be asked for. Adds the names and types of the
/// operations that could be quantized.
fn missing<'p, 'a: 'p>(
    read: impl Fn() -> Net<'p, 'a>,
    choose: &dyn Fn(&str, &str) -> Chosen,
    operations: &mut Vec<(String, String)>,
) -> Result<BTreeSet<VarId>, String> {
    let (mut vars, mut ranges) = (BTreeSet::new(), HashMap::new());
    loop {
        let mut net = read();
        let mut inserter = Inserter::new(&mut net, choose, ranges.clone());
        inserter.run()?;
        let missing = inserter.missing;
        if missing.is_empty() {
            let reports = inserter.reports.into_values();
            operations.extend(reports.map(|report| (report.name, report.operation)));
            return Ok(vars);
        }
        let names = missing.iter().map(|&var| net.vars[var].name.to_string());
        ranges.extend(names.map(|name| (name, (-1.0, 1.0))));
        vars.extend(missing);
    }
}

fn describe(net: &Net<'_, '_>, var: VarId) -> Result<WantedActivation, String> {
    let found = &net.vars[var];
    let mut taken_by = Vec::new();
    for op in net.children_in_order(var) {
        let op = &net.ops[op];
        let bound = op.inputs.iter().filter(|(_, bound)| {
            let mut bound = bound.iter();
            bound.any(|bound| matches!(bound, Bound::Var(taken) if *taken == var))
        });
        taken_by.extend(bound.map(|(input, _)| Consumer {
            operation: op.kind.to_owned(),
            name: op.name.to_string(),
            input: (*input).to_owned(),
        }));
    }
    let shape = tensor_type(&found.type_bytes)?.map_or_else(Vec::new, |of| of.dims);
    let mut wanted = WantedActivation::new(found.name.to_string(), shape);
    wanted.given_by = found.op.map(|op| net.ops[op].kind.to_owned());
    wanted.taken_by = taken_by;
    Ok(wanted)
}
