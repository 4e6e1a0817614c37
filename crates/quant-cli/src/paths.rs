//! Names of outputs.

use std::path::{Path, PathBuf};

use quant_models::{Error, Inputs, Layout, ResultKind};

/// What reports, ranges and plans are in.
pub const JSON: ResultKind = ResultKind::file("JSON", "json");

/// Endings that say that a file is something else. Any other may be part of a name.
const FOREIGN: &[&str] = &[
    "aimodel",
    "bin",
    "ckpt",
    "csv",
    "engine",
    "ggml",
    "gguf",
    "gz",
    "h5",
    "hdf5",
    "htm",
    "html",
    "index",
    "json",
    "jsonl",
    "keras",
    "md",
    "mlmodel",
    "mlmodelc",
    "mlpackage",
    "msgpack",
    "npy",
    "npz",
    "onnx",
    "parquet",
    "pb",
    "pickle",
    "pkl",
    "pt",
    "pt2",
    "pte",
    "pth",
    "safetensor",
    "safetensors",
    "svg",
    "tar",
    "tflite",
    "toml",
    "txt",
    "yaml",
    "yml",
    "zip",
];

/// The path of a result: as the user says it, checked; or beside the model, with `what` in its name.
pub fn output_of(
    given: Option<&Path>,
    model: &Path,
    result: ResultKind,
    inputs: impl FnOnce() -> Inputs,
    what: &str,
) -> Result<PathBuf, Error> {
    let Some(output) = given else {
        return Ok(default_output(model, result, what));
    };
    inputs().check(output, "output")?;
    check_name(result, output)?;
    Ok(output.to_owned())
}

/// Refuses a name that promises something else.
pub fn check_name(result: ResultKind, output: &Path) -> Result<(), Error> {
    let found = extension(output);
    let found = found.as_deref();
    let promises = |found| match result.layout {
        Layout::File(_) | Layout::Folder => FOREIGN.contains(&found),
        Layout::Package(_) => true,
    };
    if found == result.extension() || !found.is_some_and(promises) {
        return Ok(());
    }
    let name = Path::new(output.file_name().unwrap_or_default());
    let (ending, better) = match result.extension() {
        Some(extension) => {
            let better = match found {
                Some(found) if FOREIGN.contains(&found) => name.with_extension(extension),
                _ => {
                    let mut name = name.as_os_str().to_owned();
                    name.push(format!(".{extension}"));
                    name.into()
                }
            };
            (format!("ends with .{extension}"), better)
        }
        None => ("has no such ending".into(), name.with_extension("")),
    };
    let problem = format!(
        "the result is {}, and its name {ending}; such as {}",
        result.what,
        better.display()
    );
    Err(Error::file(output, problem))
}

/// In small letters.
fn extension(path: &Path) -> Option<String> {
    Some(path.extension()?.to_str()?.to_ascii_lowercase())
}

/// `model.safetensors` becomes `model.WHAT.safetensors`, `Model.mlpackage` `Model.WHAT.mlpackage`, a
/// folder `model` becomes `model.WHAT`: beside what was named, be it a link.
fn default_output(model: &Path, result: ResultKind, what: &str) -> PathBuf {
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
    let (base, extension) = match result.layout {
        Layout::Package(extension) => (named.file_stem(), Some(extension)),
        // A folder that holds one file becomes a folder in some encodings.
        Layout::File(_) | Layout::Folder if result.is_tensors && named.is_dir() => {
            (named.file_name(), None)
        }
        Layout::File(extension) if named.is_dir() => (named.file_name(), Some(extension)),
        Layout::File(extension) => (named.file_stem(), Some(extension)),
        Layout::Folder => (named.file_stem(), Some("safetensors")),
    };
    let mut name = base.unwrap_or_default().to_owned();
    for part in [Some(what), extension].into_iter().flatten() {
        name.push(".");
        name.push(part);
    }
    named.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use quant_models::result_kind;

    use super::*;

    #[test]
    fn names_say_what_is_written() {
        for (kind, good, bad) in [
            (
                result_kind("m.safetensors".as_ref()),
                &[
                    "m.safetensors",
                    "m",
                    "Llama-3.2-1B",
                    "a.SAFETENSORS",
                    "x/y.z/m",
                    ".m",
                ][..],
                &["m.mlpackage", "m.gguf", "m.bin", "m.Onnx", "m.safetensor"][..],
            ),
            (
                result_kind("m.mlpackage".as_ref()),
                &["m.mlpackage", "a.b.mlpackage", "m.mlpackage/", "m"],
                &["m.mlmodel", "m.safetensors", "m.mlmodelc", "m.int8"],
            ),
            (
                result_kind("m.aimodel".as_ref()),
                &["m.aimodel", "m", "x/m.AIMODEL"],
                &["m.mlpackage", "m.safetensors", "m.int8"],
            ),
            (
                result_kind("m.safetensors.index.json".as_ref()),
                &["m", "m.int8", "Llama-3.2-1B", "m.float/"],
                &[
                    "m.safetensors",
                    "m.mlpackage",
                    "m.gguf",
                    "m.GGUF/",
                    "m.json",
                ],
            ),
            (
                JSON,
                &["r.json", "r"],
                &["r.yaml", "r.safetensors", "r.mlpackage", "r.html"],
            ),
        ] {
            for name in good {
                assert!(check_name(kind, Path::new(name)).is_ok(), "{name}");
            }
            for name in bad {
                assert!(check_name(kind, Path::new(name)).is_err(), "{name}");
            }
        }
        let said = |model: &str, name: &str| {
            let refused = check_name(result_kind(model.as_ref()), Path::new(name));
            refused.unwrap_err().to_string()
        };
        assert!(said("m.safetensors", "o.gguf").ends_with("such as o.safetensors"));
        assert!(said("m.mlpackage", "a.b").ends_with("such as a.b.mlpackage"));
        assert!(said("index.json", "a.mlpackage").ends_with("such as a"));
    }
}
