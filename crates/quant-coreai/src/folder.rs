//! A model's folder: what is in it, and one that is being written.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::bytecode::Bytecode;
use crate::changes::Layout;
use crate::hash::{self, HASH};
use crate::model::{PROGRAM, with_model};
use quant_model::io::{
    self, Destination, InputFile, Inputs, Links, PreallocatedFile, TemporaryFolder,
    group_and_others, parent, read_bounded, sync_for,
};
use quant_model::{Error, Job, sniff};
use serde::Deserialize;

const METADATA: &str = "metadata.json";
const LARGEST_METADATA: u64 = 16 << 20;
const VERSION: &str = "2.0";
/// Folders within folders, at most.
const DEPTH: usize = 16;
const STEP: usize = 1 << 20;

/// Whether a path is that of a model, whole or not, or of its program, which [`open`] explains.
pub(crate) fn is_model(path: &Path) -> bool {
    let named = |end| path.extension().is_some_and(|found| found == end);
    named("aimodel") || path.join(PROGRAM).is_file() || named("mlirb") && path.is_file()
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(rename = "assetVersion")]
    version: String,
}

/// Opens the program of a model.
pub(crate) fn open(path: &Path) -> Result<Bytecode, Error> {
    if !path.is_dir() && path.exists() {
        let problem =
            "a file; a Core AI model is a folder, give the .aimodel with all that is in it";
        return Err(Error::file(path, problem));
    }
    let links = Links::new(path)?;
    // As they were named, so that messages name them so.
    let inside = |name: &str| {
        let file = path.join(name);
        // Who opens it says that it is missing.
        if file.symlink_metadata().is_ok() {
            links.inside_package(&file)?;
        }
        Ok::<_, Error>(file)
    };
    let file = inside(METADATA)?;
    let text = read_bounded(&file, LARGEST_METADATA, "it should say what the model is")?;
    let metadata: Metadata = serde_json::from_slice(&text).map_err(|error| {
        let problem =
            format!("not what a Core AI model has there ({error}); fetch the model again");
        Error::file(&file, sniff::instead(&text, problem))
    })?;
    if metadata.version != VERSION {
        let problem = format!(
            "a model of version `{}`; this quant knows version {VERSION}, a newer one may know it",
            metadata.version
        );
        return Err(Error::file(&file, problem));
    }
    Bytecode::open(&inside(PROGRAM)?)
}

/// The files of a model, and its folders, from it on.
fn contents(path: &Path) -> Result<(BTreeSet<PathBuf>, BTreeSet<PathBuf>), Error> {
    let (mut files, mut folders) = (BTreeSet::new(), BTreeSet::new());
    let mut waiting = vec![(PathBuf::new(), 0)];
    while let Some((folder, depth)) = waiting.pop() {
        let at = path.join(&folder);
        if depth > DEPTH {
            return Err(Error::file(&at, "folders within folders without end"));
        }
        for entry in fs::read_dir(&at).map_err(Error::io(&at, "list it"))? {
            let entry = entry.map_err(Error::io(&at, "list it"))?;
            let inner = folder.join(entry.file_name());
            let kind = entry.file_type().map_err(Error::io(&at, "list it"))?;
            if kind.is_dir() {
                folders.insert(inner.clone());
                waiting.push((inner, depth + 1));
            } else if entry.path().is_file() {
                files.insert(inner);
            } else {
                let problem =
                    "neither a file nor a folder, nor a link to a file; remove it from the model";
                return Err(Error::file(&entry.path(), problem));
            }
        }
    }
    Ok((files, folders))
}

/// Bytes of all files of a model.
pub(crate) fn size(path: &Path) -> Result<u64, Error> {
    let (files, _) = contents(path)?;
    let sizes = files.iter().map(|inner| {
        let file = path.join(inner);
        let found = fs::metadata(&file).map_err(Error::io(&file, "read it"))?;
        Ok(found.len())
    });
    sizes.sum()
}

/// Which files of a folder may go with it.
fn own_files(path: &Path) -> Result<BTreeSet<PathBuf>, Error> {
    let opened = open(path).and_then(|file| with_model(path, &file, |_| Ok(())));
    opened.map_err(|error| {
        let problem = format!(
            "exists and is no Core AI model ({error}); it is not replaced, choose another name"
        );
        Error::file(path, problem)
    })?;
    Ok([PROGRAM, HASH, METADATA].map(PathBuf::from).into())
}

/// A model that is being written: a folder under a temporary name beside its place.
pub(crate) struct Target<'t> {
    input: &'t Path,
    destination: Destination,
    folder: TemporaryFolder,
    /// What the user should know, a line each.
    pub warnings: Vec<String>,
}

/// A program that is being written.
pub(crate) struct Program {
    file: PreallocatedFile,
    /// What messages name.
    shown: PathBuf,
}

impl Program {
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let written = self.file.write_at(bytes, offset);
        written.map_err(Error::io(&self.shown, "write it"))
    }
}

impl<'t> Target<'t> {
    /// Refuses what exists, or has to do with `inputs`; nothing is replaced before `finish`.
    pub fn new(
        input: &'t Path,
        inputs: &Inputs,
        path: &Path,
        job: &Job<'_>,
    ) -> Result<Self, Error> {
        let destination =
            Destination::folder(path, job.force, inputs, own_files)?.with_sync(job.sync);
        let links = Links::new(input)?;
        for inner in contents(input)?.0 {
            links.inside_package(&input.join(inner))?;
        }
        let warnings = io::clean(parent(destination.path()));
        let found = fs::metadata(input).map_err(Error::io(input, "open it"))?;
        Ok(Self {
            input,
            folder: TemporaryFolder::new(destination.path(), group_and_others(&found))?,
            destination,
            warnings,
        })
    }

    fn others(&self, inner: &Path) -> u32 {
        let found = fs::metadata(self.input.join(inner));
        found.map_or(0, |found| group_and_others(&found))
    }

    /// Copies all files of the model but `but`; returns their bytes.
    pub fn copy(&self, but: &[&str], job: &Job<'_>) -> Result<u64, Error> {
        let links = Links::new(self.input)?;
        let (files, folders) = contents(self.input)?;
        for inner in folders {
            let mode = 0o700 | self.others(&inner);
            let made = DirBuilder::new()
                .mode(mode)
                .create(self.folder.path().join(&inner));
            made.map_err(Error::io(self.destination.path(), "create its folders"))?;
        }
        let mut bytes = 0;
        for inner in files {
            if but.iter().any(|name| inner == Path::new(name)) {
                continue;
            }
            let from = links.inside_package(&self.input.join(&inner))?;
            bytes += io::copy(&from, &self.folder.path().join(&inner), job)?;
        }
        Ok(bytes)
    }

    /// Copies everything but the program, and begins that: what of it is known is written. Returns the
    /// bytes of the result, too.
    pub fn begin(
        &self,
        layout: &Layout,
        from: &InputFile,
        job: &Job<'_>,
    ) -> Result<(Program, u64), Error> {
        io::check_room(self.destination.path(), layout.len)?;
        let copied = self.copy(&[PROGRAM, HASH], job)?;
        let shown = self.destination.path().join(PROGRAM);
        let failed = || Error::io(&shown, "write it");
        let place = self.folder.path().join(PROGRAM);
        let file = io::create(&place, self.others(Path::new(PROGRAM)));
        let file = file.and_then(|file| PreallocatedFile::new(file, layout.len, job.sync));
        let program = Program {
            file: file.map_err(failed())?,
            shown: shown.clone(),
        };
        for (offset, bytes) in &layout.pieces {
            program.write(*offset, bytes)?;
        }
        let mut buffer = vec![0; STEP];
        for &(start, to, len) in &layout.copied {
            for at in (0..len).step_by(STEP) {
                job.check()?;
                let piece = &mut buffer[..STEP.min((len - at) as usize)];
                from.read(start + at, piece)?;
                program.write(to + at, piece)?;
                (job.progress)(piece.len() as u64);
            }
        }
        Ok((program, copied + layout.len + 32))
    }

    /// Ends the program, and gives the model its name once it can be read again.
    pub fn end(self, program: Program, job: &Job<'_>) -> Result<(), Error> {
        program
            .file
            .finish()
            .map_err(Error::io(&program.shown, "sync it"))?;
        let made = InputFile::open(&self.folder.path().join(PROGRAM), "it was written")?;
        let hash = hash::of(&made, job)?;
        let place = self.folder.path().join(HASH);
        let written = io::create(&place, self.others(Path::new(PROGRAM)));
        let written = written.and_then(|mut file| {
            file.write_all(&hash)?;
            sync_for(job, &place)
        });
        written.map_err(Error::io(&self.destination.path().join(HASH), "write it"))?;
        self.finish(job)
    }

    /// Gives the model its name, once it can be read again.
    pub fn finish(self, job: &Job<'_>) -> Result<(), Error> {
        let (path, made) = (self.destination.path(), self.folder.path());
        let again = open(made).and_then(|file| with_model(made, &file, |_| Ok(())));
        again.map_err(|error| {
            let problem = format!(
                "what was written cannot be read again ({error}), so there is no output; this is a fault of quant, please report it"
            );
            Error::file(path, problem)
        })?;
        sync_for(job, made).map_err(Error::io(path, "sync it"))?;
        job.check()?;
        self.destination.put_folder(self.folder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::changes::Changes;

    #[test]
    fn without_changes_every_byte_is_what_it_was() {
        let models =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../quant-models/tests/coreai/models");
        for name in [
            "int8/float",
            "int8/quantized",
            "uint4/float",
            "uint4/quantized",
        ] {
            let path = models.join(name).with_extension("aimodel");
            let expected = std::fs::read(path.join(PROGRAM)).unwrap();
            let file = open(&path).unwrap();
            let layout =
                with_model(&path, &file, |model| Ok(Changes::new(model).layout())).unwrap();
            assert_eq!(layout.len, expected.len() as u64);
            let mut made = vec![0; expected.len()];
            for (at, bytes) in &layout.pieces {
                made[*at as usize..][..bytes.len()].copy_from_slice(bytes);
            }
            for &(from, to, len) in &layout.copied {
                let from = &expected[from as usize..][..len as usize];
                made[to as usize..][..len as usize].copy_from_slice(from);
            }
            assert!(made == expected, "{name}");
        }
    }
}
