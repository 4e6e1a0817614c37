//! Names of outputs.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// `model.safetensors` becomes `model.WHAT.safetensors`, `Model.mlpackage` `Model.WHAT.mlpackage`, a
/// folder `model` becomes `model.WHAT`: beside what was named, be it a link.
pub fn default_output(model: &Path, what: &str) -> PathBuf {
    let model = match model.extension() {
        Some(extension) if extension == "json" => match model.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        },
        _ => model,
    };
    // `.` and `..` name nothing.
    let named = match model.file_name() {
        Some(_) => model.to_owned(),
        None => model.canonicalize().unwrap_or_else(|_| model.to_owned()),
    };
    let with = |name: Option<&OsStr>, end: &str| {
        let mut name = name.unwrap_or_default().to_owned();
        name.push(".");
        name.push(what);
        name.push(end);
        named.with_file_name(name)
    };
    match named.is_dir() {
        true if quant_models::is_package(&named) => with(named.file_stem(), ".mlpackage"),
        true => with(named.file_name(), ""),
        false => with(named.file_stem(), ".safetensors"),
    }
}
