//! What quantization did, for people.

use std::path::Path;

use indicatif::HumanBytes;
use quant_models::{Error, Note, OperationReport, Report, TensorReport, printable, shortened};

use crate::needs::lines;
use crate::table::{Row, print_table};
use crate::terminal::{count, number, print, shown};

/// Of a line about what was chosen.
const NOTE: usize = 1000;

/// A row per tensor and operation, and what became of the file.
pub fn print_summary(report: &Report, output: &Path, seconds: f64) -> Result<(), Error> {
    print_table(3, || report.tensors.iter().map(tensor_row))?;
    print_operations(report)?;
    print_notes(&report.notes)?;
    print(&copied(&report.copied))?;
    let before = report.bytes_before;
    match report.bytes_after {
        None => print("No model was written (--dry-run).\n"),
        Some(after) => print(&format!(
            "{} -> {} ({}) in {seconds:.2} s, {}/s\n{}\n",
            HumanBytes(before),
            HumanBytes(after),
            ratio(before, after),
            HumanBytes((before as f64 / seconds) as u64),
            shown(output)
        )),
    }
}

/// What was chosen, a line each.
pub fn print_notes(notes: &[Note]) -> Result<(), Error> {
    let mut all = lines(notes).into_iter();
    all.try_for_each(|note| print(&format!("{}\n", shortened(&note, NOTE))))
}

fn ratio(before: u64, after: u64) -> String {
    let ratio = before as f64 / after as f64;
    match ratio {
        1.005.. => format!("{ratio:.2} times smaller"),
        0.995.. => "as large as before".into(),
        _ => format!("{:.2} times larger", ratio.recip()),
    }
}

fn tensor_row(tensor: &TensorReport) -> Row {
    let (dtype, shape) = (tensor.dtype.clone(), format!("{:?}", tensor.shape));
    let Some(scheme) = &tensor.scheme else {
        let reason = tensor.reason.as_deref();
        return Row::new(
            &tensor.name,
            [dtype, shape],
            left(tensor.skipped, reason.unwrap_or_default()),
        );
    };
    let searched = match &scheme.search {
        Some(search) => format!(", search {search}"),
        None => String::new(),
    };
    let granularity = scheme.granularity();
    let method = match tensor.method.as_deref() {
        Some(method) => format!(", {method}"),
        None => String::new(),
    };
    let how = format!(
        "{} {}, {granularity}{searched}{method}",
        scheme.dtype, scheme.mode
    );
    let before = HumanBytes(tensor.bytes_before);
    let bytes = format!("{before} -> {}", HumanBytes(tensor.bytes_after));
    let error = match (tensor.sqnr_db, tensor.max_abs_error) {
        (Some(db), _) => format!("{db:.1} dB"),
        (None, Some(_)) => "exact".into(),
        (None, None) => String::new(),
    };
    let lost = tensor.non_finite.map(|values| {
        let values = count(values as usize, "value");
        format!("{values} too large to be restored")
    });
    let error = Some(error).filter(|error| !error.is_empty());
    let error = error.into_iter().chain(lost).collect::<Vec<_>>().join(", ");
    Row::new(&tensor.name, [dtype, shape, how, bytes], error)
}

fn left(skipped: bool, reason: &str) -> String {
    match skipped {
        true => format!("SKIPPED: {reason}"),
        false => format!("left alone: {reason}"),
    }
}

/// A row per operation whose activations could be quantized, and a line that counts them.
pub fn print_operations(report: &Report) -> Result<(), Error> {
    let operations = &report.operations;
    if operations.is_empty() {
        return Ok(());
    }
    print_table(2, || operations.iter().map(operation_row))?;
    let done = operations
        .iter()
        .filter(|operation| !operation.quantized.is_empty());
    let wanted = match operations.iter().any(|operation| operation.skipped) {
        true => "; quant activations --list shows which need a range",
        false => "",
    };
    print(&format!(
        "activations of {} of {} quantized{wanted}\n",
        done.count(),
        count(operations.len(), "operation")
    ))
}

fn operation_row(operation: &OperationReport) -> Row {
    let quantized = operation.quantized.iter().map(|one| {
        let place = match &one.input {
            Some(input) => format!("{input} `{}`", one.activation),
            None => format!("-> `{}`", one.activation),
        };
        let zero_point = match one.zero_point {
            0 => String::new(),
            code => format!(" zero point {code}"),
        };
        let scale = number(one.scale.into(), 3);
        format!("{place} {} scale {scale}{zero_point}", one.dtype)
    });
    let reason = operation.reason.as_ref();
    let left = reason.map(|reason| left(operation.skipped, reason));
    let text = quantized.chain(left).collect::<Vec<_>>().join("; ");
    Row::new(&operation.name, [operation.operation.clone()], text)
}

/// A line about the files that were copied beside the weights.
pub fn copied(names: &[String]) -> String {
    match names {
        [] => String::new(),
        names => format!("copied {}\n", printable(&names.join(", "))),
    }
}
