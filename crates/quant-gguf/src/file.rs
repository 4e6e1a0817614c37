//! One GGUF file: its header, checked, and where its bytes are.

use std::collections::HashSet;
use std::path::Path;

use crate::cursor::Cursor;
use crate::metadata::{self, Key, Value};
use crate::types::TensorType;
use quant_model::error::shortened;
use quant_model::io::{Data, InputFile};
use quant_model::{Error, Job, sniff};

pub(crate) const MAGIC: &[u8; 4] = b"GGUF";
/// What a file has that says nothing of it.
pub(crate) const ALIGNMENT: u64 = 32;
/// ggml wants any power of two; no tool writes more.
const MOST_ALIGNMENT: u32 = 1 << 20;
/// ggml reads 4; ComfyUI-GGUF and stable-diffusion.cpp also convolutions of videos.
pub(crate) const MOST_AXES: usize = 5;
pub(crate) const GGML_AXES: usize = 4;
/// ggml reads names of 63 bytes; stable-diffusion.cpp and ComfyUI-GGUF's tools are built for more.
const LONGEST_NAME: usize = 127;
const GGML_NAME: usize = 63;

/// A file whose header has been checked.
#[derive(Debug)]
pub(crate) struct GgufFile {
    file: InputFile,
    pub version: u32,
    pub alignment: u64,
    pub keys: Vec<Key>,
    /// In the order of the header.
    pub tensors: Vec<TensorEntry>,
    data_start: u64,
}

/// A tensor as the header describes it.
#[derive(Debug)]
pub(crate) struct TensorEntry {
    pub name: String,
    pub dtype: &'static TensorType,
    /// Length per axis, the one that lies together last.
    pub shape: Vec<usize>,
    /// From the beginning of the data.
    offset: u64,
    pub len: usize,
}

/// Why no loader reads a tensor, whatever its type.
///
/// # Errors
/// That reason.
pub(crate) fn check_name_and_axes(name: &str, axes: usize, most_axes: usize) -> Result<(), String> {
    if name.len() > LONGEST_NAME {
        return Err(format!(
            "its name has {} bytes, more than the {LONGEST_NAME} that loaders of GGUF read; rename it",
            name.len()
        ));
    }
    if axes > most_axes {
        return Err(format!(
            "has {axes} axes, more than the {most_axes} that loaders of GGUF read; leave it out of the model"
        ));
    }
    Ok(())
}

/// What some loaders read, and ggml as it is does not.
pub(crate) fn beyond_ggml<'n>(
    tensors: impl IntoIterator<Item = (&'n str, usize)>,
) -> Option<String> {
    let mut tensors = tensors.into_iter();
    tensors.find_map(|(name, axes)| {
        let shown = shortened(name);
        if name.len() > GGML_NAME {
            let len = name.len();
            return Some(format!(
                "`{shown}` has a name of {len} bytes; ggml reads up to {GGML_NAME}"
            ));
        }
        (axes > GGML_AXES)
            .then(|| format!("`{shown}` has {axes} axes; ggml reads up to {GGML_AXES}"))
    })
}

impl TensorEntry {
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

impl GgufFile {
    pub fn open(path: &Path, job: &Job<'_>) -> Result<Self, Error> {
        let file = InputFile::open(path, "give a .gguf file")?;
        let mut cursor = Cursor::new(&file);
        let (version, tensors, keys) = begin(&file, &mut cursor)?;
        let keys = metadata::read(&mut cursor, keys, &file, job)?;
        let alignment = alignment(&file, &keys)?;
        let tensors = entries(&mut cursor, tensors, &file, job)?;
        // A file without tensors may end with its header.
        let data_start = cursor.position().next_multiple_of(alignment);
        let found = Self {
            version,
            alignment,
            keys,
            tensors,
            data_start,
            file,
        };
        found.check(job)?;
        Ok(found)
    }

    pub fn path(&self) -> &Path {
        self.file.path()
    }

    pub fn len(&self) -> u64 {
        self.file.len()
    }

    /// Some of its bytes.
    pub fn bytes(&self, start: u64, end: u64) -> Data<'_> {
        self.file.data(start, (end - start) as usize)
    }

    pub fn data(&self, tensor: &TensorEntry) -> Data<'_> {
        self.file.data(self.data_start + tensor.offset, tensor.len)
    }

    pub fn value(&self, key: &str) -> Option<&Value> {
        let found = self.keys.iter().find(|found| found.name == key);
        found.map(|found| &found.value)
    }

    /// Whether tensors lie in the file one behind the other, as ggml wants them: each where the one before
    /// it ends, filled up to the alignment. The last one may lack that.
    fn check(&self, job: &Job<'_>) -> Result<(), Error> {
        if !self.tensors.is_empty() && self.data_start > self.len() {
            let problem = "ends before the data of its tensors; it is truncated, fetch it again";
            return Err(Error::file(self.path(), problem));
        }
        let data = self.len().saturating_sub(self.data_start);
        let mut next = 0;
        for tensor in &self.tensors {
            job.check()?;
            let bad = |problem: String| Err(Error::tensor(self.path(), &tensor.name, problem));
            let (start, len) = (tensor.offset, tensor.len as u64);
            if start != next {
                let what = match start < next {
                    true => "overlaps the tensor before it",
                    false => "leaves a hole behind the tensor before it",
                };
                return bad(format!(
                    "its data begins at byte {start} in place of {next}, so it {what}; the file is damaged"
                ));
            }
            let Some(end) = start.checked_add(len).filter(|end| *end <= data) else {
                return bad(format!(
                    "its {len} bytes of data begin at byte {start} of {data}; the file is truncated or damaged"
                ));
            };
            next = end.next_multiple_of(self.alignment);
        }
        Ok(())
    }
}

/// The first numbers: the version, how many tensors, how many keys.
fn begin(file: &InputFile, cursor: &mut Cursor<'_>) -> Result<(u32, u64, u64), Error> {
    let bad = |problem: &str| Error::file(file.path(), problem);
    let head = file.data(0, file.len().min(sniff::HEAD as u64) as usize);
    let head = head.whole()?;
    if head.len() < MAGIC.len() {
        return Err(bad(&format!(
            "{} bytes are too few for a GGUF file; it is empty or truncated, fetch it again",
            head.len()
        )));
    }
    if !head.starts_with(MAGIC) {
        return Err(bad(&sniff::explain(&head, || {
            "does not begin as a GGUF file does; it is damaged, fetch it again".into()
        })));
    }
    cursor.skip(4)?;
    let version = cursor.u32()?;
    if version != 0 && version.trailing_zeros() >= 16 {
        return Err(bad(
            "a big-endian GGUF file; give one made for little-endian machines",
        ));
    }
    if !(2..=3).contains(&version) {
        return Err(bad(&format!(
            "GGUF version {version}; quant reads versions 2 and 3"
        )));
    }
    Ok((version, cursor.u64()?, cursor.u64()?))
}

fn alignment(file: &InputFile, keys: &[Key]) -> Result<u64, Error> {
    let Some(key) = keys.iter().find(|key| key.name == metadata::ALIGNMENT) else {
        return Ok(ALIGNMENT);
    };
    let bad = |problem: String| {
        let problem = format!(
            "`{}` is {problem}; the file is damaged",
            metadata::ALIGNMENT
        );
        Err(Error::file(file.path(), problem))
    };
    match key.value {
        Value::U32(alignment) if alignment.is_power_of_two() && alignment <= MOST_ALIGNMENT => {
            Ok(alignment.into())
        }
        Value::U32(alignment) => bad(format!(
            "{alignment}, no power of two from 1 to {MOST_ALIGNMENT}"
        )),
        Value::Text(_) | Value::Integers(_) | Value::Other => bad(format!(
            "of type {}, and must be u32",
            metadata::kind_name(key.kind)
        )),
    }
}

fn entries(
    cursor: &mut Cursor<'_>,
    count: u64,
    file: &InputFile,
    job: &Job<'_>,
) -> Result<Vec<TensorEntry>, Error> {
    // A name's length, the number of axes, the type and the place.
    if count > cursor.left() / 24 {
        let problem =
            format!("{count} tensors, for which the file is too short; it is truncated or damaged");
        return Err(Error::file(file.path(), problem));
    }
    let (mut tensors, mut seen) = (Vec::new(), HashSet::new());
    for _ in 0..count {
        job.check()?;
        let tensor = entry(cursor, file)?;
        if !seen.insert(tensor.name.clone()) {
            let problem = "appears twice; the file is damaged";
            return Err(Error::tensor(file.path(), &tensor.name, problem));
        }
        tensors.push(tensor);
    }
    Ok(tensors)
}

fn entry(cursor: &mut Cursor<'_>, file: &InputFile) -> Result<TensorEntry, Error> {
    let name = cursor.name("a tensor's name")?;
    let bad = |problem: String| Error::tensor(file.path(), &name, problem);
    let axes = cursor.u32()?;
    check_name_and_axes(&name, axes as usize, MOST_AXES).map_err(bad)?;
    let mut shape = Vec::new();
    for _ in 0..axes {
        let dim = cursor.u64()?;
        // ggml counts with signs.
        let dim = usize::try_from(dim).ok();
        let dim = dim.filter(|dim| *dim <= isize::MAX as usize);
        shape.push(dim.ok_or_else(|| bad("its shape overflows; the file is damaged".into()))?);
    }
    shape.reverse();
    let (id, offset) = (cursor.u32()?, cursor.u64()?);
    let dtype = TensorType::by_id(id).ok_or_else(|| {
        bad(format!(
            "type {id}, which this quant does not know; a newer one may"
        ))
    })?;
    let elements = shape
        .iter()
        .try_fold(1_usize, |product, &dim| product.checked_mul(dim));
    let row = shape.last().copied().unwrap_or(1);
    if row % dtype.values != 0 {
        return Err(bad(format!(
            "rows of {row} values, no multiple of the {} of a block of {}; the file is damaged",
            dtype.values, dtype.name
        )));
    }
    let len = elements.and_then(|elements| dtype.len(elements, row));
    let len = len.filter(|len| *len <= isize::MAX as usize);
    let shown = || shortened(&format!("{shape:?}"));
    let len =
        len.ok_or_else(|| bad(format!("shape {} overflows; the file is damaged", shown())))?;
    Ok(TensorEntry {
        name,
        dtype,
        shape,
        offset,
        len,
    })
}
