//! A model: one safetensors file, or an index and its shards.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use quant_core::FloatType;
use quant_model::error::shortened;
use quant_model::io::Data;
use quant_model::{Encoding, Error, Job, SchemeRecord};
use quant_simd::{Backend, TensorQuantizer};

use super::encodings::{TensorParts, Unread, convention, encodings};
use super::model_files::ModelFiles;
use super::part::Part;
use crate::{Entry, SafetensorsFile};

/// A model's files, checked.
#[derive(Debug)]
pub struct Model {
    pub(crate) base: ModelFiles,
    /// The quantized tensors, by the names that they had as floats.
    records: BTreeMap<String, (Encoding, SchemeRecord)>,
    /// Those of which the model says so, and that are not read.
    unread: Vec<(Encoding, Unread)>,
}

/// A tensor of a model: float, integer, or quantized.
#[derive(Debug)]
pub struct Tensor<'a> {
    /// Its name.
    pub name: &'a str,
    /// The file that holds it.
    pub file: &'a SafetensorsFile,
    /// Its entry there; a quantized tensor's codes.
    pub entry: &'a Entry,
    /// Its scheme and its parts, if it is quantized.
    pub quantized: Option<Quantized<'a>>,
}

/// The parts of a quantized tensor.
#[derive(Debug)]
pub struct Quantized<'a> {
    pub(crate) quantizer: TensorQuantizer,
    pub(crate) codes: Data<'a>,
    pub(crate) scales: Data<'a>,
    pub(crate) zero_points: Data<'a>,
    /// Bytes of what stands beside the codes, as the file packs it.
    pub(crate) bytes_beside: usize,
    /// How it was quantized.
    pub record: &'a SchemeRecord,
}

/// A quantized tensor's parts, and what they are called.
struct FoundParts<'a> {
    name_of_codes: String,
    others: Vec<String>,
    parts: Quantized<'a>,
}

impl Model {
    /// Opens a `.safetensors` file, an index, or a folder with one of them: the only index in it,
    /// whatever its name, else the only file.
    ///
    /// # Errors
    /// A file that cannot be read or is not whole; an index that does not fit its shards; a folder
    /// with several models, or none.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::open_for(path, &Job::UNWATCHED)
    }

    /// The same for a job that may be ended meanwhile.
    pub(crate) fn open_for(path: &Path, job: &Job<'_>) -> Result<Self, Error> {
        let base = ModelFiles::open(path, job)?;
        let (mut records, mut unread) = (BTreeMap::new(), Vec::new());
        for encoding in encodings() {
            let found = convention(encoding).find(&base, job)?;
            let read = found.records.into_iter();
            records.extend(read.map(|(name, record)| (name, (encoding, record))));
            unread.extend(found.unread.into_iter().map(|one| (encoding, one)));
        }
        // What one convention reads is no other's.
        unread.retain(|(_, one)| !records.contains_key(&one.name));
        Ok(Self {
            base,
            records,
            unread,
        })
    }

    /// Whether some tensor is quantized, in an encoding that quant reads.
    pub fn is_quantized(&self) -> bool {
        !self.records.is_empty()
    }

    /// How its quantized tensors lie in the files.
    pub(crate) fn encodings(&self) -> impl Iterator<Item = Encoding> {
        let has = |encoding: &Encoding| self.records.values().any(|(other, _)| other == encoding);
        encodings().filter(move |encoding| has(encoding))
    }

    /// The encoding that it has or says it has, read or not.
    pub(crate) fn said_encoding(&self) -> Option<Encoding> {
        let unread = || self.unread.first().map(|(encoding, _)| *encoding);
        self.encodings().next().or_else(unread)
    }

    /// What is read, by the names that the tensors had as floats.
    pub(crate) fn records(&self) -> impl Iterator<Item = (&str, Encoding, &SchemeRecord)> {
        let records = self.records.iter();
        records.map(|(name, (encoding, record))| (name.as_str(), *encoding, record))
    }

    /// How the tensor that had this name as floats is quantized, if it is.
    pub(crate) fn record(&self, name: &str) -> Option<&SchemeRecord> {
        self.records.get(name).map(|(_, record)| record)
    }

    /// What is quantized as the model says, and not read.
    pub(crate) fn unread(&self) -> impl Iterator<Item = &Unread> {
        self.unread.iter().map(|(_, one)| one)
    }

    /// The files, in the order of their names.
    pub fn files(&self) -> &[SafetensorsFile] {
        &self.base.files
    }

    /// The tensors; scales and zero points stand with the tensor that they belong to.
    ///
    /// # Errors
    /// A quantized tensor whose parts do not fit its record.
    pub fn tensors(&self) -> Result<Vec<Tensor<'_>>, Error> {
        self.tensors_for(&Job::UNWATCHED)
    }

    pub(crate) fn tensors_for(&self, job: &Job<'_>) -> Result<Vec<Tensor<'_>>, Error> {
        let mut by_codes = HashMap::new();
        let mut others = HashSet::new();
        for (name, (encoding, record)) in &self.records {
            job.check()?;
            let quantized = self.quantized(name, *encoding, record)?;
            others.extend(quantized.others);
            by_codes.insert(quantized.name_of_codes, (name, quantized.parts));
        }
        let mut tensors = Vec::new();
        for (file, name, entry) in self.base.entries() {
            job.check()?;
            if others.contains(name) {
                continue;
            }
            let quantized = by_codes.remove(name);
            tensors.push(Tensor {
                name: quantized.as_ref().map_or(name, |(name, _)| name.as_str()),
                file,
                entry,
                quantized: quantized.map(|(_, parts)| parts),
            });
        }
        Ok(tensors)
    }

    fn bad(&self, name: &str, problem: String) -> Error {
        let file = match self.base.find(name) {
            Some((file, _)) => file,
            None => &self.base.files[0],
        };
        Error::tensor(file.path(), name, problem)
    }

    /// What a record says, and the tensors that there must be.
    pub(crate) fn parts(
        &self,
        name: &str,
        encoding: Encoding,
        record: &SchemeRecord,
    ) -> Result<(TensorQuantizer, TensorParts), Error> {
        let convention = convention(encoding);
        let quantizer = convention.quantizer(record, Backend::detect());
        let quantizer = quantizer.map_err(|problem| self.bad(name, problem))?;
        let parts = convention.parts(name, &quantizer);
        Ok((quantizer, parts))
    }

    /// The parts of a quantized tensor, with the types and shapes that its encoding writes: bytes that
    /// fit by chance are something else.
    fn quantized<'a>(
        &'a self,
        name: &str,
        encoding: Encoding,
        record: &'a SchemeRecord,
    ) -> Result<FoundParts<'a>, Error> {
        let convention = convention(encoding);
        let bad = |problem: String| self.bad(name, problem);
        let (quantizer, parts) = self.parts(name, encoding, record)?;
        if !self.base.contains(&parts.codes.name) {
            let problem = "the metadata describes it, but it is missing; the file is damaged";
            return Err(bad(problem.into()));
        }
        let find = |part: &Part| {
            let missing = || bad(format!("`{}` is missing; the file is damaged", part.name));
            let (file, entry) = self.base.find(&part.name).ok_or_else(missing)?;
            if (&entry.dtype, &entry.shape) != (&part.dtype, &part.shape) {
                return Err(bad(format!(
                    "`{}` is {} {}, where its quantization record needs {} {}; the file is damaged",
                    shortened(&part.name),
                    shortened(&entry.dtype),
                    shortened(&format!("{:?}", entry.shape)),
                    part.dtype,
                    shortened(&format!("{:?}", part.shape)),
                )));
            }
            Ok(file.data(entry))
        };
        let codes = find(&parts.codes)?;
        let scales = find(&parts.scales)?;
        let offsets = parts.offsets.as_ref().map(find).transpose()?;
        let zero_points = convention.offsets(&quantizer, offsets)?;
        // Constants were read when it was found: they may be of another type.
        let all = parts.all().map(|(_, part)| part.name.clone());
        let others: Vec<String> = all.filter(|part| *part != parts.codes.name).collect();
        let entries = others.iter().filter_map(|part| self.base.find(part));
        let bytes_beside = entries.map(|(file, entry)| file.data(entry).len()).sum();
        Ok(FoundParts {
            name_of_codes: parts.codes.name,
            others,
            parts: Quantized {
                codes,
                scales,
                zero_points,
                bytes_beside,
                record,
                quantizer,
            },
        })
    }

    /// A tensor's shape and values, dequantized if it is quantized.
    ///
    /// # Errors
    /// No such tensor, one that is not of floats, or a damaged one.
    pub fn read_f32(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>), Error> {
        let tensors = self.tensors()?;
        let Some(tensor) = tensors.into_iter().find(|tensor| tensor.name == name) else {
            return Err(Error::tensor(
                self.base.files[0].path(),
                name,
                "there is no such tensor",
            ));
        };
        let tensor = tensor.into_stored();
        let mut values = vec![0.0; tensor.element_count()];
        tensor.values(0..values.len(), &mut values)?;
        Ok((tensor.shape, values))
    }
}

impl Tensor<'_> {
    /// The shape of the values.
    pub fn shape(&self) -> &[usize] {
        match &self.quantized {
            Some(quantized) => &quantized.record.shape,
            None => &self.entry.shape,
        }
    }

    /// Number of elements.
    pub fn element_count(&self) -> usize {
        self.shape().iter().product()
    }

    /// The float type of the values; `None` for tensors of integers and unknown types.
    pub fn float_type(&self) -> Option<FloatType> {
        match &self.quantized {
            Some(quantized) => Some(quantized.quantizer.source),
            None => self.entry.float_type(),
        }
    }
}
