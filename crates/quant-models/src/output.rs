//! Writing: a header first, every part at its place, and a rename at the end.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use quant_simd::Sink;
use serde_json::{Value, json};
use tempfile::{Builder, NamedTempFile, TempDir};

use crate::safetensors::index::INDEX;
use crate::sized_file::SizedFile;
use crate::{Error, Model};

/// How a command is watched and stopped.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    /// Replace an existing output.
    pub force: bool,
    /// Called, from any thread, with input bytes that have been dealt with.
    pub progress: &'a (dyn Fn(u64) + Sync),
    /// Set it to end the work.
    pub cancelled: &'a AtomicBool,
}

impl Job<'_> {
    pub(crate) fn check(&self) -> Result<(), Error> {
        match self.cancelled.load(Ordering::Relaxed) {
            true => Err(Error::Interrupted),
            false => Ok(()),
        }
    }
}

/// A tensor to be written.
#[derive(Debug)]
pub(crate) struct Part {
    pub name: String,
    pub dtype: String,
    pub shape: Vec<usize>,
    pub len: usize,
}

pub(crate) const EXISTS: &str = "exists already; use --force to replace it, or choose another name";

/// Refuses to put a file where something else stands, or, without `force`, anything at all.
fn check_file(path: &Path, force: bool) -> Result<(), Error> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.ends_with(b"/") || bytes.ends_with(b"/.") {
        let problem = "the name of a folder; the output is a file, choose another name";
        return Err(Error::file(path, problem));
    }
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        found => found.map_err(Error::io(path, "create it"))?,
    };
    // What a link leads to may be missing.
    let problem = match fs::metadata(path) {
        Ok(existing) if existing.is_dir() => {
            "is a folder; the output is a file, choose another name"
        }
        Ok(existing) if !existing.is_file() => {
            "is a device or a pipe; the output is a file, choose another name"
        }
        _ if force => return Ok(()),
        _ => EXISTS,
    };
    Err(Error::file(path, problem))
}

/// A file under a temporary name, until it is whole.
///
/// ```no_run
/// use std::path::Path;
/// let file = quant_models::WholeFile::new(Path::new("ranges.html"), false)?;
/// file.put(b"<!doctype html>")?;
/// # Ok::<(), quant_models::Error>(())
/// ```
pub struct WholeFile {
    path: PathBuf,
    force: bool,
    file: NamedTempFile,
}

impl WholeFile {
    /// Begins one.
    ///
    /// # Errors
    /// A folder, device or pipe at `path`; without `force`, a file; a folder that cannot be written.
    pub fn new(path: &Path, force: bool) -> Result<Self, Error> {
        check_file(path, force)?;
        Ok(Self {
            path: path.to_owned(),
            force,
            file: temporary_in(parent(path), path)?,
        })
    }

    /// Writes it to the disk, and gives it its name.
    ///
    /// # Errors
    /// It cannot be written; without `force`, a file that has appeared meanwhile. Then all is as
    /// before.
    pub fn put(mut self, content: &[u8]) -> Result<(), Error> {
        let written = self.file.write_all(content);
        written
            .and_then(|()| self.file.as_file().sync_all())
            .map_err(Error::io(&self.path, "write it"))?;
        let kept = match self.force {
            true => self.file.persist(&self.path),
            false => self.file.persist_noclobber(&self.path),
        };
        kept.map_err(|error| Error::io(&self.path, "put it in place")(error.error))?;
        let _ = sync(parent(&self.path));
        Ok(())
    }
}

/// Where the result will stand.
pub(crate) struct Target {
    path: PathBuf,
    folder: Option<TempDir>,
}

impl Target {
    /// Refuses what exists, or is the input; nothing is replaced before `finish`.
    pub fn new(model: &Model, path: &Path, job: &Job<'_>) -> Result<Self, Error> {
        let inputs = model.files.iter().map(|file| file.path());
        let mut inputs: Vec<&Path> = inputs.collect();
        if let Some(index) = &model.index {
            inputs.extend([&*index.path, parent(&index.path)]);
        }
        if inputs
            .into_iter()
            .any(|input| same_file::is_same_file(input, path).unwrap_or(false))
        {
            let problem = "the output is the input itself; choose another with -o";
            return Err(Error::file(path, problem));
        }
        if model.index.is_none() {
            check_file(path, job.force)?;
        } else if let Ok(existing) = fs::symlink_metadata(path) {
            if !job.force {
                return Err(Error::file(path, EXISTS));
            }
            if !existing.is_dir() {
                let problem = "is a file; the output is a folder, choose another name with -o";
                return Err(Error::file(path, problem));
            }
        }
        let folder = match model.index {
            Some(_) => {
                let folder = Builder::new().prefix(".quant-").tempdir_in(parent(path));
                let folder = folder.map_err(Error::io(path, "create a folder beside it"))?;
                let open = fs::Permissions::from_mode(0o755);
                fs::set_permissions(folder.path(), open).map_err(Error::io(path, "create it"))?;
                Some(folder)
            }
            None => None,
        };
        Ok(Self {
            path: path.to_owned(),
            folder,
        })
    }

    /// A file for one shard, its header written.
    pub fn file(
        &self,
        metadata: &BTreeMap<String, String>,
        mut parts: Vec<Part>,
    ) -> Result<Output, Error> {
        // The widest types first, so that every tensor is aligned; readers rely on it.
        parts.sort_by_key(|part| std::cmp::Reverse(width(part)));
        let (mut header, mut places, mut end) = (serde_json::Map::new(), BTreeMap::new(), 0_usize);
        if !metadata.is_empty() {
            header.insert("__metadata__".into(), json!(metadata));
        }
        for part in parts {
            let entry = json!({"dtype": part.dtype, "shape": part.shape,
                "data_offsets": [end, end + part.len]});
            header.insert(part.name.clone(), entry);
            places.insert(part.name, (end, part.len));
            end += part.len;
        }
        let mut header = Value::Object(header).to_string().into_bytes();
        header.resize(header.len().next_multiple_of(8), b' ');
        let folder = match &self.folder {
            Some(folder) => folder.path(),
            None => parent(&self.path),
        };
        let temp = temporary_in(folder, &self.path)?;
        let data_start = 8 + header.len() as u64;
        let file = temp.as_file().try_clone();
        let file = file.and_then(|file| SizedFile::new(file, data_start + end as u64));
        let output = Output {
            path: self.path.clone(),
            temp,
            file: file.map_err(Error::io(&self.path, "write it"))?,
            data_start,
            places,
        };
        let length = (header.len() as u64).to_le_bytes();
        output.write(0, &length)?;
        output.write(8, &header)?;
        Ok(output)
    }

    /// Gives the files, named for their shards, their final names: all of them or none.
    pub fn finish(self, model: &Model, outputs: Vec<Output>, job: &Job<'_>) -> Result<u64, Error> {
        let place = "put it in place";
        let (mut written, mut tensor_bytes) = (0, 0);
        let mut weight_map = serde_json::Map::new();
        for (input, output) in model.files.iter().zip(outputs) {
            output
                .file
                .sync()
                .map_err(Error::io(&self.path, "sync it"))?;
            let meta = output.temp.as_file().metadata();
            let meta = meta.map_err(Error::io(&self.path, place))?;
            written += meta.len();
            tensor_bytes += output.places.values().map(|(_, len)| len).sum::<usize>();
            job.check()?;
            let Some(folder) = &self.folder else {
                let kept = match job.force {
                    true => output.temp.persist(&self.path),
                    false => output.temp.persist_noclobber(&self.path),
                };
                kept.map_err(|error| Error::io(&self.path, place)(error.error))?;
                break;
            };
            let name = input.path().file_name().unwrap_or_default();
            for tensor in output.places.keys() {
                weight_map.insert(tensor.clone(), json!(name.to_string_lossy()));
            }
            let kept = output.temp.persist(folder.path().join(name));
            kept.map_err(|error| Error::io(&self.path, place)(error.error))?;
        }
        if let (Some(folder), Some(index)) = (self.folder, &model.index) {
            let mut content = index.content.clone();
            weight_map.sort_keys();
            content.insert("weight_map".into(), Value::Object(weight_map));
            if let Some(total) = content
                .get_mut("metadata")
                .and_then(|m| m.get_mut("total_size"))
            {
                *total = json!(tensor_bytes);
            }
            let name = index.path.file_name().unwrap_or(INDEX.as_ref());
            let text = format!("{:#}\n", Value::Object(content));
            let index = folder.path().join(name);
            fs::write(&index, text).map_err(Error::io(&self.path, "write its index"))?;
            sync(&index).map_err(Error::io(&self.path, "sync its index"))?;
            sync(folder.path()).map_err(Error::io(&self.path, "sync it"))?;
            job.check()?;
            put_folder(folder, &self.path).map_err(Error::io(&self.path, place))?;
        }
        // The rename itself should survive a power cut; not every file system can promise it.
        let _ = sync(parent(&self.path));
        Ok(written)
    }
}

fn temporary_in(folder: &Path, path: &Path) -> Result<NamedTempFile, Error> {
    let readable = fs::Permissions::from_mode(0o666);
    Builder::new()
        .prefix(".quant-")
        .permissions(readable)
        .tempfile_in(folder)
        .map_err(Error::io(path, "create a file beside it"))
}

pub(crate) fn put_folder(folder: TempDir, path: &Path) -> std::io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    if fs::symlink_metadata(path).is_ok() {
        // One step: at any moment the whole old folder or the whole new one is there.
        renameat_with(CWD, folder.path(), CWD, path, RenameFlags::EXCHANGE)?;
    } else {
        renameat_with(CWD, folder.path(), CWD, path, RenameFlags::NOREPLACE)?;
        let _ = folder.keep();
    }
    Ok(())
}

pub(crate) fn sync(path: &Path) -> std::io::Result<()> {
    File::open(path)?.sync_all()
}

pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn width(part: &Part) -> usize {
    let elements: usize = part.shape.iter().product();
    part.len.checked_div(elements).unwrap_or(0)
}

/// A file being written, under a temporary name.
pub(crate) struct Output {
    path: PathBuf,
    temp: NamedTempFile,
    file: SizedFile,
    data_start: u64,
    places: BTreeMap<String, (usize, usize)>,
}

impl Output {
    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        self.file
            .write_at(bytes, offset)
            .map_err(Error::io(&self.path, "write it"))
    }

    /// Writes some bytes of a tensor.
    pub fn write_part(&self, name: &str, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        let (start, len) = self.places[name];
        assert!(offset + bytes.len() <= len, "inside the tensor");
        self.write(self.data_start + (start + offset) as u64, bytes)
    }

    /// Copies a tensor that is left as it is.
    pub fn copy(&self, name: &str, bytes: &[u8], job: &Job<'_>) -> Result<(), Error> {
        const STEP: usize = 4 << 20;
        for (i, piece) in bytes.chunks(STEP).enumerate() {
            job.check()?;
            self.write_part(name, i * STEP, piece)?;
            (job.progress)(piece.len() as u64);
        }
        Ok(())
    }
}

/// Takes the parts of tensor `name`.
pub(crate) struct PartSink<'a> {
    pub output: &'a Output,
    pub job: &'a Job<'a>,
    pub name: &'a str,
    pub scale: String,
    pub zero_point: String,
    /// Input bytes for `numerator / denominator` bytes of codes.
    pub per_code_byte: (u64, u64),
}

impl Sink for PartSink<'_> {
    type Error = Error;
    fn codes(&self, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        self.job.check()?;
        self.output.write_part(self.name, offset, bytes)?;
        let (numerator, denominator) = self.per_code_byte;
        (self.job.progress)(bytes.len() as u64 * numerator / denominator);
        Ok(())
    }
    fn scales(&self, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        self.output.write_part(&self.scale, offset, bytes)
    }
    fn zero_points(&self, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        self.output.write_part(&self.zero_point, offset, bytes)
    }
}
