//! Recordings: which files there are, and what each of them holds.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::BufReader;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quant_core::FloatType;
use quant_model::{Error, Inputs, sniff};
use quant_safetensors::SafetensorsFile;
use xxhash_rust::xxh64::Xxh64;

use super::npy::{Header, NpyError};
use super::npz;
use super::recording::{Content, RecordedFile, RecordedTensor, Recording};
use super::values::{Encoding, Float};

/// The files that were named, and those in the folders that were, in order.
///
/// A safetensors file is one sample of each activation whose name one of its tensors has. An npy
/// file is one sample of one activation: in a folder below one that was named, its name is that
/// folder's path from there; elsewhere it is the file's own name without `.npy`. An npz archive is one
/// sample of each activation whose name one of its arrays has; a single array without a name of its own
/// (`arr_0`) is like an npy file.
///
/// What stands in a folder is taken in the order of names, byte by byte, folders among files; other
/// files, links to folders, and whatever begins with a dot are passed over.
pub struct Recordings {
    folders: Vec<Folder>,
    /// Folder and name: there may be millions.
    files: Vec<(u32, Box<OsStr>)>,
    bytes: u64,
    hash: Xxh64,
    /// Device and inode of what must not be among them.
    output: Option<(u64, u64)>,
    inputs: Inputs,
}

struct Folder {
    path: PathBuf,
    /// The activation of the npy files in it.
    activation: Option<String>,
}

impl Recordings {
    /// Lists them. `activation` is that of every npy file, where their names do not tell.
    ///
    /// # Errors
    /// What cannot be read; a file of another kind; a folder without recordings; a file that is
    /// `output` itself.
    pub fn list(data: &[PathBuf], activation: Option<&str>, output: &Path) -> Result<Self, Error> {
        let mut found = Self {
            folders: Vec::new(),
            files: Vec::new(),
            bytes: 0,
            hash: Xxh64::new(0),
            output: fs::metadata(output)
                .ok()
                .map(|output| (output.dev(), output.ino())),
            inputs: Inputs::new(),
        };
        for path in data {
            found.inputs.file(path, "the recordings");
        }
        // Who creates it says that a folder is none.
        if !output.is_dir() {
            found.inputs.check(output, "output")?;
        }
        for path in data {
            let kind = fs::metadata(path).map_err(Error::io(path, "open it"))?;
            if kind.is_dir() {
                let before = found.files.len();
                found.folder(path, activation.map(str::to_owned), path, activation)?;
                if found.files.len() == before {
                    let problem = "no .safetensors, .npy or .npz file in this folder";
                    return Err(Error::file(path, problem));
                }
                continue;
            }
            if kind.is_file() && path.file_name().is_some_and(is_system) {
                continue;
            }
            let name = match path.file_name() {
                Some(name) if kind.is_file() && is_recording(name) => name,
                _ => {
                    let problem = "not a recording; give .safetensors, .npy and .npz files, or folders of them";
                    return Err(Error::file(path, problem));
                }
            };
            found.folders.push(Folder {
                path: path.parent().map(Path::to_owned).unwrap_or_default(),
                activation: activation.map(str::to_owned),
            });
            found.file(name.to_owned())?;
        }
        Ok(found)
    }

    fn folder(
        &mut self,
        path: &Path,
        activation: Option<String>,
        root: &Path,
        of_all: Option<&str>,
    ) -> Result<(), Error> {
        let read = "read this folder";
        let mut names: Vec<OsString> = Vec::new();
        for entry in fs::read_dir(path).map_err(Error::io(path, read))? {
            names.push(entry.map_err(Error::io(path, read))?.file_name());
        }
        names.sort();
        let folder = |activation| Folder {
            path: path.to_owned(),
            activation,
        };
        self.folders.push(folder(activation.clone()));
        for name in names {
            if is_system(&name) {
                continue;
            }
            let below = path.join(&name);
            let link = fs::symlink_metadata(&below).map_err(Error::io(&below, "open it"))?;
            if link.is_dir() {
                let named = match of_all {
                    Some(name) => name.to_owned(),
                    None => {
                        let from_root = below.strip_prefix(root).unwrap_or(&below);
                        name_of(&below, from_root.as_os_str())?
                    }
                };
                self.folder(&below, Some(named), root, of_all)?;
                self.folders.push(folder(activation.clone()));
            } else if is_recording(&name)
                && fs::metadata(&below)
                    .map_err(Error::io(&below, "open it"))?
                    .is_file()
            {
                self.file(name)?;
            }
        }
        Ok(())
    }

    /// Adds a file of the last folder.
    fn file(&mut self, name: OsString) -> Result<(), Error> {
        let folder = self.folders.len() as u32 - 1;
        let path = self.folders[folder as usize].path.join(&name);
        let file = fs::metadata(&path).map_err(Error::io(&path, "open it"))?;
        if self.output == Some((file.dev(), file.ino())) {
            let problem =
                "the output is one of the recordings; choose another with \u{fdd2}output\u{fdd3}";
            return Err(Error::file(&path, problem));
        }
        self.bytes += file.len();
        let name_bytes = path.as_os_str().as_bytes();
        self.hash.update(&(name_bytes.len() as u64).to_le_bytes());
        self.hash.update(name_bytes);
        self.hash.update(&file.len().to_le_bytes());
        self.hash.update(&file.mtime().to_le_bytes());
        self.hash.update(&file.mtime_nsec().to_le_bytes());
        self.files.push((folder, name.into_boxed_os_str()));
        Ok(())
    }

    /// What was named: no output may touch it.
    pub(crate) fn inputs(&self) -> &Inputs {
        &self.inputs
    }

    /// How many files.
    pub fn file_count(&self) -> usize {
        self.files.len()
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Of paths, sizes and times of change.
    pub fn fingerprint(&self) -> String {
        format!("{:016x}", self.hash.digest())
    }

    /// Opens one of them and reads what it holds.
    pub fn open(&self, index: usize) -> Result<Recording, Error> {
        let (folder, name) = &self.files[index];
        let folder = &self.folders[*folder as usize];
        let name: &OsStr = name;
        let path = folder.path.join(name);
        let activation = || match &folder.activation {
            Some(name) => Ok(name.clone()),
            None => name_of(&path, Path::new(name).file_stem().unwrap_or_default()),
        };
        match kind_of(name) {
            Some(Kind::Npy) => npy(&path, activation()?),
            Some(Kind::Npz) => npz(&path, activation),
            _ => safetensors(path),
        }
    }
}

/// Two names that are no text might become the same one.
fn name_of(path: &Path, name: &OsStr) -> Result<String, Error> {
    let name = name.to_str().map(str::to_owned);
    name.ok_or_else(|| {
        let problem = "its name is not UTF-8, as the name of an activation must be; rename it, or give \u{fdd2}name\u{fdd3}";
        Error::file(path, problem)
    })
}

enum Kind {
    Npy,
    Npz,
    Safetensors,
}

fn kind_of(name: &OsStr) -> Option<Kind> {
    let ends = |end: &[u8]| name.as_bytes().ends_with(end);
    match () {
        () if ends(b".npy") => Some(Kind::Npy),
        () if ends(b".npz") => Some(Kind::Npz),
        () if ends(b".safetensors") => Some(Kind::Safetensors),
        () => None,
    }
}

fn is_recording(name: &OsStr) -> bool {
    kind_of(name).is_some()
}

/// Whether the system has put a file there, or hides it: `._000001.npy` beside each file that macOS
/// has copied, `.DS_Store`, `Thumbs.db`.
fn is_system(name: &OsStr) -> bool {
    let name = name.as_bytes();
    name.starts_with(b".") || name == b"__MACOSX" || name == b"Thumbs.db" || name == b"desktop.ini"
}

fn open_file(path: &Path) -> Result<(File, u64), Error> {
    let file = File::open(path).map_err(Error::io(path, "open it"))?;
    let bytes = file.metadata().map_err(Error::io(path, "open it"))?.len();
    Ok((file, bytes))
}

fn recording(path: &Path, file: File, tensors: Vec<RecordedTensor>, bytes: u64) -> Recording {
    let path = path.to_owned();
    Recording {
        file: Arc::new(RecordedFile { path, file }),
        tensors,
        bytes,
    }
}

fn npz(path: &Path, alone: impl Fn() -> Result<String, Error>) -> Result<Recording, Error> {
    let (file, bytes) = open_file(path)?;
    let tensors = npz::arrays(path, &file, alone)?;
    Ok(recording(path, file, tensors, bytes))
}

fn npy(path: &Path, activation: String) -> Result<Recording, Error> {
    let (file, bytes) = open_file(path)?;
    let bad = |problem: String| Error::tensor(path, &activation, problem);
    let header = Header::read(&mut BufReader::with_capacity(512, &file));
    let header = header.map_err(|problem| match problem {
        NpyError::Io(error) => Error::io(path, "read it")(error),
        NpyError::Array(problem) => {
            let mut head = [0; sniff::HEAD];
            let got = file.read_at(&mut head, 0).unwrap_or(0);
            // An array of a kind that is not read is an array.
            match head.starts_with(b"\x93NUMPY") {
                true => bad(problem),
                false => bad(sniff::instead(&head[..got], problem)),
            }
        }
    })?;
    let header = header.ok_or_else(|| bad("an empty file; it is truncated".into()))?;
    let (expected, got) = (header.data_bytes(), bytes - header.bytes.min(bytes));
    if got < expected {
        return Err(bad(format!(
            "{got} bytes of values where the header says {expected}; the file is truncated"
        )));
    }
    if got > expected {
        return Err(bad(format!(
            "{} bytes after the array; a file holds one, a stream (`-`) may hold several",
            got - expected
        )));
    }
    let content = match header.encoding() {
        Ok(encoding) => Content::At {
            encoding,
            start: header.bytes,
        },
        Err(dtype) => Content::PassedOver(dtype),
    };
    let tensor = RecordedTensor {
        activation,
        content,
        elements: header.elements,
    };
    Ok(recording(path, file, vec![tensor], bytes))
}

/// Types of integers and truth values.
const PASSED_OVER: [&str; 9] = ["BOOL", "I8", "I16", "I32", "I64", "U8", "U16", "U32", "U64"];

fn safetensors(path: PathBuf) -> Result<Recording, Error> {
    let header = SafetensorsFile::open(&path)?;
    let mut tensors = Vec::with_capacity(header.entries().len());
    for (name, entry) in header.entries() {
        let passed_over = PASSED_OVER.into_iter().find(|dtype| *dtype == entry.dtype);
        let float = match (entry.float_type(), entry.dtype.as_str()) {
            (Some(FloatType::F16), _) => Some(Float::F16),
            (Some(FloatType::Bf16), _) => Some(Float::Bf16),
            (Some(FloatType::F32), _) => Some(Float::F32),
            (None, "F64") => Some(Float::F64),
            (None, _) if passed_over.is_some() => None,
            (None, other) => {
                let problem = format!("type {other}; give F16, BF16, F32 or F64");
                return Err(Error::tensor(&path, name, problem));
            }
        };
        let (start, end) = entry.data_offsets;
        let (content, elements) = match (float.map(Encoding::little), passed_over) {
            (Some(encoding), _) => {
                let start = (header.data_start() + start) as u64;
                let elements = (end - entry.data_offsets.0) / encoding.size();
                (Content::At { encoding, start }, elements as u64)
            }
            (None, dtype) => (Content::PassedOver(dtype.unwrap_or_default()), 0),
        };
        tensors.push(RecordedTensor {
            activation: name.clone(),
            content,
            elements,
        });
    }
    let bytes = header.len();
    drop(header);
    let (file, _) = open_file(&path)?;
    Ok(recording(&path, file, tensors, bytes))
}
