//! What quantization did, for people.

use std::path::Path;

use indicatif::HumanBytes;
use quant_models::{OperationReport, Report};

use crate::terminal::printable;

pub fn summary(report: &Report, output: &Path, seconds: f64) -> String {
    let name = report.tensors.iter().map(|tensor| tensor.name.len()).max();
    let name = name.unwrap_or(0);
    let mut text = String::new();
    for tensor in &report.tensors {
        let shape = format!("{:?}", tensor.shape);
        text += &format!("{:<name$}  {:<4} {shape:<20} ", tensor.name, tensor.dtype);
        text += &match (&tensor.scheme, &tensor.reason) {
            (Some(scheme), _) => {
                let (before, after) = (
                    HumanBytes(tensor.bytes_before),
                    HumanBytes(tensor.bytes_after),
                );
                let sqnr = match (tensor.sqnr_db, tensor.max_abs_error) {
                    (Some(db), _) => format!("{db:.1} dB"),
                    (None, Some(_)) => "exact".into(),
                    (None, None) => String::new(),
                };
                let blocks = format!("{:?}", scheme.blocks);
                format!(
                    "{} {} blocks {blocks:<18} {before} -> {after}  {sqnr}\n",
                    scheme.dtype, scheme.mode
                )
            }
            (None, reason) => {
                let kind = if tensor.skipped {
                    "SKIPPED"
                } else {
                    "left alone"
                };
                format!("{kind}: {}\n", reason.as_deref().unwrap_or_default())
            }
        };
    }
    text += &operations(report);
    for note in &report.notes {
        text += &format!("{note}\n");
    }
    text += &copied(&report.copied);
    let before = report.bytes_before;
    text += &match report.bytes_after {
        None => "Nothing was written (--dry-run).\n".into(),
        Some(after) => format!(
            "{} -> {} ({:.2} times smaller) in {seconds:.2} s, {}/s\n{}\n",
            HumanBytes(before),
            HumanBytes(after),
            before as f64 / after as f64,
            HumanBytes((before as f64 / seconds) as u64),
            output.display()
        ),
    };
    text
}

/// A line per operation whose activations could be quantized, and one that counts them.
pub fn operations(report: &Report) -> String {
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
            operation_line(operation)
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

fn operation_line(operation: &OperationReport) -> String {
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

/// A line about the files that were copied beside the weights.
pub fn copied(names: &[String]) -> String {
    match names {
        [] => String::new(),
        names => format!("copied {}\n", printable(&names.join(", "))),
    }
}
