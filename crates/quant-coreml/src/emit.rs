//! Records as coremltools lays them out: in the order of the operations, equal ones of a block once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;

use quant_core::FloatType;
use quant_model::io::check_room;
use quant_model::{Error, Job};

use super::blob::{ALIGN, WeightFile, WeightWriter};
use super::graph::Graph;
use super::manifest::MANIFEST;
use super::output::Target;
use super::package::Package;
use super::select::{self, FILE_ELEMENTS};
use crate::mil::dtype::float_type;
use crate::mil::encode::{Edit, Elements, NewValue, Store};
use crate::mil::program::{Blob, Operation, Value};
use crate::mil::rewrite::Changes;
use crate::mil::schema::DataType;

/// Smaller tensors are not compared with each other.
const COMPARED: usize = 100;

/// The weight files of a package being written.
pub(crate) struct Emitter<'p> {
    package: &'p Package<'p>,
    target: &'p Target,
    job: &'p Job<'p>,
    room: HashMap<String, u64>,
    writers: BTreeMap<String, WeightWriter>,
    /// Where records that were copied are now.
    pub moved: HashMap<(String, u64), u64>,
    /// Constants that stand in the model, where coremltools puts them into a weight file.
    inline: HashMap<usize, Inline>,
    /// What has been put there, by operation.
    stored: HashMap<usize, Store>,
    /// What can be shared.
    written: HashMap<Sharable, Vec<u64>>,
}

/// Where a constant will stand.
struct Inline {
    file: String,
    block: usize,
    len: u64,
}

/// File, block, type, shape and first elements: what is shared is equal in these.
type Sharable = (String, usize, u64, Vec<usize>, Vec<u8>);

/// A name for what a constant becomes, which no other of its function has.
pub(crate) fn new_name(names: &mut HashSet<String>, old: &str) -> String {
    let plain = format!("{old}_quantized");
    let mut name = plain.clone();
    let mut count = 0;
    while !names.insert(name.clone()) {
        count += 1;
        name = format!("{plain}_{count}");
    }
    name
}

/// A part of a weight that has been made.
pub(crate) struct Part {
    pub dtype: DataType,
    pub shape: Vec<usize>,
    pub source: PartSource,
}

/// Where a part's bytes are.
pub(crate) enum PartSource {
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

    /// Bytes in a weight file of a part that goes there.
    pub fn len_of(dtype: DataType, shape: &[usize]) -> Option<u64> {
        Self::is_large(shape).then(|| Self::stored_len(dtype, shape) as u64)
    }

    /// Bytes of a part, wherever it goes.
    pub fn stored_len(dtype: DataType, shape: &[usize]) -> usize {
        let bits = dtype.stored().map_or(8, |(bits, _)| bits);
        let elements: usize = shape.iter().product();
        (elements * bits).div_ceil(8)
    }

    /// Whether it goes to a weight file at all.
    pub fn is_large(shape: &[usize]) -> bool {
        shape.iter().product::<usize>() >= FILE_ELEMENTS
    }
}

impl<'p> Emitter<'p> {
    /// `room` are the bytes of each weight file, where these are not those of the old one.
    pub fn create(
        package: &'p Package<'p>,
        graph: &Graph<'_, '_>,
        target: &'p Target,
        mut room: HashMap<String, u64>,
        job: &'p Job<'p>,
    ) -> Result<Self, Error> {
        let mut inline = HashMap::new();
        for constant in &graph.constants {
            let value = select::weight(&package.program, constant);
            let Some(bytes) = value.and_then(Value::elements) else {
                continue;
            };
            let stage = package.program.functions[constant.function].stage;
            let (file, len) = (package.weight_file(stage), bytes.len() as u64);
            let old = package.weights.get(&file).map_or(ALIGN, WeightFile::len);
            *room.entry(file.clone()).or_insert(old) += len + 2 * ALIGN;
            let block = constant.block;
            inline.insert(constant.operation.id, Inline { file, block, len });
        }
        let mut emitter = Self {
            package,
            target,
            job,
            room,
            writers: BTreeMap::new(),
            moved: HashMap::new(),
            inline,
            stored: HashMap::new(),
            written: HashMap::new(),
        };
        let len = |name: &String| {
            let replaced = emitter.room.get(name).copied();
            replaced.unwrap_or_else(|| package.weights.get(name).map_or(ALIGN, WeightFile::len))
        };
        let new = emitter.room.keys();
        let new = new.filter(|name| !package.weights.contains_key(*name));
        check_room(
            target.path(),
            package.weights.keys().chain(new).map(len).sum(),
        )?;
        for name in package.weights.keys() {
            emitter.ensure(name)?;
        }
        Ok(emitter)
    }

    /// Begins a weight file, if it has not begun yet.
    pub fn ensure(&mut self, file: &str) -> Result<(), Error> {
        if self.writers.contains_key(file) {
            return Ok(());
        }
        let old = self
            .package
            .weights
            .get(file)
            .map_or(ALIGN, WeightFile::len);
        let len = self.room.get(file).copied().unwrap_or(old);
        let inner = self.inner(file)?;
        let at = self.target.place(&inner)?;
        let others = self.target.others(&inner);
        let shown = self.target.shown(&inner);
        let writer = WeightWriter::create(&at, &shown, len, others, self.job.sync)?;
        self.writers.insert(file.to_owned(), writer);
        Ok(())
    }

    fn inner(&self, file: &str) -> Result<PathBuf, Error> {
        self.package
            .weight_path(file)
            .map_err(|problem| Error::file(&self.package.model_path(), problem))
    }

    /// The writer of a weight file; all that the program refers to have one.
    pub fn writer(&self, file: &str) -> Result<&WeightWriter, Error> {
        let writer = self.writers.get(file);
        writer.ok_or_else(|| Error::file(&self.package.model_path(), "a weight file is missing"))
    }

    /// Where the next record of a weight file goes, also of one that has not begun yet.
    pub fn next(&self, file: &str) -> u64 {
        self.writers.get(file).map_or(ALIGN, WeightWriter::next)
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
        let new = writer.copy(record.kind, &file.data(&record), record.padding_bits, job)?;
        self.moved.insert(key, new);
        Ok(())
    }

    /// Copies the records of an operation that stays as it is, in their order in the file; and where
    /// coremltools would make a record of a constant's value, makes one.
    pub fn copy_all(&mut self, operation: &Operation<'_>) -> Result<(), Error> {
        let blobs = operation.blobs();
        blobs.iter().try_for_each(|blob| self.copy(blob))?;
        let Some(Inline { file, block, .. }) = self.inline.remove(&operation.id) else {
            return Ok(());
        };
        let value = operation.attribute("val");
        let Some((value, kind)) = value.and_then(|value| Some((value, value.kind.as_ref()?)))
        else {
            return Ok(());
        };
        let (Some(bytes), Some(shape)) = (value.elements(), kind.shape()) else {
            return Ok(());
        };
        self.ensure(&file)?;
        let len = bytes.len() as u64;
        let part = Part {
            dtype: kind.dtype,
            shape,
            source: PartSource::Memory(bytes.into_owned()),
        };
        self.job.check()?;
        for value in self.settle(&file, block, vec![part])? {
            let file = file.clone();
            self.stored.insert(operation.id, Store { file, value });
        }
        (self.job.progress)(len);
        Ok(())
    }

    /// File and bytes of the record that [`copy_all`](Self::copy_all) makes of a constant's value.
    pub fn to_store(&self, operation: &Operation<'_>) -> Option<(&str, u64)> {
        let inline = self.inline.get(&operation.id)?;
        Some((&inline.file, inline.len))
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
                PartSource::Memory(bytes) if !Part::is_large(&part.shape) => Elements::Here(bytes),
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
            PartSource::File(at) => *at,
            PartSource::Memory(bytes) => {
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
        let Some(float) = float_type(part.dtype) else {
            return writer.compare(places, len, |a, b| a == b);
        };
        let tolerance = match float {
            FloatType::F32 => 1e-12,
            FloatType::F16 | FloatType::Bf16 => 6e-8,
        };
        writer.compare(places, len, |a, b| {
            let (a, b) = (quant_simd::widen(a, float), quant_simd::widen(b, float));
            a.iter()
                .zip(&b)
                .all(|(a, b)| a == b || (a - b).abs() <= tolerance)
        })
    }

    /// Ends the weight files, writes the model with these changes and copies all the rest. Returns the
    /// bytes of all files.
    pub fn finish(self, mut changes: Changes) -> Result<u64, Error> {
        let (package, target) = (self.package, self.target);
        changes.moved = self.moved.clone();
        let stored = self.stored.iter();
        changes
            .edits
            .extend(stored.map(|(id, store)| (*id, Edit::Store(store.clone()))));
        let files = self.writers.keys().map(|file| self.inner(file));
        let mut written = files.collect::<Result<Vec<_>, Error>>()?;
        let manifest = package.manifest_with(&written)?;
        let mut bytes = 0;
        for writer in self.writers.into_values() {
            bytes += writer.finish()?;
        }
        let model = changes.apply(package.bytes);
        let model = model.map_err(|problem| Error::file(&package.model_path(), problem))?;
        let model = (package.model.to_owned(), model);
        let manifest = manifest.map(|manifest| (MANIFEST.into(), manifest));
        for (inner, content) in [Some(model), manifest].into_iter().flatten() {
            target.put(&inner, &content)?;
            bytes += content.len() as u64;
            written.push(inner);
        }
        Ok(bytes + target.copy_rest(package, &written, self.job)?)
    }
}
