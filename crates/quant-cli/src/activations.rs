//! `quant activations`, and how both commands tell what was done with activations.

use std::time::Instant;

use quant_core::{IntType, Scheme};
use quant_models::{ActivationOptions, Config, Error, OperationReport, Report, WantedActivation};
use serde_json::json;

use crate::arguments::{Activations, Byte, Mode};
use crate::commands::{beside, print, print_json, printable, regexes, size_of, warn, watched};

pub fn activation_scheme(dtype: Byte, mode: Mode) -> Scheme {
    let dtype = match dtype {
        Byte::Int8 => IntType::Int8,
        Byte::Uint8 => IntType::Uint8,
    };
    let mode = match mode {
        Mode::Symmetric => quant_core::Mode::Symmetric,
        Mode::Affine => quant_core::Mode::Affine,
    };
    Scheme::new(dtype, mode)
}

pub fn activations(arguments: &Activations) -> Result<(), Error> {
    let scheme = activation_scheme(arguments.dtype, arguments.mode);
    let config = arguments.config.as_ref();
    let config = config.map(|path| Config::open(path, scheme.dialect));
    let given = match &arguments.ranges {
        Some(ranges) => ActivationOptions::open(ranges)?,
        None => ActivationOptions::default(),
    };
    let options = ActivationOptions {
        scheme,
        config: config.transpose()?,
        include: regexes(&arguments.include, "--include")?,
        exclude: regexes(&arguments.exclude, "--exclude")?,
        strict: arguments.strict,
        dry_run: arguments.dry_run,
        ..given
    };
    if arguments.list {
        return list(arguments, &options);
    }
    let output = match &arguments.output {
        Some(output) => output.clone(),
        None => beside(&arguments.model, "activations"),
    };
    let start = Instant::now();
    let bytes = size_of(&arguments.model);
    let report = watched(1, true, arguments.force, bytes, |job| {
        quant_models::quantize_activations(&arguments.model, &output, &options, job)
    })?;
    if arguments.json {
        return print_json(&json!({
            "version": 1,
            "input": arguments.model.to_string_lossy(),
            "output": (!arguments.dry_run).then(|| output.to_string_lossy()),
            "seconds": start.elapsed().as_secs_f64(),
            "bytes_before": report.bytes_before,
            "bytes_after": report.bytes_after,
            "warnings": report.warnings,
            "operations": report.operations,
        }));
    }
    if arguments.quiet {
        return Ok(());
    }
    warn(&report.warnings);
    let written = match report.bytes_after {
        None => "Nothing was written (--dry-run).".into(),
        Some(_) => output.display().to_string(),
    };
    print(&format!("{}{written}\n", lines(&report)))
}

fn list(arguments: &Activations, options: &ActivationOptions) -> Result<(), Error> {
    let wanted = quant_models::wanted_activations(&arguments.model, options)?;
    if arguments.json {
        return print_json(&json!({
            "version": 1,
            "input": arguments.model.to_string_lossy(),
            "activations": wanted,
        }));
    }
    let rows: Vec<_> = wanted.iter().map(row).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths = [0, 1, 2].map(|column| width(column).unwrap_or(0));
    let mut text = String::new();
    for [name, shape, given_by, taken_by] in &rows {
        let [a, b, c] = widths;
        text += &format!("{name:<a$}  {shape:<b$}  {given_by:<c$}  {taken_by}\n");
    }
    text += &match wanted.len() {
        0 => "no activation wants a range: there is no conv, linear, add, avg_pool or max_pool to be quantized\n".into(),
        1 => "1 activation wants a range\n".into(),
        count => format!("{count} activations want a range\n"),
    };
    print(&text)
}

fn row(activation: &WantedActivation) -> [String; 4] {
    let dims = activation.shape.iter();
    let dims: Vec<_> = dims
        .map(|dim| dim.map_or("?".into(), |dim| dim.to_string()))
        .collect();
    let given_by = match &activation.given_by {
        Some(operation) => format!("given by {}", printable(operation)),
        None => "an input".into(),
    };
    let given_by = match &activation.function {
        Some(function) => format!("{given_by} of function {}", printable(function)),
        None => given_by,
    };
    let taken_by = activation.taken_by.iter();
    let mut taken_by: Vec<_> = taken_by
        .map(|taker| printable(&format!("{} `{}`", taker.operation, taker.name)))
        .collect();
    taken_by.dedup();
    let taken_by = match taken_by.len() {
        0 => "taken by nothing".into(),
        _ => format!("taken by {}", taken_by.join(", ")),
    };
    [
        printable(&activation.name),
        format!("[{}]", dims.join(", ")),
        given_by,
        taken_by,
    ]
}

/// A line per operation whose activations could be quantized, and one that counts them.
pub fn lines(report: &Report) -> String {
    let operations = &report.operations;
    let name = operations
        .iter()
        .map(|operation| operation.name.len())
        .max();
    let Some(name) = name else {
        return String::new();
    };
    let mut text = String::new();
    for operation in operations {
        text += &format!(
            "{:<name$}  {:<8}  {}\n",
            operation.name,
            operation.operation,
            line(operation)
        );
    }
    let done = operations
        .iter()
        .filter(|operation| !operation.quantized.is_empty());
    let wanted = match operations.iter().any(|operation| operation.skipped) {
        true => "; quant activations --list shows which want a range",
        false => "",
    };
    text += &format!(
        "activations of {} of {} operations quantized{wanted}\n",
        done.count(),
        operations.len()
    );
    text
}

fn line(operation: &OperationReport) -> String {
    let quantized = operation.quantized.iter().map(|one| {
        let place = match &one.input {
            Some(input) => format!("{input} `{}`", one.activation),
            None => format!("-> `{}`", one.activation),
        };
        let zero_point = match one.zero_point {
            0 => String::new(),
            code => format!(" zero point {code}"),
        };
        format!("{place} {} scale {:e}{zero_point}", one.dtype, one.scale)
    });
    let left = operation.reason.as_ref().map(|reason| {
        let kind = if operation.skipped {
            "SKIPPED"
        } else {
            "left alone"
        };
        format!("{kind}: {reason}")
    });
    quantized.chain(left).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dimension_that_is_not_constant_is_a_question_mark() {
        let activation = WantedActivation {
            name: "x".into(),
            function: Some("main".into()),
            shape: vec![None, Some(3)],
            given_by: None,
            taken_by: Vec::new(),
        };
        let wanted = [
            "x",
            "[?, 3]",
            "an input of function main",
            "taken by nothing",
        ];
        assert_eq!(row(&activation), wanted);
    }
}
