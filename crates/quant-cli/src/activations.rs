//! `quant activations`, and how both commands tell what was done with activations.

use std::time::Instant;

use quant_core::{IntType, Scheme};
use quant_models::{ActivationOptions, Config, Error, OperationReport, Report};
use serde_json::json;

use crate::arguments::{Activations, Byte, Mode};
use crate::commands::{beside, print, print_json, regexes, size_of, warn, watched};

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
    let options = ActivationOptions {
        scheme,
        config: config.transpose()?,
        include: regexes(&arguments.include, "--include")?,
        exclude: regexes(&arguments.exclude, "--exclude")?,
        strict: arguments.strict,
        dry_run: arguments.dry_run,
        ..ActivationOptions::open(&arguments.ranges)?
    };
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
    text += &format!(
        "activations of {} of {} operations quantized\n",
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
