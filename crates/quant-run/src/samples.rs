//! What goes into a model: samples in files, and arrays in archives.

use std::fs::File;
use std::io::{BufRead, Cursor, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use half::{bf16, f16};
use quant_models::sniff;
use safetensors::{Dtype, SafeTensors};

use crate::image::{self, ImageFit};
use crate::npy::{MAGIC, npy_to, read_npy};
use crate::npz_stream::{Entry, read_archive};
use crate::tensor::Values;
use crate::{Error, ModelInput, Tensor};

/// The most bytes that one file of a sample may hold.
const MOST: u64 = 8 << 30;

/// Samples in files, one file each, or in a stream of npz archives.
///
/// An npy array is a sample of a model with one input. An npz or safetensors file has an array for
/// each input, by its name; the only array of an npz file may be without one (`arr_0`) where a model has
/// one input. A png or jpeg image is a sample of a model whose one input is declared as an image.
#[derive(Debug)]
pub struct Samples {
    files: Vec<PathBuf>,
    folders: Vec<PathBuf>,
    ignored: Vec<PathBuf>,
    fit: ImageFit,
    stream: Option<Stream>,
    limit: usize,
}

/// Archives one after the other; how many have been read.
struct Stream {
    input: Mutex<(Box<dyn BufRead + Send>, usize)>,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").finish_non_exhaustive()
    }
}

impl Samples {
    /// The samples in a stream of npz archives, one after the other, as `numpy.savez` writes them to
    /// a pipe: one archive each, of which one is held at a time.
    pub fn stream(input: impl BufRead + Send + 'static) -> Self {
        let input = Mutex::new((Box::new(input) as Box<dyn BufRead + Send>, 0));
        Self {
            files: Vec::new(),
            folders: Vec::new(),
            ignored: Vec::new(),
            fit: ImageFit::default(),
            stream: Some(Stream { input }),
            limit: usize::MAX,
        }
    }

    /// The samples in `paths`: files, and folders of files, in the order of their names.
    ///
    /// # Errors
    /// A path that cannot be read, a file of another kind, no sample at all.
    pub fn list(paths: &[PathBuf]) -> Result<Self, Error> {
        let (mut files, mut folders, mut ignored) = (Vec::new(), Vec::new(), Vec::new());
        for path in paths {
            let fail = |error: std::io::Error| Error::sample(path, error.to_string());
            if !std::fs::metadata(path).map_err(fail)?.is_dir() {
                if !is_sample(path) {
                    let problem = "no sample; npy, npz, safetensors, png and jpeg files are";
                    return Err(Error::sample(path, problem));
                }
                files.push(path.clone());
                continue;
            }
            folders.push(path.clone());
            let mut inside = Vec::new();
            for entry in std::fs::read_dir(path).map_err(fail)? {
                inside.push(entry.map_err(fail)?.path());
            }
            inside.sort();
            let (samples, others): (Vec<_>, Vec<_>) =
                inside.into_iter().partition(|p| is_sample(p));
            if samples.is_empty() {
                let problem =
                    "no samples in this folder: no npy, npz, safetensors, png or jpeg file";
                return Err(Error::sample(path, problem));
            }
            files.extend(samples);
            // What file managers leave behind is nobody's.
            ignored.extend(others.into_iter().filter(|path| !is_hidden(path)));
        }
        match files.is_empty() {
            true => Err(Error::Value("no samples".into())),
            false => Ok(Self {
                files,
                folders,
                ignored,
                fit: ImageFit::default(),
                stream: None,
                limit: usize::MAX,
            }),
        }
    }

    /// Keeps the first so many.
    pub fn truncate(&mut self, count: usize) {
        self.files.truncate(count);
        self.limit = count;
    }

    /// The number of samples; `None` of a stream, which ends when it ends.
    pub fn count(&self) -> Option<usize> {
        match self.stream {
            Some(_) => None,
            None => Some(self.files.len()),
        }
    }

    /// What errors call a sample: its file, or its number in the stream.
    pub fn name(&self, index: usize) -> PathBuf {
        match self.files.get(index) {
            Some(file) => file.clone(),
            None => format!("standard input, sample {}", index + 1).into(),
        }
    }

    /// Their files, in order.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// The folders that were named.
    pub fn folders(&self) -> &[PathBuf] {
        &self.folders
    }

    /// Files in folders that are no samples.
    pub fn ignored(&self) -> &[PathBuf] {
        &self.ignored
    }

    /// What is to happen to images of another size than the model's.
    #[must_use]
    pub fn with_image_fit(mut self, fit: ImageFit) -> Self {
        self.fit = fit;
        self
    }

    /// How many of them are images, and how many of these have another size than the model's.
    ///
    /// # Errors
    /// A damaged image; one for a model that takes none.
    pub fn images(&self, inputs: &[ModelInput]) -> Result<(usize, usize), Error> {
        let (mut all, mut scaled) = (0, 0);
        for path in self.files.iter().filter(|path| image::is_image(path)) {
            all += 1;
            scaled += usize::from(image::is_scaled(path, only(path, inputs)?)?);
        }
        Ok((all, scaled))
    }

    /// Reads a sample: an array for each input of a model; `None` after the last one. Those of a
    /// stream come in order, each once; what stands before `index` is passed over.
    ///
    /// # Errors
    /// The file cannot be read, has no array for an input, or an array for something else; a value
    /// that is not finite.
    pub fn read(
        &self,
        index: usize,
        inputs: &[ModelInput],
    ) -> Result<Option<Vec<(String, Tensor)>>, Error> {
        let path = &self.name(index);
        let arrays = match (&self.stream, self.files.get(index)) {
            _ if index >= self.limit => return Ok(None),
            (None, None) => return Ok(None),
            (None, Some(_)) if image::is_image(path) => {
                let input = only(path, inputs)?;
                let image = read_image(path, input, self.fit)?;
                return Ok(Some(vec![(input.name.clone(), image)]));
            }
            (None, Some(_)) => read_arrays(path)?,
            (Some(stream), _) => match stream.read(index) {
                Ok(Some(arrays)) => arrays,
                Ok(None) if index == 0 => {
                    let problem = "no samples; write npz archives into it";
                    return Err(Error::sample("standard input".as_ref(), problem));
                }
                Ok(None) => return Ok(None),
                Err(problem) => return Err(Error::sample(path, problem)),
            },
        };
        let sample = named(arrays, inputs).map_err(|problem| Error::sample(path, problem))?;
        for (name, tensor) in &sample {
            let floats = tensor.floats().unwrap_or_default();
            if let Some(at) = floats.iter().position(|value| !value.is_finite()) {
                let problem = format!("`{name}` is {} at element {at}", floats[at]);
                return Err(Error::sample(path, problem));
            }
        }
        Ok(Some(sample))
    }
}

impl Stream {
    fn read(&self, index: usize) -> Result<Option<Vec<Entry>>, String> {
        let mut input = self.input.lock().map_err(|error| error.to_string())?;
        let (input, done) = &mut *input;
        loop {
            let archive = read_archive(input, MOST)?;
            *done += 1;
            if archive.is_none() || *done > index {
                return Ok(archive);
            }
        }
    }
}

fn extension(path: &Path) -> &str {
    path.extension()
        .and_then(|e| e.to_str())
        .unwrap_or_default()
}

fn is_hidden(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    name.as_encoded_bytes().starts_with(b".") || name == "Thumbs.db"
}

fn is_sample(path: &Path) -> bool {
    let is_known = ["npy", "npz", "safetensors"].contains(&extension(path));
    !is_hidden(path) && (is_known || image::is_image(path)) && !path.is_dir()
}

/// The one input of a model that an image can be for.
fn only<'a>(path: &Path, inputs: &'a [ModelInput]) -> Result<&'a ModelInput, Error> {
    let names = || inputs.iter().map(|input| &*input.name).collect::<Vec<_>>();
    match inputs {
        [only] => Ok(only),
        _ => Err(Error::sample(
            path,
            format!(
                "an image for a model with {} inputs ({}); use npz",
                inputs.len(),
                names().join(", ")
            ),
        )),
    }
}

/// Whether a file is a png or jpeg image, by its name.
///
/// ```
/// assert!(quant_run::is_image("photos/IMG_0001.JPG".as_ref()));
/// ```
pub fn is_image(path: &Path) -> bool {
    image::is_image(path)
}

/// A png or jpeg image as an input of a model that declares it as an image: planes of numbers from 0
/// to 255, in the model's order of colours.
///
/// # Errors
/// A damaged image; an input that is no image; an image of another size, with [`ImageFit::Exact`].
pub fn read_image(path: &Path, input: &ModelInput, fit: ImageFit) -> Result<Tensor, Error> {
    image::read(path, input, fit)
}

/// What NumPy calls an array that was saved without a name.
const NAMELESS: &str = "arr_0";

/// Gives arrays the names of a model's inputs.
fn named(
    mut arrays: Vec<(Option<String>, Tensor)>,
    inputs: &[ModelInput],
) -> Result<Vec<(String, Tensor)>, String> {
    let names: Vec<&str> = inputs.iter().map(|input| input.name.as_str()).collect();
    if let ([only], [(name, _)]) = (&names[..], &mut arrays[..])
        && name.as_deref().is_none_or(|name| name == NAMELESS)
    {
        *name = Some((*only).into());
    }
    let mut found = Vec::with_capacity(names.len());
    for (name, tensor) in arrays {
        let Some(name) = name else {
            let count = names.len();
            return Err(format!(
                "an array without a name for a model with {count} inputs ({}); use npz",
                names.join(", ")
            ));
        };
        if !names.contains(&name.as_str()) {
            return Err(format!(
                "array `{name}` is no input of the model; it has {}",
                names.join(", ")
            ));
        }
        found.push((name, tensor));
    }
    match names
        .iter()
        .find(|name| !found.iter().any(|(other, _)| other == *name))
    {
        Some(name) => Err(format!("no array for the input `{name}`")),
        None => Ok(found),
    }
}

/// The arrays of an npy, npz or safetensors file; one of an npy file has no name.
///
/// # Errors
/// A file that cannot be read, or is damaged.
pub fn read_arrays(path: &Path) -> Result<Vec<(Option<String>, Tensor)>, Error> {
    let fail = |problem: String| Error::sample(path, problem);
    let unread =
        |magic: &'static [u8]| move |problem: String| fail(sniff::instead_at(path, magic, problem));
    let kind = std::fs::metadata(path).map_err(|error| fail(error.to_string()))?;
    if !kind.is_file() {
        return Err(fail("not a file".into()));
    }
    if kind.len() > MOST {
        return Err(fail(format!(
            "{} bytes are too many for a sample",
            kind.len()
        )));
    }
    match extension(path) {
        "npz" => {
            let file = File::open(path).map_err(|error| fail(error.to_string()))?;
            read_npz(file).map_err(unread(b"PK"))
        }
        "npy" => {
            let bytes = std::fs::read(path).map_err(|error| fail(error.to_string()))?;
            Ok(vec![(None, read_npy(&bytes).map_err(unread(MAGIC))?)])
        }
        "safetensors" => {
            let bytes = std::fs::read(path).map_err(|error| fail(error.to_string()))?;
            read_safetensors(&bytes).map_err(unread(b""))
        }
        _ => Err(fail("neither npy, npz nor safetensors, by its name".into())),
    }
}

fn read_npz(file: File) -> Result<Vec<(Option<String>, Tensor)>, String> {
    let damaged = |error: zip::result::ZipError| format!("a damaged npz file: {error}");
    let mut archive = zip::ZipArchive::new(file).map_err(damaged)?;
    let (mut found, mut left) = (Vec::new(), MOST);
    for i in 0..archive.len() {
        let entry = archive.by_index(i).map_err(damaged)?;
        let name = entry.name().map_err(damaged)?.into_owned();
        let Some(name) = name.strip_suffix(".npy").map(str::to_owned) else {
            return Err(format!("`{name}` in it is no npy array"));
        };
        let mut bytes = Vec::new();
        // Some bytes of an archive may stand for any number of bytes.
        let read = entry.take(left + 1).read_to_end(&mut bytes);
        read.map_err(|error| format!("`{name}` in it: {error}"))?;
        left = (left.checked_sub(bytes.len() as u64)).ok_or("more bytes than a sample may have")?;
        let array = read_npy(&bytes).map_err(|problem| format!("`{name}` in it: {problem}"))?;
        found.push((Some(name), array));
    }
    Ok(found)
}

fn read_safetensors(bytes: &[u8]) -> Result<Vec<(Option<String>, Tensor)>, String> {
    let file = SafeTensors::deserialize(bytes)
        .map_err(|error| format!("not a safetensors file, or a damaged one: {error}"))?;
    let mut found = Vec::new();
    for (name, view) in file.iter() {
        let data = view.data();
        let values: Values = match view.dtype() {
            Dtype::F32 => each(data, f32::from_le_bytes).into(),
            Dtype::F16 => each(data, |two| f16::from_le_bytes(two).to_f32()).into(),
            Dtype::BF16 => each(data, |two| bf16::from_le_bytes(two).to_f32()).into(),
            Dtype::F64 => each(data, |eight| f64::from_le_bytes(eight) as f32).into(),
            Dtype::BOOL => each(data, |[byte]: [u8; 1]| byte != 0).into(),
            Dtype::U8 => each(data, |[byte]: [u8; 1]| i32::from(byte)).into(),
            Dtype::I8 => each(data, |one| i32::from(i8::from_le_bytes(one))).into(),
            Dtype::I16 => each(data, |two| i32::from(i16::from_le_bytes(two))).into(),
            Dtype::I32 => each(data, i32::from_le_bytes).into(),
            Dtype::I64 => {
                let all = each(data, |eight| i32::try_from(i64::from_le_bytes(eight)));
                let all: Result<Vec<i32>, _> = all.into_iter().collect();
                all.map_err(|_| format!("`{name}` has an integer that int32 cannot hold"))?
                    .into()
            }
            other => return Err(format!("`{name}` is of type {other:?}")),
        };
        found.push((
            Some(name.to_owned()),
            Tensor::new(view.shape().to_vec(), values),
        ));
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(found)
}

fn each<const N: usize, T>(data: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    data.as_chunks::<N>()
        .0
        .iter()
        .map(|&bytes| read(bytes))
        .collect()
}

/// Tensors as an npz file.
///
/// # Errors
/// A tensor of texts.
pub fn write_npz(tensors: &[(String, Tensor)]) -> Result<Vec<u8>, Error> {
    let mut out = Cursor::new(Vec::new());
    let done = npz_to(tensors, &mut out);
    done.map_err(|error| Error::Value(format!("no npz file: {error}")))?;
    Ok(out.into_inner())
}

/// The same, to where it is wanted: large tensors are not held twice.
///
/// ```
/// use quant_run::{Tensor, npz_to, write_npz};
///
/// let tensors = [("x".into(), Tensor::from_floats(&[2], vec![0.5, 1.0])?)];
/// let mut out = std::io::Cursor::new(Vec::new());
/// npz_to(&tensors, &mut out).expect("memory");
/// assert_eq!(out.into_inner(), write_npz(&tensors)?);
/// # Ok::<(), quant_run::Error>(())
/// ```
///
/// # Errors
/// What `out` says; [`InvalidData`](std::io::ErrorKind::InvalidData) for a tensor of texts.
pub fn npz_to(tensors: &[(String, Tensor)], out: impl Write + Seek) -> std::io::Result<()> {
    let mut archive = zip::ZipWriter::new(out);
    let options = zip::write::SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Stored)
        .last_modified_time(zip::DateTime::default())
        .large_file(true);
    for (name, tensor) in tensors {
        archive.start_file(format!("{name}.npy"), options)?;
        npy_to(tensor, &mut archive)?;
    }
    archive.finish()?;
    Ok(())
}

/// Tensors as a safetensors file: floats as F32, integers as I32, truth values as BOOL.
///
/// ```
/// use quant_run::{Tensor, write_safetensors};
///
/// let tensor = Tensor::from_floats(&[2], vec![0.5, 1.0])?;
/// let bytes = write_safetensors(&[("x".into(), tensor)])?;
/// assert!(safetensors::SafeTensors::deserialize(&bytes).is_ok());
/// # Ok::<(), quant_run::Error>(())
/// ```
///
/// # Errors
/// A tensor of texts; two tensors of the same name.
pub fn write_safetensors(tensors: &[(String, Tensor)]) -> Result<Vec<u8>, Error> {
    let fail = |problem: String| Error::Value(format!("no safetensors file: {problem}"));
    let names: std::collections::HashSet<&str> =
        tensors.iter().map(|(name, _)| name.as_str()).collect();
    if names.len() != tensors.len() {
        return Err(fail("two tensors of the same name".into()));
    }
    let mut parts = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let (dtype, bytes): (Dtype, Vec<u8>) = match &tensor.values {
            Values::Float(values) => (
                Dtype::F32,
                values
                    .iter()
                    .flat_map(|value| value.to_le_bytes())
                    .collect(),
            ),
            Values::Int(values) => (
                Dtype::I32,
                values
                    .iter()
                    .flat_map(|value| value.to_le_bytes())
                    .collect(),
            ),
            Values::Bool(values) => (Dtype::BOOL, values.iter().map(|&v| v.into()).collect()),
            Values::Text(_) => return Err(fail(format!("`{name}` is of texts"))),
        };
        parts.push((name.as_str(), dtype, tensor.shape().to_vec(), bytes));
    }
    let views = parts.iter().map(|(name, dtype, shape, bytes)| {
        let view = safetensors::tensor::TensorView::new(*dtype, shape.clone(), bytes);
        view.map(|view| (*name, view))
    });
    let views = views.collect::<Result<Vec<_>, _>>();
    let views = views.map_err(|error| fail(error.to_string()))?;
    safetensors::serialize(views, None).map_err(|error| fail(error.to_string()))
}
