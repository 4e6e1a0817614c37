//! A model: one safetensors file, or an index and its shards.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use quant_core::FloatType;
use quant_simd::{Backend, TensorQuantizer};

use super::index::{self, Found, Index};
use super::quantize::parts;
use crate::error::shortened;
use crate::io::{Data, parent};
use crate::scheme_record::{KEY, Records};
use crate::{Entry, Error, Job, SafetensorsFile, SchemeRecord};

/// A model's files, checked.
#[derive(Debug)]
pub struct Model {
    pub(crate) files: Vec<SafetensorsFile>,
    pub(crate) index: Option<Index>,
    /// The folder that the model is: where it was given as one, or as an index in it.
    pub(crate) folder: Option<PathBuf>,
    records: HashMap<String, SchemeRecord>,
    places: HashMap<String, (usize, usize)>,
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
    /// How it was quantized.
    pub record: &'a SchemeRecord,
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
        let (files, index, folder) = match index::find(path)? {
            Found::Index(path) => {
                let (files, index) = index::open(&path, job)?;
                (files, Some(index), Some(parent(&path).to_owned()))
            }
            Found::File(file) => {
                let folder = path.is_dir().then(|| path.to_owned());
                (vec![SafetensorsFile::open_for(&file, job)?], None, folder)
            }
        };
        let (mut records, mut places) = (HashMap::new(), HashMap::new());
        for (i, file) in files.iter().enumerate() {
            for (j, (name, _)) in file.entries().iter().enumerate() {
                job.check()?;
                if places.insert(name.clone(), (i, j)).is_some() {
                    let problem = "stands in two shards; remove one of them";
                    return Err(Error::tensor(file.path(), name, problem));
                }
            }
            if let Some(text) = file.metadata().get(KEY) {
                let parsed: Records = serde_json::from_str(text).map_err(|error| {
                    Error::file(
                        file.path(),
                        format!("the metadata `{KEY}` is damaged: {error}"),
                    )
                })?;
                if parsed.version != 1 {
                    let problem = format!(
                        "written by a newer version of quant (format {}); update quant",
                        parsed.version
                    );
                    return Err(Error::file(file.path(), problem));
                }
                records.extend(parsed.tensors);
            }
        }
        Ok(Self {
            files,
            index,
            folder,
            records,
            places,
        })
    }

    /// Whether some tensor was quantized by us.
    pub fn is_quantized(&self) -> bool {
        !self.records.is_empty()
    }

    /// The files, in the order of their names.
    pub fn files(&self) -> &[SafetensorsFile] {
        &self.files
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    pub(crate) fn entry(&self, name: &str) -> Option<&Entry> {
        let (file, entry) = *self.places.get(name)?;
        Some(&self.files[file].entries()[entry].1)
    }

    /// The tensors; scales and zero points stand with the tensor that they belong to.
    ///
    /// # Errors
    /// A quantized tensor whose parts do not fit its record.
    pub fn tensors(&self) -> Result<Vec<Tensor<'_>>, Error> {
        self.tensors_for(&Job::UNWATCHED)
    }

    pub(crate) fn tensors_for(&self, job: &Job<'_>) -> Result<Vec<Tensor<'_>>, Error> {
        let parts: HashSet<String> = self
            .records
            .keys()
            .flat_map(|name| [format!("{name}.scale"), format!("{name}.zero_point")])
            .collect();
        if let Some(name) = self.records.keys().find(|name| !self.contains(name)) {
            let problem = "the metadata describes it, but it is missing; the file is damaged";
            return Err(Error::tensor(self.files[0].path(), name, problem));
        }
        let mut tensors = Vec::new();
        for file in &self.files {
            for (name, entry) in file.entries() {
                job.check()?;
                if !parts.contains(name) {
                    let quantized = self.quantized(file, name)?;
                    tensors.push(Tensor {
                        name,
                        file,
                        entry,
                        quantized,
                    });
                }
            }
        }
        Ok(tensors)
    }

    fn quantized<'a>(
        &'a self,
        file: &'a SafetensorsFile,
        name: &str,
    ) -> Result<Option<Quantized<'a>>, Error> {
        let Some(record) = self.records.get(name) else {
            return Ok(None);
        };
        let bad = |problem: String| Error::tensor(file.path(), name, problem);
        let quantizer = record.quantizer(Backend::detect()).map_err(bad)?;
        // Types and shapes as we write them: bytes that fit by chance are something else.
        let mut data = [Data::EMPTY; 3];
        for (data, part) in data.iter_mut().zip(parts(name, &quantizer)) {
            let place = self.places.get(&part.name);
            let &(file, entry) = place
                .ok_or_else(|| bad(format!("`{}` is missing; the file is damaged", part.name)))?;
            let (file, entry) = (&self.files[file], &self.files[file].entries()[entry].1);
            if (&entry.dtype, &entry.shape) != (&part.dtype, &part.shape) {
                return Err(bad(format!(
                    "`{}` is {} {}, where its quantization record wants {} {}; the file is damaged",
                    shortened(&part.name),
                    shortened(&entry.dtype),
                    shortened(&format!("{:?}", entry.shape)),
                    part.dtype,
                    shortened(&format!("{:?}", part.shape)),
                )));
            }
            *data = file.data(entry);
        }
        let [codes, scales, zero_points] = data;
        let quantized = Quantized {
            codes,
            scales,
            zero_points,
            record,
            quantizer,
        };
        Ok(Some(quantized))
    }

    /// A tensor's shape and values, dequantized if it is quantized.
    ///
    /// # Errors
    /// No such tensor, one that is not of floats, or a damaged one.
    pub fn read_f32(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>), Error> {
        let tensors = self.tensors()?;
        let Some(tensor) = tensors.into_iter().find(|tensor| tensor.name == name) else {
            return Err(Error::tensor(
                self.files[0].path(),
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
