//! A package: its program and the weight files that this refers to.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quant_model::Error;
use quant_model::error::one_line;
use quant_model::io::{Data, Links};

use super::blob::{Record, WeightFile, check_apart};
use super::folder::{Folder, explained};
use super::manifest::{MANIFEST, inside, with_weights};
use crate::mil::program::{Blob, Payload, Program, TensorType, Value};
use crate::mil::read::read;
use crate::mil::wire::DEPTH;

const MODEL_PATH: &str = "@model_path/";
/// A Core ML package whose model has been understood, and whose weight files have been found.
#[derive(Debug)]
pub(crate) struct Package<'a> {
    pub path: &'a Path,
    /// `model.mlmodel`, from the package on.
    pub model: &'a Path,
    /// The bytes of the model.
    pub bytes: &'a [u8],
    pub program: Program<'a>,
    /// Weight files by the names that the model calls them.
    pub weights: Arc<BTreeMap<String, WeightFile>>,
    folder: &'a Folder,
}

impl<'a> Package<'a> {
    /// Understands the model of a package, and checks all that it refers to.
    pub fn open(folder: &'a Folder) -> Result<Self, Error> {
        let mut package = Self {
            path: &folder.path,
            model: &folder.model,
            bytes: &folder.bytes,
            program: Program::default(),
            weights: Arc::default(),
            folder,
        };
        let program = read(&folder.bytes);
        package.program =
            program.map_err(|problem| package.damaged(explained(&folder.bytes, problem)))?;
        let mut weights = BTreeMap::new();
        for (name, offsets) in references(&package.program) {
            let file = package.open_weights(&name, offsets)?;
            weights.insert(name, file);
        }
        package.weights = Arc::new(weights);
        package.check_names()?;
        package.check_values()?;
        Ok(package)
    }

    /// The package with a model that has been made from its own, and refers to the same records.
    pub fn with_model<'b>(&self, bytes: &'b [u8]) -> Result<Package<'b>, Error>
    where
        'a: 'b,
    {
        let program = read(bytes).map_err(|problem| self.damaged(problem))?;
        Ok(Package {
            path: self.path,
            model: self.model,
            bytes,
            program,
            weights: Arc::clone(&self.weights),
            folder: self.folder,
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
        let records = records.collect::<Result<Vec<_>, Error>>()?;
        check_apart(&records).map_err(|problem| Error::file(file.path(), problem))?;
        Ok(file)
    }

    /// A weight file has one name: what goes by two would be written twice, to one place.
    fn check_names(&self) -> Result<(), Error> {
        let mut seen: BTreeMap<String, &str> = BTreeMap::new();
        for (name, file) in self.weights.iter() {
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
        Ok((file, file.record(blob.offset)?))
    }

    /// The bytes of a tensor, in a weight file or in the model; `None` where it is neither, or stands
    /// in the model in a way that is not known.
    pub fn data<'s>(&'s self, value: &Value<'s>) -> Result<Option<Data<'s>>, Error> {
        match &value.payload {
            Payload::Blob(blob) => {
                let (file, record) = self.record(blob)?;
                Ok(Some(file.data(&record)))
            }
            Payload::Tensor(_) => Ok(value.elements().map(Data::Memory)),
            Payload::Other => Ok(None),
        }
    }

    /// The file that holds a value, for messages.
    pub fn file_of(&self, value: &Value<'_>) -> PathBuf {
        match &value.payload {
            Payload::Blob(blob) => self
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
                let checked = match &value.payload {
                    Payload::Blob(blob) => fits(kind, &self.record(blob)?.1),
                    Payload::Tensor(_) => value.fits(kind),
                    Payload::Other => Ok(()),
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
            super::constexpr::check(operation)
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
