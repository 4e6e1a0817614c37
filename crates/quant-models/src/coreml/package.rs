//! A package: its folder, its manifest and the files that the manifest names.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use super::blob::{Record, WeightFile, check_apart};
use super::program::{self, Blob, Held, Program, TensorType, Value};
use super::wire::DEPTH;
use crate::Error;
use crate::io::{Links, group_and_others, read_bounded};

pub(crate) const MANIFEST: &str = "Manifest.json";
const MODEL_PATH: &str = "@model_path/";
/// More than any manifest holds, and little enough to read.
const LARGEST_MANIFEST: u64 = 16 << 20;
/// What protobuf allows a message.
const LARGEST_MODEL: u64 = i32::MAX as u64;

/// A Core ML package whose files have been found and mapped.
#[derive(Debug)]
pub(crate) struct Package {
    pub path: PathBuf,
    /// `model.mlmodel`, from the package on.
    pub model: PathBuf,
    pub bytes: Vec<u8>,
    /// Weight files by the names that the model calls them.
    pub weights: BTreeMap<String, WeightFile>,
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

impl Package {
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
        let read = "give an .mlpackage folder";
        let text = read_bounded(&links.inside_package(&manifest)?, LARGEST_MANIFEST, read)?;
        let model = root_item(&text).map_err(|problem| Error::file(&manifest, problem))?;
        let model = Path::new("Data").join(model);
        let file = path.join(&model);
        let real = match fs::symlink_metadata(&file) {
            Ok(_) => links.inside_package(&file)?,
            // Who opens it says that it is missing.
            Err(_) => file.clone(),
        };
        let bytes = read_bounded(&real, LARGEST_MODEL, "the manifest calls it the model");
        let bytes = bytes.map_err(|error| error.at(&file))?;
        let references = references(&bytes).map_err(|problem| Error::file(&file, problem))?;
        let mut package = Self {
            path: path.to_owned(),
            model,
            bytes,
            weights: BTreeMap::new(),
        };
        let mut paths: HashMap<PathBuf, String> = HashMap::new();
        for (name, offsets) in references {
            let place = package.weight_path(&name);
            let place = place.map_err(|problem| Error::file(&file, problem))?;
            if let Some(other) = paths.insert(place, name.clone()) {
                let problem = format!("calls one weight file `{other}` and `{name}`; it is damaged");
                return Err(Error::file(&file, problem));
            }
            let weights = package.open_weights(&name, offsets)?;
            package.weights.insert(name, weights);
        }
        package.check_values()?;
        Ok(package)
    }

    pub fn model_path(&self) -> PathBuf {
        self.path.join(&self.model)
    }

    /// What group and others may do with a file of the package.
    pub fn group_and_others(&self, inner: &Path) -> u32 {
        let found = fs::metadata(self.path.join(inner));
        found.map_or(0, |found| group_and_others(&found))
    }

    /// The program; what is wrong with it names the model's file.
    pub fn program(&self) -> Result<Program<'_>, Error> {
        program::read(&self.bytes).map_err(|problem| Error::file(&self.model_path(), problem))
    }

    /// A weight file's path from the package on, by the name that the model calls it.
    pub fn weight_path(&self, name: &str) -> Result<PathBuf, String> {
        let plain = name.strip_prefix(MODEL_PATH).and_then(inside);
        let plain = plain.ok_or_else(|| {
            format!("refers to `{name}`, which is not inside the package; it is damaged")
        })?;
        Ok(self.model.with_file_name("").join(plain))
    }

    /// Maps a weight file and checks the records that the program refers to.
    fn open_weights(&self, name: &str, offsets: BTreeSet<u64>) -> Result<WeightFile, Error> {
        let path = self.weight_path(name);
        let path = path.map_err(|problem| Error::file(&self.model_path(), problem))?;
        let file = self.path.join(path);
        if fs::symlink_metadata(&file).is_ok() {
            Links::new(&self.path)?.inside_package(&file)?;
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

    /// A reference's file and record, which have been found before.
    pub fn record(&self, blob: &Blob<'_>) -> Result<(&WeightFile, Record), Error> {
        let file = self.weights.get(blob.file);
        let file =
            file.ok_or_else(|| Error::file(&self.model_path(), "a weight file is missing"))?;
        let record = file.record(blob.offset);
        Ok((
            file,
            record.map_err(|problem| Error::file(file.path(), problem))?,
        ))
    }

    /// Each stored tensor has the type and the size that the model says.
    fn check_values(&self) -> Result<(), Error> {
        let program = self.program()?;
        program.each(&mut |_, operation| {
            let check = |value: &Value<'_>, kind: Option<&TensorType>| {
                let (Held::Blob(blob), Some(kind)) = (&value.held, kind) else {
                    return Ok(());
                };
                let (file, record) = self.record(blob)?;
                fits(kind, &record)
                    .map_err(|problem| Error::tensor(file.path(), operation.name(), problem))
            };
            for value in operation.values() {
                check(value, value.kind.as_ref())?;
            }
            // A constant is its value, and what consumers are promised.
            match (operation.attribute("val"), operation.outputs.first()) {
                (Some(value), Some(output)) => check(value, output.kind.as_ref()),
                _ => Ok(()),
            }
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
fn references(model: &[u8]) -> Result<BTreeMap<String, BTreeSet<u64>>, String> {
    let program = program::read(model)?;
    let mut found: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    let mut see = |blob: &Blob<'_>| {
        found
            .entry(blob.file.into())
            .or_default()
            .insert(blob.offset);
    };
    program.elsewhere.iter().for_each(&mut see);
    program.each(&mut |_, operation| {
        let blobs = operation.values().filter_map(|value| match &value.held {
            Held::Blob(blob) => Some(blob),
            _ => None,
        });
        blobs.for_each(&mut see);
        Ok::<_, String>(())
    })?;
    Ok(found)
}

/// The path of the model below `Data`, as a manifest says it.
pub(crate) fn root_item(manifest: &[u8]) -> Result<PathBuf, String> {
    let manifest: Manifest = serde_json::from_slice(manifest)
        .map_err(|error| format!("not the manifest of a package: {error}"))?;
    if !manifest.version.starts_with("1.") {
        return Err(format!(
            "version {} of packages, where 1 is known; this quant is too old for it",
            manifest.version
        ));
    }
    let item = manifest.items.get(&manifest.root);
    let item = item.ok_or("its rootModelIdentifier is that of no item; the package is damaged")?;
    let path = inside(&item.path);
    path.ok_or_else(|| format!("`{}` is not inside the package; it is damaged", item.path))
}

/// What the manifest of a package names, from the package on.
pub(crate) fn items(package: &Path) -> Result<Vec<PathBuf>, Error> {
    let path = package.join(MANIFEST);
    let text = read_bounded(&path, LARGEST_MANIFEST, "give an .mlpackage folder")?;
    let manifest: Manifest = serde_json::from_slice(&text)
        .map_err(|error| Error::file(&path, format!("not the manifest of a package: {error}")))?;
    let items = manifest.items.values();
    let items = items.filter_map(|item| inside(&item.path));
    Ok(items.map(|item| Path::new("Data").join(item)).collect())
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

/// All files of a package, from it on, in order of their names; links to files count as these.
pub(crate) fn files(package: &Path) -> Result<Vec<PathBuf>, Error> {
    fn walk(
        root: &Path,
        folder: &Path,
        found: &mut Vec<PathBuf>,
        depth: usize,
    ) -> Result<(), Error> {
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
                continue;
            }
            match fs::metadata(&path) {
                Ok(target) if target.is_file() => found.push(inner),
                _ => {
                    let problem = "neither a file nor a folder, nor a link to a file; remove it from the package";
                    return Err(Error::file(&path, problem));
                }
            }
        }
        Ok(())
    }
    let mut found = Vec::new();
    walk(package, Path::new(""), &mut found, 0)?;
    found.sort();
    Ok(found)
}
