//! A package: its folder, its manifest and the files that the manifest names.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use super::blob::{Record, WeightFile, check_apart};
use super::program::{Blob, Held, Program, TensorType, Value};
use super::read::read;
use super::wire::DEPTH;
use crate::Error;
use crate::error::one_line;
use crate::io::{Links, read_bounded};

pub(crate) const MANIFEST: &str = "Manifest.json";
const MODEL_PATH: &str = "@model_path/";
const LARGEST_MANIFEST: u64 = 16 << 20;
/// No message of protobuf can be larger.
const LARGEST_MODEL: u64 = 2 << 30;

/// A package's folder: its manifest and its model have been read, and no more.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// `model.mlmodel`, from the package on.
    model: PathBuf,
    bytes: Vec<u8>,
    /// The manifest, and what its items are, from the package on.
    manifest: Vec<u8>,
    items: Vec<PathBuf>,
}

/// A Core ML package whose model has been understood, and whose weight files are mapped.
#[derive(Debug)]
pub(crate) struct Package<'a> {
    pub path: &'a Path,
    /// `model.mlmodel`, from the package on.
    pub model: &'a Path,
    /// The bytes of the model.
    pub bytes: &'a [u8],
    pub program: Program<'a>,
    /// Weight files by the names that the model calls them.
    pub weights: BTreeMap<String, WeightFile>,
    folder: &'a Folder,
}

#[derive(Deserialize)]
struct Manifest {
    #[serde(rename = "fileFormatVersion")]
    version: String,
    #[serde(rename = "itemInfoEntries")]
    items: HashMap<String, Item>,
    #[serde(rename = "rootModelIdentifier")]
    root: String,
}

#[derive(Deserialize)]
struct Item {
    path: String,
}

/// Whether a path is that of a package, whole or not.
pub(crate) fn is_package(path: &Path) -> bool {
    let named = |extension| path.extension().is_some_and(|other| other == extension);
    path.join(MANIFEST).is_file() || named("mlpackage") || named("mlmodel")
}

impl Folder {
    /// Finds the model of the package at `path`, and reads it.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let bad = |problem: &str| Err(Error::file(path, problem));
        if path.is_file() {
            return bad(
                "a single file, not an .mlpackage folder; convert the model again with convert_to=\"mlprogram\"",
            );
        }
        let manifest = path.join(MANIFEST);
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
        let found = items(&text).map_err(|problem| Error::file(&manifest, problem))?;
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

impl<'a> Package<'a> {
    /// Understands the model of a package, and checks all that it refers to.
    pub fn open(folder: &'a Folder) -> Result<Self, Error> {
        let mut package = Self {
            path: &folder.path,
            model: &folder.model,
            bytes: &folder.bytes,
            program: Program::default(),
            weights: BTreeMap::new(),
            folder,
        };
        let program = read(&folder.bytes);
        package.program = program.map_err(|problem| package.damaged(problem))?;
        for (name, offsets) in references(&package.program) {
            let weights = package.open_weights(&name, offsets)?;
            package.weights.insert(name, weights);
        }
        package.check_names()?;
        package.check_values()?;
        Ok(package)
    }

    /// The package with a model that has been made from its own, and refers to the same records.
    pub fn with_model<'b>(self, bytes: &'b [u8]) -> Result<Package<'b>, Error>
    where
        'a: 'b,
    {
        let program = read(bytes).map_err(|problem| self.damaged(problem))?;
        Ok(Package {
            program,
            bytes,
            ..self
        })
    }

    /// What the user should know of it, a line each.
    pub fn warnings(&self) -> Vec<String> {
        let others = self.program.others.iter();
        let line = |(name, kind): &(String, &str)| {
            one_line(format!(
                "model `{name}` of the pipeline stays as it is: {kind}, not an ML program"
            ))
        };
        others.map(line).collect()
    }

    /// What the manifest names, from the package on.
    pub fn items(&self) -> &[PathBuf] {
        &self.folder.items
    }

    fn damaged(&self, problem: impl Into<String>) -> Error {
        Error::file(&self.model_path(), problem)
    }

    pub fn model_path(&self) -> PathBuf {
        self.path.join(self.model)
    }

    /// A weight file's path from the package on, by the name that the model calls it.
    pub fn weight_path(&self, name: &str) -> Result<PathBuf, String> {
        let plain = name.strip_prefix(MODEL_PATH).and_then(inside);
        let plain = plain.ok_or_else(|| {
            format!("refers to `{name}`, which is not inside the package; it is damaged")
        })?;
        Ok(self.model.with_file_name("").join(plain))
    }

    /// What a stage calls the weight file that new records of it go to: its own, or where it has
    /// none, the one that coremltools would make.
    pub fn weight_file(&self, stage: usize) -> String {
        let stage = &self.program.stages[stage];
        if let Some(name) = stage.weights {
            return name.to_owned();
        }
        let mut file = "weight.bin".to_owned();
        for place in stage.place.iter().rev() {
            file = format!("{place}-{file}");
        }
        let name = format!("{MODEL_PATH}weights/{file}");
        // Another stage may have this file, and call it so or otherwise.
        let path = self.weight_path(&name);
        let known = self.weights.keys();
        let mut known = known.filter(|other| self.weight_path(other) == path);
        known.next().cloned().unwrap_or(name)
    }

    /// The manifest with an item for the folder of weight files, where it has none.
    pub fn manifest_with(&self, weights: &[PathBuf]) -> Result<Option<Vec<u8>>, Error> {
        let covered = |file: &PathBuf| self.folder.items.iter().any(|item| file.starts_with(item));
        let Some(file) = weights.iter().find(|file| !covered(file)) else {
            return Ok(None);
        };
        with_weights(&self.folder.manifest, file)
            .map(Some)
            .map_err(|problem| Error::file(&self.path.join(MANIFEST), problem))
    }

    /// Maps a weight file and checks the records that the program refers to.
    fn open_weights(&self, name: &str, offsets: BTreeSet<u64>) -> Result<WeightFile, Error> {
        let path = self.weight_path(name);
        let path = path.map_err(|problem| self.damaged(problem))?;
        let file = self.path.join(path);
        if fs::symlink_metadata(&file).is_ok() {
            Links::new(self.path)?.inside_package(&file)?;
        }
        let file = WeightFile::open(&file)?;
        let records = offsets
            .into_iter()
            .map(|offset| Ok((offset, file.record(offset)?)));
        records
            .collect::<Result<Vec<_>, String>>()
            .and_then(|records| check_apart(&records))
            .map_err(|problem| Error::file(file.path(), problem))?;
        Ok(file)
    }

    /// A weight file has one name: what goes by two would be written twice, to one place.
    fn check_names(&self) -> Result<(), Error> {
        let mut seen: BTreeMap<String, &str> = BTreeMap::new();
        for (name, file) in &self.weights {
            let path = self.weight_path(name);
            let path = path.map_err(|problem| self.damaged(problem))?;
            if path == self.model || path == Path::new(MANIFEST) {
                let problem = format!("takes `{name}` for a weight file; it is damaged");
                return Err(self.damaged(problem));
            }
            // Some file systems take large and small letters for the same.
            let key = path.to_string_lossy().to_lowercase();
            let Some(other) = seen.insert(key, name) else {
                continue;
            };
            let same = self.weight_path(other).is_ok_and(|other| other == path)
                || same_file::is_same_file(file.path(), self.weights[other].path()).unwrap_or(true);
            if same {
                let problem =
                    format!("calls one weight file `{other}` and `{name}`; give it one name");
                return Err(self.damaged(problem));
            }
        }
        Ok(())
    }

    /// A reference's file and record, which have been found before.
    pub fn record(&self, blob: &Blob<'_>) -> Result<(&WeightFile, Record), Error> {
        let file = self.weights.get(blob.file);
        let file = file.ok_or_else(|| self.damaged("a weight file is missing"))?;
        let record = file.record(blob.offset);
        Ok((
            file,
            record.map_err(|problem| Error::file(file.path(), problem))?,
        ))
    }

    /// The bytes of a tensor, in a weight file or in the model; `None` where it is neither, or stands
    /// in the model in a way that is not known.
    pub fn data<'s>(&'s self, value: &Value<'s>) -> Result<Option<Cow<'s, [u8]>>, Error> {
        match &value.held {
            Held::Blob(blob) => {
                let (file, record) = self.record(blob)?;
                Ok(Some(Cow::Borrowed(file.data(&record))))
            }
            Held::Tensor(_) => Ok(value.elements()),
            Held::Other => Ok(None),
        }
    }

    /// The file that holds a value, for messages.
    pub fn file_of(&self, value: &Value<'_>) -> PathBuf {
        match &value.held {
            Held::Blob(blob) => self
                .weights
                .get(blob.file)
                .map(|file| file.path().to_owned()),
            _ => None,
        }
        .unwrap_or_else(|| self.model_path())
    }

    /// Each stored tensor has the type and the size that the model says.
    fn check_values(&self) -> Result<(), Error> {
        self.program.each(&mut |_, operation| {
            let check = |value: &Value<'_>, kind: Option<&TensorType>| {
                let Some(kind) = kind else {
                    return Ok(());
                };
                let checked = match &value.held {
                    Held::Blob(blob) => fits(kind, &self.record(blob)?.1),
                    Held::Tensor(_) => value.fits(kind),
                    Held::Other => Ok(()),
                };
                checked.map_err(|problem| {
                    Error::tensor(&self.file_of(value), operation.name(), problem)
                })
            };
            for value in operation.values() {
                check(value, value.kind.as_ref())?;
            }
            let output = operation.outputs.first();
            // A constant is its value, and what consumers are promised.
            if let (Some(value), Some(output)) = (operation.attribute("val"), output) {
                check(value, output.kind.as_ref())?;
            }
            super::parts::check(operation)
                .map_err(|problem| Error::tensor(&self.model_path(), operation.name(), problem))
        })
    }
}

fn fits(kind: &TensorType, record: &Record) -> Result<(), String> {
    let Some((bits, number)) = kind.dtype.stored() else {
        return Ok(());
    };
    if kind.dims.iter().any(Option::is_none) {
        return Ok(());
    }
    let bytes = kind.shape().and_then(|shape| {
        let elements: usize = shape.iter().product();
        Some(elements.checked_mul(bits)?.div_ceil(8))
    });
    let Some(bytes) = bytes else {
        return Err(format!(
            "shape {:?} overflows; the model is damaged",
            kind.dims
        ));
    };
    if record.kind != number {
        return Err(format!(
            "the model says {}, the weight file type {}; one of them is damaged",
            kind.dtype.name(),
            record.kind
        ));
    }
    if record.data.len() != bytes {
        let shape = kind.shape().unwrap_or_default();
        return Err(format!(
            "shape {shape:?} of {} takes {bytes} bytes, but the weight file has {}; one of them is damaged",
            kind.dtype.name(),
            record.data.len()
        ));
    }
    Ok(())
}

/// Offsets per weight file, by the names that the model calls them.
fn references(program: &Program<'_>) -> BTreeMap<String, BTreeSet<u64>> {
    let mut found: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    let mut see = |blob: &Blob<'_>| {
        found
            .entry(blob.file.into())
            .or_default()
            .insert(blob.offset);
    };
    program.elsewhere.iter().for_each(&mut see);
    let done = program.each::<std::convert::Infallible>(&mut |_, operation| {
        operation.blobs().iter().for_each(&mut see);
        Ok(())
    });
    match done {
        Ok(()) => found,
    }
}

/// What a manifest names, from the package on.
struct Items {
    root: PathBuf,
    all: Vec<PathBuf>,
}

fn items(manifest: &[u8]) -> Result<Items, String> {
    let manifest: Manifest = serde_json::from_slice(manifest)
        .map_err(|error| format!("not the manifest of a package: {error}"))?;
    if !manifest.version.starts_with("1.") {
        return Err(format!(
            "version {} of packages, where 1 is known; this quant is too old for it",
            manifest.version
        ));
    }
    let place = |item: &Item| {
        let path = inside(&item.path);
        let path =
            path.ok_or_else(|| format!("`{}` is not inside the package; it is damaged", item.path));
        Ok::<_, String>(Path::new("Data").join(path?))
    };
    let root = manifest.items.get(&manifest.root);
    let root = root.ok_or("its rootModelIdentifier is that of no item; the package is damaged")?;
    let root = place(root)?;
    let mut all = manifest.items.values().map(place);
    Ok(Items {
        root,
        all: all.by_ref().collect::<Result<_, _>>()?,
    })
}

/// The manifest with an item, as coremltools writes it, for the folder of this weight file.
fn with_weights(manifest: &[u8], file: &Path) -> Result<Vec<u8>, String> {
    let problem = |error: serde_json::Error| format!("not the manifest of a package: {error}");
    let mut document: serde_json::Value = serde_json::from_slice(manifest).map_err(problem)?;
    let folder = file.strip_prefix("Data").unwrap_or(file);
    let folder = folder.parent().unwrap_or(folder);
    let item = serde_json::json!({
        "author": "com.apple.CoreML",
        "description": "CoreML Model Weights",
        "name": folder.file_name().unwrap_or_default().to_string_lossy(),
        "path": folder.to_string_lossy(),
    });
    let items = document["itemInfoEntries"].as_object_mut();
    let items = items.ok_or("it has no items; the package is damaged")?;
    // Identifiers only have to differ.
    let mut count = 1_u64;
    let mut id = String::new();
    while id.is_empty() || items.contains_key(&id) {
        id = format!("71756e74-0000-4000-8000-{count:012x}");
        count += 1;
    }
    items.insert(id, item);
    let mut text = format!("{document:#}").into_bytes();
    text.push(b'\n');
    Ok(text)
}

/// A relative path that leads nowhere else, and that a message can show.
fn inside(path: &str) -> Option<PathBuf> {
    if path.contains(char::is_control) {
        return None;
    }
    let path = Path::new(path);
    let plain = |part| matches!(part, Component::Normal(_));
    (path.components().next().is_some() && path.components().all(plain)).then(|| path.to_owned())
}

/// What a package holds, from it on, in order of the names; links to files count as files.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub files: Vec<PathBuf>,
    /// Also those that hold nothing.
    pub folders: Vec<PathBuf>,
}

/// Lists all files and folders of a package.
pub(crate) fn contents(package: &Path) -> Result<Contents, Error> {
    fn walk(root: &Path, folder: &Path, found: &mut Contents, depth: usize) -> Result<(), Error> {
        let at = root.join(folder);
        if depth > DEPTH {
            return Err(Error::file(&at, "folders within folders without end"));
        }
        for entry in fs::read_dir(&at).map_err(Error::io(&at, "list it"))? {
            let name = entry.map_err(Error::io(&at, "list it"))?.file_name();
            let (inner, path) = (folder.join(&name), at.join(&name));
            let kind = fs::symlink_metadata(&path).map_err(Error::io(&path, "read it"))?;
            if kind.is_dir() {
                walk(root, &inner, found, depth + 1)?;
                found.folders.push(inner);
                continue;
            }
            match fs::metadata(&path) {
                Ok(target) if target.is_file() => found.files.push(inner),
                _ => {
                    let problem = "neither a file nor a folder, nor a link to a file; remove it from the package";
                    return Err(Error::file(&path, problem));
                }
            }
        }
        Ok(())
    }
    let mut found = Contents::default();
    walk(package, Path::new(""), &mut found, 0)?;
    found.files.sort();
    found.folders.sort();
    Ok(found)
}
