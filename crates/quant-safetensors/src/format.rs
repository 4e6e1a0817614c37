//! One safetensors file: its header, checked, and where its bytes are.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::path::Path;

use quant_core::FloatType;
use quant_model::error::shortened;
use quant_model::io::{Data, InputFile};
use quant_model::{Error, Job, sniff};
use safetensors::tensor::Dtype;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, Visitor};

const HEADER_LIMIT: u64 = 100_000_000;

/// A tensor as the header describes it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Entry {
    /// The type's name in the file, such as `F16`; kept as it is, known or not.
    pub dtype: String,
    /// Length per axis.
    pub shape: Vec<usize>,
    /// Start and end in the data section, in bytes.
    pub data_offsets: (usize, usize),
}

impl Entry {
    /// Bytes of its data.
    pub(crate) fn len(&self) -> usize {
        self.data_offsets.1 - self.data_offsets.0
    }

    /// Whether it is of floats of 16 bits or more, which need no scale.
    pub(crate) fn is_float(&self) -> bool {
        self.float_type().is_some() || self.dtype == "F64"
    }

    /// The float type, for the three that can be quantized.
    pub fn float_type(&self) -> Option<FloatType> {
        match self.dtype.as_str() {
            "F32" => Some(FloatType::F32),
            "F16" => Some(FloatType::F16),
            "BF16" => Some(FloatType::Bf16),
            _ => None,
        }
    }
}

/// A safetensors file whose header has been checked.
#[derive(Debug)]
pub struct SafetensorsFile {
    file: InputFile,
    data_start: usize,
    entries: Vec<(String, Entry)>,
    metadata: BTreeMap<String, String>,
}

impl SafetensorsFile {
    /// Opens a file and checks its header.
    ///
    /// # Errors
    /// A file that cannot be read, or is not a whole safetensors file.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::open_for(path, &Job::UNWATCHED)
    }

    /// The same for a job that may be ended meanwhile: a header may describe a million tensors.
    pub(crate) fn open_for(path: &Path, job: &Job<'_>) -> Result<Self, Error> {
        let file = InputFile::open(path, "give a .safetensors file")?;
        let len = file.len() as usize;
        let head = file.data(0, len.min(sniff::HEAD));
        let head = head.whole()?;
        let bad = |problem: &dyn Fn() -> String| Error::file(path, sniff::explain(&head, problem));
        if len < 8 {
            return Err(bad(&|| {
                format!(
                    "{} bytes are too few for a safetensors file; it is empty or truncated, fetch it again",
                    len
                )
            }));
        }
        let header = u64::from_le_bytes(std::array::from_fn(|i| head[i]));
        if header > HEADER_LIMIT {
            return Err(bad(&|| {
                format!(
                    "a header of {header} bytes, more than the format's limit of {HEADER_LIMIT}; this is not a safetensors file"
                )
            }));
        }
        let data_start = 8 + header as usize;
        if data_start > len {
            return Err(bad(&|| {
                "the file ends inside its header; it is truncated, fetch it again".into()
            }));
        }
        let header = file.data(8, data_start - 8);
        let header = header.whole()?;
        let mut deserializer = serde_json::Deserializer::from_slice(&header);
        let header = HeaderSeed(job).deserialize(&mut deserializer);
        let header = header.and_then(|header| deserializer.end().map(|()| header));
        job.check()?;
        let header = header.map_err(|error| {
            bad(&|| format!("the header is not that of a safetensors file: {error}"))
        })?;
        let mut entries = header.entries;
        entries.sort_by_key(|(_, entry)| entry.data_offsets);
        check(path, &entries, len - data_start, job)?;
        Ok(Self {
            file,
            data_start,
            entries,
            metadata: header.metadata,
        })
    }

    /// The file's path, as given.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// The tensors in the order of their data.
    pub fn entries(&self) -> &[(String, Entry)] {
        &self.entries
    }

    /// `__metadata__`.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Reads a tensor's bytes.
    ///
    /// # Errors
    /// The file cannot be read, or has become shorter.
    pub fn read(&self, entry: &Entry) -> Result<Vec<u8>, Error> {
        Ok(self.data(entry).whole()?.into_owned())
    }

    /// A tensor's bytes, where they are.
    pub(crate) fn data(&self, entry: &Entry) -> Data<'_> {
        let start = self.data_start + entry.data_offsets.0;
        self.file.data(start as u64, entry.len())
    }

    /// Where the data section begins, in bytes.
    pub fn data_start(&self) -> usize {
        self.data_start
    }

    /// Bytes in the file.
    pub fn len(&self) -> u64 {
        self.file.len()
    }

    /// Whether the file holds no tensor.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// Checks offsets and sizes of entries in the order of their data, as the safetensors crate does, and
/// names the tensor.
fn check(
    path: &Path,
    entries: &[(String, Entry)],
    data: usize,
    job: &Job<'_>,
) -> Result<(), Error> {
    let mut types: HashMap<&str, Option<Dtype>> = HashMap::new();
    let mut before = 0;
    for (name, entry) in entries {
        job.check()?;
        let bad = |problem: String| Err(Error::tensor(path, name, problem));
        let shape = || shortened(&format!("{:?}", entry.shape));
        let (start, end) = entry.data_offsets;
        if start > end || end > data {
            return bad(format!(
                "its data is at bytes {start} to {end} of {data}, out of bounds; the file is truncated or damaged"
            ));
        }
        let elements = entry
            .shape
            .iter()
            .try_fold(1_usize, |product, &dim| product.checked_mul(dim));
        // A type that the crate does not know is carried along as bytes.
        let dtype = *types
            .entry(&entry.dtype)
            .or_insert_with(|| serde_json::from_value(entry.dtype.clone().into()).ok());
        let Some(bits) = elements.and_then(|n| n.checked_mul(dtype.map_or(1, |d| d.bitsize())))
        else {
            let shape = shape();
            return bad(format!("shape {shape} overflows; the header is damaged"));
        };
        if dtype.is_some() && (bits % 8 != 0 || bits / 8 != end - start) {
            return bad(format!(
                "shape {} of {} does not take the {} bytes that the header gives; the file is damaged",
                shape(),
                entry.dtype,
                end - start
            ));
        }
        if start != before {
            let problem = format!(
                "tensors overlap or leave a hole: `{}` begins at byte {start} of the data, where the one before it ends at {before}; the file is damaged",
                shortened(name)
            );
            return Err(Error::file(path, problem));
        }
        before = end;
    }
    if before != data {
        let problem =
            format!("{data} bytes of data, but the tensors take {before}; the file is damaged");
        return Err(Error::file(path, problem));
    }
    Ok(())
}

#[derive(Default)]
struct Header {
    entries: Vec<(String, Entry)>,
    metadata: BTreeMap<String, String>,
}

/// Reads a header, as long as nobody ends the job.
struct HeaderSeed<'j>(&'j Job<'j>);

impl<'de> DeserializeSeed<'de> for HeaderSeed<'_> {
    type Value = Header;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Header, D::Error> {
        struct HeaderVisitor<'j>(&'j Job<'j>);
        impl<'de> Visitor<'de> for HeaderVisitor<'_> {
            type Value = Header;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut header = Header::default();
                let mut seen = HashSet::new();
                while let Some(name) = map.next_key::<String>()? {
                    self.0.check().map_err(de::Error::custom)?;
                    if !seen.insert(name.clone()) {
                        return Err(de::Error::custom(format!("duplicate name `{name}`")));
                    }
                    if name == "__metadata__" {
                        // Some writers say null where there is none.
                        let metadata: Option<_> = map.next_value()?;
                        header.metadata = metadata.unwrap_or_default();
                    } else {
                        let entry = map.next_value().map_err(|error| {
                            de::Error::custom(format!("tensor `{name}`: {error}"))
                        })?;
                        header.entries.push((name, entry));
                    }
                }
                Ok(header)
            }
        }
        deserializer.deserialize_map(HeaderVisitor(self.0))
    }
}
