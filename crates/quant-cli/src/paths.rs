//! Names of outputs.

use std::path::{Path, PathBuf};

/// `model.safetensors` becomes `model.WHAT.safetensors`, `Model.mlpackage` `Model.WHAT.mlpackage`, a
/// folder `model` becomes `model.WHAT`.
pub fn default_output(model: &Path, what: &str) -> PathBuf {
    let model = match model.extension() {
        Some(extension) if extension == "json" => model.parent().unwrap_or(model),
        _ => model,
    };
    let whole = model.canonicalize().unwrap_or_else(|_| model.to_owned());
    let name =
        |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    match whole.is_dir() {
        true if quant_models::is_package(&whole) => {
            whole.with_file_name(format!("{}.{what}.mlpackage", name(whole.file_stem())))
        }
        true => whole.with_file_name(format!("{}.{what}", name(whole.file_name()))),
        false => model.with_file_name(format!("{}.{what}.safetensors", name(model.file_stem()))),
    }
}

/// Whether both are one file, or will be.
pub fn is_same(a: &Path, b: &Path) -> bool {
    a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}
