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
/// No tool writes tensors of more axes.
const MOST_AXES: u32 = 8;

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

    /// Whether tensors lie inside the file, aligned and apart from each other.
    fn check(&self, job: &Job<'_>) -> Result<(), Error> {
        let data = self.len().saturating_sub(self.data_start);
        let mut places = Vec::new();
        for tensor in &self.tensors {
            job.check()?;
            let bad = |problem: String| Err(Error::tensor(self.path(), &tensor.name, problem));
            let (start, len) = (tensor.offset, tensor.len as u64);
            if start % self.alignment != 0 {
                return bad(format!(
                    "its data begins at byte {start}, which is no multiple of {}; the file is damaged",
                    self.alignment
                ));
            }
            let Some(end) = start.checked_add(len).filter(|end| *end <= data) else {
                return bad(format!(
                    "its {len} bytes of data begin at byte {start} of {data}; the file is truncated or damaged"
                ));
            };
            if len > 0 {
                places.push((start, end, &tensor.name));
            }
        }
        places.sort_unstable();
        for pair in places.windows(2) {
            let [(_, end, before), (start, _, name)] = pair else {
                continue;
            };
            if start < end {
                let problem = format!("it overlaps `{}`; the file is damaged", shortened(before));
                return Err(Error::tensor(self.path(), name, problem));
            }
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
    let key = keys.iter().find(|key| key.name == metadata::ALIGNMENT);
    match key.map(|key| &key.value) {
        None => Ok(ALIGNMENT),
        Some(Value::Integer(alignment))
            if alignment.is_power_of_two() && (8..=1 << 20).contains(alignment) =>
        {
            Ok(*alignment)
        }
        Some(other) => {
            let problem = format!(
                "`{}` is {}, no power of two from 8 to 1048576; the file is damaged",
                metadata::ALIGNMENT,
                match other {
                    Value::Integer(number) => number.to_string(),
                    _ => "no number".into(),
                }
            );
            Err(Error::file(file.path(), problem))
        }
    }
}

fn entries(
    cursor: &mut Cursor<'_>,
    count: u64,
    file: &InputFile,
    job: &Job<'_>,
) -> Result<Vec<TensorEntry>, Error> {
    // A name's length, a letter, the number of axes, the type and the place.
    if count > cursor.left() / 25 {
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
    if axes > MOST_AXES {
        return Err(bad(format!("{axes} axes; the file is damaged")));
    }
    let mut shape = Vec::new();
    for _ in 0..axes {
        let dim = cursor.u64()?;
        let dim = usize::try_from(dim);
        shape.push(dim.map_err(|_| bad("its shape overflows; the file is damaged".into()))?);
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
