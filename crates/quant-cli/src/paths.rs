//! Names of outputs.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use quant_models::{Error, Inputs, ResultKind};

/// What a command writes, which its name has to say.
#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    Safetensors,
    /// Shards and their index.
    Folder,
    Package,
    Gguf,
    /// A Core AI model.
    CoreAi,
    Json,
}

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

impl Kind {
    fn of(result: ResultKind) -> Self {
        match result {
            ResultKind::Package => Self::Package,
            ResultKind::CoreAi => Self::CoreAi,
            ResultKind::Folder => Self::Folder,
            ResultKind::Gguf => Self::Gguf,
            _ => Self::Safetensors,
        }
    }

    /// Refuses a name for a result that promises something else; and, first, one that is an input's.
    pub fn check_result(result: ResultKind, inputs: &Inputs, output: &Path) -> Result<(), Error> {
        inputs.check(output, "output")?;
        Self::of(result).check(output)
    }

    /// Refuses a name that promises something else.
    pub fn check(self, output: &Path) -> Result<(), Error> {
        let found = extension(output);
        let found = found.as_deref();
        let is_plain = found.is_none_or(|found| !FOREIGN.contains(&found));
        let (fits, what) = match self {
            Self::Safetensors => (
                is_plain || found == Some("safetensors"),
                "a safetensors file",
            ),
            Self::Package => (
                matches!(found, None | Some("mlpackage")),
                "a Core ML package",
            ),
            Self::CoreAi => (matches!(found, None | Some("aimodel")), "a Core AI model"),
            Self::Gguf => (is_plain || found == Some("gguf"), "a GGUF file"),
            Self::Json => (is_plain || found == Some("json"), "JSON"),
            Self::Folder => (is_plain, "a folder of safetensors files and their index"),
        };
        if fits {
            return Ok(());
        }
        let name = Path::new(output.file_name().unwrap_or_default());
        let with = |extension: &str| match found {
            Some(found) if FOREIGN.contains(&found) => name.with_extension(extension),
            _ => {
                let mut name = name.as_os_str().to_owned();
                name.push(format!(".{extension}"));
                name.into()
            }
        };
        let (ending, better) = match self {
            Self::Safetensors => ("ends with .safetensors", with("safetensors")),
            Self::Package => ("ends with .mlpackage", with("mlpackage")),
            Self::CoreAi => ("ends with .aimodel", with("aimodel")),
            Self::Gguf => ("ends with .gguf", with("gguf")),
            Self::Json => ("ends with .json", with("json")),
            Self::Folder => ("has no such ending", name.with_extension("")),
        };
        Err(Error::File {
            file: output.to_owned(),
            problem: format!(
                "the result is {what}, and its name {ending}; such as {}",
                better.display()
            ),
        })
    }
}

/// In small letters.
fn extension(path: &Path) -> Option<String> {
    Some(path.extension()?.to_str()?.to_ascii_lowercase())
}

/// `model.safetensors` becomes `model.WHAT.safetensors`, `Model.mlpackage` `Model.WHAT.mlpackage`, a
/// folder `model` becomes `model.WHAT`: beside what was named, be it a link.
pub fn default_output(model: &Path, result: ResultKind, what: &str) -> PathBuf {
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
    match (named.is_dir(), result) {
        (true, ResultKind::Package) => with(named.file_stem(), ".mlpackage"),
        (true, ResultKind::CoreAi) => with(named.file_stem(), ".aimodel"),
        (true, ResultKind::Gguf) => with(named.file_name(), ".gguf"),
        (true, _) => with(named.file_name(), ""),
        (false, ResultKind::Gguf) => with(named.file_stem(), ".gguf"),
        (false, _) => with(named.file_stem(), ".safetensors"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_is_written() {
        for (kind, good, bad) in [
            (
                Kind::Safetensors,
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
                Kind::Package,
                &["m.mlpackage", "a.b.mlpackage", "m.mlpackage/", "m"],
                &["m.mlmodel", "m.safetensors", "m.mlmodelc", "m.int8"],
            ),
            (
                Kind::CoreAi,
                &["m.aimodel", "m", "x/m.AIMODEL"],
                &["m.mlpackage", "m.safetensors", "m.int8"],
            ),
            (
                Kind::Folder,
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
                Kind::Json,
                &["r.json", "r"],
                &["r.yaml", "r.safetensors", "r.mlpackage", "r.html"],
            ),
        ] {
            for name in good {
                assert!(kind.check(Path::new(name)).is_ok(), "{name}");
            }
            for name in bad {
                assert!(kind.check(Path::new(name)).is_err(), "{name}");
            }
        }
        let said = |kind: Kind, name: &str| kind.check(Path::new(name)).unwrap_err().to_string();
        assert!(said(Kind::Safetensors, "o.gguf").ends_with("such as o.safetensors"));
        assert!(said(Kind::Package, "a.b").ends_with("such as a.b.mlpackage"));
        assert!(said(Kind::Folder, "a.mlpackage").ends_with("such as a"));
    }
}
