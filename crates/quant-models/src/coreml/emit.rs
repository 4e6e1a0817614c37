//! Records as coremltools lays them out: in the order of the operations, equal ones of a block once.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use super::blob::{ALIGN, WeightFile, WeightWriter};
use super::encode::{Elements, NewValue};
use super::output::Target;
use super::package::Package;
use super::program::{Blob, Operation};
use super::schema::DataType;
use super::select::FILE_ELEMENTS;
use crate::io::check_room;
use crate::{Error, Job};

/// Smaller tensors are not compared with each other.
const COMPARED: usize = 100;

/// The weight files of a package being written.
pub(crate) struct Emitter<'p> {
    package: &'p Package,
    job: &'p Job<'p>,
    writers: BTreeMap<String, WeightWriter>,
    /// Where records that were copied are now.
    pub moved: HashMap<(String, u64), u64>,
    /// What can be shared.
    written: HashMap<Sharable, Vec<u64>>,
}

/// File, block, type, shape and first elements: what is shared is equal in these.
type Sharable = (String, usize, u64, Vec<usize>, Vec<u8>);

/// A part of a weight that has been made.
pub(crate) struct Part {
    pub dtype: DataType,
    pub shape: Vec<usize>,
    pub source: Source,
}

/// Where a part's bytes are.
pub(crate) enum Source {
    /// In the weight file already, from this byte on.
    File(u64),
    /// In memory.
    Memory(Vec<u8>),
}

impl Part {
    fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    fn bits(&self) -> usize {
        self.dtype.stored().map_or(8, |(bits, _)| bits)
    }

    /// Bytes in a weight file.
    pub fn len(&self) -> u64 {
        (self.elements() * self.bits()).div_ceil(8) as u64
    }

    /// Whether it goes to a weight file at all.
    pub fn is_large(shape: &[usize]) -> bool {
        shape.iter().product::<usize>() >= FILE_ELEMENTS
    }
}

impl<'p> Emitter<'p> {
    /// `parts` are the bytes of what is made anew, by weight file.
    pub fn create(
        package: &'p Package,
        target: &Target,
        parts: &HashMap<&str, u64>,
        job: &'p Job<'p>,
    ) -> Result<Self, Error> {
        let mut writers = BTreeMap::new();
        let len = |(name, weights): (&String, &WeightFile)| {
            let replaced = parts.get(name.as_str());
            replaced.copied().unwrap_or(weights.len())
        };
        check_room(target.path(), package.weights.iter().map(len).sum())?;
        for (name, weights) in &package.weights {
            let len = len((name, weights));
            let inner = package
                .weight_path(name)
                .map_err(|problem| Error::file(&package.model_path(), problem))?;
            let writer = WeightWriter::create(
                &target.place(&inner)?,
                &target.shown(&inner),
                len,
                package.group_and_others(&inner),
            )?;
            writers.insert(name.clone(), writer);
        }
        Ok(Self {
            package,
            job,
            writers,
            moved: HashMap::new(),
            written: HashMap::new(),
        })
    }

    /// The writer of a weight file; all that the program refers to have one.
    pub fn writer(&self, file: &str) -> Result<&WeightWriter, Error> {
        let writer = self.writers.get(file);
        writer.ok_or_else(|| Error::file(&self.package.model_path(), "a weight file is missing"))
    }

    fn writer_mut(&mut self, file: &str) -> Result<&mut WeightWriter, Error> {
        let writer = self.writers.get_mut(file);
        writer.ok_or_else(|| Error::file(&self.package.model_path(), "a weight file is missing"))
    }

    /// Whether [`copy`](Self::copy) has been done.
    pub fn has_copied(&self, blob: &Blob<'_>) -> bool {
        self.moved
            .contains_key(&(blob.file.to_owned(), blob.offset))
    }

    /// Copies a record, once.
    pub fn copy(&mut self, blob: &Blob<'_>) -> Result<(), Error> {
        let key = (blob.file.to_owned(), blob.offset);
        if self.moved.contains_key(&key) {
            return Ok(());
        }
        let (package, job) = (self.package, self.job);
        let (file, record) = package.record(blob)?;
        let writer = self.writer_mut(blob.file)?;
        let new = writer.copy(record.kind, file.data(&record), record.padding_bits, job)?;
        self.moved.insert(key, new);
        Ok(())
    }

    /// Copies the records of an operation that stays as it is, in their order in the file.
    pub fn copy_all(&mut self, operation: &Operation<'_>) -> Result<(), Error> {
        operation
            .blobs()
            .iter()
            .try_for_each(|blob| self.copy(blob))
    }

    /// Gives a weight's parts, in order, their final places: in the model itself where they are
    /// few elements, else in a record of their own or one that is the same.
    pub fn settle(
        &mut self,
        file: &str,
        block: usize,
        parts: Vec<Part>,
    ) -> Result<Vec<NewValue>, Error> {
        let mut values = Vec::new();
        for part in parts {
            let elements = match part.source {
                Source::Memory(bytes) if !Part::is_large(&part.shape) => Elements::Here(bytes),
                _ => Elements::Blob(self.settle_large(file, block, &part)?),
            };
            values.push(NewValue {
                dtype: part.dtype,
                shape: part.shape,
                elements,
            });
        }
        Ok(values)
    }

    fn settle_large(&mut self, file: &str, block: usize, part: &Part) -> Result<u64, Error> {
        let len = part.len();
        let writer = self.writer_mut(file)?;
        let place = writer.next() + ALIGN;
        let at = match &part.source {
            Source::File(at) => *at,
            Source::Memory(bytes) => {
                writer.write(place, bytes)?;
                place
            }
        };
        let sharable = match part.elements() >= COMPARED {
            true => Some(self.sharable(file, block, part, at)?),
            false => None,
        };
        if let Some(key) = &sharable {
            for &record in self.written.get(key).into_iter().flatten() {
                if self.same(file, [record + ALIGN, at], part)? {
                    return Ok(record);
                }
            }
        }
        let writer = self.writer_mut(file)?;
        if at != place {
            writer.move_down(at, place, len)?;
        }
        let padding = (8 * len) as usize - part.elements() * part.bits();
        let number = part.dtype.stored().map_or(0, |(_, number)| number);
        let record = writer.seal(number, len, padding as u64)?;
        if let Some(key) = sharable {
            self.written.entry(key).or_default().push(record);
        }
        Ok(record)
    }

    /// What coremltools compares bit by bit.
    fn sharable(&self, file: &str, block: usize, part: &Part, at: u64) -> Result<Sharable, Error> {
        let first = part.len().min((COMPARED * part.bits()).div_ceil(8) as u64);
        let mut bytes = vec![0; first as usize];
        self.writer(file)?.read(at, &mut bytes)?;
        Ok((
            file.to_owned(),
            block,
            part.dtype.0,
            part.shape.clone(),
            bytes,
        ))
    }

    /// As coremltools compares what is sharable: floats may differ a little.
    fn same(&self, file: &str, places: [u64; 2], part: &Part) -> Result<bool, Error> {
        let (writer, len) = (self.writer(file)?, part.len());
        let Some(float) = super::select::float_type(part.dtype) else {
            return writer.compare(places, len, |a, b| a == b);
        };
        let tolerance = match float {
            quant_core::FloatType::F32 => 1e-12,
            _ => 6e-8,
        };
        writer.compare(places, len, |a, b| {
            let (a, b) = (quant_simd::widen(a, float), quant_simd::widen(b, float));
            a.iter()
                .zip(&b)
                .all(|(a, b)| a == b || (a - b).abs() <= tolerance)
        })
    }

    /// Ends the weight files, and returns their bytes.
    pub fn finish(self) -> Result<u64, Error> {
        let writers = self.writers.into_values();
        writers.map(WeightWriter::finish).sum()
    }
}

/// The files of a package that are written anew.
pub(crate) fn rewritten(package: &Package) -> Vec<PathBuf> {
    let weights = package.weights.keys();
    let weights = weights.filter_map(|name| package.weight_path(name).ok());
    weights.chain([package.model.clone()]).collect()
}
