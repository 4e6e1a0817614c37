//! Writing: a header first, every tensor at its place, and a rename at the end.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use quant_core::{ErrorStats, FloatType, GgmlType};
use quant_simd::Source as _;

use crate::file::{GgufFile, MAGIC};
use crate::types::TensorType;
use crate::{floats, metadata};
use quant_model::block_quantizer::{self, BlockQuantizer};
use quant_model::io::{
    self, Data, Destination, Inputs, PreallocatedFile, TemporaryFile, group_and_others, parent,
};
use quant_model::report::Decision;
use quant_model::{Error, Job};

/// Bytes that are copied at a time.
const STEP: usize = 1 << 20;

/// A file that is to be written.
pub(crate) struct Plan<'a> {
    pub version: u32,
    pub alignment: u64,
    pub metadata: Metadata<'a>,
    pub tensors: Vec<Planned<'a>>,
    /// A file of the input, whose permissions the output has at most.
    pub like: PathBuf,
}

/// Keys and values, in order.
#[derive(Default)]
pub(crate) struct Metadata<'a> {
    pub count: u64,
    pieces: Vec<Data<'a>>,
}

impl<'a> Metadata<'a> {
    /// That of a file, without some keys.
    pub fn from_file(file: &'a GgufFile, without: &[&str]) -> Self {
        let mut found = Self::default();
        let mut range: Option<Range<u64>> = None;
        for key in &file.keys {
            if without.contains(&key.name.as_str()) {
                continue;
            }
            found.count += 1;
            range = match range {
                Some(range) if range.end == key.start => Some(range.start..key.end),
                other => {
                    found.keep(file, other);
                    Some(key.start..key.end)
                }
            };
        }
        found.keep(file, range);
        found
    }

    /// That of a file, byte for byte but for what a result of this type changes.
    pub fn with_type(file: &'a GgufFile, most: Option<&TensorType>) -> Self {
        let Some(most) = most else {
            return Self::from_file(file, &[]);
        };
        let changed = [metadata::FILE_TYPE, metadata::QUANTIZATION_VERSION];
        let mut kept = Self::from_file(file, &changed);
        kept.push_type(most);
        kept
    }

    fn keep(&mut self, file: &'a GgufFile, range: Option<Range<u64>>) {
        let bytes = range.map(|range| file.bytes(range.start, range.end));
        self.pieces.extend(bytes);
    }

    pub fn push(&mut self, entry: Vec<u8>) {
        self.count += 1;
        self.pieces.push(Data::Memory(entry.into()));
    }

    /// Says what most tensors are.
    pub fn push_type(&mut self, most: &TensorType) {
        let file_type = crate::types::file_type(most);
        self.push(metadata::number(metadata::QUANTIZATION_VERSION, 2));
        self.push(metadata::number(metadata::FILE_TYPE, file_type));
    }

    fn len(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.len() as u64).sum()
    }
}

/// A tensor of the file.
pub(crate) struct Planned<'a> {
    pub name: String,
    pub shape: Vec<usize>,
    pub dtype: &'static TensorType,
    pub data: Data<'a>,
    pub content: Content<'a>,
    /// Its number in reports.
    pub index: usize,
    /// The file and the name that messages have.
    pub from: (PathBuf, String),
}

/// The type that most tensors of a result have, if any is made.
pub(crate) fn most(decisions: &[Decision]) -> Option<&'static TensorType> {
    let made = quant_core::GgmlType::ALL.iter().map(|block_type| {
        let is_it = |decision: &&Decision| {
            matches!(decision, Decision::Blocks(it) if it.block_type == *block_type)
        };
        (decisions.iter().filter(is_it).count(), *block_type)
    });
    let most = made
        .filter(|(count, _)| *count > 0)
        .max_by_key(|(count, _)| *count);
    most.map(|(_, block_type)| TensorType::of_blocks(block_type))
}

/// Codes of another format, as blocks.
pub(crate) trait Encode {
    /// Writes the blocks.
    fn write(&self, job: &Job<'_>, write: block_quantizer::Write<'_>) -> Result<(), Error>;
}

/// What is done with a tensor's data.
pub(crate) enum Content<'a> {
    /// The bytes as they are.
    Copy,
    Convert(FloatType, FloatType),
    Quantize(&'a BlockQuantizer),
    Restore(GgmlType),
    /// Codes of another format.
    Encoded(&'a dyn Encode),
}

impl<'a> Planned<'a> {
    /// A tensor of a file, under its name.
    pub fn new(
        file: &'a GgufFile,
        index: usize,
        dtype: &'static TensorType,
        content: Content<'a>,
    ) -> Self {
        let tensor = &file.tensors[index];
        Self {
            name: tensor.name.clone(),
            shape: tensor.shape.clone(),
            dtype,
            data: file.data(tensor),
            content,
            index,
            from: (file.path().to_owned(), tensor.name.clone()),
        }
    }
}

impl Planned<'_> {
    fn len(&self) -> Result<u64, Error> {
        let elements: usize = self.shape.iter().product();
        let row = self.shape.last().copied().unwrap_or(1);
        let len = self.dtype.len(elements, row);
        // What was made of other data could overflow.
        let len = len.filter(|len| *len <= isize::MAX as usize);
        let (file, name) = &self.from;
        len.map(|len| len as u64)
            .ok_or_else(|| Error::tensor(file, name, "too large for a file"))
    }
}

/// What came of a tensor.
pub(crate) type Measured<'r> = &'r mut dyn FnMut(usize, ErrorStats);

/// Writes a file; tells what quantization loses where `stats` are wanted. Returns its bytes, and what
/// the user should know.
pub(crate) fn write(
    plan: &Plan<'_>,
    output: &Path,
    inputs: &Inputs,
    stats: bool,
    job: &Job<'_>,
    measured: Measured<'_>,
) -> Result<(u64, Vec<String>), Error> {
    let (header, places, len) = layout(plan, job)?;
    let destination = Destination::file(output, "output", job.force, inputs)?.with_sync(job.sync);
    let warnings = io::clean(parent(output));
    io::check_room(output, len)?;
    let others = fs::metadata(&plan.like).map_or(0, |input| group_and_others(&input));
    let temporary = TemporaryFile::new(parent(output), output, others)?;
    let file = temporary.file().try_clone();
    let file = file.and_then(|file| PreallocatedFile::new(file, len, job.sync));
    let file = file.map_err(Error::io(output, "write it"))?;
    let put = |bytes: &[u8], offset: u64| {
        let written = file.write_at(bytes, offset);
        written.map_err(Error::io(output, "write it"))
    };
    let mut at = header.write(plan, &put, job)?;
    at = at.next_multiple_of(plan.alignment);
    for (tensor, place) in plan.tensors.iter().zip(&places) {
        job.check()?;
        let write = |offset: usize, bytes: &[u8]| put(bytes, at + place + offset as u64);
        if let Some(stats) = tensor.write(stats, job, &write)? {
            measured(tensor.index, stats);
        }
    }
    file.finish().map_err(Error::io(output, "sync it"))?;
    job.check()?;
    check_written(temporary.path(), output, job)?;
    destination.put_file(temporary)?;
    Ok((len, warnings))
}

/// Opens what was written as any reader would.
fn check_written(written: &Path, output: &Path, job: &Job<'_>) -> Result<(), Error> {
    let read = GgufFile::open(written, job);
    job.check()?;
    read.map(drop).map_err(|error| {
        let problem = format!(
            "what was written cannot be read again ({error}), so there is no output; this is a fault of quant, please report it"
        );
        Error::file(output, problem)
    })
}

/// Writes bytes at a place.
type Put<'p> = &'p dyn Fn(&[u8], u64) -> Result<(), Error>;

/// The numbers and the descriptions of the tensors, between which the metadata stands.
struct Header {
    begin: Vec<u8>,
    tensors: Vec<u8>,
}

impl Header {
    /// Writes it with the metadata; returns where it ends.
    fn write(&self, plan: &Plan<'_>, put: Put<'_>, job: &Job<'_>) -> Result<u64, Error> {
        put(&self.begin, 0)?;
        let mut at = self.begin.len() as u64;
        for piece in &plan.metadata.pieces {
            for start in (0..piece.len()).step_by(STEP) {
                job.check()?;
                let bytes = piece.part(start, STEP.min(piece.len() - start))?;
                put(&bytes, at)?;
                at += bytes.len() as u64;
            }
        }
        put(&self.tensors, at)?;
        Ok(at + self.tensors.len() as u64)
    }
}

/// The header, where tensors begin in the data, and the bytes of the file.
fn layout(plan: &Plan<'_>, job: &Job<'_>) -> Result<(Header, Vec<u64>, u64), Error> {
    let mut begin = MAGIC.to_vec();
    begin.extend(plan.version.to_le_bytes());
    begin.extend((plan.tensors.len() as u64).to_le_bytes());
    begin.extend(plan.metadata.count.to_le_bytes());
    let (mut tensors, mut places, mut end) = (Vec::new(), Vec::new(), 0_u64);
    for tensor in &plan.tensors {
        job.check()?;
        metadata::put_text(&mut tensors, &tensor.name);
        tensors.extend((tensor.shape.len() as u32).to_le_bytes());
        for dim in tensor.shape.iter().rev() {
            tensors.extend((*dim as u64).to_le_bytes());
        }
        tensors.extend(tensor.dtype.id.to_le_bytes());
        tensors.extend(end.to_le_bytes());
        places.push(end);
        // Readers want the last tensor filled up, too.
        end = (end + tensor.len()?).next_multiple_of(plan.alignment);
    }
    let header = Header { begin, tensors };
    let before = (header.begin.len() + header.tensors.len()) as u64 + plan.metadata.len();
    let len = before.next_multiple_of(plan.alignment) + end;
    Ok((header, places, len))
}

impl Planned<'_> {
    fn write(
        &self,
        stats: bool,
        job: &Job<'_>,
        write: block_quantizer::Write<'_>,
    ) -> Result<Option<ErrorStats>, Error> {
        let at = (self.from.0.as_path(), self.from.1.as_str());
        match self.content {
            Content::Copy => self.copy(job, write)?,
            Content::Convert(from, to) => {
                floats::convert(&self.data, from, to, at, job, write)?;
            }
            Content::Quantize(quantizer) => {
                return quantizer.quantize(&self.data, stats, at, job, write);
            }
            Content::Encoded(encoded) => encoded.write(job, write)?,
            Content::Restore(from) => {
                block_quantizer::restore(&self.data, from, &self.shape, at, job, write)?;
            }
        }
        Ok(None)
    }

    fn copy(&self, job: &Job<'_>, write: block_quantizer::Write<'_>) -> Result<(), Error> {
        let mut buffer = vec![0; STEP.min(self.data.len())];
        for start in (0..self.data.len()).step_by(STEP) {
            job.check()?;
            let piece = &mut buffer[..STEP.min(self.data.len() - start)];
            self.data.read(start, piece)?;
            write(start, piece)?;
            (job.progress)(piece.len() as u64);
        }
        Ok(())
    }
}
