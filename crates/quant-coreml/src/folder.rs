//! A package's folder, and what people give in its place.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use quant_model::io::{Links, read_bounded};
use quant_model::{Error, sniff};

use super::manifest::{MANIFEST, items};
use crate::mil::read::read;

const LARGEST_MANIFEST: u64 = 16 << 20;
/// No message of protobuf can be larger.
const LARGEST_MODEL: u64 = 2 << 30;

/// A package's folder: its manifest and its model have been read, and no more.
#[derive(Debug)]
pub(crate) struct Folder {
    pub path: PathBuf,
    /// `model.mlmodel`, from the package on.
    pub model: PathBuf,
    pub bytes: Vec<u8>,
    /// The manifest, and what its items are, from the package on.
    pub manifest: Vec<u8>,
    pub items: Vec<PathBuf>,
}

/// Whether a path is that of a package, whole or not, or of another file or folder of Core ML, which
/// [`Folder::open`] explains.
pub(crate) fn is_package(path: &Path) -> bool {
    let named = |extension| path.extension().is_some_and(|other| other == extension);
    path.join(MANIFEST).is_file()
        || named("mlpackage")
        || named("mlmodel")
        || named("mlmodelc")
        || is_compiled(path)
}

/// Whether a folder holds what Core ML's compiler makes.
pub(crate) fn is_compiled(path: &Path) -> bool {
    !path.join(MANIFEST).exists() && path.join("coremldata.bin").is_file()
}

impl Folder {
    /// Finds the model of the package at `path`, and reads it.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let bad = |problem: &str| Err(Error::file(path, problem));
        if path.is_file() {
            return Err(Error::file(path, single_file(path)?));
        }
        let manifest = path.join(MANIFEST);
        let named = |extension| path.extension().is_some_and(|other| other == extension);
        if is_compiled(path) || path.is_dir() && !manifest.exists() && named("mlmodelc") {
            return bad(
                "a compiled model, which can be run but not be changed; give the .mlpackage that it was compiled from",
            );
        }
        if path.is_dir() && !manifest.is_file() {
            return bad("no Manifest.json in this folder; this is no Core ML package");
        }
        let links = Links::new(path)?;
        let read = |file: &Path, largest, expected| {
            let inside = match fs::symlink_metadata(file) {
                Ok(_) => links.inside_package(file)?,
                // Who opens it says that it is missing.
                Err(_) => file.to_owned(),
            };
            read_bounded(&inside, largest, expected).map_err(|error| error.at(file))
        };
        let expected = "it should be the package's manifest";
        let text = read(&manifest, LARGEST_MANIFEST, expected)?;
        let found = items(&text);
        let found = found.map_err(|problem| match text.trim_ascii_start().first() {
            Some(b'{' | b'[') => Error::file(&manifest, problem),
            _ => Error::file(&manifest, sniff::explain(&text, || problem)),
        })?;
        let file = path.join(&found.root);
        let bytes = read(&file, LARGEST_MODEL, "the manifest calls it the model")?;
        for item in &found.all {
            if !path.join(item).exists() {
                let problem = format!(
                    "names `{}`, which is not there; fetch the package again (git leaves out empty folders, which can be made by hand)",
                    item.display()
                );
                return Err(Error::file(&manifest, problem));
            }
        }
        Ok(Self {
            path: path.to_owned(),
            model: found.root,
            bytes,
            manifest: text,
            items: found.all,
        })
    }
}

/// What is wrong with a model: that it is a file of another kind, if so.
pub(crate) fn explained(bytes: &[u8], problem: String) -> String {
    let kind = sniff::kind(bytes);
    let kind = kind.filter(|kind| !kind.what.starts_with("a Core ML model"));
    kind.map_or(problem, |kind| kind.to_string())
}

/// What to do about a single file, where a package is a folder.
fn single_file(path: &Path) -> Result<String, Error> {
    let expected = "it should be the folder of an .mlpackage";
    if path
        .extension()
        .is_none_or(|extension| extension != "mlmodel")
    {
        let head = read_head(path)?;
        return Ok(sniff::explain(&head, || {
            "a single file, not the folder of an .mlpackage; fetch or unpack the whole folder"
                .into()
        }));
    }
    let bytes = read_bounded(path, LARGEST_MODEL, expected)?;
    Ok(match read(&bytes) {
        Err(problem) => match explained(&bytes, problem.clone()) {
            told if told != problem || told.contains("mlprogram") => told,
            _ => format!(
                "no model that can be read ({problem}); give an .mlpackage, which coremltools writes with convert_to=\"mlprogram\""
            ),
        },
        Ok(_) => "an ML program in a single file; convert the original model again, and save it as an .mlpackage"
            .into(),
    })
}

fn read_head(path: &Path) -> Result<Vec<u8>, Error> {
    let mut head = Vec::new();
    let file = File::open(path).map_err(Error::io(path, "open it"))?;
    let read = file.take(sniff::HEAD as u64).read_to_end(&mut head);
    read.map_err(Error::io(path, "read it"))?;
    Ok(head)
}
