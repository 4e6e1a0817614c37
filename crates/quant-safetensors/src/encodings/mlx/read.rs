//! The tensors that a configuration says are quantized: U32 beside scales and biases.

use quant_core::{FloatType, IntType, Mode};
use quant_model::error::shortened;
use quant_model::{Error, Job, SchemeRecord};
use serde_json::Value;

use super::config::QUANTIZATION;
use super::{WEIGHT, scheme};
use crate::Entry;
use crate::encodings::{Found, Unread};
use crate::model_files::ModelFiles;

const CODES: &str = "U32";
const DAMAGED: &str = "the file is damaged, fetch it again";
const REMEDY: &str = "correct config.json, or fetch the model again";

/// See [`Convention::find`](crate::encodings::Convention::find).
pub(super) fn find(files: &ModelFiles, job: &Job<'_>) -> Result<Found, Error> {
    let mut found = Found::default();
    let is_code = |name: &str, entry: &Entry| entry.dtype == CODES && name.ends_with(WEIGHT);
    if !files.entries().any(|(_, name, entry)| is_code(name, entry)) {
        return Ok(found);
    }
    let Some(quantization) = files.config.get()?.and_then(|it| it.get(QUANTIZATION[0])) else {
        return Ok(found);
    };
    for (file, name, entry) in files.entries() {
        job.check()?;
        let read = match (name.strip_suffix(WEIGHT), name.strip_suffix(".scales")) {
            (Some(module), _) if is_code(name, entry) => read(files, module, entry, quantization),
            (_, Some(module)) if is_orphan(files, module) => {
                let codes = shortened(&format!("{module}{WEIGHT}"));
                Err(format!("its codes `{codes}` are missing; {DAMAGED}"))
            }
            _ => continue,
        };
        match read {
            Ok(record) => {
                found.records.insert(name.to_owned(), record);
            }
            Err(problem) => found.unread.push(Unread {
                file: file.path().to_owned(),
                name: name.to_owned(),
                problem,
            }),
        }
    }
    Ok(found)
}

/// Whether there are scales and biases, and nothing that they could belong to.
fn is_orphan(files: &ModelFiles, module: &str) -> bool {
    let has = |part: &str| files.contains(&format!("{module}.{part}"));
    has("biases") && !has(&WEIGHT[1..])
}

/// How a tensor of words is quantized.
///
/// # Errors
/// Why it is not read, and what to do.
fn read(
    files: &ModelFiles,
    module: &str,
    entry: &Entry,
    quantization: &Value,
) -> Result<SchemeRecord, String> {
    let own = quantization.get(module);
    if own == Some(&Value::Bool(false)) {
        return Err(format!(
            "is {CODES}, and config.json says that it is not quantized; {REMEDY}"
        ));
    }
    let own = own.filter(|own| own.is_object()).unwrap_or(quantization);
    let mode = own.get("mode").filter(|mode| *mode != "affine");
    if let Some(mode) = mode {
        return Err(format!(
            "is of MLX's mode {}, and quant reads affine; restore the model with mlx-lm",
            shortened(&mode.to_string())
        ));
    }
    let part = |what: &str| {
        let name = format!("{module}.{what}");
        let missing = || format!("`{}` is missing; {DAMAGED}", shortened(&name));
        files.entry(&name).ok_or_else(missing)
    };
    let (scales, _) = (part("scales")?, part("biases")?);
    let number = |key: &str| {
        let number = own.get(key).and_then(Value::as_u64);
        let number = number.and_then(|it| usize::try_from(it).ok());
        number.ok_or_else(|| format!("config.json does not say its `{key}`; {REMEDY}"))
    };
    let (bits, group) = (number("bits")?, number("group_size")?);
    let dtype = u32::try_from(bits)
        .ok()
        .and_then(|bits| IntType::new(bits, false));
    let dtype = dtype.ok_or_else(|| {
        format!(
            "has codes of {bits} bits, which quant does not read; restore the model with mlx-lm"
        )
    })?;
    let (source, row) = source_and_row(scales, group)?;
    let mut shape = entry.shape.clone();
    let mut blocks = vec![1; shape.len()];
    if let (Some(last), Some(block)) = (shape.last_mut(), blocks.last_mut()) {
        (*last, *block) = (row, group);
    }
    Ok(SchemeRecord {
        dtype: dtype.name().into(),
        mode: Mode::Affine.name().into(),
        dialect: scheme(dtype).dialect.name().into(),
        shape,
        blocks,
        source: source.name().into(),
        search: None,
    })
}

/// The type of the values, and how many there are in a row.
fn source_and_row(scales: &Entry, group: usize) -> Result<(FloatType, usize), String> {
    let bad_scales = || {
        let shape = shortened(&format!("{:?}", scales.shape));
        format!(
            "its scales are {} {shape}, which fits no codes; {DAMAGED}",
            scales.dtype
        )
    };
    let source = scales.float_type().ok_or_else(bad_scales)?;
    let groups = scales.shape.last().copied().unwrap_or(0);
    let row = groups.checked_mul(group).ok_or_else(bad_scales)?;
    Ok((source, row))
}
